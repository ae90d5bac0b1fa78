//! Holding writes to databases, within the process that works on them.
//!
//! While a [`Held`] lives, nobody else changes the content of its databases, and what is in their files is a
//! committed state:
//!
//! - With a rollback journal (`DELETE`, `TRUNCATE`, `PERSIST`, `MEMORY`, `OFF`), `BEGIN IMMEDIATE` takes the
//!   RESERVED lock. Only who has it may go on to write pages into the file, so nobody is doing that. On the way, the
//!   journal of a writer that was killed is rolled back. There is no journal then, or one that SQLite regards as
//!   finished, and pages are in the file alone. The hold itself writes nothing, hence has no journal.
//! - With a write-ahead log, `BEGIN IMMEDIATE` takes the one write lock: the log does not grow, and it does not start
//!   anew, as the hold's own read mark is in it. Somebody may still copy pages from the log to the file (a
//!   checkpoint): whatever of that is captured, the captured log has those pages too, and they win when it is
//!   replayed. The `-shm` file is an index of the log; whoever is the first to open the captured files builds it
//!   anew. Before the hold, the log is emptied into the file as far as readers allow it at once, so that the file
//!   is mostly complete without the log.
//!
//! The captured files are as if the power had failed at that instant, with nothing going on: no data is lost, as
//! nothing that was committed is only in the memory of a process. (SQLite writes pages by `write`, never through a
//! memory map, which only the `-shm` file has.)

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Error, ErrorCode};

use super::content;
use super::open::{Place, WAIT_MAX};
use crate::base::files;
use crate::database::{Description, Problem, Summary};

/// How long readers of a write-ahead log are waited for before it is left as it is.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(100);

/// How soon a lock that somebody else has is tried again. SQLite's own way, up to 100 ms, would seldom meet the short
/// gaps between the transactions of writers that follow each other closely.
const RETRY: Duration = Duration::from_micros(200);

/// Databases whose writes are held, until dropped.
pub(in crate::database) struct Held {
    databases: Vec<HeldDatabase>,
}

struct HeldDatabase {
    place: Place,
    description: Description,
    writer: Connection,
    /// With a write-ahead log: a second reader of the same state, which stays when writers are let go.
    reader: Option<Connection>,
}

impl Held {
    /// Holds writes to `database` and to those of `additional` that exist, waiting for locks at most `wait` for all
    /// of them. In the order of their paths, so that two holds cannot wait for each other.
    pub(in crate::database) fn acquire(
        database: PathBuf,
        additional: Vec<PathBuf>,
        wait: Duration,
    ) -> Result<Held, Problem> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let first = real(&database)?.ok_or_else(|| Problem::Missing { path: database.clone() })?;
        let mut paths = BTreeSet::from([first.clone()]);
        for path in additional {
            paths.extend(real(&path)?);
        }
        let mut databases = Vec::new();
        for path in paths {
            let left = deadline.saturating_duration_since(Instant::now());
            databases.push(HeldDatabase::acquire(Place::new(&path, left))?);
        }
        // The database itself comes first, its companions after it.
        databases.sort_by_key(|held| held.place.path != first);
        Ok(Held { databases })
    }

    /// What is held: the database first.
    pub(in crate::database) fn descriptions(&self) -> Vec<Description> {
        self.databases.iter().map(|held| held.description.clone()).collect()
    }

    /// The summary of the database in the state that is held.
    pub(in crate::database) fn summary(&self) -> Result<Summary, Problem> {
        let held = self.databases.first().expect("acquire puts the database itself first");
        content::summary(held.reader.as_ref().unwrap_or(&held.writer), &held.place)
    }

    /// Lets writers go where that leaves the state readable, which is for databases with a write-ahead log; whether
    /// nobody waits any more.
    pub(in crate::database) fn let_writers_go(&mut self) -> Result<bool, Problem> {
        for held in self.databases.iter().filter(|held| held.reader.is_some()) {
            if !held.writer.is_autocommit() {
                held.writer
                    .execute_batch("ROLLBACK")
                    .map_err(|error| held.place.problem("release", error))?;
            }
        }
        Ok(self.databases.iter().all(|held| held.reader.is_some()))
    }
}

/// The path with links resolved: one file must not be locked twice, as closing it once would drop the locks of both.
fn real(path: &std::path::Path) -> Result<Option<PathBuf>, Problem> {
    Ok(if files::metadata(path)?.is_some() { Some(files::canonical(path)?) } else { None })
}

impl HeldDatabase {
    fn acquire(place: Place) -> Result<HeldDatabase, Problem> {
        let writer = place.open()?;
        let description = super::describe(&writer, &place)?;
        let is_wal = description.journal_mode == "wal";
        if writer.is_readonly("main").map_err(|error| place.problem("hold", error))? {
            // BEGIN IMMEDIATE would be content with reading.
            let readonly = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
            return Err(place.problem("hold", Error::SqliteFailure(readonly, None)));
        }
        begin(&writer, is_wal, place.wait).map_err(|error| place.problem("hold", error))?;
        let reader = if is_wal { Some(place.open()?) } else { None };
        if let Some(reader) = &reader {
            reader
                .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
                .map_err(|error| place.problem("read", error))?;
        }
        Ok(HeldDatabase { place, description, writer, reader })
    }
}

fn begin(writer: &Connection, is_wal: bool, wait: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + wait;
    if is_wal {
        writer.busy_timeout(CHECKPOINT_WAIT)?;
        // It need not succeed.
        let _ = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    writer.busy_timeout(Duration::ZERO)?;
    loop {
        match writer.execute_batch("BEGIN IMMEDIATE") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(RETRY);
            }
            result => {
                writer.busy_timeout(wait)?;
                return result;
            }
        }
    }
}
