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
        let program = mariadb::dumper_name();
        let said = Command::new(program).argument("--version").run()?.success()?.output.text();
        let dumper = Version::of_program(&said);
        if dumper.can_dump(version) {
            return Ok(());
        }
        Err(Problem::ProgramUnfit { program: format!("{program} {dumper}"), server }.into())
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

/// The version of MariaDB's or MySQL's server, or of their programs. The two have long gone different ways: what one's
/// program asks and writes is not what the other's server has. An older program may leave out, without a word, what it
/// does not know, and the copy would lack it as the dump does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    is_mariadb: bool,
    /// Major and minor.
    number: (u32, u32),
}

impl Version {
    /// Of `SELECT VERSION()`: `10.11.6-MariaDB-0+deb12u1`, `8.0.36`.
    fn of_server(text: &str) -> Version {
        let mut numbers = text.split(|other: char| !other.is_ascii_digit()).map(|number| number.parse().ok());
        let mut number = || numbers.next().flatten().unwrap_or_default();
        Version { is_mariadb: text.contains("MariaDB"), number: (number(), number()) }
    }

    /// Of `--version`: `mariadb-dump  Ver 10.19 Distrib 10.11.6-MariaDB, for ...`, `mariadb-dump from 11.4.2-MariaDB,
    /// client 10.19 for ...`, `mysqldump  Ver 8.0.36 for ...`.
    fn of_program(text: &str) -> Version {
        let behind = |word: &str| text.split_once(word).map(|(_, rest)| rest.trim_start());
        let number = behind(" Distrib ").or_else(|| behind(" from ")).or_else(|| behind(" Ver "));
        let number = number.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        Version { is_mariadb: text.contains("MariaDB"), ..Version::of_server(number) }
    }

    fn can_dump(self, server: Version) -> bool {
        self.is_mariadb == server.is_mariadb && self.number >= server.number
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.is_mariadb { "MariaDB" } else { "MySQL" };
        write!(out, "{}.{} of {name}", self.number.0, self.number.1)
    }
}

/// The number before the first dot; from a text without one, 0.
fn major(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_dumps_servers_of_its_own_kind_that_are_not_newer() {
        let programs = [
            "mariadb-dump  Ver 10.19 Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)",
            "mariadb-dump from 11.4.2-MariaDB, client 10.19 for debian-linux-gnu (x86_64)",
            "mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)",
            "mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)",
        ];
        for (server, can) in [
            ("10.11.19-MariaDB-0+deb12u1", [true, true, false, false]),
            ("11.4.2-MariaDB", [false, true, false, false]),
            ("12.0.1-MariaDB-log", [false; 4]),
            ("8.0.36-0ubuntu0.22.04.1", [false, false, true, false]),
            ("5.7.44-log", [false, false, true, true]),
            ("8.4.0", [false; 4]),
        ] {
            let found = programs.map(|said| Version::of_program(said).can_dump(Version::of_server(server)));
            assert_eq!(found, can, "{server}");
        }
        assert_eq!(Version::of_program(programs[0]).to_string(), "10.11 of MariaDB");
    }
}
