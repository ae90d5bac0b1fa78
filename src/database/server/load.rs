//! Reading a dump into a database.
//!
//! MariaDB: several connections share the statements that insert rows; whatever else is in the dump is done by the
//! first one while the others wait. So the tables that a large site is made of are read by as many threads as the
//! machine has, from one dump that is of one moment. Each statement, about 1 MiB, is a transaction of its own: a
//! connection must never wait for what another one has not committed, and MariaDB locks the whole of an empty table
//! while it is filled. Two connections that began to fill it at once would each have announced itself before it asks for
//! that lock, and neither get it: so the others wait for the first statement of each table. PostgreSQL: one connection,
//! as the rows of a table are one statement there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::time::Duration;

use super::text::{Line, Scanner, without_definer};
use super::{ServerDatabase, mariadb, postgresql};
use crate::base::process::Streaming;
use crate::database::{DatabaseError, Engine, Problem, Summary};

/// The most connections that read one dump; more only wait for each other.
const CONNECTIONS_MAX: usize = 4;

/// How long a program may take to end after its last statement.
const END_WAIT: Duration = Duration::from_secs(600);

impl ServerDatabase {
    /// Reads a dump into this database, which is empty, and says what was in the dump.
    pub fn load(&self, dump: &mut dyn Read) -> Result<Summary, DatabaseError> {
        self.load_without(dump, BTreeSet::new())
    }

    /// As [`ServerDatabase::load`], of a dump whose tables `present` are in the database already, with their rows.
    pub(super) fn load_without(
        &self,
        dump: &mut dyn Read,
        present: BTreeSet<String>,
    ) -> Result<Summary, DatabaseError> {
        self.at.server.protected()?;
        let mut omission = Omission { tables: present, until: None };
        let mut scanner = Scanner::new(self.at.server.engine);
        let mut source = BufReader::with_capacity(256 << 10, dump);
        let mut loader = Loader::new(self)?;
        let (mut line, mut in_head) = (Vec::new(), true);
        let fed = loop {
            line.clear();
            match source.read_until(b'\n', &mut line) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => {
                    break Err(Problem::File { message: format!("the dump cannot be read: {error}") }.into());
                }
            }
            let kind = scanner.line(&line);
            in_head &= matches!(kind, Line::Nothing | Line::Session);
            let fits = if in_head { self.at.server.check_origin(&line) } else { Ok(()) };
            if !scanner.is_in_code() && omission.has(kind, &line) {
                continue;
            }
            if let Err(error) = fits.and_then(|()| loader.take(kind, &line)) {
                break Err(error);
            }
        };
        // What a program says about its end explains a pipe that broke.
        loader.finish().and(fed)?;
        if !scanner.is_complete() {
            return Err(Problem::DumpIncomplete { reason: "its last line is missing".to_owned() }.into());
        }
        Ok(scanner.finish())
    }
}

/// How many connections read one dump into MariaDB.
pub(super) fn connections() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get()).clamp(1, CONNECTIONS_MAX)
}

/// What is left out of a dump of MariaDB: the definitions and rows of some tables, not their triggers.
struct Omission {
    tables: BTreeSet<String>,
    /// Within a statement that is left out, what its last line is known by.
    until: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The end of a statement that inserts rows.
    Rows,
    /// A semicolon at the line's end: within a definition there is none but in quotes, which a line does not end within.
    Semicolon,
}

impl Omission {
    /// Whether a line outside of routines and triggers is left out.
    fn has(&mut self, kind: Line, line: &[u8]) -> bool {
        if self.tables.is_empty() {
            return false;
        }
        let begun = self.until.or_else(|| {
            let (rest, end) = [
                (&b"INSERT INTO `"[..], End::Rows),
                (b"CREATE TABLE `", End::Semicolon),
                (b"DROP TABLE IF EXISTS `", End::Semicolon),
            ]
            .into_iter()
            .find_map(|(statement, end)| Some((line.strip_prefix(statement)?, end)))?;
            let name = rest.split(|byte| *byte == b'`').next().unwrap_or_default();
            let is_named = std::str::from_utf8(name).is_ok_and(|name| self.tables.contains(name));
            is_named.then_some(end)
        });
        self.until = begun.filter(|end| match end {
            End::Rows => kind != Line::RowsEnd,
            End::Semicolon => !line.ends_with(b";\n"),
        });
        begun.is_some()
    }
}

struct Loader<'a> {
    database: &'a ServerDatabase,
    connections: Vec<Connection>,
    /// The statement with rows that is being read.
    rows: Vec<u8>,
    /// Which connection gets it.
    next: usize,
    /// The table that the last such statement was for, and the connection that was given the first for this table, until it
    /// has done that.
    filled: (Vec<u8>, Option<usize>),
    /// Whether the table that was defined last has partitions, which are filled one by one.
    is_parted: bool,
    /// Whether rows were given out since all connections were last waited for.
    is_spread: bool,
    /// Whether the first connection was given something else since then.
    is_changed: bool,
}

struct Connection {
    program: BufReader<Streaming>,
}

impl<'a> Loader<'a> {
    fn new(database: &'a ServerDatabase) -> Result<Loader<'a>, DatabaseError> {
        let server = &database.at.server;
        let count = match server.engine {
            Engine::PostgreSql => 1,
            Engine::MariaDb | Engine::Sqlite => connections(),
        };
        let connect = |_| -> Result<Connection, DatabaseError> {
            let program = server.client(Some(&database.at.name)).stream()?;
            Ok(Connection { program: BufReader::new(program) })
        };
        let connections = (0..count).map(connect).collect::<Result<_, _>>()?;
        let mut loader = Loader {
            database,
            connections,
            rows: Vec::new(),
            next: 0,
            filled: (Vec::new(), None),
            is_parted: false,
            is_spread: false,
            is_changed: false,
        };
        if server.engine == Engine::PostgreSql {
            loader.all(postgresql::before_load(&database.user).as_bytes())?;
        }
        Ok(loader)
    }

    fn take(&mut self, kind: Line, line: &[u8]) -> Result<(), DatabaseError> {
        if self.database.at.server.engine == Engine::PostgreSql {
            return self.take_for_one(kind, line);
        }
        match kind {
            Line::Nothing => Ok(()),
            Line::Rows | Line::RowsEnd => {
                self.rows.extend_from_slice(line);
                if kind == Line::RowsEnd { self.spread() } else { Ok(()) }
            }
            Line::Session => self.all(line),
            Line::Other => {
                if self.is_spread {
                    self.meet()?;
                }
                self.is_changed = true;
                self.is_parted &= !line.starts_with(b"CREATE TABLE `");
                self.is_parted |= line.trim_ascii_start().starts_with(b"PARTITION BY ");
                // The source's own name: what follows is for the database that is being read into.
                let rest = line
                    .strip_prefix(b"ALTER DATABASE `")
                    .and_then(|rest| rest.iter().position(|byte| *byte == b'`').map(|end| &rest[end + 1..]));
                match rest {
                    Some(rest) => self.one(&[b"ALTER DATABASE", rest].concat()),
                    None => {
                        let account = mariadb::account(self.database);
                        self.one(&without_definer(line, Some(&account)))
                    }
                }
            }
        }
    }

    fn take_for_one(&mut self, kind: Line, line: &[u8]) -> Result<(), DatabaseError> {
        if kind == Line::Other && postgresql::is_for_administrator(line) {
            self.one(b"RESET ROLE;\n")?;
            self.one(line)?;
            return self.one(postgresql::before_load(&self.database.user).as_bytes());
        }
        self.one(line)
    }

    /// Gives the statement with rows to the next connection.
    fn spread(&mut self) -> Result<(), DatabaseError> {
        if self.is_changed {
            self.meet()?;
        }
        self.is_spread = true;
        let rows = std::mem::take(&mut self.rows);
        let table = rows.split(|byte| *byte == b'`').nth(1).unwrap_or_default();
        if self.filled.0 != table {
            self.filled = (table.to_vec(), Some(self.next));
        } else if let Some(first) = self.filled.1.take().filter(|first| *first != self.next) {
            self.wait_for(first..first + 1)?;
        }
        let count = self.connections.len();
        let connection = &mut self.connections[self.next];
        self.next = (self.next + usize::from(!self.is_parted)) % count;
        connection.write(&rows)
    }

    /// Waits until every connection has done what it was given.
    fn meet(&mut self) -> Result<(), DatabaseError> {
        self.wait_for(0..self.connections.len())?;
        (self.is_spread, self.is_changed) = (false, false);
        Ok(())
    }

    fn wait_for(&mut self, which: Range<usize>) -> Result<(), DatabaseError> {
        let connections = &mut self.connections[which];
        for connection in &mut *connections {
            connection.write(b"SELECT 'met';\n")?;
        }
        for connection in connections {
            let mut line = String::new();
            while line != "met\n" {
                line.clear();
                let count = connection.program.read_line(&mut line).map_err(|error| Problem::File {
                    message: format!("the server does not answer: {error}"),
                })?;
                if count == 0 {
                    return Err(broken());
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, text: &[u8]) -> Result<(), DatabaseError> {
        self.connections.first_mut().map_or(Ok(()), |first| first.write(text))
    }

    fn all(&mut self, text: &[u8]) -> Result<(), DatabaseError> {
        self.connections.iter_mut().try_for_each(|connection| connection.write(text))
    }

    fn finish(mut self) -> Result<(), DatabaseError> {
        if self.database.at.server.engine == Engine::PostgreSql {
            // Where its program has ended, that says why.
            let _ = self.one(postgresql::AFTER_LOAD.as_bytes());
        }
        for connection in &mut self.connections {
            connection.program.get_mut().close_input();
        }
        for mut connection in self.connections {
            // Answers of functions that a dump of PostgreSQL calls.
            let _ = std::io::copy(&mut connection.program, &mut std::io::sink());
            let outcome = connection.program.into_inner().finish(END_WAIT)?;
            self.database.at.server.success(outcome)?;
        }
        Ok(())
    }
}

impl Connection {
    fn write(&mut self, text: &[u8]) -> Result<(), DatabaseError> {
        self.program.get_mut().write_all(text).map_err(|_| broken())
    }
}

/// The program has ended; what it said is asked for at the end.
fn broken() -> DatabaseError {
    Problem::DumpIncomplete { reason: "the server stopped reading it".to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_there_are_left_out_with_their_rows_and_nothing_else_is() {
        let text = "/*!40101 SET NAMES utf8mb4 */;\nDROP TABLE IF EXISTS `big`;\n/*!40101 SET character_set_client = utf8 */;\nCREATE TABLE `big` (\n  `a;` int COMMENT 'x;'\n) ENGINE=InnoDB;\n-- rows\nINSERT INTO `big` VALUES\n(1,'a;\\n'),\n(2,'b');\nINSERT INTO `big` VALUES (3,';');\nDROP TABLE IF EXISTS `bigger`;\nCREATE TABLE `bigger` (\n  `big` int\n);\nINSERT INTO `bigger` VALUES (1);\nDELIMITER ;;\nCREATE TRIGGER t AFTER INSERT ON `big` FOR EACH ROW begin\nINSERT INTO `big` VALUES (1);\nend;;\nDELIMITER ;\n-- Dump completed\n";
        let mut scanner = Scanner::new(Engine::MariaDb);
        let mut omission = Omission { tables: ["big".to_owned()].into(), until: None };
        let kept: String = text
            .split_inclusive('\n')
            .filter(|line| {
                let kind = scanner.line(line.as_bytes());
                scanner.is_in_code() || !omission.has(kind, line.as_bytes())
            })
            .collect();
        let (head, rest) = text.split_once("DROP TABLE IF EXISTS `big`;\n").unwrap();
        let (between, _) = rest.split_once("CREATE").unwrap();
        let others = &text[text.find("DROP TABLE IF EXISTS `bigger`").unwrap()..];
        assert_eq!(kept, format!("{head}{between}-- rows\n{others}"));
        assert_eq!(scanner.finish().tables["big"].rows, 3);
    }
}
