//! Replacing the content of a database by that of another.
//!
//! The new content is complete and checked before the old is touched. Then SQLite's backup interface copies it over
//! the old in one transaction: whoever has the database open sees the old content or the new, and so does whoever
//! opens it after a crash, when the journal is rolled back or the log's unfinished part is ignored. Only where there
//! is no usable database to begin a transaction on is a new file renamed into place.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::limits::Limit;

use super::content;
use super::open::{MAGIC, Place, Scratch, State, beside, prepare};
use crate::base::files::{self, At};
use crate::database::{Problem, Summary};

/// The mode of a new database file where there is none to take it from: for the site's owner and group.
const NEW_FILE_MODE: u32 = 0o660;

/// Replaces the content of `target` by a dump: SQL text, or a raw database file, known by its first bytes. Without a
/// target the dump is only tried. Returns what the dump holds.
pub(super) fn restore(source: &mut dyn Read, target: Option<&Place>) -> Result<Summary, Problem> {
    let layout = target.map(Layout::of).transpose()?.flatten();
    let mut source = BufReader::with_capacity(1 << 16, source);
    let start = source.fill_buf().map_err(cannot_read)?;
    let place = Place::new(Path::new("dump"), Duration::ZERO);
    let (connection, _scratch) = if start.starts_with(MAGIC) {
        let (connection, scratch) = load_file(&mut source, &place)?;
        (connection, Some(scratch))
    } else {
        (load_sql(&mut source, &place, layout.as_ref())?, None)
    };
    content::require_sound(&connection, &place)?;
    let summary = content::summary(&connection, &place)?;
    if summary.tables.is_empty() {
        return Err(Problem::DumpIncomplete { reason: "it holds no table".to_owned() });
    }
    if let Some(target) = target {
        replace(&connection, &place, target, layout)?;
    }
    Ok(summary)
}

/// Replaces the content of `target`, which need not exist, by that of `source` at one moment; returns what it is.
pub(super) fn clone(source: &Place, state: State, target: &Place) -> Result<Summary, Problem> {
    let (connection, _scratch) = source.open_as(state)?;
    // All that follows reads the state at its first read; dropping the transaction ends it.
    let _transaction = connection.unchecked_transaction().map_err(|error| source.problem("read", error))?;
    content::require_sound(&connection, source)?;
    let summary = content::summary(&connection, source)?;
    replace(&connection, source, target, Layout::of(target)?)?;
    Ok(summary)
}

/// Runs SQL text on a private database, which SQLite keeps in an unnamed temporary file: a killed process leaves
/// nothing behind.
fn load_sql(source: &mut dyn BufRead, place: &Place, layout: Option<&Layout>) -> Result<Connection, Problem> {
    let connection = Connection::open("").map_err(|error| place.problem("open", error))?;
    let set_up = || {
        prepare(&connection, Duration::ZERO)?;
        if let Some(layout) = layout {
            connection.pragma_update(None, "page_size", layout.page_size)?;
        }
        // The file is thrown away should anything fail.
        connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        // Rows older than a rule need not obey it.
        connection.pragma_update(None, "ignore_check_constraints", true)?;
        // The text may come from elsewhere: no ATTACH, so no other file is within its reach.
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)
    };
    set_up().map_err(|error| place.problem("prepare", error))?;
    super::dump::load(&connection, source)?;
    Ok(connection)
}

/// Takes a raw database file to a private directory and opens it there.
fn load_file(source: &mut dyn BufRead, place: &Place) -> Result<(Connection, Scratch), Problem> {
    let scratch = Scratch::new()?;
    let path = scratch.file("dump");
    let mut file = files::create_new(&path)?;
    std::io::copy(source, &mut file).map_err(cannot_read)?;
    drop(file);
    Ok((place.open_at(&path)?, scratch))
}

fn cannot_read(error: std::io::Error) -> Problem {
    Problem::File { message: format!("cannot read the dump: {error}") }
}

/// What of a database stays when its content is replaced.
struct Layout {
    page_size: u32,
    is_wal: bool,
}

impl Layout {
    /// `None` for a database that is missing, empty, or cannot be used.
    fn of(place: &Place) -> Result<Option<Layout>, Problem> {
        if files::metadata(&place.path)?.is_none_or(|found| found.len() == 0) {
            return Ok(None);
        }
        match place.open() {
            Ok(connection) => Layout::read(&connection, place).map(Some),
            Err(Problem::NotADatabase { .. } | Problem::Damaged { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn read(connection: &Connection, place: &Place) -> Result<Layout, Problem> {
        let read = || {
            let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let page_size = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            Ok(Layout { page_size, is_wal: journal == "wal" })
        };
        read().map_err(|error| place.problem("read", error))
    }
}

fn replace(
    source: &Connection,
    source_place: &Place,
    target: &Place,
    layout: Option<Layout>,
) -> Result<(), Problem> {
    let own = Layout::read(source, source_place)?;
    let Some(layout) = layout else {
        return place_new(source, target, own.is_wal);
    };
    let mut connection = target.open()?;
    if layout.is_wal && layout.page_size != own.page_size {
        // The page size of a database with a write-ahead log cannot change.
        let scratch = Scratch::new()?;
        let relaid = Place::new(&scratch.file("relaid"), Duration::ZERO);
        files::create_new(&relaid.path)?;
        let mut copied = relaid.open()?;
        copy(source, &mut copied, &relaid)?;
        copied
            .pragma_update(None, "page_size", layout.page_size)
            .and_then(|()| copied.execute_batch("VACUUM"))
            .map_err(|error| source_place.problem("rebuild", error))?;
        return copy(&copied, &mut connection, target);
    }
    copy(source, &mut connection, target)
}

/// Copies all pages in one transaction of `target`.
fn copy(source: &Connection, target: &mut Connection, place: &Place) -> Result<(), Problem> {
    let deadline = Instant::now() + place.wait;
    let backup = Backup::new(source, target).map_err(|error| place.problem("replace", error))?;
    loop {
        match backup.step(-1).map_err(|error| place.problem("replace", error))? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked if Instant::now() >= deadline => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(place.problem("replace", rusqlite::Error::SqliteFailure(busy, None)));
            }
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Builds a new file beside `target` and renames it into place.
fn place_new(source: &Connection, target: &Place, is_wal: bool) -> Result<(), Problem> {
    let new = Place::new(&beside(&target.path, ".sitefs-new"), Duration::ZERO);
    for suffix in ["", "-journal", "-wal", "-shm"] {
        files::remove_file(&beside(&new.path, suffix))?;
    }
    let result = build(source, &new, target, is_wal).and_then(|()| {
        // A journal that belongs to the old file must not be applied to the new one, so it goes first. A crash
        // here leaves an unusable database unusable.
        for suffix in ["-journal", "-wal", "-shm"] {
            files::remove_file(&beside(&target.path, suffix))?;
        }
        files::sync_parent(&target.path)?;
        files::rename(&new.path, &target.path)?;
        files::sync_parent(&target.path)?;
        Ok(())
    });
    if result.is_err() {
        // The first error counts.
        let _ = files::remove_file(&new.path);
    }
    result
}

fn build(source: &Connection, new: &Place, target: &Place, is_wal: bool) -> Result<(), Problem> {
    let mode =
        files::metadata(&target.path)?.map_or(NEW_FILE_MODE, |found| found.permissions().mode() & 0o777);
    let file = files::create_new(&new.path)?;
    file.set_permissions(Permissions::from_mode(mode)).at("change the mode of", &new.path)?;
    drop(file);
    let mut connection = new.open()?;
    copy(source, &mut connection, new)?;
    if is_wal {
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
            .map_err(|error| new.problem("set the journal mode of", error))?;
    }
    // Closing completes the file: a write-ahead log is emptied into it and removed.
    connection.close().map_err(|(_, error)| new.problem("close", error))
}
