//! The catalog: typed records in transactions.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::base::encoding::{EncodingError, decode, decode_since, encode};
use crate::base::tables::{Prefix, Tables, TablesError, Writer};

/// Memory for pages: a record is some hundred bytes, and there are a few for each snapshot and generation.
const CACHE_BYTES: usize = 8 << 20;

/// The table of counters; the name is part of the format.
const COUNTERS: &str = "counters";
const COUNTER_VERSION: u8 = 1;

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
}

/// The store's records.
pub struct Catalog {
    tables: Tables,
}

/// A transaction on the catalog: what it reads is what it writes over.
pub struct Transaction<'a> {
    writer: Writer<'a>,
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
        Ok(Catalog { tables: Tables::open_checked(path, CACHE_BYTES)? })
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

    /// Runs `change` as one durable transaction: all of it is on disk when this returns `Ok`, none of it when
    /// `change` returns an error. One runs at a time: a `change` that begins another waits for itself for ever.
    ///
    /// When the commit itself fails (a full disk, a broken device), the transaction may or may not be there after a
    /// power cut; until then it is not.
    pub fn write<T, E: From<CatalogError>>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let writer = self.tables.write().map_err(CatalogError::from)?;
        let mut transaction = Transaction { writer };
        let result = change(&mut transaction)?;
        transaction.writer.commit().map_err(CatalogError::from)?;
        Ok(result)
    }
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
        Ok(self.writer.put(R::TABLE, key.as_bytes(), &encode(R::VERSION, record))?)
    }

    /// Removes the record under `key`; whether it was there.
    pub fn remove<R: Record>(&mut self, key: &str) -> Result<bool, CatalogError> {
        Ok(self.writer.remove(R::TABLE, key.as_bytes())?)
    }

    /// The next number of a counter, never given out again once the transaction is committed. The first is 1.
    pub fn next_number(&mut self, counter: &str) -> Result<u64, CatalogError> {
        let last: u64 = match self.writer.get(COUNTERS, counter.as_bytes())? {
            Some(bytes) => read(COUNTERS, COUNTER_VERSION, counter, &bytes)?,
            None => 0,
        };
        let next = last.checked_add(1).expect("nobody counts to 2^64");
        self.writer.put(COUNTERS, counter.as_bytes(), &encode(COUNTER_VERSION, &next))?;
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
