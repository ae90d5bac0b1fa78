//! What the daemon tells while it works on a request.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// What progress is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files, directories and other nodes.
    Files,
    /// Tables of a database.
    Tables,
    /// Objects of the store.
    Objects,
    /// Snapshots.
    Snapshots,
}

/// Where a step of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum StepState {
    /// It begins.
    Started,
    /// It is done, after this many seconds.
    Done {
        /// How long it took.
        seconds: f64,
    },
    /// It failed, after this many seconds.
    Failed {
        /// How long it took.
        seconds: f64,
    },
    /// It was taken back, which took this many seconds.
    Undone {
        /// How long it took.
        seconds: f64,
    },
    /// It was not needed, or an earlier execution of the run had done it.
    Skipped,
}

/// One message while a request is worked on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// How far something is. Newer ones replace older ones; any of them may be dropped on the way.
    Progress {
        /// What is being done: "importing files". The same text for the same piece of work.
        what: String,
        /// How much is done.
        done: u64,
        /// How much there is to do, where that is known.
        total: Option<u64>,
        /// What both count.
        unit: Unit,
    },
    /// A step of a run begins or ends.
    Step {
        /// Its number, from 1.
        number: u32,
        /// How many steps there are.
        count: u32,
        /// What it does: "snapshot with a verified backup".
        name: String,
        /// Where it stands.
        #[serde(flatten)]
        state: StepState,
    },
    /// A line that a command of the application wrote.
    Output {
        /// The line, without its end.
        line: String,
    },
    /// Something the administrator should know, though the work goes on.
    Warning {
        /// What.
        text: String,
    },
}

/// The caller went away, or the daemon is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller went away")]
pub struct Gone;

/// The way back to who asked, while a request is worked on. Any number of threads may use it at once.
pub trait Events: Send + Sync {
    /// Tells the caller something. Never waits: what a slow caller does not take is queued, then dropped. No error
    /// when the caller has gone.
    fn send(&self, event: Event);

    /// Sends bytes of the result (a dump, a difference as text), waiting for as long as the caller is slow.
    fn data(&self, bytes: &[u8]) -> Result<(), Gone>;

    /// Reads bytes that the caller sends after a request that takes input. Returns 0 at their end. An error when
    /// the caller goes away before that.
    fn input(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Whether nobody waits for the result any more: the caller has gone, or the daemon is stopping. Short work
    /// stops then; a run goes on.
    fn cancelled(&self) -> bool;

    /// Sends [`Event::Warning`].
    fn warn(&self, text: String) {
        self.send(Event::Warning { text });
    }

    /// Sends [`Event::Progress`].
    fn progress(&self, what: &str, done: u64, total: Option<u64>, unit: Unit) {
        self.send(Event::Progress { what: what.to_owned(), done, total, unit });
    }
}

/// Writes to [`Events::data`].
pub struct DataWriter<'a>(pub &'a dyn Events);

impl Write for DataWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.data(bytes).map_err(|gone| io::Error::new(io::ErrorKind::BrokenPipe, gone))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from [`Events::input`].
pub struct InputReader<'a>(pub &'a dyn Events);

impl io::Read for InputReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.input(buffer)
    }
}
