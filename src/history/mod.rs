//! `history`: snapshots, and the catalog of records that name everything.
//!
//! A [`Snapshot`] is an object: one record that binds a site's files, its database and the platform it ran on.
//! The [`Catalog`] holds every mutable pointer (sites, generations, tags, the live pointer, runs) as typed records;
//! a transaction reads, compares and sets any number of them as one, and is durable when it returns. [`Refs`] are the
//! names of snapshots: their ids, tags and times.
//!
//! Invariants: objects are flushed before a record that refers to them is committed; a committed record never
//! refers to an object that is not durable.
//!
//! Absent: mounts, databases' engines, what a record of a higher layer means.

mod catalog;
mod copy;
mod error;
mod refs;
mod restore;
mod retention;
mod snapshot;
mod stream;

use catalog::DAMAGED;

pub use catalog::{Catalog, CatalogError, DamagedRecord, Record, Transaction};
pub use error::HistoryError;
pub use refs::{Refs, SnapshotRecord, Tag, VOLUME_COUNTER};
pub use restore::{NUMBERS_SKIPPED, Restored, restore as restore_catalog};
pub use retention::{Reason, Retention};
pub use snapshot::{DatabaseSnapshot, PlatformBinding, Snapshot, SnapshotId, TableSummary};
pub use stream::{StreamError, StreamHeader, StreamReader, StreamWriter};
