//! A daemon that serves a store on a disk of the test's choice, with two platforms and a site.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here takes; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(240);

/// How much memory a disk of a test may need, with its recording.
const MEMORY_BYTES_MIN: u64 = 2 << 30;

/// An application that can be updated again and again.
const RECIPE: &str = r#"
title = "Notes"
data = ["files"]
programs = ["sqlite3"]

[detect]
docroot = ["index.php"]
site = ["settings.php"]

[version]
file = "VERSION"
after = "version "

[database]
engine = "sqlite"
file = "database/site.sqlite"

[update]
commands = ['''sqlite3 -cmd '.timeout 10000' "$SITEFS_SITE_DIR/database/site.sqlite" "create table if not exists added (text)"''']

[[check]]
title = "the update has been done"
run = '''sqlite3 "$SITEFS_SITE_DIR/database/site.sqlite" 'select * from added' '''
"#;

/// Whatever runs or is mounted here ends with this.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    daemon: Cell<Option<Pid>>,
}

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The answer; what went wrong if something did.
    pub(crate) fn answer(&self) -> Result<Value, String> {
        self.success().map(|()| serde_json::from_str(&self.stdout).unwrap())
    }

    fn success(&self) -> Result<(), String> {
        match self.exit {
            0 => Ok(()),
            exit => Err(format!("exit code {exit}: {}{}", self.stdout, self.stderr)),
        }
    }
}

impl Place {
    /// Platforms, a recipe and an empty directory `disk`, where the store will be.
    pub(crate) fn new() -> Place {
        Place::below(&std::env::temp_dir())
    }

    /// The same in memory where there is room: for disks made of files, whose flushes then cost no flush of the
    /// machine's own disk.
    pub(crate) fn in_memory() -> Place {
        let memory = Path::new("/dev/shm");
        let free = rustix::fs::statvfs(memory).map_or(0, |space| space.f_bavail * space.f_frsize);
        if free > MEMORY_BYTES_MIN { Place::below(memory) } else { Place::new() }
    }

    fn below(directory: &Path) -> Place {
        let place = Place { directory: tempfile::tempdir_in(directory).unwrap(), daemon: Cell::default() };
        fs::set_permissions(place.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in [
            "disk",
            "recipes",
            "recording",
            "streams",
            "original/files",
            "original/database",
            "built/modules",
        ] {
            fs::create_dir_all(place.path(name)).unwrap();
        }
        fs::write(place.path("recipes/notes.toml"), RECIPE).unwrap();
        let config = format!(
            "recipes = {:?}\nroot = {:?}\ndrain_seconds = 0\n",
            place.path("recipes"),
            place.path("root")
        );
        fs::write(place.path("config.toml"), config).unwrap();
        for name in ["one", "two", "three"] {
            let platform = place.path("platforms").join(name);
            fs::create_dir_all(platform.join("web/sites/all")).unwrap();
            fs::write(platform.join("web/index.php"), format!("<?php // {name}")).unwrap();
            fs::write(platform.join("web/VERSION"), "version 1.0\n").unwrap();
        }
        for directory in ["original", "built"] {
            fs::write(place.path(directory).join("settings.php"), "<?php").unwrap();
        }
        sqlite(&place.path("original/database/site.sqlite"), "create table note (text)").unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn sitefs(&self, arguments: &[&str]) -> Ran {
        Place::end(self.begin(arguments))
    }

    /// Starts a command; [`Place::end`] waits for it.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        self.command(arguments).arg("--json").spawn().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", &LIMIT.as_secs().to_string(), env!("CARGO_BIN_EXE_sitefs"), "--store"])
            .arg(self.path("disk/store"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Writes a snapshot to a file that is not on the store's disk.
    pub(crate) fn send(&self, id: &str) -> Result<(), String> {
        let stream = File::create(self.stream(id)).unwrap();
        let snapshot = format!("shop@{id}");
        let sent = self.command(&["send", &snapshot]).stdout(stream).spawn().unwrap();
        Place::end(sent).success()
    }

    /// Takes it in.
    pub(crate) fn receive(&self, id: &str, tag: Option<&str>) -> Result<(), String> {
        let stream = File::open(self.stream(id)).unwrap();
        let mut arguments = vec!["receive"];
        arguments.extend(tag.iter().flat_map(|tag| ["--tag", tag]));
        let received = self.command(&arguments).stdin(stream).spawn().unwrap();
        Place::end(received).success()
    }

    fn stream(&self, id: &str) -> PathBuf {
        self.path("streams").join(id)
    }

    /// Waits for a command. What it says must fit into a pipe, if it is not waited for at once.
    pub(crate) fn end(command: Child) -> Ran {
        let output = command.wait_with_output().unwrap();
        Ran {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed; its answer.
    pub(crate) fn done(&self, arguments: &[&str]) -> Value {
        self.sitefs(arguments).answer().unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    pub(crate) fn serve(&self) -> Result<(), String> {
        // The log is not on the store's disk: that may be full, or taken away before anybody reads what is wrong.
        let log = self.path("disk/store/daemon.log");
        if log.parent().is_some_and(Path::exists) && fs::symlink_metadata(&log).is_err() {
            let _ = std::os::unix::fs::symlink(self.path("daemon.log"), &log);
        }
        let served = self.sitefs(&["serve"]).answer()?;
        self.daemon.set(Pid::from_raw(i32::try_from(served["pid"].as_i64().unwrap()).unwrap()));
        self.wait_until_settled()
    }

    /// Waits until sites that were interrupted take writes again.
    fn wait_until_settled(&self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let status = self.sitefs(&["status"]);
            if !status.stdout.contains("being made to take writes again") {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                return Err(format!("the sites are not settled: {}", status.stdout));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The daemon's process.
    pub(crate) fn daemon(&self) -> Option<Pid> {
        self.daemon.get()
    }

    /// Whether the daemon is there.
    pub(crate) fn is_running(&self) -> bool {
        self.daemon.get().is_some_and(is_alive)
    }

    /// Ends the daemon as a crash would, and takes its dead mounts away.
    pub(crate) fn kill(&self) {
        let Some(daemon) = self.daemon.take() else { return };
        let _ = kill_process(daemon, Signal::KILL);
        let begun = Instant::now();
        while is_alive(daemon) {
            assert!(begun.elapsed() < LIMIT, "the daemon does not die");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Takes away what the daemon mounted.
    pub(crate) fn unmount(&self) {
        for mount in self.mounts().iter().rev() {
            let _ = rustix::mount::unmount(mount.as_str(), rustix::mount::UnmountFlags::DETACH);
        }
    }

    /// Mounts of the daemon; the disk and the recorder's are not among them.
    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned);
        let ours = |place: &String| {
            ["root", "platforms", "disk/store"]
                .iter()
                .any(|part| Path::new(place).starts_with(self.path(part)))
        };
        places.filter(ours).collect()
    }

    pub(crate) fn stop(&self) -> Result<(), String> {
        self.sitefs(&["stop"]).answer()?;
        self.daemon.set(None);
        Ok(())
    }

    /// The end of the daemon's log.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(40).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// A file of the site as the web server has it.
    pub(crate) fn site(&self, name: &str) -> PathBuf {
        self.path("root/sites/shop").join(name)
    }

    /// The rows of the site's database.
    pub(crate) fn rows(&self) -> Result<String, String> {
        let database = self.site("database/site.sqlite");
        let checked = sqlite(&database, "pragma integrity_check")?;
        if checked != "ok" {
            return Err(format!("the database is damaged: {checked}"));
        }
        sqlite(&database, "select ifnull(group_concat(text), '') from (select text from note order by rowid)")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log ends:\n{}", self.log());
        }
        if let Some(daemon) = self.daemon.take() {
            let _ = kill_process(daemon, Signal::KILL);
        }
        self.unmount();
    }
}

/// Whether a thread of the process is left: while one is, its files are open.
fn is_alive(process: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())) else { return false };
    threads.flatten().any(|thread| {
        fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
    })
}

/// When SQLite syncs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Synchronous {
    /// As applications have it that do not ask.
    Default,
    /// The removal of a journal too.
    Extra,
}

/// Runs SQL as an application that wants its transactions to survive a power cut.
pub(crate) fn sqlite(database: &Path, statement: &str) -> Result<String, String> {
    sqlite_with(Synchronous::Extra, database, statement)
}

/// Runs SQL.
pub(crate) fn sqlite_with(
    synchronous: Synchronous,
    database: &Path,
    statement: &str,
) -> Result<String, String> {
    let mut child = Command::new("timeout")
        .args(["--signal=KILL", &LIMIT.as_secs().to_string(), "sqlite3", "-bail", "-cmd", ".timeout 20000"])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it reads, on a dead mount.
    let pragma = match synchronous {
        Synchronous::Default => "",
        Synchronous::Extra => "pragma synchronous = extra;",
    };
    let _ = writeln!(child.stdin.take().unwrap(), "{pragma}\n{statement};");
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(format!("{statement}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
