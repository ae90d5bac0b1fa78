//! Talking to a process line by line.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::run::{Process, is_past, poll_until};
use super::{Command, Ending, ProcessError};

/// Longest answer, in bytes: the summary of a database with 100,000 tables takes a sixth of it.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A process that answers lines with lines. Dropped, it is killed with everything in its group; when this program
/// dies, the process sees the end of its input.
pub struct Conversation {
    command: String,
    process: Process,
    input: ChildStdin,
    output: std::process::ChildStdout,
    pending: Vec<u8>,
}

impl Command {
    /// Starts the program for a conversation through its standard input and output. What it writes to standard error
    /// goes where this program's own goes. A time limit, input or output set before has no effect.
    pub fn converse(&self) -> Result<Conversation, ProcessError> {
        let mut command = self.prepare()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|source| self.start_error(source))?;
        let input = child.stdin.take().expect("asked for above");
        let output = child.stdout.take().expect("asked for above");
        let process = Process::new(child).map_err(|source| self.start_error(source))?;
        Ok(Conversation { command: self.name(), process, input, output, pending: Vec::new() })
    }
}

impl Conversation {
    /// Sends a line.
    pub fn send(&mut self, line: &str) -> Result<(), ProcessError> {
        let sent = self.input.write_all(line.as_bytes()).and_then(|()| self.input.write_all(b"\n"));
        match sent {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(self.ended()),
            other => other.map_err(|source| self.failed(source)),
        }
    }

    /// The next line, without its end, waited for at most `limit`.
    pub fn receive(&mut self, limit: Duration) -> Result<String, ProcessError> {
        let deadline = Instant::now().checked_add(limit);
        let mut searched = 0;
        loop {
            if let Some(end) = self.pending[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                return String::from_utf8(line).map_err(|error| self.failed(std::io::Error::other(error)));
            }
            searched = self.pending.len();
            if searched > ANSWER_BYTES_MAX {
                return Err(self.failed(std::io::Error::other("its answer is longer than 64 MiB")));
            }
            let mut descriptors = [PollFd::new(&self.output, PollFlags::IN)];
            let waited = poll_until(&mut descriptors, deadline);
            let ready = !descriptors[0].revents().is_empty();
            waited.map_err(|source| self.failed(source))?;
            if !ready {
                if is_past(deadline) {
                    return Err(ProcessError::Silent { program: self.command.clone(), limit });
                }
                continue;
            }
            let mut buffer = [0; 16 * 1024];
            match rustix::io::read(self.output.as_fd(), &mut buffer) {
                Ok(0) => return Err(self.ended()),
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Closes the process's input, which tells it to end, and waits for that at most `limit`; then it is killed.
    pub fn finish(self, limit: Duration) -> Result<Ending, ProcessError> {
        let Conversation { command, mut process, input, output: _output, pending: _ } = self;
        drop(input);
        match process.wait(limit) {
            Ok(Some(ending)) => Ok(ending),
            Ok(None) => Err(ProcessError::Silent { program: command, limit }),
            Err(source) => Err(ProcessError::Start { program: command, source }),
        }
    }

    fn failed(&self, source: impl Into<std::io::Error>) -> ProcessError {
        ProcessError::Start { program: self.command.clone(), source: source.into() }
    }

    /// The error for a process that closed its end.
    fn ended(&mut self) -> ProcessError {
        match self.process.wait(Duration::from_secs(1)) {
            Ok(Some(ending)) => ProcessError::Ended { program: self.command.clone(), ending },
            Ok(None) => self.failed(std::io::Error::other("it closed its output and goes on")),
            Err(source) => self.failed(source),
        }
    }
}
