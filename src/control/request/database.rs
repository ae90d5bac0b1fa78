//! What can be asked about databases.

use serde::{Deserialize, Serialize};

use crate::base::SiteName;
use crate::control::Revision;

/// `database dump`: the dump is sent as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseDump {
    /// Whose database, and which state of it.
    pub of: Revision,
}

/// Where a database is restored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseSource {
    /// A snapshot; never [`crate::control::At::Live`].
    Snapshot(Revision),
    /// A dump that the caller sends as input.
    Input,
}

/// `database restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRestore {
    /// The site whose database is replaced.
    pub site: SiteName,
    /// By what.
    pub from: DatabaseSource,
}

/// `database clone`: the database of one site replaces that of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseClone {
    /// Whose database, and which state of it.
    pub from: Revision,
    /// The existing clone whose database is replaced. Refused for a site that is no clone.
    pub to: SiteName,
}

/// `database verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseVerify {
    /// Whose database, and which state of it.
    pub of: Revision,
}
