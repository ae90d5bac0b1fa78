//! `sitefs init`, `serve` and `stop`: the real program with the real daemon, in a temporary directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::RefCell;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here takes; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A place for a store and a root. Whatever runs or is mounted there ends with this.
struct Place {
    directory: tempfile::TempDir,
    daemons: RefCell<Vec<i32>>,
}

struct Ran {
    exit: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap(), daemons: RefCell::default() }
    }

    fn with_store() -> Place {
        let place = Place::new();
        let ran = place.sitefs(&["init"]);
        assert_eq!(ran.exit, 0, "{}", ran.stderr);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args([
            "--signal=KILL",
            &LIMIT.as_secs().to_string(),
            env!("CARGO_BIN_EXE_sitefs"),
            "--store",
        ]);
        command.arg(self.path("store")).args(arguments);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    fn sitefs(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            exit: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn root_argument(&self) -> String {
        format!("--root={}", self.path("root").display())
    }

    /// Starts a daemon in the background; its process id.
    fn serve(&self) -> i32 {
        let ran = self.sitefs(&["--json", "serve", &self.root_argument()]);
        assert_eq!(ran.exit, 0, "{}{}", ran.stdout, ran.stderr);
        self.started(&ran.stdout)
    }

    fn started(&self, stdout: &str) -> i32 {
        let document: Value = serde_json::from_str(stdout).unwrap();
        let pid = i32::try_from(document["pid"].as_i64().unwrap()).unwrap();
        self.daemons.borrow_mut().push(pid);
        pid
    }

    /// What is mounted at this place or below.
    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned);
        places.filter(|place| place.starts_with(self.directory.path().to_str().unwrap())).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for pid in self.daemons.borrow().iter().filter_map(|pid| Pid::from_raw(*pid)) {
            // Most have ended as they should.
            let _ = kill_process(pid, Signal::KILL);
        }
        for place in self.mounts() {
            let _ = Command::new("umount").args(["-l", &place]).status();
        }
    }
}

fn wait_for(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(begun.elapsed() < LIMIT, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_store_is_made_once() {
    let place = Place::with_store();
    let ran = place.sitefs(&["init"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (3, ""));
    assert!(ran.stderr.contains("is a store already"), "{}", ran.stderr);
    fs::create_dir(place.path("store/own")).unwrap();
    fs::remove_file(place.path("store/FORMAT")).unwrap();
    let ran = place.sitefs(&["init"]);
    assert_eq!(ran.exit, 3);
    assert!(ran.stderr.contains("not empty"), "{}", ran.stderr);
}

#[test]
fn a_daemon_has_as_many_files_open_as_it_is_allowed() {
    let place = Place::with_store();
    let serve = place.command(&["--json", "serve", &place.root_argument()]);
    let script = "ulimit -S -n 256 && exec \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", script, "sh"]).arg(serve.get_program()).args(serve.get_args());
    let output = limited.stdin(Stdio::null()).output().unwrap();
    let pid = place.started(&String::from_utf8(output.stdout).unwrap());
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let (soft, hard) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!(soft == hard.min(65_536) && soft > 256, "{line}");
    assert_eq!(place.sitefs(&["stop"]).exit, 0);
}

#[test]
fn a_daemon_in_the_background_answers_until_it_is_stopped() {
    let place = Place::with_store();
    place.serve();
    assert!(place.mounts().contains(&place.path("root").display().to_string()));
    let status = place.sitefs(&["--json", "status"]);
    let document: Value = serde_json::from_str(&status.stdout).expect(&status.stderr);
    assert_eq!((status.exit, &document["problems"]), (0, &Value::Array(Vec::new())));
    let second = place.sitefs(&["serve", &place.root_argument()]);
    assert_eq!(second.exit, 3);
    assert!(second.stderr.contains("serves the store"), "{}", second.stderr);
    let stopped = place.sitefs(&["stop"]);
    assert_eq!(stopped.exit, 0, "{}", stopped.stderr);
    assert_eq!(place.mounts(), Vec::<String>::new());
    let log = fs::read_to_string(place.path("store/daemon.log")).unwrap();
    assert!(log.contains("info  serving the store") && log.ends_with("info  stopped\n"), "{log}");
    let status = place.sitefs(&["status"]);
    assert_eq!(status.exit, 1);
    assert!(status.stderr.contains("hint: start it: sitefs --store"), "{}", status.stderr);
}

#[test]
fn a_daemon_in_the_foreground_tells_that_it_is_ready_and_stops_on_a_signal() {
    let place = Place::with_store();
    let socket = place.path("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = place.command(&["serve", "--foreground", &place.root_argument()]);
    command.env("NOTIFY_SOCKET", &socket).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut state = [0; 32];
    let length = notified.recv(&mut state).unwrap();
    assert_eq!(&state[..length], b"READY=1");
    let status = place.sitefs(&["--json", "status"]);
    let pid = serde_json::from_str::<Value>(&status.stdout).unwrap()["pid"].as_i64().unwrap();
    place.daemons.borrow_mut().push(i32::try_from(pid).unwrap());
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(wait_for(&mut child), Some(0));
    assert_eq!(place.mounts(), Vec::<String>::new());
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let place = Place::with_store();
    let ran = place.sitefs(&["serve", &format!("--root={}", place.path("store/root").display())]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("error: the daemon ended before it answered\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("is inside the store"), "{}", ran.stderr);
    assert!(ran.stderr.contains("store/daemon.log"), "{}", ran.stderr);
}

#[test]
fn a_killed_daemon_is_followed_by_another() {
    let place = Place::with_store();
    let first = place.serve();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    // What it mounted is dead, and still covers what is below.
    assert!(place.mounts().contains(&place.path("root").display().to_string()));
    let second = place.serve();
    assert_ne!(first, second);
    assert!(fs::read_dir(place.path("root")).unwrap().count() > 0);
    assert_eq!(place.sitefs(&["stop"]).exit, 0);
    assert_eq!(place.mounts(), Vec::<String>::new());
}
