//! Databases on a server: MariaDB, MySQL and PostgreSQL.
//!
//! Everything is done by the servers' own programs, as the server's administrator. They know every version of
//! their server, what must be in a dump and in which order it can be read back.
//!
//! Invariants:
//! - No secret is in an argument or a message: passwords of applications travel on standard input, the
//!   administrator's is in a file that only root may read.
//! - Each [`ServerDatabase`] has an account of its own that can reach no other, and both are dropped together.
//! - A [`Summary`] is read from the text of a dump, in whose one transaction it therefore is.
//!
//! Absent: which generation has which database (`daemon`).

mod address;
mod dump;
mod examine;
mod hold;
mod load;
mod mariadb;
mod postgresql;
mod secret;
mod tablespaces;
mod text;
mod version;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DatabaseError, Engine, Problem, Summary};
use crate::base::files;
use crate::base::process::{Command, Outcome};
use crate::history::Record;

pub use address::{ServerAddress, ServerUrl, ServerUrlError};
pub use dump::ServerDump;
pub use examine::ServerExamination;
pub use hold::ServerHold;
pub use secret::Secret;
pub use tablespaces::{CopiedAsFiles, LargeTables, SourceMoment, Tablespaces};

/// How long a statement may take that is neither a dump nor the reading of one: dropping a large database included.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(600);

/// How long, in seconds, a connection without a transaction has asked nothing when it is taken for one that no request is using. A
/// request rarely works as long as this between two questions.
const IDLE_SECONDS: u32 = 2;

/// A database on a server that is sitefs' own, made for one generation or one test: with the account of the
/// application, which may use this one alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDatabase {
    /// Where it is, and its name.
    pub at: ServerUrl,
    /// The account's name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// What `CREATE DATABASE` is told: character set and collation.
    pub creation: String,
    /// Whether its account may be unable to write: set before that is brought about, reset after it was undone.
    pub is_closed: bool,
}

/// Kept from before it is made until after it has been dropped, so that none is forgotten.
impl Record for ServerDatabase {
    const TABLE: &'static str = "databases";
    const VERSION: u8 = 1;
}

impl ServerAddress {
    /// Does statements, and returns the rows they give, in columns. `database` is where: `None` for those that are for
    /// no database in particular.
    fn query(&self, database: Option<&str>, sql: &str) -> Result<Vec<Vec<String>>, DatabaseError> {
        self.protected()?;
        let outcome = self.client(database).input(sql).time_limit(STATEMENT_TIME_MAX).run()?;
        let outcome = self.success(outcome)?;
        let text = outcome.output.text();
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// The first column of the rows.
    fn column(&self, database: Option<&str>, sql: &str) -> Result<Vec<String>, DatabaseError> {
        Ok(self.query(database, sql)?.into_iter().filter_map(|row| row.into_iter().next()).collect())
    }

    fn client(&self, database: Option<&str>) -> Command {
        match self.engine {
            Engine::PostgreSql => postgresql::client(self, database.unwrap_or(postgresql::MAINTENANCE)),
            Engine::MariaDb | Engine::Sqlite => mariadb::client(self).arguments(database),
        }
    }

    /// What is chosen by the engine of a server.
    fn choose<T>(&self, mariadb: impl FnOnce() -> T, postgresql: impl FnOnce() -> T) -> T {
        match self.engine {
            Engine::PostgreSql => postgresql(),
            Engine::MariaDb | Engine::Sqlite => mariadb(),
        }
    }

    /// An error unless nobody but its owner can read the file with the administrator's password.
    fn protected(&self) -> Result<(), DatabaseError> {
        let Some(path) = &self.options else { return Ok(()) };
        let found = files::metadata(path)?;
        let mode = found.map(|found| found.permissions().mode() & 0o077);
        match mode {
            Some(0) => Ok(()),
            Some(_) => Err(Problem::OptionFileOpen { path: path.clone() }.into()),
            None => Err(Problem::OptionFileMissing { path: path.clone() }.into()),
        }
    }

    /// The outcome of a success, else what the server's program said, with what to do about it.
    fn success(&self, outcome: Outcome) -> Result<Outcome, DatabaseError> {
        if outcome.is_success() {
            return Ok(outcome);
        }
        let said = outcome.errors.last_lines(5);
        Err(Problem::server(self.to_string(), &outcome.program, outcome.ending.to_string(), &said).into())
    }

    /// The databases whose names begin with `prefix`.
    pub fn databases_with(&self, prefix: &str) -> Result<Vec<String>, DatabaseError> {
        self.column(
            None,
            &self.choose(|| mariadb::databases_with(prefix), || postgresql::databases_with(prefix)),
        )
    }
}

impl ServerUrl {
    /// How large it is, in bytes, its indexes included.
    pub fn size_bytes(&self) -> Result<u64, DatabaseError> {
        let sql = self.server.choose(|| mariadb::size(&self.name), || postgresql::size(&self.name));
        let size = self.server.column(None, &sql)?;
        Ok(size.first().and_then(|size| size.parse().ok()).unwrap_or_default())
    }

    /// What `CREATE DATABASE` has to be told to make one like this, and an error where there is no such database.
    pub fn creation(&self) -> Result<String, DatabaseError> {
        let sql = self.server.choose(|| mariadb::creation(&self.name), || postgresql::creation(&self.name));
        let found = self.server.column(None, &sql)?;
        found.into_iter().next().ok_or_else(|| {
            Problem::NoSuchDatabase { server: self.server.to_string(), name: self.name.clone() }.into()
        })
    }

    /// What is in it at one moment.
    pub fn summary(&self) -> Result<Summary, DatabaseError> {
        self.dump()?.summarise()
    }

    fn tables(&self) -> Result<Vec<String>, DatabaseError> {
        let sql = self.server.choose(|| mariadb::tables(&self.name), || postgresql::TABLES.to_owned());
        self.server.column(Some(&self.name), &sql)
    }
}

impl ServerDatabase {
    /// Makes it, empty, with its account. What was there under its name, from an attempt that was broken off, is gone.
    pub fn create(&self) -> Result<(), DatabaseError> {
        self.administrate(|| mariadb::create(self), || postgresql::create(self))
    }

    /// Takes it away with its account. No error when it is not there.
    pub fn drop(&self) -> Result<(), DatabaseError> {
        self.administrate(|| mariadb::drop(self), || postgresql::drop(self))
    }

    /// Lets its account write to it, or not. Holds for connections from now on; see [`ServerDatabase::sessions`].
    pub fn set_writable(&self, is_writable: bool) -> Result<(), DatabaseError> {
        if is_writable {
            self.administrate(|| mariadb::writable(self), || postgresql::writable(self))
        } else {
            self.administrate(|| mariadb::read_only(self), || postgresql::read_only(self))
        }
    }

    /// The connections of its account.
    pub fn sessions(&self) -> Result<Vec<u64>, DatabaseError> {
        self.sessions_of(|| mariadb::sessions(&self.user), || postgresql::sessions(&self.user))
    }

    /// Those of them that work, have a transaction open, or did so in the last two seconds. What is left out is what an
    /// application keeps from a request to the next, or hardly ever asks.
    pub fn busy_sessions(&self) -> Result<Vec<u64>, DatabaseError> {
        self.sessions_of(|| mariadb::busy_sessions(&self.user), || postgresql::busy_sessions(&self.user))
    }

    /// Makes the statements of its account fail that wait for a lock.
    pub fn refuse_waiting(&self) -> Result<(), DatabaseError> {
        for session in
            self.sessions_of(|| mariadb::waiting(&self.user), || postgresql::waiting(&self.user))?
        {
            // It may have ended by itself meanwhile.
            let _ = self.administrate(|| mariadb::cancel(session), || postgresql::cancel(session));
        }
        Ok(())
    }

    /// Ends connections.
    pub fn end_sessions(&self, sessions: &[u64]) {
        for session in sessions {
            // As above.
            let _ = self.administrate(|| mariadb::end(*session), || postgresql::end(*session));
        }
    }

    fn sessions_of(
        &self,
        mariadb: impl FnOnce() -> String,
        postgresql: impl FnOnce() -> String,
    ) -> Result<Vec<u64>, DatabaseError> {
        let server = &self.at.server;
        let ids = server.column(None, &server.choose(mariadb, postgresql))?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    fn administrate(
        &self,
        mariadb: impl FnOnce() -> String,
        postgresql: impl FnOnce() -> String,
    ) -> Result<(), DatabaseError> {
        self.at.server.query(None, &self.at.server.choose(mariadb, postgresql)).map(drop)
    }
}
