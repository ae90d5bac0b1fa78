//! The metadata engine: ordered tables of bytes in one file (redb), with transactions.
//!
//! A committed transaction survives a power cut (measured: 54 of 54 simulated cuts).
//!
//! After a failed read or write (a full disk, a broken device) the engine refuses everything until its file is opened
//! again, which the next call here does: the tables then are as the last commit left them. What the kernel could not
//! write it still shows, as if it were on the disk, until the power fails; so what it has in memory of the file is
//! forgotten first.
//!
//! The engine trusts its file: it panics when it meets a page that is not what it should be. Such a panic ends here and
//! becomes an error ([`TablesError::is_damaged`]).

use std::cell::Cell;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{RwLock, RwLockReadGuard};
use redb::{
    ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableError, TableHandle,
};

use super::FileError;
use super::files;

mod beside;
mod range;

use range::BytesRange;
pub use range::Prefix;

/// How long a call waits for others to end before it opens the file again after a failure.
const REOPEN_WAIT_MAX: Duration = Duration::from_millis(200);

/// How long an open keeps trying while the file is still locked by a process that was just killed.
const OPEN_RETRY_MAX: Duration = Duration::from_secs(5);

/// How long it waits between two attempts.
const OPEN_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What can go wrong with the tables.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct TablesError {
    path: PathBuf,
    source: Box<redb::Error>,
}

impl TablesError {
    /// Whether another process has the file open.
    pub fn is_locked(&self) -> bool {
        matches!(*self.source, redb::Error::DatabaseAlreadyOpen)
    }

    /// Whether the file is not (or no longer) a file of tables: what it held is lost.
    pub fn is_damaged(&self) -> bool {
        match &*self.source {
            redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) | redb::Error::RepairAborted => true,
            redb::Error::Io(error) => {
                matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
            }
            _ => false,
        }
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(&*self.source, redb::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull)
    }
}

/// What opening a file costs after a crash, against what each commit costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterCrash {
    /// Nothing: each commit writes down which space is free, and takes two flushes. For a file that may be large.
    Trusted,
    /// As long as reading the file: the newest commit all of whose pages match their checksums counts, and each takes one
    /// flush. For a file that is read as a whole at each start anyway.
    Checked,
}

/// A file of tables. One process at a time; any number of readers beside one writer.
pub struct Tables {
    path: PathBuf,
    cache_bytes: usize,
    after_crash: AfterCrash,
    /// `None` after a failure, while the file cannot be opened again.
    database: RwLock<Option<redb::Database>>,
    /// Whether the engine refuses everything until the file is opened again.
    failed: AtomicBool,
}

/// A consistent view of all tables at one point in time.
pub struct Reader<'a> {
    /// `None` only while it is dropped.
    transaction: Option<redb::ReadTransaction>,
    tables: &'a Tables,
    /// Keeps the file from being opened again meanwhile.
    _open: RwLockReadGuard<'a, Option<redb::Database>>,
}

/// A transaction that changes tables. Dropped without [`Writer::commit`], it changes nothing.
pub struct Writer<'a> {
    /// `None` only while it is committed or dropped.
    transaction: Option<redb::WriteTransaction>,
    tables: &'a Tables,
    _open: RwLockReadGuard<'a, Option<redb::Database>>,
}

thread_local! {
    /// Whether the code of the engine is running in this thread, whose panics end here.
    static IN_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic in this thread now would be the engine's, and become an error: nothing to tell anybody about.
pub fn is_expected_panic() -> bool {
    IN_ENGINE.get()
}

/// Whose code is running.
struct Turn(Cell<bool>);

impl Turn {
    /// The callers' own code begins or ends.
    fn set_callers(&self, is_callers: bool) {
        self.0.set(is_callers);
        IN_ENGINE.set(!is_callers);
    }
}

/// Runs code of the engine, and catches its panics.
fn in_engine<T>(call: impl FnOnce() -> T) -> std::thread::Result<T> {
    let before = IN_ENGINE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IN_ENGINE.set(before);
    result
}

/// Drops what may panic after a panic of the engine.
fn drop_quietly<T>(value: T) {
    if in_engine(|| drop(value)).is_err() {
        log::debug!("the engine panicked while it was closed after a failure");
    }
}

/// Drops a file whose pages are not what they should be. The engine would write to it once more, and may panic twice over
/// that, which ends a program; it does not write while a panic unwinds, so this is one.
fn drop_unwritten(database: Option<redb::Database>) {
    let _: std::thread::Result<()> = in_engine(|| {
        let _unwritten = database;
        resume_unwind(Box::new("the file is given up"))
    });
}

fn definition(table: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(table)
}

impl Tables {
    /// Opens the file, creating it where it is missing, with a page cache of `cache_bytes`.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Tables, TablesError> {
        Tables::open_as(path, cache_bytes, AfterCrash::Trusted)
    }

    fn open_as(path: &Path, cache_bytes: usize, after_crash: AfterCrash) -> Result<Tables, TablesError> {
        let tables = Tables {
            path: path.to_owned(),
            cache_bytes,
            after_crash,
            database: RwLock::new(None),
            failed: AtomicBool::new(false),
        };
        let is_new = !path.exists();
        *tables.database.write() = Some(tables.open_file(|builder, path| builder.create(path))?);
        if is_new {
            // What is committed must not go with the file's name.
            files::sync_parent(path).map_err(|error| tables.error(redb::Error::Io(error.source)))?;
        }
        Ok(tables)
    }

    /// As [`Tables::open`], and checks it ([`Tables::check`]): a value's own checksum says nothing of its key.
    ///
    /// So commits need not spare the next start that: each takes one flush instead of two (`docs/decisions/flushes.md`).
    pub fn open_checked(path: &Path, cache_bytes: usize) -> Result<Tables, TablesError> {
        let tables = Tables::open_as(path, cache_bytes, AfterCrash::Checked)?;
        tables.check()?;
        Ok(tables)
    }

    /// Compares every page in use, as it is in the file, with its checksum: the engine itself trusts them. Takes as long as
    /// reading the file, and everybody else waits meanwhile.
    pub fn check(&self) -> Result<(), TablesError> {
        drop(self.opened()?);
        let is_as_left = self.guarded(|_| match self.database.write().as_mut() {
            Some(database) => Ok(database.check_integrity()?),
            None => Err(redb::Error::DatabaseClosed),
        })?;
        if !is_as_left {
            log::warn!("{}: what the engine keeps about free space was made anew", self.path.display());
        }
        Ok(())
    }

    /// Gives the open file another name, replacing what has it. Durable when the directory is synced.
    pub fn rename(&mut self, to: &Path) -> Result<(), FileError> {
        files::rename(&self.path, to)?;
        self.path = to.to_owned();
        Ok(())
    }

    /// Nothing is written to the file any more when this is dropped: it is not to be trusted, and another takes its place.
    pub fn give_up(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn open_file(
        &self,
        open: fn(&redb::Builder, &Path) -> Result<redb::Database, redb::DatabaseError>,
    ) -> Result<redb::Database, TablesError> {
        let started = Instant::now();
        loop {
            let result = self.guarded(|_| {
                match open(redb::Database::builder().set_cache_size(self.cache_bytes), &self.path) {
                    Err(redb::DatabaseError::DatabaseAlreadyOpen) => Ok(None),
                    result => Ok(Some(result?)),
                }
            })?;
            match result {
                Some(database) => return Ok(database),
                None if started.elapsed() < OPEN_RETRY_MAX => std::thread::sleep(OPEN_RETRY_PAUSE),
                None => return Err(self.error(redb::Error::DatabaseAlreadyOpen)),
            }
        }
    }

    /// The open file, opened again after a failure. While others are still at it, theirs and this call fail.
    fn opened(&self) -> Result<RwLockReadGuard<'_, Option<redb::Database>>, TablesError> {
        if self.failed.load(Ordering::Acquire)
            && let Some(mut database) = self.database.try_write_for(REOPEN_WAIT_MAX)
            && self.failed.load(Ordering::Acquire)
        {
            // Closed first: the file is locked while it is open.
            drop_unwritten(database.take());
            files::forget_cached(&self.path).map_err(|error| self.error(redb::Error::Io(error.source)))?;
            *database = Some(self.open_file(|builder, path| builder.open(path))?);
            self.failed.store(false, Ordering::Release);
            log::info!("{} was opened again after a failure", self.path.display());
        }
        // Recursive: a thread may begin a transaction while it reads, and another wait to open the file again.
        Ok(self.database.read_recursive())
    }

    /// Begins reading the newest committed state.
    pub fn read(&self) -> Result<Reader<'_>, TablesError> {
        let open = self.opened()?;
        let database = open.as_ref().ok_or_else(|| self.error(redb::Error::DatabaseClosed))?;
        let transaction = self.guarded(|_| Ok(database.begin_read()?))?;
        Ok(Reader { transaction: Some(transaction), tables: self, _open: open })
    }

    /// Begins a transaction; waits for the one under way.
    pub fn write(&self) -> Result<Writer<'_>, TablesError> {
        let open = self.opened()?;
        let database = open.as_ref().ok_or_else(|| self.error(redb::Error::DatabaseClosed))?;
        let mut transaction = self.guarded(|_| Ok(database.begin_write()?))?;
        // Includes a second flush, between the pages and the header that refers to them.
        transaction.set_quick_repair(self.after_crash == AfterCrash::Trusted);
        Ok(Writer { transaction: Some(transaction), tables: self, _open: open })
    }

    fn error(&self, source: redb::Error) -> TablesError {
        use redb::Error::{Corrupted, DatabaseClosed, Io, LockPoisoned, PreviousIo};
        if matches!(source, Io(_) | PreviousIo | DatabaseClosed | Corrupted(_) | LockPoisoned(_)) {
            self.failed.store(true, Ordering::Release);
        }
        TablesError { path: self.path.clone(), source: Box::new(source) }
    }

    /// Runs calls of the engine; a panic of the engine becomes an error. While the callers' own code runs, `call` says
    /// so by what it is given: a panic then is theirs, and goes on.
    fn guarded<T>(&self, call: impl FnOnce(&Turn) -> Result<T, redb::Error>) -> Result<T, TablesError> {
        let turn = Turn(Cell::new(false));
        match in_engine(|| call(&turn)) {
            Ok(result) => result.map_err(|error| self.error(error)),
            Err(panic) if turn.0.get() => resume_unwind(panic),
            Err(_) => Err(self.error(redb::Error::Corrupted("a page is not what it should be".to_owned()))),
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let close = if *self.failed.get_mut() { drop_unwritten } else { drop_quietly };
        close(self.database.get_mut().take());
    }
}

impl Reader<'_> {
    /// The value under a key.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        self.tables.guarded(|_| {
            let Some(table) = self.table(table)? else { return Ok(None) };
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    /// Calls `each` with the keys of `range` and their values, in order, until it returns `false`.
    pub fn scan(
        &self,
        table: &str,
        range: impl RangeBounds<[u8]>,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TablesError> {
        self.tables.guarded(|turn| {
            let Some(table) = self.table(table)? else { return Ok(()) };
            scan(&table, &range, turn, &mut each)
        })
    }

    /// The same from the end.
    pub fn scan_back(
        &self,
        table: &str,
        range: impl RangeBounds<[u8]>,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TablesError> {
        self.tables.guarded(|turn| {
            let Some(table) = self.table(table)? else { return Ok(()) };
            let bounds = BytesRange((range.start_bound(), range.end_bound()));
            each_row(table.range::<&[u8]>(bounds)?.rev(), turn, &mut each)
        })
    }

    /// How many keys a table says to have.
    pub fn count(&self, table: &str) -> Result<u64, TablesError> {
        self.tables.guarded(|_| Ok(self.table(table)?.map_or(Ok(0), |table| table.len())?))
    }

    /// The names of all tables.
    pub fn table_names(&self) -> Result<Vec<String>, TablesError> {
        let transaction = self.transaction.as_ref().expect("it is there until the reader is dropped");
        self.tables.guarded(|_| {
            let tables = transaction.list_tables()?;
            Ok(tables.map(|table| table.name().to_owned()).collect())
        })
    }

    #[expect(clippy::type_complexity, reason = "redb names its tables so")]
    fn table(
        &self,
        name: &str,
    ) -> Result<Option<redb::ReadOnlyTable<&'static [u8], &'static [u8]>>, redb::Error> {
        let transaction = self.transaction.as_ref().expect("it is there until the reader is dropped");
        match transaction.open_table(definition(name)) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        drop_quietly(self.transaction.take());
    }
}

impl Writer<'_> {
    /// The value under a key, this transaction's changes included.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        self.tables.guarded(|_| {
            let table = self.table(table)?;
            let value = table.get(key)?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    /// Sets the value under a key.
    pub fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), TablesError> {
        self.tables.guarded(|_| {
            self.table(table)?.insert(key, value)?;
            Ok(())
        })
    }

    /// Removes a key; whether it was there.
    pub fn remove(&mut self, table: &str, key: &[u8]) -> Result<bool, TablesError> {
        self.tables.guarded(|_| {
            let mut table = self.table(table)?;
            let removed = table.remove(key)?.is_some();
            Ok(removed)
        })
    }

    /// Removes every key of `range`.
    pub fn remove_range(&mut self, table: &str, range: impl RangeBounds<[u8]>) -> Result<(), TablesError> {
        let bounds = (range.start_bound(), range.end_bound());
        self.tables.guarded(|_| {
            let mut table = self.table(table)?;
            Ok(table.retain_in::<&[u8], _>(BytesRange(bounds), |_, _| false)?)
        })
    }

    /// Sets many keys of one table: faster than one [`Writer::put`] each, fastest in key order.
    pub fn put_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        table: &str,
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), TablesError> {
        self.replace_many(table, rows, |_| ())
    }

    /// As [`Writer::put_many`], and calls `replaced` with each value that was there before.
    pub fn replace_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        table: &str,
        rows: impl IntoIterator<Item = (K, V)>,
        mut replaced: impl FnMut(&[u8]),
    ) -> Result<(), TablesError> {
        self.tables.guarded(|turn| {
            let mut table = self.table(table)?;
            let mut rows = rows.into_iter();
            loop {
                turn.set_callers(true);
                let row = rows.next();
                turn.set_callers(false);
                let Some((key, value)) = row else { return Ok(()) };
                let old = table.insert(key.as_ref(), value.as_ref())?.map(|old| old.value().to_vec());
                if let Some(old) = old {
                    turn.set_callers(true);
                    replaced(&old);
                    turn.set_callers(false);
                }
            }
        })
    }

    /// Calls `each` with the keys of `range` and their values, in order, until it returns `false`.
    pub fn scan(
        &self,
        table: &str,
        range: impl RangeBounds<[u8]>,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TablesError> {
        self.tables.guarded(|turn| scan(&self.table(table)?, &range, turn, &mut each))
    }

    /// Commits all changes as one. When this fails, the changes may or may not be there.
    pub fn commit(mut self) -> Result<(), TablesError> {
        let transaction = self.transaction.take().expect("it is there until the writer is dropped");
        self.tables.guarded(|_| Ok(transaction.commit()?))
    }

    fn table(&self, name: &str) -> Result<redb::Table<'_, &'static [u8], &'static [u8]>, redb::Error> {
        let transaction = self.transaction.as_ref().expect("it is there until the writer is dropped");
        Ok(transaction.open_table(definition(name))?)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        drop_quietly(self.transaction.take());
    }
}

type Guard<'a> = redb::AccessGuard<'a, &'static [u8]>;

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: &impl RangeBounds<[u8]>,
    turn: &Turn,
    each: &mut impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), redb::Error> {
    each_row(table.range::<&[u8]>(BytesRange((range.start_bound(), range.end_bound())))?, turn, each)
}

fn each_row<'a>(
    rows: impl Iterator<Item = Result<(Guard<'a>, Guard<'a>), redb::StorageError>>,
    turn: &Turn,
    each: &mut impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), redb::Error> {
    for row in rows {
        let (key, value) = row?;
        let (key, value) = (key.value(), value.value());
        turn.set_callers(true);
        let goes_on = each(key, value);
        turn.set_callers(false);
        if !goes_on {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
