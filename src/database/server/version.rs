//! Versions of servers and of their programs, and what goes with what.

use super::{ServerAddress, mariadb, postgresql};
use crate::database::{DatabaseError, Engine, Problem};

/// The version of MariaDB's or MySQL's server, or of their programs. The two have long gone different ways: what one's
/// program asks and writes is not what the other's server has. An older program may leave out, without a word, what it
/// does not know, and the copy would lack it as the dump does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) is_mariadb: bool,
    /// Major and minor.
    pub(super) number: (u32, u32),
}

impl Version {
    /// Of `SELECT VERSION()`: `10.11.6-MariaDB-0+deb12u1`, `8.0.36`.
    pub(super) fn of_server(text: &str) -> Version {
        let mut numbers = text.split(|other: char| !other.is_ascii_digit()).map(|number| number.parse().ok());
        let mut number = || numbers.next().flatten().unwrap_or_default();
        Version { is_mariadb: text.contains("MariaDB"), number: (number(), number()) }
    }

    /// Of `--version`: `mariadb-dump  Ver 10.19 Distrib 10.11.6-MariaDB, for ...`, `mariadb-dump from 11.4.2-MariaDB,
    /// client 10.19 for ...`, `mysqldump  Ver 8.0.36 for ...`.
    pub(super) fn of_program(text: &str) -> Version {
        let behind = |word: &str| text.split_once(word).map(|(_, rest)| rest.trim_start());
        let number = behind(" Distrib ").or_else(|| behind(" from ")).or_else(|| behind(" Ver "));
        let number = number.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        Version { is_mariadb: text.contains("MariaDB"), ..Version::of_server(number) }
    }

    pub(super) fn can_dump(self, server: Version) -> bool {
        self.is_mariadb == server.is_mariadb && self.number >= server.number
    }

    /// Whether a dump can have what tables with a history once held, and be read with it.
    pub(super) fn dumps_history(self) -> bool {
        self.is_mariadb && self.number >= (10, 11)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.is_mariadb { "MariaDB" } else { "MySQL" };
        write!(out, "{}.{} of {name}", self.number.0, self.number.1)
    }
}

/// The number before the first dot; from a text without one, 0.
pub(super) fn major(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

/// The version of the server that a dump is from, by a line of its head; `None` of other lines.
fn origin(engine: Engine, line: &[u8]) -> Option<String> {
    let mark: &[u8] = match engine {
        Engine::PostgreSql => b"-- Dumped from database version ",
        Engine::MariaDb | Engine::Sqlite => b"-- Server version",
    };
    Some(String::from_utf8_lossy(line.strip_prefix(mark)?).trim().to_owned())
}

/// Whether a server cannot be relied on to read what one of version `origin` has written. Versions of another make say
/// nothing.
fn is_older(engine: Engine, server: &str, origin: &str) -> bool {
    match engine {
        Engine::PostgreSql => major(server) < major(origin),
        Engine::MariaDb | Engine::Sqlite => {
            let (server, origin) = (Version::of_server(server), Version::of_server(origin));
            server.is_mariadb == origin.is_mariadb && server.number < origin.number
        }
    }
}

impl ServerAddress {
    /// An error when the dump whose beginning this is comes from a server of a newer version.
    pub fn check_origin(&self, head: &[u8]) -> Result<(), DatabaseError> {
        let Some(origin) = head.split(|byte| *byte == b'\n').find_map(|line| origin(self.engine, line))
        else {
            return Ok(());
        };
        let version = self.column(None, self.choose(|| mariadb::VERSION, || postgresql::VERSION))?.concat();
        if is_older(self.engine, &version, &origin) {
            return Err(Problem::ServerOlder { server: self.to_string(), version, origin }.into());
        }
        Ok(())
    }
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

    #[test]
    fn a_dump_says_which_server_can_read_it() {
        let mariadb = b"-- Server version\t10.11.19-MariaDB-0+deb12u1\n";
        let origin_of_mariadb = origin(Engine::MariaDb, mariadb).unwrap_or_default();
        assert_eq!(origin_of_mariadb, "10.11.19-MariaDB-0+deb12u1");
        for (server, is_refused) in [
            ("10.6.1-MariaDB", true),
            ("10.11.2-MariaDB", false),
            ("11.4.2-MariaDB", false),
            ("8.0.36", false),
        ] {
            assert_eq!(is_older(Engine::MariaDb, server, &origin_of_mariadb), is_refused, "{server}");
        }
        let postgresql = b"-- Dumped from database version 15.14 (Debian 15.14-0+deb12u1)\n";
        let origin_of_postgresql = origin(Engine::PostgreSql, postgresql).unwrap_or_default();
        for (server, is_refused) in [("14.19", true), ("15.1 (Debian 15.1)", false), ("17.2", false)] {
            assert_eq!(is_older(Engine::PostgreSql, server, &origin_of_postgresql), is_refused, "{server}");
        }
        assert_eq!(origin(Engine::PostgreSql, b"-- Dumped by pg_dump version 16.1\n"), None);
    }
}
