//! SQLite, as the process that works on a database sees it. Every function here may wait for the file system and
//! for other processes' locks, so none is called in the daemon: see [`crate::database::worker`].

mod content;
mod dump;
mod hold;
mod locks;
mod open;
mod replace;
mod script;

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use self::open::{Place, State};
use super::{Description, Examination, Problem, Summary};

pub(super) use self::hold::Held;

/// A database file to work on, and how its locks are treated.
#[derive(Clone, Debug)]
pub(super) struct File {
    place: Place,
    state: State,
}

impl File {
    /// The database at `path`; `frozen` says that nothing changes it. Locks are waited for at most `wait`.
    pub(super) fn new(path: &Path, frozen: bool, wait: Duration) -> File {
        let state = if frozen { State::Frozen } else { State::Live };
        File { place: Place::new(path, wait), state }
    }

    /// What kind of database it is.
    pub(super) fn describe(&self) -> Result<Description, Problem> {
        let (connection, _scratch) = self.place.open_as(self.state)?;
        describe(&connection, &self.place)
    }

    /// What is in it, and, with `check`, whether it is sound; all of one moment.
    pub(super) fn examine(&self, check: bool) -> Result<Examination, Problem> {
        let (connection, _scratch) = self.place.open_as(self.state)?;
        let _transaction =
            connection.unchecked_transaction().map_err(|error| self.place.problem("read", error))?;
        let findings = if check { content::findings(&connection, &self.place)? } else { Vec::new() };
        let summary = content::summary(&connection, &self.place)?;
        Ok(Examination { summary, findings })
    }

    /// Writes it as SQL.
    pub(super) fn dump(&self, out: &mut dyn Write) -> Result<Summary, Problem> {
        let (connection, _scratch) = self.place.open_as(self.state)?;
        dump::dump(&connection, &self.place, out)
    }

    /// Replaces it by a dump.
    pub(super) fn restore(&self, source: &mut dyn Read) -> Result<Summary, Problem> {
        replace::restore(source, Some(&self.place))
    }

    /// Replaces `target` by it.
    pub(super) fn clone_to(&self, target: &File) -> Result<Summary, Problem> {
        replace::clone(&self.place, self.state, &target.place)
    }
}

/// Restores a dump to a private place, to see whether it can be.
pub(super) fn try_dump(source: &mut dyn Read) -> Result<Summary, Problem> {
    replace::restore(source, None)
}

fn describe(connection: &Connection, place: &Place) -> Result<Description, Problem> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let read = || {
        Ok(Description {
            path: place.path.clone(),
            journal_mode: connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
            size_bytes: (number("page_count")? * number("page_size")?).unsigned_abs(),
        })
    };
    read().map_err(|error| place.problem("read", error))
}

#[cfg(test)]
mod tests;
