//! What is in an SQLite database: its tables with their rows, its schema, its integrity.
//!
//! What counts as content: the rows of every table that the database stores itself, `sqlite_sequence` and the
//! shadow tables of virtual tables (where full-text indexes keep theirs) included. Left out: virtual tables, whose
//! rows are made from shadow tables or from elsewhere by a module that this program may not have; the planner's
//! statistics (`sqlite_stat1` and its kin), which say nothing a person stored; generated columns, which follow from
//! the others and may need functions that only the application has; row ids that no column names, which `VACUUM`
//! may change.

use std::collections::BTreeSet;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Statement};

use super::open::Place;
use crate::database::Problem;
use crate::database::summary::{RowsHasher, Summary, Value};
use crate::objects::ObjectId;

/// Findings that say a row does not obey a rule of its table, not that the file is damaged. Applications cause
/// them by adding a rule to a table that has rows.
const RULES: [&str; 4] =
    ["NULL value in ", "CHECK constraint failed in ", "NUMERIC value in ", "TEXT value in "];

/// A table that stores rows.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// The statement that made it; of `sqlite_sequence` too.
    pub(super) sql: String,
    /// The columns that store values, in order.
    pub(super) columns: Vec<String>,
    /// A name for the row id that no column has taken, where there is a row id that no column names.
    pub(super) row_id: Option<&'static str>,
}

/// Whether a table holds the planner's statistics.
pub(super) fn is_statistics(name: &str) -> bool {
    name.starts_with("sqlite_stat")
}

/// An identifier as SQL writes it, whatever is in it.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// The tables that store rows, in the order they were made.
pub(super) fn tables(connection: &Connection) -> Result<Vec<Table>, Error> {
    let mut statement = connection.prepare(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY rowid",
    )?;
    let named = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let named = named.collect::<Result<Vec<(String, String)>, Error>>()?;
    named.into_iter().map(|(name, sql)| table(connection, name, sql)).collect()
}

fn table(connection: &Connection, name: String, sql: String) -> Result<Table, Error> {
    let mut statement =
        connection.prepare("SELECT name, hidden, pk FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let found = statement.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let found = found.collect::<Result<Vec<(String, i64, i64)>, Error>>()?;
    let key_columns = found.iter().filter(|(_, _, key)| *key > 0).count();
    // A column that is the row id is a primary key of one column without an index of its own.
    let key_indexes: i64 = connection.query_row(
        "SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'",
        [&name],
        |row| row.get(0),
    )?;
    let free = ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|free| !found.iter().any(|(column, ..)| column.eq_ignore_ascii_case(free)));
    let row_id = free.filter(|free| {
        let is_named = key_columns == 1 && key_indexes == 0;
        !is_named && connection.prepare(&format!("SELECT {free} FROM {}", quoted(&name))).is_ok()
    });
    let columns =
        found.into_iter().filter(|(_, hidden, _)| *hidden == 0).map(|(column, ..)| column).collect();
    Ok(Table { name, sql, columns, row_id })
}

impl Table {
    /// The statement that reads every row in the order the file has them: the row id, or NULL where there is none
    /// to be kept, then the columns. No index is used, so none of an unknown collation is needed.
    pub(super) fn read<'a>(&self, connection: &'a Connection) -> Result<Statement<'a>, Error> {
        let columns = self.columns.iter().map(|column| quoted(column));
        let words: Vec<String> =
            std::iter::once(self.row_id.unwrap_or("NULL").to_owned()).chain(columns).collect();
        connection.prepare(&format!("SELECT {} FROM {} NOT INDEXED", words.join(", "), quoted(&self.name)))
    }
}

/// Adds a row of [`Table::read`] to a table's sum.
pub(super) fn add_row(hasher: &mut RowsHasher, row: &rusqlite::Row<'_>, columns: usize) -> Result<(), Error> {
    for column in 1..=columns {
        hasher.value(match row.get_ref(column)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => Value::Text(text),
            ValueRef::Blob(bytes) => Value::Blob(bytes),
        });
    }
    hasher.end_row();
    Ok(())
}

/// The summary of the database, in one read transaction: the one that is open, or one of its own.
pub(super) fn summary(connection: &Connection, place: &Place) -> Result<Summary, Problem> {
    in_transaction(connection, || {
        let mut summary = Summary { tables: Default::default(), schema: schema(connection)? };
        for table in tables(connection)?.into_iter().filter(|table| !is_statistics(&table.name)) {
            let mut hasher = RowsHasher::default();
            let mut statement = table.read(connection)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                add_row(&mut hasher, row, table.columns.len())?;
            }
            summary.tables.insert(table.name, hasher.finish());
        }
        Ok(summary)
    })
    .map_err(|error| place.problem("read", error))
}

/// Runs `work` so that all it reads is of one moment.
pub(super) fn in_transaction<T, E: From<Error>>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let own = connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
    let result = work()?;
    if let Some(transaction) = own {
        transaction.commit()?;
    }
    Ok(result)
}

/// A hash of the statements that made the tables, indexes, views and triggers, and of the numbers that applications
/// keep in the header. Layout (page size, journal mode, encoding) does not count.
pub(super) fn schema(connection: &Connection) -> Result<ObjectId, Error> {
    let mut hasher = RowsHasher::default();
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name NOT LIKE 'sqlite_stat_'",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            hasher.value(Value::Text(row.get_ref(column)?.as_bytes().unwrap_or_default()));
        }
        hasher.end_row();
    }
    for pragma in ["user_version", "application_id"] {
        hasher.value(Value::Text(pragma.as_bytes()));
        hasher.value(Value::Integer(connection.pragma_query_value(None, pragma, |row| row.get(0))?));
        hasher.end_row();
    }
    Ok(hasher.finish().checksum)
}

/// What is wrong with the database's structure, at most a hundred findings; empty when it is sound. Indexes that need
/// a collation or function that only their application has are not compared with their tables.
pub(super) fn findings(connection: &Connection, place: &Place) -> Result<Vec<String>, Problem> {
    let check = |pragma: &str| -> Result<Vec<String>, Error> {
        let mut statement = connection.prepare(&format!("PRAGMA {pragma}(100)"))?;
        let found = statement.query_map([], |row| row.get(0))?;
        found.collect()
    };
    let check_all = || {
        connection.pragma_update(None, "ignore_check_constraints", true)?;
        let mut pragma = "integrity_check";
        let mut stand_ins = BTreeSet::new();
        loop {
            match check(pragma) {
                Err(error) => match missing(&error) {
                    // Not asked for an order, but not to be done without either.
                    Some(Missing::Collation(name)) if stand_ins.insert(name.clone()) => {
                        connection.create_collation(&*name, str::cmp)?;
                    }
                    Some(Missing::Other) if pragma != "quick_check" => {}
                    _ => return Err(error),
                },
                found => return found,
            }
            pragma = "quick_check";
        }
    };
    match check_all().map_err(|error| place.problem("check", error)) {
        Ok(mut found) => {
            found.retain(|finding| finding != "ok" && !RULES.iter().any(|rule| finding.starts_with(rule)));
            Ok(found)
        }
        Err(Problem::Damaged { findings, .. }) => Ok(findings),
        Err(other) => Err(other),
    }
}

/// What a check wants and only the application has.
enum Missing {
    Collation(String),
    Other,
}

fn missing(error: &Error) -> Option<Missing> {
    let message = error.to_string();
    if let Some((_, name)) = message.split_once("no such collation sequence: ") {
        return Some(Missing::Collation(name.to_owned()));
    }
    ["no such function", "no such module"].iter().any(|what| message.contains(what)).then_some(Missing::Other)
}

/// An error unless the structure is sound.
pub(super) fn require_sound(connection: &Connection, place: &Place) -> Result<(), Problem> {
    let mut findings = findings(connection, place)?;
    if findings.is_empty() {
        return Ok(());
    }
    findings.truncate(10);
    Err(Problem::Damaged { path: place.path.clone(), findings })
}
