//! A database as SQL text, and back.
//!
//! The text is what the `sqlite3` shell reads: one statement a row, in the order of the file, so that the dumps of
//! two days share most of their chunks. It gives back every value bit by bit, with its type, and row ids that no
//! column names, which full-text indexes refer to. Its last statement is `COMMIT`: a dump without it was cut off.

use std::fmt::Write as _;
use std::io::{BufRead, Write};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};

use super::content::{Table, add_row, in_transaction, quoted, tables};
use super::open::Place;
use super::script::Statements;
use crate::database::Problem;
use crate::database::summary::{RowsHasher, Summary};

/// The longest statement SQLite reads, in bytes: its default `SQLITE_MAX_SQL_LENGTH`.
const STATEMENT_BYTES_MAX: usize = 1_000_000_000;

/// Writes the database as SQL and returns its summary, both of one moment.
pub(super) fn dump(connection: &Connection, place: &Place, out: &mut dyn Write) -> Result<Summary, Problem> {
    let result = in_transaction(connection, || {
        let schema = super::content::schema(connection)?;
        let mut dump = Dump { connection, place, out, line: String::new(), encoding: String::new() };
        dump.encoding = connection.pragma_query_value(None, "encoding", |row| row.get(0))?;
        dump.header()?;
        let mut summary = Summary { tables: Default::default(), schema };
        let tables = tables(connection)?;
        for table in tables.iter().filter(|table| !table.name.starts_with("sqlite_")) {
            dump.statement(&table.sql)?;
            summary.tables.insert(table.name.clone(), dump.rows(table)?.finish());
        }
        if let Some(sequence) = tables.iter().find(|table| table.name == "sqlite_sequence") {
            dump.statement("DELETE FROM sqlite_sequence")?;
            summary.tables.insert(sequence.name.clone(), dump.rows(sequence)?.finish());
        }
        dump.virtual_tables()?;
        dump.others()?;
        if let Some(statistics) = tables.iter().find(|table| table.name == "sqlite_stat1") {
            // Makes the table, whatever statistics it comes to; then the true ones.
            dump.statement("ANALYZE sqlite_schema")?;
            dump.statement("DELETE FROM sqlite_stat1")?;
            dump.rows(statistics)?;
        }
        dump.statement("COMMIT")?;
        dump.out.flush().map_err(written)?;
        Ok(summary)
    });
    result.map_err(|failure: Failure| match failure {
        Failure::Sqlite(error) => place.problem("dump", error),
        Failure::Problem(problem) => problem,
    })
}

/// Reading fails with one, writing with the other.
enum Failure {
    Sqlite(Error),
    Problem(Problem),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Sqlite(error)
    }
}

fn written(error: std::io::Error) -> Failure {
    Failure::Problem(Problem::File { message: format!("cannot write the dump: {error}") })
}

struct Dump<'a> {
    connection: &'a Connection,
    place: &'a Place,
    out: &'a mut dyn Write,
    line: String,
    encoding: String,
}

impl Dump<'_> {
    fn header(&mut self) -> Result<(), Failure> {
        self.write("-- SQLite database dumped by sitefs, format 1\n")?;
        self.statement("PRAGMA foreign_keys = OFF")?;
        self.statement(&format!("PRAGMA encoding = '{}'", self.encoding))?;
        self.statement("BEGIN TRANSACTION")?;
        for pragma in ["user_version", "application_id"] {
            let value: i64 = self.connection.pragma_query_value(None, pragma, |row| row.get(0))?;
            self.statement(&format!("PRAGMA {pragma} = {value}"))?;
        }
        Ok(())
    }

    fn rows(&mut self, table: &Table) -> Result<RowsHasher, Failure> {
        let names =
            table.row_id.into_iter().map(str::to_owned).chain(table.columns.iter().map(|c| quoted(c)));
        let names: Vec<String> = names.collect();
        let start = format!("INSERT INTO {}({}) VALUES(", quoted(&table.name), names.join(","));
        let first = usize::from(table.row_id.is_none());
        let mut hasher = RowsHasher::default();
        let mut statement = table.read(self.connection)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            add_row(&mut hasher, row, table.columns.len())?;
            self.line.clear();
            self.line.push_str(&start);
            for column in first..=table.columns.len() {
                if column > first {
                    self.line.push(',');
                }
                literal(&mut self.line, row.get_ref(column)?, &self.encoding);
            }
            self.line.push_str(");\n");
            if self.line.len() > STATEMENT_BYTES_MAX {
                return Err(Failure::Problem(Problem::RowTooLong {
                    path: self.place.path.clone(),
                    table: table.name.clone(),
                    bytes_max: STATEMENT_BYTES_MAX as u64,
                }));
            }
            self.out.write_all(self.line.as_bytes()).map_err(written)?;
        }
        Ok(hasher)
    }

    /// Virtual tables are entered into the schema without asking their modules, which would make the shadow tables
    /// that are in the dump already.
    fn virtual_tables(&mut self) -> Result<(), Failure> {
        let mut statement = self.connection.prepare(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND coalesce(rootpage, 0) = 0 ORDER BY rowid",
        )?;
        let mut rows = statement.query([])?;
        let mut any = false;
        while let Some(row) = rows.next()? {
            if !any {
                self.statement("PRAGMA writable_schema = ON")?;
                any = true;
            }
            let (mut name, mut sql) = (String::new(), String::new());
            literal(&mut name, row.get_ref(0)?, &self.encoding);
            literal(&mut sql, row.get_ref(1)?, &self.encoding);
            self.statement(&format!(
                "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('table',{name},{name},0,{sql})"
            ))?;
        }
        if any { self.statement("PRAGMA writable_schema = OFF") } else { Ok(()) }
    }

    /// Indexes, triggers and views: after the rows, so that no trigger fires and indexes are built once.
    fn others(&mut self) -> Result<(), Failure> {
        let mut statement = self.connection.prepare(
            "SELECT sql FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL ORDER BY rowid",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            self.statement(&row.get::<_, String>(0)?)?;
        }
        Ok(())
    }

    fn statement(&mut self, sql: &str) -> Result<(), Failure> {
        // A comment at the end must not swallow the semicolon.
        let ends_in_comment = sql.lines().next_back().is_some_and(|line| line.contains("--"));
        self.write(sql)?;
        self.write(if ends_in_comment { "\n;\n" } else { ";\n" })
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(written)
    }
}

/// Writes a value so that SQLite reads it back as it was, with its type.
fn literal(line: &mut String, value: ValueRef<'_>, encoding: &str) {
    match value {
        ValueRef::Null => line.push_str("NULL"),
        ValueRef::Integer(number) => push(line, format_args!("{number}")),
        // Infinity has no name in SQL.
        ValueRef::Real(number) if number.is_infinite() => {
            line.push_str(if number > 0.0 { "9.0e999" } else { "-9.0e999" });
        }
        // The shortest digits that stand for this number and no other, with a point or an exponent.
        ValueRef::Real(number) => push(line, format_args!("{number:?}")),
        ValueRef::Blob(bytes) => hexadecimal(line, bytes),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => {
                line.push('\'');
                for (place, part) in text.split('\'').enumerate() {
                    line.push_str(if place > 0 { "''" } else { "" });
                    line.push_str(part);
                }
                line.push('\'');
            }
            // What SQL text cannot hold is written as the bytes that the database has.
            text => {
                line.push_str("CAST(");
                match (encoding, text) {
                    ("UTF-16le", Ok(text)) => {
                        hexadecimal(
                            line,
                            &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
                        );
                    }
                    ("UTF-16be", Ok(text)) => {
                        hexadecimal(
                            line,
                            &text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>(),
                        );
                    }
                    _ => hexadecimal(line, bytes),
                }
                line.push_str(" AS TEXT)");
            }
        },
    }
}

fn push(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a String takes all that is written to it");
}

fn hexadecimal(line: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    line.push_str("X'");
    for byte in bytes {
        line.push(char::from(DIGITS[usize::from(byte >> 4)]));
        line.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    line.push('\'');
}

/// Runs the statements of a dump on an empty database.
pub(super) fn load(connection: &Connection, source: &mut dyn BufRead) -> Result<(), Problem> {
    let incomplete = |reason: &str| Err(Problem::DumpIncomplete { reason: reason.to_owned() });
    let mut statements = Statements::new(source);
    while let Some((line, sql)) = statements.next(STATEMENT_BYTES_MAX)? {
        if sql.get(..8).is_some_and(|word| word.eq_ignore_ascii_case("rollback")) {
            return incomplete("it ends with ROLLBACK, because the program that wrote it met an error");
        }
        connection.execute_batch(&sql).map_err(|error| match &error {
            Error::SqliteFailure(failure, _) if failure.code == rusqlite::ErrorCode::DiskFull => {
                Problem::DiskFull { path: "the dump".into(), temporary: super::open::temporary_directory() }
            }
            Error::SqliteFailure(_, Some(message)) | Error::SqlInputError { msg: message, .. } => {
                Problem::DumpFails { line, message: message.clone() }
            }
            other => Problem::DumpFails { line, message: other.to_string() },
        })?;
    }
    if !connection.is_autocommit() {
        return incomplete("its last statement, COMMIT, is missing");
    }
    Ok(())
}
