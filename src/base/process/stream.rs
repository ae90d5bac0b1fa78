//! A process that large data flows through.

use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::run::Process;
use super::{Captured, Command, Ending, Outcome, ProcessError};

/// A process whose input is written and whose output is read piece by piece, as a dump is. What it writes to standard
/// error is kept, as [`Command::capture_bytes_max`] says. Dropped, it is killed with everything in its group; when
/// this program dies, it sees the end of its input, and nobody reads its output.
///
/// Who writes much must not let the output fill up unread: both are pipes of a bounded size.
pub struct Streaming {
    program: String,
    process: Process,
    input: Option<ChildStdin>,
    output: ChildStdout,
    errors: JoinHandle<Captured>,
    started: Instant,
}

impl Command {
    /// Starts the program for data to flow through. A time limit, input or output set before has no effect.
    pub fn stream(&self) -> Result<Streaming, ProcessError> {
        let mut command = self.prepare()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| self.start_error(source))?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("asked for above");
        let mut pipe = child.stderr.take().expect("asked for above");
        let process = Process::new(child).map_err(|source| self.start_error(source))?;
        let mut captured = Captured::new(self.capture_bytes_max);
        let read = move || {
            let mut buffer = [0; 4096];
            // An error of reading ends the reading, as the end of the process does.
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                captured.push(&buffer[..count]);
            }
            captured
        };
        let errors = std::thread::Builder::new()
            .name("errors".to_owned())
            .spawn(read)
            .map_err(|source| self.start_error(source))?;
        Ok(Streaming { program: self.name(), process, input, output, errors, started: Instant::now() })
    }
}

impl Streaming {
    /// Tells the process that there is no more input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Ends both flows and waits for the process to end, at most for `limit`; then it is killed. That it failed is no
    /// error here: see [`Outcome::success`].
    pub fn finish(self, limit: Duration) -> Result<Outcome, ProcessError> {
        let Streaming { program, mut process, input, output, errors, started } = self;
        drop(input);
        drop(output);
        let failed = |source| ProcessError::Start { program: program.clone(), source };
        let ending = process.wait(limit).map_err(failed)?.unwrap_or(Ending::TimedOut(limit));
        // Whatever it started and left behind must not keep the other end of its errors open.
        process.signal(Signal::KILL);
        let errors = errors.join().unwrap_or_default();
        Ok(Outcome { program, ending, output: Captured::default(), errors, duration: started.elapsed() })
    }
}

impl Read for Streaming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Write for Streaming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.input {
            Some(input) => input.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
