//! The copy of the catalog: what each transaction has changed, at the end of a second file.
//!
//! The catalog is a file that changes in place, and a damaged page of it may be any record's. So each transaction's rows
//! are also appended to a file of which nothing is ever written over: a flipped bit costs one entry of it, and says so.
//! Transactions are numbered, in both files, so that it is known which of the two is behind.
//!
//! **Power fails here.** An entry is appended after its transaction was committed, and made durable within
//! [`SYNC_INTERVAL`] by a thread of its own: nobody waits for it. So after a power cut the copy may lack the newest
//! transactions, never the catalog; the next start then writes it anew from the catalog. A copy is written anew under
//! another name, made durable, and renamed.
//!
//! Absent: what a record means.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::CatalogError;
use crate::base::encoding::{EncodingError, decode, encode};
use crate::base::files::{self, At};
use crate::base::tables::{Prefix, Tables};

/// What the file begins with.
const HEADER: &[u8; 8] = b"sitefsCC";
/// What an entry begins with: after damage the next one is looked for.
const ENTRY: &[u8; 4] = b"sCat";
/// The version of an entry's encoding.
const VERSION: u8 = 1;
/// The table of the catalog that has the number of the newest transaction.
pub(super) const TABLE: &str = "copy";
/// The key in it.
const NUMBER: &[u8] = b"number";

/// How long an entry may stay in memory only.
const SYNC_INTERVAL: Duration = Duration::from_millis(500);

/// Rows of a whole catalog are written in entries of about so many bytes: what a flipped bit costs at most.
const PART_BYTES: usize = 64 << 10;

/// The file is written anew when it has grown by so much, and to twice what it was.
const GROWTH_BYTES: u64 = 1 << 20;

/// A row as a transaction has left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) table: String,
    pub(super) key: Vec<u8>,
    /// `None`: it was removed.
    pub(super) value: Option<Vec<u8>>,
}

/// What one transaction has changed, or, at the beginning of a file, a part of the whole catalog.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// The transaction's number; of a whole catalog, that of the newest transaction in it.
    number: u64,
    part: u32,
    /// 0: the catalog was closed, and this is no transaction.
    parts: u32,
    rows: Vec<Row>,
}

/// Is told of a row: its table, its key, its value.
pub(super) type EachRow<'a> = dyn FnMut(&str, &[u8], &[u8]) + 'a;

/// What a file of entries was found to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The number of the newest transaction in it.
    pub(super) last: Option<u64>,
    /// Whether no entry is missing before that one.
    pub(super) is_whole: bool,
    /// Whether its catalog was closed after that one: then there is no newer one.
    pub(super) is_closed: bool,
    /// Where what says so begins; else the end.
    end: u64,
    /// Whether it ends with an entry: a power cut may have taken the end of the last one.
    ends: bool,
}

impl Found {
    /// Whether all transactions up to this one are there, and nothing else.
    pub(super) fn is_sound_up_to(&self, number: u64) -> bool {
        self.can_be_appended_to() && self.last == Some(number)
    }

    fn can_be_appended_to(&self) -> bool {
        self.is_whole && self.ends && self.last.is_some()
    }
}

/// Calls `each` with the rows of all entries in the file, in order; `None` where there is no file.
pub(super) fn replay(path: &Path, each: &mut dyn FnMut(Row)) -> Result<Option<Found>, CatalogError> {
    if files::metadata(path)?.is_none() {
        return Ok(None);
    }
    let bytes = files::read(path)?;
    let mut found = Found { is_whole: bytes.starts_with(HEADER), ends: true, ..Found::default() };
    let mut expected = None;
    let mut at = HEADER.len();
    while at < bytes.len() {
        let Some((entry, length)) = entry_at(&bytes[at..], path)? else {
            found.ends = false;
            at += 1;
            continue;
        };
        let begins = at as u64;
        at += length;
        found.ends = true;
        found.end = at as u64;
        found.is_closed = entry.parts == 0;
        if found.is_closed {
            found.end = begins;
            found.is_whole &= expected == Some((entry.number.saturating_add(1), 0));
            continue;
        }
        // The first entry begins a whole catalog; what comes later follows the one before.
        let is_next = match expected {
            None => entry.part == 0,
            Some(next) => next == (entry.number, entry.part),
        };
        found.is_whole &= is_next;
        found.last = Some(entry.number);
        let next_part = entry.part.saturating_add(1);
        expected = Some(match next_part < entry.parts {
            true => (entry.number, next_part),
            false => (entry.number.saturating_add(1), 0),
        });
        entry.rows.into_iter().for_each(&mut *each);
    }
    found.is_whole &= expected.is_some_and(|(_, part)| part == 0);
    Ok(Some(found))
}

/// The entry that begins here, and its length.
fn entry_at(bytes: &[u8], path: &Path) -> Result<Option<(Entry, usize)>, CatalogError> {
    let Some(rest) = bytes.strip_prefix(ENTRY) else { return Ok(None) };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    let Some(record) = rest.get(..length) else { return Ok(None) };
    match decode::<Entry>(VERSION, record) {
        Ok(entry) => Ok(Some((entry, ENTRY.len() + 4 + length))),
        Err(source @ EncodingError::Version { .. }) => {
            Err(CatalogError::Copy { path: path.to_owned(), source })
        }
        Err(EncodingError::Damaged | EncodingError::Shape(_)) => Ok(None),
    }
}

fn encoded(entry: &Entry) -> Vec<u8> {
    let record = encode(VERSION, entry);
    let length = u32::try_from(record.len()).expect("no transaction writes gigabytes of records");
    [&ENTRY[..], &length.to_le_bytes(), &record].concat()
}

/// The number of the newest transaction that the catalog knows to have.
pub(super) fn number_in(tables: &Tables) -> Result<u64, CatalogError> {
    let value = tables.read()?.get(TABLE, NUMBER)?;
    Ok(value.and_then(|value| decode(VERSION, &value).ok()).unwrap_or(0))
}

/// The row that says the number of the newest transaction.
pub(super) fn number_row(number: u64) -> (&'static str, &'static [u8], Vec<u8>) {
    (TABLE, NUMBER, encode(VERSION, &number))
}

/// Calls `each` with all rows of a catalog, but for the number of its newest transaction.
pub(super) fn each_row(tables: &Tables, each: &mut EachRow<'_>) -> Result<(), CatalogError> {
    let reader = tables.read()?;
    for table in reader.table_names()?.iter().filter(|table| *table != TABLE) {
        reader.scan(table, Prefix::new(&[]), |key, value| {
            each(table, key, value);
            true
        })?;
    }
    Ok(())
}

/// How a copy and its catalog are to each other.
pub(super) struct Comparison {
    /// What is in the copy's file, if there is one.
    pub(super) found: Option<Found>,
    /// Whether both have the same rows.
    pub(super) is_same: bool,
}

/// Compares a catalog with the copy in the file `path`, and calls `each` with its rows.
pub(super) fn compare(
    tables: &Tables,
    path: &Path,
    each: &mut EachRow<'_>,
) -> Result<Comparison, CatalogError> {
    // Hashes do: the rows of all runs need not be in memory at once.
    let mut copied = HashMap::new();
    let found = replay(path, &mut |row| {
        match row.value {
            Some(value) => copied.insert((row.table, row.key), blake3::hash(&value)),
            None => copied.remove(&(row.table, row.key)),
        };
    })?;
    let (mut rows, mut is_same) = (0, true);
    each_row(tables, &mut |table, key, value| {
        rows += 1;
        let hash = copied.get(&(table.to_owned(), key.to_owned()));
        is_same &= hash.is_some_and(|hash| *hash == blake3::hash(value));
        each(table, key, value);
    })?;
    Ok(Comparison { found, is_same: is_same && rows == copied.len() })
}

/// Writes the file that has the whole catalog, not yet durable; the file and its length.
fn write_whole(tables: &Tables, path: &Path, number: u64) -> Result<(File, u64), CatalogError> {
    let (mut parts, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0);
    each_row(tables, &mut |table, key, value| {
        bytes += table.len() + key.len() + value.len();
        rows.push(Row { table: table.to_owned(), key: key.to_owned(), value: Some(value.to_owned()) });
        if bytes > PART_BYTES {
            parts.push(std::mem::take(&mut rows));
            bytes = 0;
        }
    })?;
    parts.push(rows);
    files::remove_file(path)?;
    let file = files::create_new(path)?;
    file.write_all_at(HEADER, 0).at("write", path)?;
    let mut length = HEADER.len() as u64;
    let count = u32::try_from(parts.len()).expect("nobody has so many records");
    for (part, rows) in (0..).zip(parts) {
        let entry = encoded(&Entry { number, part, parts: count, rows });
        file.write_all_at(&entry, length).at("write", path)?;
        length += entry.len() as u64;
    }
    Ok((file, length))
}

/// The copy of an open catalog.
pub(super) struct CatalogCopy {
    path: PathBuf,
    state: Mutex<State>,
    wake: Condvar,
}

/// What is known of the file. Locked through a whole transaction, so that entries are in the order of transactions.
pub(super) struct State {
    file: Option<Arc<File>>,
    length: u64,
    /// Its length when it was last written anew.
    length_whole: u64,
    /// The number of the newest transaction.
    pub(super) last: u64,
    is_synced: bool,
    /// Why it is to be written anew before it is of use.
    stale: Option<String>,
    stopping: bool,
}

impl State {
    /// The transaction with the next number was committed. Its rows being in the catalog, an error here is nobody's but
    /// the copy's.
    pub(super) fn append(&mut self, rows: Vec<Row>) {
        self.last += 1;
        let Some(file) = self.file.as_ref().filter(|_| self.stale.is_none()) else { return };
        let entry = encoded(&Entry { number: self.last, part: 0, parts: 1, rows });
        match file.write_all_at(&entry, self.length) {
            Ok(()) => self.length += entry.len() as u64,
            Err(error) => self.stale = Some(error.to_string()),
        }
        self.is_synced = false;
    }

    /// The catalog is closed: whoever finds this at the end knows that nothing came after it.
    fn close(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.stale.is_none()) else { return };
        let entry = encoded(&Entry { number: self.last, part: 0, parts: 0, rows: Vec::new() });
        match file.write_all_at(&entry, self.length) {
            Ok(()) => self.length += entry.len() as u64,
            Err(error) => self.stale = Some(error.to_string()),
        }
        self.is_synced = false;
    }

    fn has_outgrown(&self) -> bool {
        self.length > GROWTH_BYTES + 2 * self.length_whole
    }

    fn is_due(&self) -> bool {
        !self.is_synced || self.stale.is_some() || self.has_outgrown()
    }
}

impl CatalogCopy {
    /// The copy in the file `path` of a catalog whose newest transaction has this number. It is written anew where the two
    /// are not the same.
    pub(super) fn open(
        path: &Path,
        number: u64,
        there: &Comparison,
        tables: &Tables,
    ) -> Result<CatalogCopy, CatalogError> {
        let usable = there.found.filter(|found| there.is_same && found.is_sound_up_to(number));
        let (file, length) = match usable {
            Some(found) => {
                let file = files::open_read_write(path)?;
                // From now on the end of the file is no longer that of all transactions, whatever a power cut takes.
                file.set_len(found.end).at("shorten", path)?;
                file.sync_all().at("sync", path)?;
                (Some(file), found.end)
            }
            None => (None, 0),
        };
        let copy = CatalogCopy {
            path: path.to_owned(),
            state: Mutex::new(State {
                stale: file.is_none().then(|| "it is not there yet".to_owned()),
                file: file.map(Arc::new),
                length,
                length_whole: length,
                last: number,
                is_synced: true,
                stopping: false,
            }),
            wake: Condvar::new(),
        };
        copy.save(tables);
        Ok(copy)
    }

    /// To be held from before a transaction begins until its rows are appended.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Has what was appended made durable soon.
    pub(super) fn note(&self) {
        self.wake.notify_all();
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why there is no copy that could be used; `None` when there is.
    pub(super) fn problem(&self) -> Option<String> {
        self.state.lock().stale.clone()
    }

    /// Has the copy written anew.
    pub(super) fn renew(&self, tables: &Tables) {
        self.state.lock().stale = Some("it is damaged".to_owned());
        self.save(tables);
    }

    /// Makes the copy durable, and what it was before again within the interval, until it is stopped.
    pub(super) fn keep(&self, tables: &Tables) {
        loop {
            let mut state = self.state.lock();
            self.wake.wait_while(&mut state, |state| !state.is_due() && !state.stopping);
            self.wake.wait_while_for(&mut state, |state| !state.stopping, SYNC_INTERVAL);
            let stopping = state.stopping;
            if stopping {
                state.close();
            }
            drop(state);
            self.save(tables);
            if stopping {
                return;
            }
        }
    }

    /// Ends [`CatalogCopy::keep`], after what was appended is durable.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.wake.notify_all();
    }

    fn save(&self, tables: &Tables) {
        let mut state = self.state.lock();
        let is_anew = state.stale.is_some() || state.has_outgrown();
        let before = state.stale.clone();
        let saved = match (is_anew, state.file.clone()) {
            (false, Some(file)) if !state.is_synced => {
                state.is_synced = true;
                drop(state);
                file.sync_data().at("sync", &self.path).map_err(CatalogError::from)
            }
            (true, _) => self.write_anew(tables, state),
            (false, _) => return,
        };
        if let Err(error) = saved {
            let error = error.to_string();
            if before.as_ref() != Some(&error) {
                log::warn!("the copy of the catalog: {error}");
            }
            self.state.lock().stale = Some(error);
        }
    }

    fn write_anew(&self, tables: &Tables, mut state: MutexGuard<'_, State>) -> Result<(), CatalogError> {
        let new = self.path.with_extension("copy.new");
        let written = write_whole(tables, &new, state.last);
        // On a full disk, room is better used for what is about to be committed.
        let (file, length) = written.inspect_err(|_| {
            if let Err(error) = files::remove_file(&new) {
                log::debug!("{error}");
            }
        })?;
        let file = Arc::new(file);
        state.file = Some(Arc::clone(&file));
        (state.length, state.length_whole) = (length, length);
        (state.stale, state.is_synced) = (None, true);
        // Transactions go on meanwhile, and are appended to the file that is about to get the name.
        drop(state);
        file.sync_all().at("sync", &new)?;
        files::rename(&new, &self.path)?;
        Ok(files::sync_parent(&self.path)?)
    }
}
