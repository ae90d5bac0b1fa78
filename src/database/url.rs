//! Where a site's database is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::{NameError, RelativePath};

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// SQLite: files in the site's directory.
    Sqlite,
    /// MariaDB or MySQL.
    #[serde(rename = "mariadb")]
    MariaDb,
    /// PostgreSQL.
    #[serde(rename = "postgresql")]
    PostgreSql,
}

/// As records and messages name it: `sqlite`.
impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Engine::Sqlite => "sqlite",
            Engine::MariaDb => "mariadb",
            Engine::PostgreSql => "postgresql",
        })
    }
}

/// Where a site's database is: `sqlite:files/.ht.sqlite`. Never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DatabaseUrl {
    /// A file in the site's directory.
    Sqlite(RelativePath),
}

impl DatabaseUrl {
    /// The engine.
    pub fn engine(&self) -> Engine {
        match self {
            DatabaseUrl::Sqlite(_) => Engine::Sqlite,
        }
    }
}

/// Why a text is not a database's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not `ENGINE:PLACE`, or an engine this sitefs does not know.
    #[error(
        "{0:?} is not a database this sitefs can drive: write sqlite:PATH, the path below the site's directory"
    )]
    Engine(String),
    /// The path of an SQLite database leads out of the site's directory.
    #[error("the database's file: {0}")]
    Path(#[from] NameError),
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<DatabaseUrl, UrlError> {
        match text.split_once(':') {
            Some(("sqlite", path)) => Ok(DatabaseUrl::Sqlite(path.parse()?)),
            _ => Err(UrlError::Engine(text.to_owned())),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseUrl::Sqlite(path) => write!(out, "sqlite:{path}"),
        }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = UrlError;
    fn try_from(text: String) -> Result<DatabaseUrl, UrlError> {
        text.parse()
    }
}

impl From<DatabaseUrl> for String {
    fn from(url: DatabaseUrl) -> String {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_and_stay_in_the_site() {
        let url: DatabaseUrl = "sqlite:data/wiki.sqlite".parse().unwrap();
        assert_eq!(url.to_string(), "sqlite:data/wiki.sqlite");
        assert_eq!(url.engine().to_string(), "sqlite");
        for text in ["sqlite:", "sqlite:/etc/passwd", "sqlite:../other/db", "sqlite"] {
            assert!(text.parse::<DatabaseUrl>().is_err(), "{text}");
        }
        let error = "mysql://user@localhost/name".parse::<DatabaseUrl>().unwrap_err().to_string();
        assert!(error.contains("write sqlite:PATH"), "{error}");
    }
}
