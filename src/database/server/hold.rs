//! Holding writes to a database on a server.
//!
//! A connection of sitefs' own has the lock of every table against changes (MariaDB: `LOCK TABLES ... READ`,
//! PostgreSQL: `LOCK TABLE ... IN SHARE MODE`). Getting it takes until the transactions that have changed something
//! are over, so what is read under it is a committed state; reading goes on, and whoever writes waits. Other databases of
//! the server are not touched, and the hold ends with the connection, hence with the daemon.
//!
//! Tables that are made meanwhile are not held: an application makes some while it is updated, not while it is used.

use std::time::{Duration, Instant};

use super::{ServerUrl, mariadb, postgresql};
use crate::base::process::{Conversation, ProcessError};
use crate::database::{DatabaseError, Problem};

/// How much longer than for the locks an answer is waited for.
pub(super) const MARGIN: Duration = Duration::from_secs(10);

/// How often the tables are listed again because new ones came while the locks were waited for.
const ATTEMPTS: usize = 5;

/// Writes to a database are held while this lives.
pub struct ServerHold {
    at: ServerUrl,
    conversation: Conversation,
    connection: String,
    since: Instant,
    tables: Vec<String>,
}

impl ServerUrl {
    /// Holds writes until the result is released or dropped, but not longer than `held_max`; transactions of others are
    /// waited for at most `wait`.
    pub fn hold(&self, wait: Duration, held_max: Duration) -> Result<ServerHold, DatabaseError> {
        self.server.protected()?;
        for _ in 0..ATTEMPTS {
            let tables = self.tables()?;
            let mut conversation = self.server.client(Some(&self.name)).converse()?;
            let seconds = (wait.as_secs().max(1), held_max.as_secs().max(1));
            conversation.send(&self.server.choose(
                || mariadb::lock(&tables, seconds.0, seconds.1),
                || postgresql::lock(&tables, seconds.0, seconds.1),
            ))?;
            let connection =
                conversation.receive(wait + MARGIN).map_err(|error| self.not_held(wait, error))?;
            if self.tables()? == tables {
                let at = self.clone();
                return Ok(ServerHold { at, conversation, connection, since: Instant::now(), tables });
            }
        }
        Err(Problem::TablesChange { name: self.name.clone() }.into())
    }

    fn not_held(&self, wait: Duration, error: ProcessError) -> DatabaseError {
        Problem::NotHeld {
            name: self.name.clone(),
            waited_seconds: wait.as_secs(),
            message: error.to_string(),
        }
        .into()
    }
}

impl ServerHold {
    /// How long it has lasted.
    pub fn duration(&self) -> Duration {
        self.since.elapsed()
    }

    /// How many tables are held.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// The error unless the hold is in force and has been without a gap: the connection must be the same.
    pub fn check(&mut self) -> Result<(), DatabaseError> {
        let check = self.at.server.choose(|| mariadb::CHECK, || postgresql::CHECK);
        let answer = self.conversation.send(check).and_then(|()| self.conversation.receive(MARGIN));
        match answer {
            Ok(connection) if connection == self.connection => Ok(()),
            Ok(_) => Err(Problem::HoldLost { name: self.at.name.clone(), message: String::new() }.into()),
            Err(error) => {
                Err(Problem::HoldLost { name: self.at.name.clone(), message: format!(": {error}") }.into())
            }
        }
    }

    /// Ends the hold and says how long it lasted. An error when it had ended before.
    pub fn release(mut self) -> Result<Duration, DatabaseError> {
        self.check()?;
        let duration = self.since.elapsed();
        self.conversation.finish(MARGIN)?;
        Ok(duration)
    }
}
