//! A dump while it is being made.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::time::Duration;

use super::text::Scanner;
use super::{ServerUrl, mariadb, postgresql};
use crate::base::process::Streaming;
use crate::database::{DatabaseError, Engine, Problem, Summary};

/// How long the program may take to end after its last line.
const END_WAIT: Duration = Duration::from_secs(60);

/// What the columns and indexes of tables are, the table first.
type Columns = BTreeSet<Vec<String>>;

/// A dump as text, to be read to its end. It is of one moment, before this was returned.
pub struct ServerDump {
    at: ServerUrl,
    source: BufReader<Streaming>,
    scanner: Scanner,
    /// The columns and indexes of its tables when it was begun, on a server that lets them be changed meanwhile.
    columns: Option<Columns>,
    /// Lines that were read and not yet handed on.
    ready: Cursor<Vec<u8>>,
    /// Lines that come after the program's.
    appended: VecDeque<Vec<u8>>,
}

impl ServerUrl {
    /// Begins a dump: when this returns, its moment has been, and whatever is written from now on is not in it (but see
    /// [`super::ServerExamination::without_transactions`]).
    pub fn dump(&self) -> Result<ServerDump, DatabaseError> {
        self.dump_without_rows_of(&[])
    }

    /// As [`ServerUrl::dump`], of some tables, on MariaDB, the definitions alone.
    pub(super) fn dump_without_rows_of(&self, tables: &[String]) -> Result<ServerDump, DatabaseError> {
        self.server.protected()?;
        let columns = self.columns_that_may_change()?;
        let has_history = self.has_history()?;
        let dumper =
            self.server.choose(|| mariadb::dumper(self, has_history, tables), || postgresql::dumper(self));
        let mut dump = ServerDump {
            at: self.clone(),
            source: BufReader::with_capacity(256 << 10, dumper.stream()?),
            scanner: Scanner::new(self.server.engine),
            columns,
            ready: Cursor::default(),
            appended: self.settings()?,
        };
        // MariaDB's program says nothing of a table before its transaction has begun; PostgreSQL's says nothing at all
        // before that.
        let begun: &[u8] = if self.server.engine == Engine::PostgreSql { b"" } else { b"-- T" };
        let mut head = Vec::new();
        while let Some(line) = dump.line().map_err(|error| dump.unreadable(&error))? {
            head.extend_from_slice(&line);
            if line.starts_with(begun) {
                break;
            }
        }
        dump.ready = Cursor::new(head);
        Ok(dump)
    }

    /// What belongs to it and is in no dump of the server's program, as lines of statements.
    fn settings(&self) -> Result<VecDeque<Vec<u8>>, DatabaseError> {
        match self.server.engine {
            Engine::PostgreSql => {
                let statements = self.server.column(None, &postgresql::settings(&self.name))?;
                Ok(statements.into_iter().map(|statement| (statement + "\n").into_bytes()).collect())
            }
            Engine::MariaDb | Engine::Sqlite => Ok(VecDeque::new()),
        }
    }

    /// PostgreSQL's program has locks against changes of all tables before it says anything. MariaDB's has none of tables
    /// that it did not come to yet: for most changes of those the server ends it, but a column that is added or changed
    /// in an instant, or an index, would be in a dump of rows from before.
    fn columns_that_may_change(&self) -> Result<Option<Columns>, DatabaseError> {
        match self.server.engine {
            Engine::PostgreSql => Ok(None),
            Engine::MariaDb | Engine::Sqlite => {
                let columns = self.server.query(None, &mariadb::columns(&self.name))?;
                Ok(Some(columns.into_iter().collect()))
            }
        }
    }
}

impl ServerDump {
    /// Reads it to its end for nothing but what is in it.
    pub(super) fn summarise(mut self) -> Result<Summary, DatabaseError> {
        io::copy(&mut self, &mut io::sink()).map_err(|error| self.unreadable(&error))?;
        self.finish()
    }

    /// Ends the dump, which was read to its end, and says what was in it. An error when it is not whole.
    pub fn finish(self) -> Result<Summary, DatabaseError> {
        let outcome = self.source.into_inner().finish(END_WAIT)?;
        self.at.server.success(outcome)?;
        if !self.scanner.is_complete() {
            return Err(
                Problem::DumpIncomplete { reason: format!("its end is missing ({})", self.at.name) }.into()
            );
        }
        if let (Some(before), Some(now)) = (&self.columns, self.at.columns_that_may_change()?)
            && let Some(table) = changed_table(before, &now)
        {
            return Err(Problem::TableChanged { name: self.at.name, table }.into());
        }
        Ok(self.scanner.finish())
    }

    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if self.source.read_until(b'\n', &mut line)? == 0 {
            let Some(appended) = self.appended.pop_front() else { return Ok(None) };
            line = appended;
        }
        self.scanner.line(&line);
        Ok(Some(line))
    }

    pub(super) fn unreadable(&self, error: &io::Error) -> Problem {
        Problem::File { message: format!("the dump of {} cannot be read: {error}", self.at.name) }
    }
}

impl Read for ServerDump {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.ready.read(buffer)? {
                0 if buffer.is_empty() => return Ok(0),
                0 => match self.line()? {
                    Some(line) => self.ready = Cursor::new(line),
                    None => return Ok(0),
                },
                count => return Ok(count),
            }
        }
    }
}

/// A table that was changed. Those that were made meanwhile are not in a dump, as they were not there at its moment.
fn changed_table(before: &Columns, now: &Columns) -> Option<String> {
    let known: BTreeSet<&String> = before.iter().filter_map(|column| column.first()).collect();
    let mut tables = before.symmetric_difference(now).filter_map(|column| column.first());
    tables.find(|table| known.contains(table)).cloned()
}
