//! A store, a daemon, platforms and a site in a temporary directory.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// After this long a test hangs: its daemon is killed, which ends every call that waits for it.
const HANG: Duration = Duration::from_secs(240);

/// What a single command may take, in seconds.
const COMMAND_SECONDS_MAX: &str = "120";

/// An application with uploads and a database, and no commands.
const RECIPE: &str =
    "title = 'Shop'\ndata = ['files']\n[database]\nengine = 'sqlite'\nfile = 'database/*.sqlite'\n";

/// Whatever runs or is mounted there ends with this.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    daemon: Arc<AtomicI32>,
    finished: Arc<AtomicBool>,
}

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    /// A daemon that serves an empty store.
    pub(crate) fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bench = Bench {
            directory,
            daemon: Arc::new(AtomicI32::new(0)),
            finished: Arc::new(AtomicBool::new(false)),
        };
        fs::create_dir(bench.path("recipes")).unwrap();
        fs::write(bench.path("recipes/shop.toml"), RECIPE).unwrap();
        let config = format!("recipes = '{}'\ndrain_seconds = 0\n", bench.path("recipes").display());
        fs::write(bench.path("config.toml"), config).unwrap();
        watch(Arc::clone(&bench.daemon), Arc::clone(&bench.finished));
        bench.json(&["init"]);
        bench.serve();
        bench
    }

    /// With platforms `one` and `two` and the site `shop` on the first.
    pub(crate) fn with_site() -> Bench {
        let bench = Bench::new();
        bench.platform("one");
        bench.platform("two");
        bench.original();
        bench.json(&["site", "import", "shop", &bench.text("original"), "--platform=one", "--app=shop"]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Runs sitefs.
    pub(crate) fn sitefs(&self, arguments: &[&str]) -> Ran {
        let output = Command::new("timeout")
            .args(["--signal=KILL", COMMAND_SECONDS_MAX, env!("CARGO_BIN_EXE_sitefs"), "--store"])
            .arg(self.path("store"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TZ", "UTC")
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs sitefs, which must succeed; what it prints for people.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        self.says_with(0, arguments)
    }

    /// Runs sitefs, which must end with this code; what it prints for people.
    pub(crate) fn says_with(&self, exit: i32, arguments: &[&str]) -> String {
        let ran = self.sitefs(arguments);
        assert_eq!(ran.exit, exit, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Runs sitefs, which must succeed; what it prints for machines.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.says(&[&["--json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Runs sitefs, which must end with this code; what it says on standard error.
    pub(crate) fn fails(&self, exit: i32, arguments: &[&str]) -> String {
        let ran = self.sitefs(arguments);
        assert_eq!(ran.exit, exit, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
        assert!(ran.stderr.contains("error: "), "{arguments:?}: {}", ran.stderr);
        ran.stderr
    }

    /// Starts a daemon.
    pub(crate) fn serve(&self) {
        let root = format!("--root={}", self.path("root").display());
        let served = self.json(&["serve", &root]);
        self.daemon.store(i32::try_from(served["pid"].as_i64().unwrap()).unwrap(), Ordering::SeqCst);
    }

    /// Stops the daemon; nothing is mounted afterwards.
    pub(crate) fn stop(&self) {
        self.json(&["stop"]);
        self.daemon.store(0, Ordering::SeqCst);
        assert_eq!(self.mounts(), Vec::<String>::new());
    }

    /// Kills the daemon, and waits until it is gone.
    pub(crate) fn kill(&self) {
        let pid = self.daemon.swap(0, Ordering::SeqCst);
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let begun = Instant::now();
        while is_alive(pid) {
            assert!(begun.elapsed() < HANG, "the daemon does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is mounted here or below.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
        points.filter(|point| Path::new(point).starts_with(self.directory.path())).collect()
    }

    /// Makes and adds a platform with sites directory entries of its own.
    pub(crate) fn platform(&self, name: &str) {
        self.native_platform(name);
        self.json(&["platform", "add", name, &self.text(&format!("platforms/{name}"))]);
    }

    /// A platform's directory.
    pub(crate) fn native_platform(&self, name: &str) {
        let directory = self.path("platforms").join(name);
        fs::create_dir_all(directory.join("web/sites/all/modules")).unwrap();
        fs::create_dir_all(directory.join("web/sites/default")).unwrap();
        fs::write(directory.join("web/index.php"), format!("<?php echo '{name}';\n")).unwrap();
        fs::write(directory.join("web/sites/sites.php"), "<?php\n").unwrap();
        fs::write(directory.join("web/sites/all/modules/one.module"), "<?php // one\n").unwrap();
        symlink("default", directory.join("web/sites/main")).unwrap();
    }

    /// A site's directory as it is before sitefs: links, modes, owners, times, uploads and a database.
    pub(crate) fn original(&self) {
        let directory = self.path("original");
        fs::create_dir_all(directory.join("modules/custom")).unwrap();
        fs::create_dir_all(directory.join("files/styles/large")).unwrap();
        fs::create_dir_all(directory.join("database")).unwrap();
        fs::write(directory.join("settings.php"), "<?php\n$one = 1;\n$two = 2;\n$three = 3;\n").unwrap();
        fs::write(directory.join("modules/custom/custom.module"), "<?php // custom\n".repeat(50)).unwrap();
        fs::write(directory.join("modules/empty"), "").unwrap();
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"modules/\xff odd\nname"));
        fs::write(directory.join(odd), "odd").unwrap();
        fs::hard_link(directory.join("settings.php"), directory.join("modules/settings.php")).unwrap();
        symlink("custom/custom.module", directory.join("modules/link")).unwrap();
        symlink("/nowhere/at/all", directory.join("modules/dangling")).unwrap();
        for number in 0..60 {
            fs::write(directory.join(format!("files/{number}.txt")), format!("upload {number}\n")).unwrap();
        }
        let large: Vec<u8> =
            (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(directory.join("files/styles/large/picture.png"), large).unwrap();
        let mode = |name: &str, mode| {
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        chown(directory.join("files/styles"), Some(33), Some(33)).unwrap();
        chown(directory.join("files/1.txt"), Some(33), Some(65534)).unwrap();
        mode("settings.php", 0o440);
        mode("files/styles", 0o2775);
        mode("files/2.txt", 0o600);
        mode("modules", 0o751);
        self.sql(
            "original/database/site.sqlite",
            "CREATE TABLE node(id INTEGER PRIMARY KEY, title TEXT); CREATE TABLE user(name TEXT);
             INSERT INTO node(title) VALUES('first'),('second'),('third'); INSERT INTO user VALUES('admin');",
        );
        for (name, seconds) in [("files/3.txt", 1_000_000_001), ("modules/custom", 1_500_000_007)] {
            let time = UNIX_EPOCH + Duration::new(seconds, 123_456_789);
            File::open(directory.join(name)).unwrap().set_modified(time).unwrap();
        }
    }

    /// What an SQL statement answers, by SQLite's own program.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> String {
        let mut child = Command::new("timeout")
            .args(["--signal=KILL", COMMAND_SECONDS_MAX, "sqlite3", "-bail", "-cmd", ".timeout 60000"])
            .arg(self.path(database))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(format!("{statement}\n;\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{database}: {statement}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    /// Types, modes, owners, sizes, times and targets of all that is below a directory. The size of a directory is
    /// a file system's own matter.
    pub(crate) fn listing(&self, name: &str) -> Vec<String> {
        listing(&self.path(name))
    }

    /// Panics unless two trees have the same names, contents and metadata.
    pub(crate) fn assert_same(&self, old: &str, new: &str) {
        assert_listings(&self.listing(old), &self.listing(new));
        let diff = Command::new("timeout")
            .args(["--signal=KILL", COMMAND_SECONDS_MAX, "diff", "-r", "--no-dereference"])
            .args([self.path(old), self.path(new)])
            .output()
            .unwrap();
        assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let hung = self.finished.swap(true, Ordering::SeqCst);
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("store/daemon.log")).unwrap_or_default();
            eprintln!("the daemon's log:\n{log}");
        }
        if let Some(daemon) = Pid::from_raw(self.daemon.load(Ordering::SeqCst)) {
            let _ = kill_process(daemon, Signal::KILL);
        }
        for point in self.mounts().iter().rev() {
            let _ = rustix::mount::unmount(point.as_str(), rustix::mount::UnmountFlags::DETACH);
        }
        assert!(!hung || std::thread::panicking(), "the test hung");
    }
}

/// Panics unless two listings are the same, and shows how they differ.
pub(crate) fn assert_listings(old: &[String], new: &[String]) {
    let gone: Vec<_> = old.iter().filter(|line| !new.contains(line)).collect();
    let came: Vec<_> = new.iter().filter(|line| !old.contains(line)).collect();
    assert!(old == new, "gone: {gone:#?}\ncame: {came:#?}");
}

fn listing(directory: &Path) -> Vec<String> {
    let output = Command::new("timeout")
        .args(["--signal=KILL", COMMAND_SECONDS_MAX, "find"])
        .arg(directory)
        .args(["-mindepth", "1", "(", "-type", "d", "-printf", "%P %y %m %U %G %T@\\0", ")", "-o"])
        .args(["-printf", "%P %y %m %U %G %n %s %T@ %l\\0"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<String> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    lines.sort();
    lines
}

/// Whether a thread of the process is left: while one is, its files are open, and its mounts not dead yet.
fn is_alive(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    // A zombie whose parent has not looked yet is dead.
    threads.flatten().any(|thread| {
        fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
    })
}

fn watch(daemon: Arc<AtomicI32>, finished: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let begun = Instant::now();
        while !finished.load(Ordering::SeqCst) {
            if begun.elapsed() > HANG {
                finished.store(true, Ordering::SeqCst);
                if let Some(daemon) = Pid::from_raw(daemon.load(Ordering::SeqCst)) {
                    let _ = kill_process(daemon, Signal::KILL);
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

/// A process that ends with this.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
