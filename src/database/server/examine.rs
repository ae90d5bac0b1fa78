//! Finding out, before anything is begun, whether a server can do what will be asked of it.

use std::path::{Path, PathBuf};

use super::version::{Version, major};
use super::{CopiedAsFiles, ServerUrl, mariadb, postgresql};
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
    /// What of it a copy would get as files; `None` on a server that knows no such way.
    pub as_files: Option<CopiedAsFiles>,
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
        self.check_views()?;
        let without_transactions = self.tables_without_transactions()?;
        self.has_history()?;
        let size_bytes = self.size_bytes()?;
        self.check_space(size_bytes)?;
        let as_files = match self.server.engine {
            Engine::PostgreSql => None,
            Engine::MariaDb | Engine::Sqlite => Some(self.copied_as_files()?),
        };
        Ok(ServerExamination { size_bytes, without_transactions, as_files })
    }

    fn check_mariadb(&self) -> Result<(), DatabaseError> {
        let own = self.server.query(None, mariadb::OWN_PRIVILEGES)?;
        let can_grant = own.iter().any(|row| row.get(1).is_some_and(|grantable| grantable == "YES"));
        let mut granted: Vec<String> = own.into_iter().filter_map(|row| row.into_iter().next()).collect();
        granted.extend(can_grant.then(|| mariadb::GRANT_OPTION.to_owned()));
        let server = self.server.column(None, mariadb::VERSION)?.concat();
        let version = Version::of_server(&server);
        let since = mariadb::PRIVILEGES_SINCE.into_iter();
        let since = since.filter(|(since, _)| version.is_mariadb && version.number >= *since);
        let missing: Vec<&str> = mariadb::PRIVILEGES
            .into_iter()
            .chain(since.map(|(_, needed)| needed))
            .filter(|needed| !granted.iter().any(|have| needed.contains(&have.as_str())))
            .filter_map(|needed| needed.last().copied())
            .collect();
        if !missing.is_empty() {
            return Err(self.not_allowed(missing.join(", ")).into());
        }
        let dumper = mariadb_dumper()?;
        if dumper.can_dump(version) {
            return Ok(());
        }
        let program = format!("{} {dumper}", mariadb::dumper_name());
        Err(Problem::ProgramUnfit { program, server }.into())
    }

    /// An error where MariaDB has views that cannot be read: a dump of them cannot be read back. PostgreSQL lets nobody take away what
    /// a view stands on.
    fn check_views(&self) -> Result<(), DatabaseError> {
        if self.server.engine == Engine::PostgreSql {
            return Ok(());
        }
        let views = self.server.column(None, &mariadb::views(&self.name))?;
        if views.is_empty() {
            return Ok(());
        }
        let mut broken: Vec<(String, String)> = Vec::new();
        for row in self.server.query(Some(&self.name), &mariadb::check(&views))? {
            if let [view, _, kind, message] = row.as_slice()
                && kind.eq_ignore_ascii_case("error")
                && broken.last().is_none_or(|(name, _)| name != view)
            {
                broken.push((view.clone(), message.clone()));
            }
        }
        match broken.first() {
            None => Ok(()),
            Some((_, reason)) => {
                let reason = reason.clone();
                let views = broken.into_iter().map(|(view, _)| view).collect();
                Err(Problem::ViewsBroken { views, reason }.into())
            }
        }
    }

    /// Whether tables of it keep the rows that they once had, which a dump then has too; an error where a dump cannot,
    /// as it would leave them out without a word.
    pub(super) fn has_history(&self) -> Result<bool, DatabaseError> {
        if self.server.engine == Engine::PostgreSql {
            return Ok(false);
        }
        let tables = self.server.query(None, &mariadb::tables_with_history(&self.name))?;
        if tables.is_empty() {
            return Ok(false);
        }
        let name = |row: &Vec<String>| row.first().cloned().unwrap_or_default();
        let by_transactions: Vec<String> =
            tables.iter().filter(|row| row.get(1).is_some_and(|by| by == "1")).map(name).collect();
        let refused = |tables: Vec<String>, reason: String| {
            Problem::HistoryNotDumped { name: self.name.clone(), tables, reason }.into()
        };
        if !by_transactions.is_empty() {
            let reason = "its rows are numbered by transactions, which are the server's own".to_owned();
            return Err(refused(by_transactions, reason));
        }
        let server = self.server.column(None, mariadb::VERSION)?.concat();
        let dumper = mariadb_dumper()?;
        if dumper.dumps_history() && Version::of_server(&server).dumps_history() {
            return Ok(true);
        }
        let reason =
            format!("that takes 10.11 of MariaDB, and this is {server}, with {dumper} of its programs");
        Err(refused(tables.iter().map(name).collect(), reason))
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
            return Err(Problem::ProgramUnfit { program: format!("pg_dump {program}"), server }.into());
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

/// The version of the program that writes dumps of MariaDB and MySQL.
fn mariadb_dumper() -> Result<Version, DatabaseError> {
    let said = Command::new(mariadb::dumper_name()).argument("--version").run()?.success()?.output.text();
    Ok(Version::of_program(&said))
}
