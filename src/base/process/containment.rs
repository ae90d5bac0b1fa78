//! A process that ends everything which a command has started.
//!
//! `sitefs internal-contain PARENT GRACE_MS PROGRAM ARGUMENT...` starts the program and lives as long as it does, with
//! its exit status. It is the reaper of its descendants (`PR_SET_CHILD_SUBREAPER`, prctl(2)): whichever of them loses its
//! parent becomes its child, in whatever group and session, as whatever user, with whatever environment. So what the
//! program leaves behind when it ends is known by its parent, and is killed.
//!
//! SIGTERM, which its whole group gets, lets the program go on for the grace time; then everything is killed. SIGHUP kills
//! at once, and the kernel sends it when the process that started this one dies, however that comes about.
//!
//! A control group would hold even when this process itself is killed, but the daemon need not have one to divide.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process,
    set_child_subreaper, set_parent_process_death_signal, setrlimit, wait,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGTERM};
use signal_hook::low_level::{emulate_default_handler, pipe};

use super::ExitCode;
use super::run::{KILL_WAIT, is_past, poll_until};
use crate::base::files;

/// The verb that starts this process; not for people.
pub const VERB: &str = "internal-contain";

/// How soon it is looked again for what a killed process has left.
const POLL: Duration = Duration::from_millis(5);

/// The exit status when the program could not be started, as of `env` and its like.
const NOT_STARTED: u8 = 125;

/// The words to be executed before the program's own.
pub(super) fn words(program: &Path, grace: Duration) -> [OsString; 4] {
    let parent = getpid().as_raw_nonzero().to_string();
    [program.into(), VERB.into(), parent.into(), grace.as_millis().to_string().into()]
}

/// Whether a process is one of these.
pub(super) fn is_one(process: Pid) -> bool {
    let words = files::read(format!("/proc/{}/cmdline", process.as_raw_nonzero()).as_ref());
    words.is_ok_and(|words| words.split(|byte| *byte == 0).nth(1) == Some(VERB.as_bytes()))
}

/// The process: its arguments are what follows the verb.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut number = || arguments.next()?.to_str()?.parse::<u32>().ok();
    let (parent, grace) = (number(), number());
    let (Some(parent), Some(grace), Some(program)) = (parent, grace, arguments.next()) else {
        return ExitCode::from(NOT_STARTED);
    };
    let grace = Duration::from_millis(grace.into());
    match contain(parent, grace, &program, arguments.collect()) {
        Ok(status) => end_as(status),
        Err(error) => {
            // Where the program's own errors go; nobody else is there to be told.
            let _ = writeln!(io::stderr(), "cannot run {}: {error}", program.to_string_lossy());
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// What this process has been told since it began.
struct Told {
    /// Readable after a signal.
    woken: UnixStream,
    to_end: Arc<AtomicBool>,
    to_end_at_once: Arc<AtomicBool>,
}

impl Told {
    fn new() -> io::Result<Told> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let told = Told { woken, to_end: Arc::default(), to_end_at_once: Arc::default() };
        // Before the pipe is written to, so that whoever is woken sees it.
        signal_hook::flag::register(SIGTERM, Arc::clone(&told.to_end))?;
        signal_hook::flag::register(SIGHUP, Arc::clone(&told.to_end_at_once))?;
        for signal in [SIGCHLD, SIGTERM, SIGHUP] {
            pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(told)
    }

    fn wait(&self, deadline: Option<Instant>) -> io::Result<()> {
        poll_until(&mut [PollFd::new(&self.woken, PollFlags::IN)], deadline)?;
        let mut buffer = [0; 64];
        while matches!(rustix::io::read(&self.woken, &mut buffer), Ok(1..)) {}
        Ok(())
    }
}

/// Runs the program; how it ended. Nothing of what it has started runs when this returns, but for what hangs in the kernel
/// even when killed.
fn contain(
    parent: u32,
    grace: Duration,
    program: &OsString,
    arguments: Vec<OsString>,
) -> io::Result<Option<WaitStatus>> {
    let told = Told::new()?;
    set_child_subreaper(Some(getpid()))?;
    set_parent_process_death_signal(Some(Signal::HUP))?;
    // It may have died before that was said.
    if getppid().and_then(|process| u32::try_from(process.as_raw_nonzero().get()).ok()) != Some(parent) {
        return Err(io::Error::other("the process that asked for it is gone"));
    }
    let child = std::process::Command::new(program).args(arguments).spawn()?;
    let child = Pid::from_child(&child);
    let mut status = None;
    let (mut deadline, mut killing) = (None, None);
    while reap(child, &mut status)? {
        if deadline.is_none() && told.to_end.load(Ordering::SeqCst) {
            deadline = Instant::now().checked_add(grace);
        }
        if status.is_none() && !told.to_end_at_once.load(Ordering::SeqCst) && !is_past(deadline) {
            told.wait(deadline)?;
            continue;
        }
        let since = *killing.get_or_insert_with(Instant::now);
        if since.elapsed() > KILL_WAIT {
            break;
        }
        for left in children() {
            // One that has ended meanwhile is what is wanted.
            let _ = kill_process(left, Signal::KILL);
        }
        told.wait(Instant::now().checked_add(POLL))?;
    }
    Ok(status)
}

/// Reaps what has ended, and keeps how `child` did; whether there are any children left.
fn reap(child: Pid, status: &mut Option<WaitStatus>) -> io::Result<bool> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((process, how))) if process == child => *status = Some(how),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(true),
            Err(Errno::CHILD) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The processes whose parent this one is.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero().to_string();
    let entries = files::list("/proc".as_ref()).unwrap_or_default();
    let ids = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_own = |id: &i32| {
        let stat = files::read(format!("/proc/{id}/stat").as_ref()).unwrap_or_default();
        // The name, in parentheses, may contain anything; the parent is the second field after it.
        let stat = String::from_utf8_lossy(&stat);
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&own))
    };
    ids.filter(is_own).filter_map(Pid::from_raw).collect()
}

/// Ends this process in the way the program did, for whoever waits for it.
fn end_as(status: Option<WaitStatus>) -> ExitCode {
    if let Some(code) = status.and_then(WaitStatus::exit_status) {
        super::exit(code);
    }
    // One that was killed and hangs all the same is as good as ended by that.
    let signal = status.and_then(WaitStatus::terminating_signal).unwrap_or(Signal::KILL.as_raw());
    // The program has left its own image of memory, where that was wanted.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if signal != Signal::KILL.as_raw() {
        let _ = emulate_default_handler(signal);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    ExitCode::from(NOT_STARTED)
}
