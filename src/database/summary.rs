//! What is in a database, so that two of them can be compared without having both at hand.
//!
//! The checksum of a table is the sum, modulo 2^256, of a BLAKE3 hash of each row. A sum does not depend on the
//! order of the rows, which no engine promises, and needs no sorting. Unlike exclusive-or it counts equal rows:
//! a row that is there twice does not cancel itself out. Somebody who may choose very many rows could construct
//! two tables of equal sum (Wagner 2002, generalised birthdays); the sum guards against accidents and bugs, while
//! the files and dumps themselves are named by a hash that guards against everybody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::RelativePath;
use crate::history::{DatabaseSnapshot, TableSummary};
use crate::objects::{FileContent, ObjectId};

use super::Engine;

/// Every table of a database with its rows and checksum, and a hash of the schema, at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The tables by name.
    pub tables: BTreeMap<String, TableSummary>,
    /// A hash of the schema.
    pub schema: ObjectId,
}

impl Summary {
    /// How many rows there are in all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }

    /// The record of a snapshot. `file` is for databases captured with the site's files, `dump` for the others.
    pub fn into_snapshot(
        self,
        engine: Engine,
        file: Option<RelativePath>,
        dump: Option<FileContent>,
        verified: bool,
    ) -> DatabaseSnapshot {
        let Summary { tables, schema } = self;
        DatabaseSnapshot { engine: engine.to_string(), file, dump, tables, schema, verified }
    }
}

impl From<&DatabaseSnapshot> for Summary {
    fn from(snapshot: &DatabaseSnapshot) -> Summary {
        Summary { tables: snapshot.tables.clone(), schema: snapshot.schema }
    }
}

/// How a table differs between an old and a new state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDifference {
    /// The table.
    pub table: String,
    /// Its rows in the old state; `None` where it does not exist there.
    pub old_rows: Option<u64>,
    /// Its rows in the new state; `None` where it does not exist there.
    pub new_rows: Option<u64>,
}

/// What differs between an old and a new state of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Tables whose rows differ, by name.
    pub tables: Vec<TableDifference>,
    /// Whether the schema differs.
    pub schema_changed: bool,
}

impl Difference {
    /// What differs in `new` from `old`.
    pub fn between(old: &Summary, new: &Summary) -> Difference {
        let names: std::collections::BTreeSet<&String> = old.tables.keys().chain(new.tables.keys()).collect();
        let tables = names
            .into_iter()
            .filter(|name| old.tables.get(*name) != new.tables.get(*name))
            .map(|name| TableDifference {
                table: name.clone(),
                old_rows: old.tables.get(name).map(|table| table.rows),
                new_rows: new.tables.get(name).map(|table| table.rows),
            })
            .collect();
        Difference { tables, schema_changed: old.schema != new.schema }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && !self.schema_changed
    }

    /// One sentence for each table and the schema.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .tables
            .iter()
            .map(|table| match (table.old_rows, table.new_rows) {
                (Some(old), Some(new)) if old == new => {
                    format!("table {}: other content, {new} rows as before", table.table)
                }
                (Some(old), Some(new)) => format!("table {}: {new} rows, {old} before", table.table),
                (None, Some(new)) => format!("table {}: new, {new} rows", table.table),
                (Some(old), None) => format!("table {}: gone, {old} rows before", table.table),
                (None, None) => format!("table {}: in neither", table.table),
            })
            .collect();
        if self.schema_changed {
            lines.push("the schema differs".to_owned());
        }
        lines
    }
}

/// A value of a row, as engines have them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// Adds up the rows of a table.
#[derive(Default)]
pub(super) struct RowsHasher {
    rows: u64,
    /// 256 bits, least significant first.
    sum: [u64; 4],
    row: Vec<u8>,
}

impl RowsHasher {
    /// Adds a value to the row in hand: a tag for its type, then its bytes, behind their length where that varies.
    /// No two different rows have the same encoding. Floating-point numbers count bit by bit.
    pub(super) fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.row.push(0),
            Value::Integer(number) => self.fixed(1, number.to_be_bytes()),
            Value::Real(number) => self.fixed(2, number.to_bits().to_be_bytes()),
            Value::Text(bytes) => self.varying(3, bytes),
            Value::Blob(bytes) => self.varying(4, bytes),
        }
    }

    fn fixed(&mut self, tag: u8, bytes: [u8; 8]) {
        self.row.push(tag);
        self.row.extend_from_slice(&bytes);
    }

    fn varying(&mut self, tag: u8, bytes: &[u8]) {
        self.fixed(tag, (bytes.len() as u64).to_be_bytes());
        self.row.extend_from_slice(bytes);
    }

    /// Ends the row in hand.
    pub(super) fn end_row(&mut self) {
        let hash = blake3::hash(&self.row);
        self.row.clear();
        self.rows += 1;
        let mut carry = false;
        for (limb, bytes) in self.sum.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            let bytes = bytes.try_into().expect("chunks_exact gives eight bytes");
            let (sum, first) = limb.overflowing_add(u64::from_le_bytes(bytes));
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first || second);
        }
    }

    /// The table's summary.
    pub(super) fn finish(self) -> TableSummary {
        let mut hasher = blake3::Hasher::new_derive_key("sitefs rows of a database table, version 1");
        hasher.update(&self.rows.to_le_bytes());
        for limb in self.sum {
            hasher.update(&limb.to_le_bytes());
        }
        TableSummary { rows: self.rows, checksum: ObjectId::from_bytes(*hasher.finalize().as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[Value<'_>]]) -> TableSummary {
        let mut hasher = RowsHasher::default();
        for row in rows {
            row.iter().for_each(|value| hasher.value(*value));
            hasher.end_row();
        }
        hasher.finish()
    }

    #[test]
    fn order_does_not_count_but_everything_else_does() {
        use Value::{Blob, Integer, Null, Real, Text};
        let a: &[Value<'_>] = &[Integer(1), Text(b"x")];
        let b: &[Value<'_>] = &[Integer(2), Null];
        assert_eq!(table(&[a, b]), table(&[b, a]));
        let tables = [
            table(&[]),
            table(&[a]),
            table(&[a, a]),
            table(&[a, a, a]),
            table(&[a, b]),
            table(&[a, a, b]),
            table(&[a, b, b]),
            table(&[&[Null]]),
            table(&[&[Null, Null]]),
            table(&[&[Integer(0)]]),
            table(&[&[Real(0.0)]]),
            table(&[&[Real(-0.0)]]),
            table(&[&[Text(b"")]]),
            table(&[&[Blob(b"")]]),
            table(&[&[Text(b"ab"), Text(b"c")]]),
            table(&[&[Text(b"a"), Text(b"bc")]]),
            table(&[&[Text(b"abc")]]),
        ];
        for (place, one) in tables.iter().enumerate() {
            assert!(!tables[..place].contains(one), "table {place} is like one before");
        }
    }

    #[test]
    fn sums_carry_over_all_256_bits() {
        let mut hasher = RowsHasher { rows: 0, sum: [u64::MAX; 4], row: Vec::new() };
        hasher.end_row();
        // 2^256 - 1 + hash of nothing = hash of nothing - 1.
        let hash = blake3::hash(b"");
        let limbs: Vec<u64> =
            hash.as_bytes().chunks(8).map(|limb| u64::from_le_bytes(limb.try_into().unwrap())).collect();
        assert_eq!(hasher.sum.to_vec(), [limbs[0] - 1, limbs[1], limbs[2], limbs[3]]);
    }

    #[test]
    fn a_difference_names_tables_that_came_went_and_changed() {
        let summary = |tables: &[(&str, TableSummary)], schema: u8| Summary {
            tables: tables.iter().map(|(name, table)| ((*name).to_owned(), table.clone())).collect(),
            schema: ObjectId::from_bytes([schema; 32]),
        };
        let one = table(&[&[Value::Integer(1)]]);
        let other = table(&[&[Value::Integer(2)]]);
        let two = table(&[&[Value::Integer(1)], &[Value::Integer(2)]]);
        let old = summary(&[("gone", one.clone()), ("more", one.clone()), ("other", one.clone())], 1);
        let new = summary(&[("more", two), ("new", one), ("other", other)], 2);
        assert!(Difference::between(&old, &old).is_empty());
        assert_eq!(
            Difference::between(&old, &new).lines(),
            [
                "table gone: gone, 1 rows before",
                "table more: 2 rows, 1 before",
                "table new: new, 1 rows",
                "table other: other content, 1 rows as before",
                "the schema differs",
            ]
        );
    }
}
