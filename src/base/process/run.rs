//! Running a command to its end.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::capture::Lines;
use super::{Captured, Command, Input, ProcessError};

/// How long outputs are still read after the process has ended while something it started holds them open.
const DRAIN: Duration = Duration::from_millis(500);

/// How long a process that was sent SIGKILL is waited for. One that hangs in the kernel (a dead disk, a mount that
/// does not answer) is left behind then.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(5);

/// One of the two outputs of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Errors,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// By sitefs, because it ran longer than this.
    TimedOut(Duration),
}

impl Ending {
    pub(super) fn of(status: ExitStatus) -> Ending {
        match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exited(code),
            (None, signal) => Ending::Signalled(signal.unwrap_or_default()),
        }
    }
}

/// Completes a sentence that begins with the program's name.
impl fmt::Display for Ending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(code) => write!(out, "ended with exit status {code}"),
            Ending::Signalled(signal) => write!(out, "was ended by signal {signal}"),
            Ending::TimedOut(limit) => {
                write!(out, "was stopped because it ran longer than {} s", limit.as_secs_f64())
            }
        }
    }
}

/// What became of a process.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The program's name, for messages.
    pub program: String,
    /// How it ended.
    pub ending: Ending,
    /// What it wrote to standard output; empty with [`Command::output_file`].
    pub output: Captured,
    /// What it wrote to standard error.
    pub errors: Captured,
    /// How long it ran.
    pub duration: Duration,
}

impl Outcome {
    /// Whether it ended by itself with exit status 0.
    pub fn is_success(&self) -> bool {
        self.ending == Ending::Exited(0)
    }

    /// The outcome of a success; otherwise an error with the last lines the process wrote.
    pub fn success(self) -> Result<Outcome, ProcessError> {
        if self.is_success() {
            return Ok(self);
        }
        let errors = self.errors.last_lines(10);
        let output = if errors.is_empty() { self.output.last_lines(10) } else { errors };
        Err(ProcessError::Failed { program: self.program, ending: self.ending, output })
    }
}

impl Command {
    /// Runs to the end. That the process failed is not an error here: see [`Outcome::success`].
    pub fn run(&self) -> Result<Outcome, ProcessError> {
        self.run_with(&mut |_, _| {})
    }

    /// As [`Command::run`], handing on each line of the outputs as soon as it is complete, without its end. Lines
    /// longer than 64 KiB come in pieces.
    pub fn run_with(&self, line: &mut dyn FnMut(Stream, &str)) -> Result<Outcome, ProcessError> {
        let mut command = self.prepare()?;
        command.stdin(self.input_stdio()?).stdout(self.output_stdio()?).stderr(Stdio::piped());
        let started = Instant::now();
        let child = command.spawn().map_err(|source| self.start_error(source))?;
        let mut process = Process::new(child).map_err(|source| self.start_error(source))?;
        let input: &[u8] = if let Input::Bytes(bytes) = &self.input { bytes } else { &[] };
        let mut pipes = Pipes::new(&mut process.child, input, self.capture_bytes_max)
            .map_err(|source| self.start_error(source))?;
        // The process that contains it does the killing, and is killed itself only when it does not come to an end.
        let grace = if self.contained { self.grace + 2 * KILL_WAIT } else { self.grace };
        let ending = process
            .watch(&mut pipes, started, self.time_limit, grace, line)
            .map_err(|source| self.start_error(source))?;
        let [output, errors] = pipes.outputs.map(|output| output.captured);
        Ok(Outcome { program: self.name(), ending, output, errors, duration: started.elapsed() })
    }
}

/// A started process: dropped before it has ended, it is killed with its group.
pub(super) struct Process {
    pub(super) child: Child,
    /// Readable once the process has ended. It stays a zombie until it is reaped, so its id, which is its group's
    /// too, is not given to another process before.
    ended: OwnedFd,
    group: Pid,
    reaped: bool,
}

impl Process {
    pub(super) fn new(mut child: Child) -> io::Result<Process> {
        let group = Pid::from_child(&child);
        match pidfd_open(group, PidfdFlags::empty()) {
            Ok(ended) => Ok(Process { child, ended, group, reaped: false }),
            Err(error) => {
                // Not to go on unwatched. Both fail only for a process that has ended.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        // Fails only when nothing is left in the group.
        let _ = kill_process_group(self.group, signal);
    }

    /// Waits until the process has ended, at most for `limit`, and reaps it; `None` when it has not.
    pub(super) fn wait(&mut self, limit: Duration) -> io::Result<Option<Ending>> {
        let deadline = Instant::now().checked_add(limit);
        loop {
            let mut descriptors = [PollFd::new(&self.ended, PollFlags::IN)];
            poll_until(&mut descriptors, deadline)?;
            if !descriptors[0].revents().is_empty() {
                return self.reap().map(Some);
            }
            if is_past(deadline) {
                return Ok(None);
            }
        }
    }

    fn reap(&mut self) -> io::Result<Ending> {
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(Ending::of(status))
    }

    /// Feeds and reads the process until it has ended, or is stopped because its time is up.
    fn watch(
        &mut self,
        pipes: &mut Pipes<'_>,
        started: Instant,
        time_limit: Option<Duration>,
        grace: Duration,
        line: &mut dyn FnMut(Stream, &str),
    ) -> io::Result<Ending> {
        #[derive(PartialEq)]
        enum Phase {
            Running,
            Terminated,
            Killed,
            Draining,
        }
        let mut phase = Phase::Running;
        let mut deadline = time_limit.and_then(|limit| started.checked_add(limit));
        let mut stopped = None;
        loop {
            let ended = pipes.exchange(&self.ended, phase == Phase::Draining, deadline, line)?;
            if ended && phase != Phase::Draining {
                phase = Phase::Draining;
                pipes.input = None;
                deadline = Instant::now().checked_add(DRAIN);
            }
            if phase == Phase::Draining && pipes.outputs.iter().all(|output| output.pipe.is_none()) {
                break;
            }
            if !is_past(deadline) {
                continue;
            }
            let wait = match phase {
                Phase::Running => {
                    stopped = time_limit;
                    self.signal(Signal::TERM);
                    phase = Phase::Terminated;
                    grace
                }
                Phase::Terminated => {
                    self.signal(Signal::KILL);
                    phase = Phase::Killed;
                    KILL_WAIT
                }
                Phase::Killed | Phase::Draining => break,
            };
            deadline = Instant::now().checked_add(wait);
        }
        for output in &mut pipes.outputs {
            let stream = output.stream;
            output.lines.finish(|text| line(stream, text));
        }
        match stopped {
            Some(limit) => Ok(Ending::TimedOut(limit)),
            None => self.reap(),
        }
    }
}

impl Drop for Process {
    /// Ends what is left. A process that was stopped by its time limit is reaped here, after its group was killed.
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            // One that hangs in the kernel stays behind; there is nobody to tell.
            let _ = self.wait(KILL_WAIT);
        }
    }
}

/// The ends of the pipes to a process.
struct Pipes<'a> {
    input: Option<(ChildStdin, &'a [u8])>,
    outputs: [Output; 2],
    buffer: Vec<u8>,
}

/// One output of a process.
struct Output {
    stream: Stream,
    pipe: Option<OwnedFd>,
    captured: Captured,
    lines: Lines,
}

impl<'a> Pipes<'a> {
    fn new(child: &mut Child, input: &'a [u8], capture_bytes_max: usize) -> io::Result<Pipes<'a>> {
        let output = |stream, pipe| Output {
            stream,
            pipe,
            captured: Captured::new(capture_bytes_max),
            lines: Lines::default(),
        };
        let outputs = [
            output(Stream::Output, child.stdout.take().map(OwnedFd::from)),
            output(Stream::Errors, child.stderr.take().map(OwnedFd::from)),
        ];
        let pipe = child.stdin.take().filter(|_| !input.is_empty());
        if let Some(pipe) = &pipe {
            // A process that does not read must not block the reading of what it writes.
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Pipes { input: pipe.map(|pipe| (pipe, input)), outputs, buffer: vec![0; 64 * 1024] })
    }

    /// Waits until something can be read or written, the process has ended (unless that is known) or the deadline
    /// has come; reads and writes what is possible; whether the process has ended.
    fn exchange(
        &mut self,
        ended: &OwnedFd,
        ended_known: bool,
        deadline: Option<Instant>,
        line: &mut dyn FnMut(Stream, &str),
    ) -> io::Result<bool> {
        let mut descriptors = Vec::with_capacity(4);
        if !ended_known {
            descriptors.push(PollFd::new(ended, PollFlags::IN));
        }
        descriptors.extend(self.input.iter().map(|(pipe, _)| PollFd::new(pipe, PollFlags::OUT)));
        for output in &self.outputs {
            descriptors.extend(output.pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        }
        poll_until(&mut descriptors, deadline)?;
        let mut ready = descriptors.iter().map(|descriptor| !descriptor.revents().is_empty());
        let mut next = |asked: bool| asked && ready.next().unwrap_or(false);
        let has_ended = next(!ended_known);
        let can_write = next(self.input.is_some());
        let can_read = [next(self.outputs[0].pipe.is_some()), next(self.outputs[1].pipe.is_some())];
        if can_write {
            self.feed()?;
        }
        for (output, _) in self.outputs.iter_mut().zip(can_read).filter(|(_, can_read)| *can_read) {
            output.read(&mut self.buffer, line)?;
        }
        Ok(has_ended)
    }

    fn feed(&mut self) -> io::Result<()> {
        let Some((pipe, rest)) = &mut self.input else { return Ok(()) };
        match rustix::io::write(&*pipe, rest) {
            Ok(count) => *rest = &rest[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            // It does not want to read on.
            Err(Errno::PIPE) => *rest = &[],
            Err(error) => return Err(error.into()),
        }
        if rest.is_empty() {
            self.input = None;
        }
        Ok(())
    }
}

impl Output {
    /// Reads what is there, once.
    fn read(&mut self, buffer: &mut [u8], line: &mut dyn FnMut(Stream, &str)) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        let count = match rustix::io::read(pipe, &mut *buffer) {
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.captured.push(&buffer[..count]);
        self.lines.push(&buffer[..count], |text| line(self.stream, text));
        if count == 0 {
            self.pipe = None;
        }
        Ok(())
    }
}

pub(super) fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Waits for one of the descriptors; returns early when interrupted.
pub(super) fn poll_until(descriptors: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    // A wait too long to be expressed is one without end.
    let wait = deadline
        .and_then(|deadline| Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok());
    match poll(descriptors, wait.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
