//! The catalog: typed records in transactions.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::base::encoding::EncodingError;
use crate::base::tables::TablesError;

/// A kind of record. Records of one kind share a table, ordered by key.
pub trait Record: Serialize + DeserializeOwned {
    /// The table's name; part of the format.
    const TABLE: &'static str;
    /// The version of the record's encoding.
    const VERSION: u8;
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
pub struct Catalog {}

/// A transaction on the catalog: what it reads is what it writes over.
pub struct Transaction<'a> {
    _catalog: &'a Catalog,
}

impl Catalog {
    /// Opens the catalog in the file `path`, creating it where it is missing.
    pub fn open(_path: &Path) -> Result<Catalog, CatalogError> {
        todo!()
    }

    /// The record under `key`.
    pub fn get<R: Record>(&self, _key: &str) -> Result<Option<R>, CatalogError> {
        todo!()
    }

    /// All records whose key starts with `prefix`, in key order.
    pub fn list<R: Record>(&self, _prefix: &str) -> Result<Vec<(String, R)>, CatalogError> {
        todo!()
    }

    /// Runs `change` as one durable transaction: all of it is on disk when this returns `Ok`, none of it when
    /// `change` returns an error.
    pub fn write<T, E: From<CatalogError>>(
        &self,
        _change: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        todo!()
    }
}

impl Transaction<'_> {
    /// The record under `key`, this transaction's changes included.
    pub fn get<R: Record>(&self, _key: &str) -> Result<Option<R>, CatalogError> {
        todo!()
    }

    /// All records whose key starts with `prefix`, in key order.
    pub fn list<R: Record>(&self, _prefix: &str) -> Result<Vec<(String, R)>, CatalogError> {
        todo!()
    }

    /// Sets the record under `key`.
    pub fn put<R: Record>(&mut self, _key: &str, _record: &R) -> Result<(), CatalogError> {
        todo!()
    }

    /// Removes the record under `key`; whether it was there.
    pub fn remove<R: Record>(&mut self, _key: &str) -> Result<bool, CatalogError> {
        todo!()
    }

    /// The next number of a counter, never given out again once the transaction is committed. The first is 1.
    pub fn next_number(&mut self, _counter: &str) -> Result<u64, CatalogError> {
        todo!()
    }
}
