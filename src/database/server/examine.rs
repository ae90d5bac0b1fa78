//! Finding out, before anything is begun, whether a server can do what will be asked of it.

use std::path::{Path, PathBuf};

use super::{ServerUrl, mariadb, postgresql};
use crate::base::files;
use crate::base::process::Command;
use crate::database::{DatabaseError, Engine, Problem};

/// How many copies of a database an update has on the server at a time: one to prove the backup or to rehearse, and the
/// new generation's.
const COPIES: u64 = 2;

/// What was found out about a database and its server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerExamination {
    /// How large it is, in bytes.
    pub size_bytes: u64,
    /// The tables that a dump cannot read as of one moment: their rows are read while writes are held.
    pub without_transactions: Vec<String>,
}

impl ServerUrl {
    /// The tables that a dump cannot read as of one moment.
    pub fn tables_without_transactions(&self) -> Result<Vec<String>, DatabaseError> {
        match self.server.engine {
            Engine::PostgreSql => Ok(Vec::new()),
            Engine::MariaDb | Engine::Sqlite => {
                self.server.column(None, &mariadb::tables_without_transactions(&self.name))
            }
        }
    }

    /// Looks whether the database can be dumped, held and copied. An error says what is in the way: no server, no
    /// access, no right, a program that is too old, no space.
    pub fn examine(&self) -> Result<ServerExamination, DatabaseError> {
        self.creation()?;
        match self.server.engine {
            Engine::PostgreSql => self.check_postgresql()?,
            Engine::MariaDb | Engine::Sqlite => self.check_mariadb()?,
        }
        let without_transactions = self.tables_without_transactions()?;
        let size_bytes = self.size_bytes()?;
        self.check_space(size_bytes)?;
        Ok(ServerExamination { size_bytes, without_transactions })
    }

    fn check_mariadb(&self) -> Result<(), DatabaseError> {
        let granted = self.server.column(None, mariadb::OWN_PRIVILEGES)?;
        let missing: Vec<&str> = mariadb::PRIVILEGES
            .into_iter()
            .filter(|needed| !granted.iter().any(|have| have == needed))
            .collect();
        if !missing.is_empty() {
            return Err(self.not_allowed(missing.join(", ")).into());
        }
        Ok(())
    }

    fn check_postgresql(&self) -> Result<(), DatabaseError> {
        if self.server.column(None, postgresql::IS_SUPERUSER)? != ["t"] {
            return Err(self.not_allowed("SUPERUSER".to_owned()).into());
        }
        let server = self.server.column(None, postgresql::VERSION)?.concat();
        let dumper = Command::new("pg_dump").argument("--version").run()?.success()?.output.text();
        let words = dumper.split_whitespace();
        let program = words.into_iter().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        let program = program.unwrap_or_default().to_owned();
        if major(&program) < major(&server) {
            return Err(Problem::ProgramTooOld { program: format!("pg_dump {program}"), server }.into());
        }
        Ok(())
    }

    fn not_allowed(&self, missing: String) -> Problem {
        Problem::AdminNotAllowed {
            server: self.server.to_string(),
            admin: self.server.admin.clone(),
            missing,
        }
    }

    /// Where the server keeps its files on this machine, there must be space for the copies.
    fn check_space(&self, size_bytes: u64) -> Result<(), DatabaseError> {
        let sql = self.server.choose(|| mariadb::DIRECTORY, || postgresql::DIRECTORY);
        let directory = PathBuf::from(self.server.column(None, sql)?.concat());
        let is_here = self.server.socket.is_some() && files::metadata(&directory).ok().flatten().is_some();
        let needed_bytes = size_bytes.saturating_mul(COPIES);
        match is_here.then(|| free_bytes(&directory)).flatten() {
            Some(free_bytes) if free_bytes < needed_bytes => {
                Err(Problem::NoSpaceForCopies { directory, free_bytes, needed_bytes }.into())
            }
            _ => Ok(()),
        }
    }
}

fn free_bytes(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The number before the first dot; from a text without one, 0.
fn major(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}
