//! Which run of the store the overlays were last used by.
//!
//! At each start the overlays get a new mark, and after that the caller's own records get it, too. So tables from elsewhere
//! (an older copy of the file, or another store's) are told from those that belong to the records: they would show old
//! states of all sites for the newest ones.
//!
//! Power fails here: the tables have the mark before it, too, which the records still have when the power failed between the
//! two writes.

use serde::{Deserialize, Serialize};

use super::LiveError;
use super::rows::{self, RowChange};
use crate::base::tables::Tables;

/// The key in [`rows::STATE`].
const KEY: &[u8] = b"mark";

/// What a run of the store is told by: random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(pub [u8; 16]);

/// What the records know of the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownMark {
    /// This one.
    Mark(Mark),
    /// They never had one.
    Never,
    /// They had one that cannot be read any more, or it does not matter.
    Any,
}

impl KnownMark {
    fn mark(self) -> Option<Mark> {
        match self {
            KnownMark::Mark(mark) => Some(mark),
            KnownMark::Never | KnownMark::Any => None,
        }
    }
}

/// The marks of a start.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// What the records have.
    pub known: KnownMark,
    /// What they are about to get.
    pub next: Mark,
}

/// The marks in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MarkRow {
    newest: Mark,
    before: Option<Mark>,
}

/// Whether the tables are those that the records know.
pub(super) fn belongs(tables: &Tables, known: KnownMark) -> Result<bool, LiveError> {
    if known == KnownMark::Any {
        return Ok(true);
    }
    let row = tables.read()?.get(rows::STATE, KEY)?;
    let row = row.map(|row| rows::decode::<MarkRow>(&row)).transpose()?;
    Ok(match row {
        Some(row) => row.before == known.mark() || Some(row.newest) == known.mark(),
        None => known == KnownMark::Never,
    })
}

/// What gives the tables the mark `newest`, in front of records that have the one `before`.
pub(super) fn put(newest: Mark, before: KnownMark) -> RowChange {
    let value = rows::encode(&MarkRow { newest, before: before.mark() });
    RowChange::Put { table: rows::STATE, key: KEY.to_vec(), value }
}
