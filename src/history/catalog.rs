//! The catalog: typed records in transactions.
//!
//! A catalog that is [kept](Catalog::open_kept) has a copy in a second file ([`super::copy`]). A record that cannot be read
//! keeps no other down: it is taken out of its table when the catalog is opened, put right from the copy, or else set aside
//! in the table [`DAMAGED`] under its table's name and its key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::{Serialize, de::DeserializeOwned};

use super::copy::{self, CatalogCopy, Row};
use super::restore::{COUNTERS, damaged_key, is_behind};
use crate::base::FileError;
use crate::base::encoding::{EncodingError, decode, decode_since, encode, is_intact};
use crate::base::tables::{Prefix, Tables, TablesError, Writer};

/// Memory for pages: a record is some hundred bytes, and there are a few for each snapshot and generation.
const CACHE_BYTES: usize = 8 << 20;

/// The table of records that cannot be read; the name is part of the format.
pub(super) const DAMAGED: &str = "damaged";

/// A kind of record. Records of one kind share a table, ordered by key.
pub trait Record: Serialize + DeserializeOwned {
    /// The table's name; part of the format.
    const TABLE: &'static str;
    /// The version of the record's encoding.
    const VERSION: u8;

    /// How many fields records of an earlier version lack at the end; they are read as `None`. `None` where such a
    /// version cannot be read.
    fn added_since(_version: u8) -> Option<usize> {
        None
    }
}

/// What can go wrong with the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The metadata engine failed.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// A record is damaged or from a newer sitefs.
    #[error("the record {table}/{key} cannot be read: {source}")]
    Record {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
        /// Why.
        source: EncodingError,
    },
    /// The copy, or a file on the way to it, cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The copy is from a newer sitefs.
    #[error("{} cannot be read: {source}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EncodingError,
    },
    /// The copy has newer records than the catalog.
    #[error("{} is older than its copy: it has lost what was committed", path.display())]
    Behind {
        /// The file.
        path: PathBuf,
    },
}

impl CatalogError {
    /// Whether the catalog has lost something of what was in it.
    pub fn is_damaged(&self) -> bool {
        match self {
            CatalogError::Tables(error) => error.is_damaged(),
            CatalogError::Behind { .. } => true,
            CatalogError::Record { .. } | CatalogError::File(_) | CatalogError::Copy { .. } => false,
        }
    }
}

/// A record that cannot be read, and was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRecord {
    /// The name of its table: [`Record::TABLE`].
    pub table: String,
    /// Its key.
    pub key: String,
}

/// The store's records.
pub struct Catalog {
    tables: Arc<Tables>,
    copy: Option<Kept>,
}

/// The copy of a catalog, and the thread that makes it durable.
struct Kept {
    copy: Arc<CatalogCopy>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.copy.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that kept the copy of the catalog ended with a panic");
        }
    }
}

/// A transaction on the catalog: what it reads is what it writes over.
pub struct Transaction<'a> {
    writer: Writer<'a>,
    /// What it has changed.
    rows: Vec<Row>,
}

fn read_record<R: Record>(key: &str, bytes: &[u8]) -> Result<R, CatalogError> {
    decode_since(R::VERSION, R::added_since, bytes).map_err(|source| CatalogError::Record {
        table: R::TABLE,
        key: key.to_owned(),
        source,
    })
}

fn read<T: DeserializeOwned>(
    table: &'static str,
    version: u8,
    key: &str,
    bytes: &[u8],
) -> Result<T, CatalogError> {
    decode(version, bytes).map_err(|source| CatalogError::Record { table, key: key.to_owned(), source })
}

/// Collects the records of a scan; the first that cannot be read ends it.
struct Listing<R> {
    records: Result<Vec<(String, R)>, CatalogError>,
}

impl<R: Record> Listing<R> {
    fn new() -> Listing<R> {
        Listing { records: Ok(Vec::new()) }
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        let key = String::from_utf8_lossy(key).into_owned();
        match (&mut self.records, read_record(&key, value)) {
            (Ok(records), Ok(record)) => {
                records.push((key, record));
                true
            }
            (_, Err(error)) => {
                self.records = Err(error);
                false
            }
            (Err(_), Ok(_)) => false,
        }
    }
}

impl Catalog {
    /// Opens the catalog in the file `path`, creating it where it is missing. A damaged one is an error.
    pub fn open(path: &Path) -> Result<Catalog, CatalogError> {
        Ok(Catalog { tables: Arc::new(Tables::open_checked(path, CACHE_BYTES)?), copy: None })
    }

    /// As [`Catalog::open`], with a copy in the file `copy`, which is made or put right where it is not what it should be.
    /// An error, too, where the copy has more than the catalog. Records that cannot be read are restored or set aside.
    pub fn open_kept(path: &Path, copy: &Path) -> Result<Catalog, CatalogError> {
        let tables = Arc::new(Tables::open_checked(path, CACHE_BYTES)?);
        let number = copy::number_in(&tables)?;
        let mut unreadable = BTreeMap::new();
        let mut there = copy::compare(&tables, copy, &mut |table, key, value| {
            if table != DAMAGED && !is_intact(value) {
                unreadable.insert((table.to_owned(), key.to_owned()), value.to_owned());
            }
        })?;
        if is_behind(number, there.found) {
            return Err(CatalogError::Behind { path: path.to_owned() });
        }
        there.is_same &= unreadable.is_empty();
        set_aside(&tables, unreadable, copy)?;
        let copy = Arc::new(CatalogCopy::open(copy, number, &there, &tables)?);
        let (kept, of) = (Arc::clone(&copy), Arc::clone(&tables));
        let thread = std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || kept.keep(&of))
            .expect("a process that is just starting can start a thread");
        Ok(Catalog { tables, copy: Some(Kept { copy, thread: Some(thread) }) })
    }

    /// The records that cannot be read.
    pub fn damaged(&self) -> Result<Vec<DamagedRecord>, CatalogError> {
        let mut damaged = Vec::new();
        self.tables.read()?.scan(DAMAGED, Prefix::new(&[]), |key, _| {
            let key = String::from_utf8_lossy(key);
            let (table, key) = key.split_once('/').unwrap_or((&key, ""));
            damaged.push(DamagedRecord { table: table.to_owned(), key: key.to_owned() });
            true
        })?;
        Ok(damaged)
    }

    /// Whether there is no record at all.
    pub fn is_empty(&self) -> Result<bool, CatalogError> {
        Ok(self.tables.read()?.table_names()?.iter().all(|table| table == copy::TABLE))
    }

    /// Why the copy cannot be written; `None` when it can, and where none is kept.
    pub fn copy_problem(&self) -> Option<String> {
        self.copy.as_ref().and_then(|kept| kept.copy.problem())
    }

    /// Compares the copy with the catalog; `false` when it is damaged or another. Nothing is committed meanwhile.
    pub fn is_copy_sound(&self) -> Result<bool, CatalogError> {
        let Some(kept) = &self.copy else { return Ok(true) };
        let state = kept.copy.lock();
        let there = copy::compare(&self.tables, kept.copy.path(), &mut |_, _, _| {})?;
        Ok(there.is_same && there.found.is_some_and(|found| found.is_sound_up_to(state.last)))
    }

    /// Writes the copy anew.
    pub fn renew_copy(&self) {
        if let Some(kept) = &self.copy {
            kept.copy.renew(&self.tables);
        }
    }

    /// The record under `key`.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, CatalogError> {
        let value = self.tables.read()?.get(R::TABLE, key.as_bytes())?;
        value.map(|bytes| read_record(key, &bytes)).transpose()
    }

    /// All records whose key starts with `prefix`, in key order.
    pub fn list<R: Record>(&self, prefix: &str) -> Result<Vec<(String, R)>, CatalogError> {
        let mut listing = Listing::new();
        let reader = self.tables.read()?;
        reader.scan(R::TABLE, Prefix::new(prefix.as_bytes()), |key, value| listing.add(key, value))?;
        listing.records
    }

    /// The last `count` of them, the last one first.
    pub fn last<R: Record>(&self, prefix: &str, count: usize) -> Result<Vec<R>, CatalogError> {
        let mut listing = Listing::new();
        let mut rest = count;
        self.tables.read()?.scan_back(R::TABLE, Prefix::new(prefix.as_bytes()), |key, value| {
            let goes_on = rest > 0 && listing.add(key, value);
            rest = rest.saturating_sub(1);
            goes_on && rest > 0
        })?;
        Ok(listing.records?.into_iter().map(|(_, record)| record).collect())
    }

    /// Runs `change` as one durable transaction: all of it is on disk when this returns `Ok`, none of it when
    /// `change` returns an error. One runs at a time: a `change` that begins another waits for itself for ever.
    ///
    /// When the commit itself fails (a full disk, a broken device), the transaction may or may not be there after a
    /// power cut; until then it is not.
    pub fn write<T, E: From<CatalogError>>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        // Held until the rows are in the copy, so that they are there in the order of the commits.
        let mut copy = self.copy.as_ref().map(|kept| kept.copy.lock());
        let writer = self.tables.write().map_err(CatalogError::from)?;
        let mut transaction = Transaction { writer, rows: Vec::new() };
        let result = change(&mut transaction)?;
        let Transaction { mut writer, rows } = transaction;
        if let Some(copy) = &copy {
            let (table, key, value) = copy::number_row(copy.last + 1);
            writer.put(table, key, &value).map_err(CatalogError::from)?;
        }
        writer.commit().map_err(CatalogError::from)?;
        if let Some(copy) = &mut copy {
            copy.append(rows);
        }
        drop(copy);
        if let Some(kept) = &self.copy {
            kept.copy.note();
        }
        Ok(result)
    }
}

/// Puts rows that are no records any more right from the copy; those that are not there either are set aside.
fn set_aside(
    tables: &Tables,
    unreadable: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    copy: &Path,
) -> Result<(), CatalogError> {
    if unreadable.is_empty() {
        return Ok(());
    }
    let mut sound = BTreeMap::new();
    copy::replay(copy, &mut |row| {
        let place = (row.table, row.key);
        if unreadable.contains_key(&place) {
            sound.insert(place, row.value);
        }
    })?;
    let mut writer = tables.write()?;
    for (place, value) in unreadable {
        let (table, key) = &place;
        match sound.get(&place).and_then(Option::as_ref).filter(|value| is_intact(value)) {
            Some(sound) => writer.put(table, key, sound)?,
            None => {
                writer.put(DAMAGED, &damaged_key(table, key), &value)?;
                writer.remove(table, key)?;
            }
        }
        log::error!("the record {table}/{} could not be read", String::from_utf8_lossy(key));
    }
    Ok(writer.commit()?)
}

impl Transaction<'_> {
    /// The record under `key`, this transaction's changes included.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, CatalogError> {
        let value = self.writer.get(R::TABLE, key.as_bytes())?;
        value.map(|bytes| read_record(key, &bytes)).transpose()
    }

    /// All records whose key starts with `prefix`, in key order.
    pub fn list<R: Record>(&self, prefix: &str) -> Result<Vec<(String, R)>, CatalogError> {
        let mut listing = Listing::new();
        self.writer.scan(R::TABLE, Prefix::new(prefix.as_bytes()), |key, value| listing.add(key, value))?;
        listing.records
    }

    /// Sets the record under `key`.
    pub fn put<R: Record>(&mut self, key: &str, record: &R) -> Result<(), CatalogError> {
        self.put_row(R::TABLE, key, encode(R::VERSION, record))
    }

    fn put_row(&mut self, table: &str, key: &str, value: Vec<u8>) -> Result<(), CatalogError> {
        self.writer.put(table, key.as_bytes(), &value)?;
        self.rows.push(Row { table: table.to_owned(), key: key.into(), value: Some(value) });
        Ok(())
    }

    /// Removes the record under `key`; whether it was there.
    pub fn remove<R: Record>(&mut self, key: &str) -> Result<bool, CatalogError> {
        self.remove_row(R::TABLE, key)
    }

    /// Forgets a record that cannot be read; whether it was there.
    pub fn forget_damaged(&mut self, record: &DamagedRecord) -> Result<bool, CatalogError> {
        self.remove_row(DAMAGED, &format!("{}/{}", record.table, record.key))
    }

    fn remove_row(&mut self, table: &str, key: &str) -> Result<bool, CatalogError> {
        let was_there = self.writer.remove(table, key.as_bytes())?;
        if was_there {
            self.rows.push(Row { table: table.to_owned(), key: key.into(), value: None });
        }
        Ok(was_there)
    }

    /// Has a counter go on behind `last`, unless it is there already.
    pub fn skip_to(&mut self, counter: &str, last: u64) -> Result<(), CatalogError> {
        self.put_row(COUNTERS.0, counter, encode(COUNTERS.1, &last))
    }

    /// The next number of a counter, never given out again once the transaction is committed. The first is 1.
    pub fn next_number(&mut self, counter: &str) -> Result<u64, CatalogError> {
        let last: u64 = match self.writer.get(COUNTERS.0, counter.as_bytes())? {
            Some(bytes) => read(COUNTERS.0, COUNTERS.1, counter, &bytes)?,
            None => 0,
        };
        let next = last.checked_add(1).expect("nobody counts to 2^64");
        self.put_row(COUNTERS.0, counter, encode(COUNTERS.1, &next))?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note(String);

    impl Record for Note {
        const TABLE: &'static str = "notes";
        const VERSION: u8 = 1;
    }

    /// Reads the same table as a later version would write it.
    #[derive(Debug, Serialize, Deserialize)]
    struct NewerNote(String);

    impl Record for NewerNote {
        const TABLE: &'static str = "notes";
        const VERSION: u8 = 2;
    }

    fn note(text: &str) -> Note {
        Note(text.to_owned())
    }

    #[derive(Debug, thiserror::Error)]
    enum TestError {
        #[error(transparent)]
        Catalog(#[from] CatalogError),
        #[error("refused")]
        Refused,
    }

    #[test]
    fn a_transaction_is_all_or_nothing_and_sees_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.redb");
        let catalog = Catalog::open(&path).unwrap();
        catalog
            .write::<_, CatalogError>(|transaction| {
                transaction.put("a/1", &note("one"))?;
                transaction.put("a/2", &note("two"))?;
                transaction.put("b/1", &note("other"))?;
                assert_eq!(transaction.get::<Note>("a/1")?, Some(note("one")));
                assert!(transaction.remove::<Note>("a/2")?);
                assert!(!transaction.remove::<Note>("a/3")?);
                assert_eq!(transaction.list::<Note>("a/")?, [("a/1".to_owned(), note("one"))]);
                Ok(())
            })
            .unwrap();
        let refused = catalog.write(|transaction| {
            transaction.put("a/1", &note("changed"))?;
            transaction.next_number("volume")?;
            Err::<(), _>(TestError::Refused)
        });
        assert!(matches!(refused, Err(TestError::Refused)));
        drop(catalog);
        let catalog = Catalog::open(&path).unwrap();
        assert_eq!(catalog.get::<Note>("a/1").unwrap(), Some(note("one")));
        assert_eq!(catalog.get::<Note>("a/2").unwrap(), None);
        assert_eq!(catalog.list::<Note>("").unwrap().len(), 2);
    }

    #[test]
    fn the_last_records_come_last_one_first() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.redb")).unwrap();
        catalog
            .write::<_, CatalogError>(|transaction| {
                ["a/1", "a/2", "a/3", "b/1"].iter().try_for_each(|key| transaction.put(key, &note(key)))
            })
            .unwrap();
        let last = |prefix, count| catalog.last::<Note>(prefix, count).unwrap();
        assert_eq!(last("a/", 2), [note("a/3"), note("a/2")]);
        assert_eq!(last("a/", 9), [note("a/3"), note("a/2"), note("a/1")]);
        assert_eq!(last("", 1), [note("b/1")]);
        assert_eq!((last("a/", 0), last("c/", 1)), (vec![], vec![]));
    }

    #[test]
    fn numbers_are_given_out_once_per_counter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.redb");
        let next = |counter: &str| {
            let catalog = Catalog::open(&path).unwrap();
            catalog.write::<_, CatalogError>(|transaction| transaction.next_number(counter)).unwrap()
        };
        assert_eq!([next("volume"), next("volume"), next("generation/a"), next("volume")], [1, 2, 1, 3]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.redb")).unwrap();
        catalog
            .write::<_, CatalogError>(|transaction| transaction.put("a", &NewerNote("later".to_owned())))
            .unwrap();
        let error = catalog.get::<Note>("a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the record notes/a cannot be read: the record has format version 2; this sitefs reads version 1: \
             use the one that wrote it"
        );
        assert!(catalog.list::<Note>("").is_err());
    }
}
