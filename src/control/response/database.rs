//! Databases.

use serde::{Deserialize, Serialize};

use crate::base::SiteName;

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableInfo {
    /// Its name.
    pub table: String,
    /// How many rows.
    pub rows: u64,
    /// A hash of the rows that does not depend on their order: 64 hexadecimal digits.
    pub checksum: String,
}

/// Answer to `database dump`. The dump was sent as data before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseDumped {
    /// What was dumped, as it was resolved: `SITE@ID`, or `SITE@live`.
    pub of: String,
    /// `sqlite`, `mariadb`, `postgresql`.
    pub engine: String,
    /// How many tables.
    pub tables: u64,
    /// How many rows in all of them.
    pub rows: u64,
    /// The length of the dump.
    pub size_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Answer to `database restore`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseRestored {
    /// The site.
    pub site: SiteName,
    /// Where the content is from: `SITE@ID`, or `dump`.
    pub from: String,
    /// How many tables.
    pub tables: u64,
    /// How many rows in all of them.
    pub rows: u64,
    /// The id of the snapshot taken before the database was replaced.
    pub safety_snapshot: String,
    /// How long it took.
    pub seconds: f64,
}

/// Answer to `database clone`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseCloned {
    /// Whose database, as it was resolved: `SITE@ID`, or `SITE@live`.
    pub from: String,
    /// The clone that has it now.
    pub to: SiteName,
    /// How many tables.
    pub tables: u64,
    /// How many rows in all of them.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Answer to `database verify`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseVerification {
    /// What was verified, as it was resolved: `SITE@ID`, or `SITE@live`.
    pub of: String,
    /// `sqlite`, `mariadb`, `postgresql`.
    pub engine: String,
    /// What is wrong: what the engine's integrity check says, and tables that are not what the snapshot recorded.
    /// Empty when all is well.
    pub problems: Vec<String>,
    /// The tables, by name.
    pub tables: Vec<TableInfo>,
    /// How long it took.
    pub seconds: f64,
}
