//! A file system that is served by a process of its own.
//!
//! A process that waits for a mount which it serves itself cannot be killed. So the test's own executable is started
//! again with `serving_process` as the only test, and told over its standard input what to do.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "each test file uses a part of it"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use sitefs::base::Timestamp;
use sitefs::fuse::{Session, SessionOptions};
use sitefs::live::{Access, FileSystem, Namespace, NamespaceEntry, Volume, VolumeNumber, Volumes};
use sitefs::objects::Objects;
use sitefs::trees::{Attributes, ImportOptions, Root, Totals, Trees};

/// Each test twice: bytes served by the program, and by the kernel past it.
macro_rules! both_ways {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn by_the_program() {
                super::$name(false);
            }

            #[test]
            fn past_the_program() {
                super::$name(true);
            }
        }
    )*};
}
pub(crate) use both_ways;

/// After this long in which the serving process neither did what it was told nor ran at all, a test hangs: the process is
/// killed, which ends every call that waits for it. On a busy machine everything takes longer, and nothing hangs.
const HANG: Duration = Duration::from_secs(90);

/// After so many times that long without an answer it hangs although it runs.
const HANGS_RUNNING: u128 = 10;

/// How often it is looked at whether a test has ended.
const LOOK: Duration = Duration::from_millis(50);

const RUNNING: u8 = 0;
const HUNG: u8 = 1;
const FINISHED: u8 = 2;

/// What the guard of a test knows of it.
struct Watched {
    state: AtomicU8,
    /// The serving process.
    process: AtomicU32,
    /// How often that has done what it was told.
    answers: AtomicU32,
}

const DIRECTORY: &str = "SITEFS_TEST_DIRECTORY";
const PASSTHROUGH: &str = "SITEFS_TEST_PASSTHROUGH";

/// A mount: `work` is a writable volume, `base` a read-only one and `copy` a writable one, both with the content of
/// the directory `content`, and `live/site` a symbolic link.
pub struct Served {
    directory: tempfile::TempDir,
    options: SessionOptions,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    watched: Arc<Watched>,
}

impl Served {
    pub fn start(passthrough: bool) -> Served {
        Served::start_with(passthrough, |_| ())
    }

    /// `fill` puts content into a directory first.
    pub fn start_with(passthrough: bool, fill: impl FnOnce(&Path)) -> Served {
        Served::start_as(SessionOptions { passthrough, ..SessionOptions::default() }, fill)
    }

    pub fn start_as(options: SessionOptions, fill: impl FnOnce(&Path)) -> Served {
        let directory = tempfile::tempdir().unwrap();
        for name in ["content", "root"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        // Other users go through it.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).unwrap();
        fill(&directory.path().join("content"));
        let (child, input, output) = spawn(directory.path(), options);
        let process = AtomicU32::new(child.id());
        let watched =
            Arc::new(Watched { state: AtomicU8::new(RUNNING), process, answers: AtomicU32::new(0) });
        watch(Arc::clone(&watched));
        let mut served = Served { directory, options, child, input, output, watched };
        served.await_line("serving");
        served
    }

    /// Serves again after [`Served::kill`] or [`Served::stop`].
    pub fn start_again(&mut self) {
        (self.child, self.input, self.output) = spawn(self.directory.path(), self.options);
        self.watched.process.store(self.child.id(), Ordering::SeqCst);
        self.await_line("serving");
    }

    /// The number of the serving process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Runs `work` while the serving process does nothing: what it does is done by the kernel alone.
    pub fn while_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        signal(self.child.id(), Signal::STOP);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        signal(self.child.id(), Signal::CONT);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Has the serving process do something; returns when it is done.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the serving process was not ended");
        writeln!(input, "{line}").unwrap();
        self.await_line("done");
    }

    /// Freezes `work` and shows its state as `name` in the root; calls `taken` as soon as the instant is taken.
    pub fn freeze<T>(&mut self, name: &str, taken: impl FnOnce() -> T) -> T {
        let input = self.input.as_mut().expect("the serving process was not ended");
        writeln!(input, "freeze {name}").unwrap();
        self.await_line("taken");
        let result = taken();
        self.await_line("done");
        result
    }

    /// Ends it as a power cut would, but for the machine.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it cleanly.
    pub fn stop(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success(), "the serving process failed");
    }

    fn await_line(&mut self, expected: &str) {
        let mut line = String::new();
        // The test harness of the serving process writes lines of its own.
        while line.trim_end() != expected {
            line.clear();
            let length = self.output.read_line(&mut line).unwrap();
            assert!(length > 0, "the serving process ended");
        }
        self.watched.answers.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.input.take());
        let started = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if started.elapsed() > Duration::from_secs(10) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let hung = self.watched.state.swap(FINISHED, Ordering::SeqCst) == HUNG;
        unmount_below(self.directory.path());
        assert!(!hung || std::thread::panicking(), "the test hung");
    }
}

/// Detaches every mount at or below a path, the last made first.
pub fn unmount_below(path: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.map(Path::new).filter(|point| point.starts_with(path)) {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}

fn spawn(directory: &Path, options: SessionOptions) -> (Child, Option<ChildStdin>, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["serving_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(PASSTHROUGH, options.passthrough.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, input, output)
}

fn is_on(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "true")
}

fn signal(process: u32, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_raw(process.cast_signed()).unwrap(), signal);
}

/// How long all threads of a process have run, in units of the system.
fn time_run(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before may have blanks. By itself, and for it by the kernel.
    let (_, fields) = text.rsplit_once(')')?;
    let times = fields.split(' ').skip(12).take(2).map(str::parse::<u64>);
    times.sum::<Result<_, _>>().ok()
}

fn watch(watched: Arc<Watched>) {
    std::thread::spawn(move || {
        // Looks are counted, not time: while this process is stopped or the machine is suspended, nothing hangs.
        let looks_max = HANG.as_millis() / LOOK.as_millis();
        let (mut idle, mut unanswered) = (0, 0);
        let (mut answers, mut ran) = (0, None);
        while idle < looks_max && unanswered < HANGS_RUNNING * looks_max {
            if watched.state.load(Ordering::SeqCst) != RUNNING {
                return;
            }
            std::thread::sleep(LOOK);
            let before = (answers, ran);
            answers = watched.answers.load(Ordering::SeqCst);
            ran = time_run(watched.process.load(Ordering::SeqCst));
            unanswered = if answers == before.0 { unanswered + 1 } else { 0 };
            idle = if (answers, ran) == before { idle + 1 } else { 0 };
        }
        eprintln!("the test hangs: killing the serving process");
        watched.state.store(HUNG, Ordering::SeqCst);
        signal(watched.process.load(Ordering::SeqCst), Signal::KILL);
    });
}

/// The body of the test `serving_process`: does nothing unless it was started by [`Served::start`].
pub fn serve() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let store = directory.join("store");
    if !store.exists() {
        fs::create_dir(&store).unwrap();
        Objects::create(&store).unwrap();
    }
    let trees = Arc::new(Trees::new(Arc::new(Objects::open(&store).unwrap()), 1 << 20));
    let (content, _) = trees.import(&directory.join("content"), &ImportOptions::default(), &|_| ()).unwrap();
    let empty = Root {
        attributes: Attributes { mode: 0o755, mtime: Timestamp(1), ..Attributes::default() },
        tree: None,
        totals: Totals::default(),
        links: None,
        next_link: 1,
    };
    let volumes = Volumes::open(&directory.join("live"), trees).unwrap();
    let filesystem = FileSystem::new(Arc::clone(&volumes));
    let mut attached = Vec::new();
    for (number, base, access) in
        [(1, empty, Access::Writable), (2, content.clone(), Access::ReadOnly), (3, content, Access::Writable)]
    {
        attached.push(volumes.attach(VolumeNumber(number), base, access).unwrap());
    }
    let work = Arc::clone(&attached[0]);
    attached.into_iter().for_each(|volume| filesystem.add_volume(volume));
    let mut namespace = Namespace::default();
    for (name, number) in [("work", 1), ("base", 2), ("copy", 3)] {
        namespace.entries.insert(name.to_owned(), NamespaceEntry::Volume(VolumeNumber(number)));
    }
    let live = BTreeMap::from([("site".to_owned(), NamespaceEntry::Symlink("one".to_owned()))]);
    namespace.entries.insert("live".to_owned(), NamespaceEntry::Directory(live));
    filesystem.set_namespace(&namespace);

    let passthrough = is_on(PASSTHROUGH);
    let options = SessionOptions { passthrough, ..SessionOptions::default() };
    let session = Session::mount(Arc::clone(&filesystem), &directory.join("root"), options).unwrap();
    println!("\nserving");
    let mut frozen_count = 0;
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["switch", target] => {
                let Some(NamespaceEntry::Directory(live)) = namespace.entries.get_mut("live") else {
                    panic!("the namespace has live/")
                };
                live.insert("site".to_owned(), NamespaceEntry::Symlink(target.to_owned()));
            }
            ["add", name] => {
                let entry = NamespaceEntry::Symlink("somewhere".to_owned());
                namespace.entries.insert(name.to_owned(), entry);
            }
            ["view", name, ref entries @ ..] => {
                let entries = entries.iter().map(|entry| parse_entry(entry)).collect();
                namespace.entries.insert(name.to_owned(), NamespaceEntry::Directory(entries));
            }
            ["remove", name] => {
                namespace.entries.remove(name);
            }
            ["closed"] => {
                // The kernel tells of a close after close(2) has returned.
                while work.open_files() > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            ["freeze", name] => {
                let frozen = Volume::freeze_together_then(&[&work], || println!("taken")).unwrap().remove(0);
                assert!(frozen.unstable.is_empty(), "written while it was copied: {:?}", frozen.unstable);
                frozen_count += 1;
                let number = VolumeNumber(100 + frozen_count);
                filesystem.add_volume(volumes.attach(number, frozen.root, Access::ReadOnly).unwrap());
                namespace.entries.insert(name.to_owned(), NamespaceEntry::Volume(number));
            }
            ["unmount"] => {
                session.unmount(Duration::ZERO).unwrap();
                println!("done");
                return;
            }
            _ => panic!("unknown: {line}"),
        }
        let invalidations = session.invalidations();
        for invalidation in filesystem.set_namespace(&namespace) {
            invalidations.invalidate(invalidation);
        }
        invalidations.flush();
        println!("done");
    }
    session.unmount(Duration::from_secs(5)).unwrap();
}

/// `NAME/` is a directory to mount on, `NAME` a file to mount on, `NAME>TARGET` a symbolic link.
fn parse_entry(text: &str) -> (String, NamespaceEntry) {
    match (text.split_once('>'), text.strip_suffix('/')) {
        (Some((name, target)), _) => (name.to_owned(), NamespaceEntry::Symlink(target.to_owned())),
        (None, Some(name)) => (name.to_owned(), NamespaceEntry::DirectoryMountPoint),
        (None, None) => (text.to_owned(), NamespaceEntry::FileMountPoint),
    }
}

/// The words for `entries` in the command `view`.
pub fn words(entries: &BTreeMap<String, NamespaceEntry>) -> String {
    let words = entries.iter().map(|(name, entry)| match entry {
        NamespaceEntry::Symlink(target) => format!("{name}>{target}"),
        NamespaceEntry::DirectoryMountPoint => format!("{name}/"),
        NamespaceEntry::FileMountPoint => name.clone(),
        other => panic!("{other:?} is not in a view"),
    });
    words.collect::<Vec<_>>().join(" ")
}

pub fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Bytes that no compression makes smaller.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// Runs a shell command as the user `nobody`; whether it must succeed.
pub fn as_nobody(script: &str, success: bool) {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(output.status.success(), success, "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Files of all sizes, links, modes and times.
pub fn fill(content: &Path) {
    fs::create_dir_all(content.join("deep/er")).unwrap();
    for (name, length) in [("empty", 0), ("small", 100), ("deep/middle", 100_000), ("deep/er/large", 9 << 20)]
    {
        fs::write(content.join(name), noise(length)).unwrap();
    }
    fs::write(content.join("text"), "a line\n".repeat(200_000)).unwrap();
    symlink("deep/middle", content.join("link")).unwrap();
    fs::hard_link(content.join("small"), content.join("deep/small")).unwrap();
    for number in 0..300 {
        fs::write(content.join(format!("deep/{number}")), format!("{number}")).unwrap();
    }
    fs::set_permissions(content.join("text"), fs::Permissions::from_mode(0o640)).unwrap();
    let time = std::time::UNIX_EPOCH + Duration::new(1_600_000_000, 987_654_321);
    File::open(content.join("deep/er")).unwrap().set_modified(time).unwrap();
}

/// A process that sleeps in a mount namespace of its own.
pub fn in_mount_namespace(propagation: &str) -> Child {
    let service = Command::new("unshare")
        .args(["--mount", "--propagation", propagation, "sleep", "60"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let name = format!("/proc/{}/comm", service.id());
    while fs::read_to_string(&name).unwrap().trim_end() != "sleep" {
        std::thread::sleep(Duration::from_millis(2));
    }
    service
}
