//! A catalog in place of one that is damaged or gone: from its copy ([`super::copy`]), and from what of the catalog itself
//! can still be read.
//!
//! The engine compares pages with their checksums, so a flipped bit anywhere makes it refuse the file; but most of the
//! records are as they were, and each has a checksum of its own. What is in the copy is believed first, unless the copy
//! is known to lack something.
//!
//! The damaged file is only read, and the new catalog made beside it: who asked for it lets it take the name of the old one.

use std::collections::BTreeMap;
use std::path::Path;

use super::copy::{self, Found};
use super::{CatalogError, DAMAGED};
use crate::base::encoding::{decode, encode, is_intact};
use crate::base::files;
use crate::base::tables::{Prefix, Tables};

/// Memory for pages meanwhile, in bytes.
const CACHE_BYTES: usize = 8 << 20;

/// So many numbers of each counter are skipped when the newest transactions may be lost: more than can have been given out
/// within the time in which a power cut takes an entry of the copy. Numbers are never given out twice.
pub const NUMBERS_SKIPPED: u64 = 1000;

/// The table of counters, and the version of its records.
pub(super) const COUNTERS: (&str, u8) = ("counters", 1);

/// By table and key.
type Rows = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// How much was restored.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Whether changes of the last second before a power cut may be missing. Numbers of counters are skipped, then.
    pub may_lack_newest: bool,
    /// Whether records may be missing whose names nobody knows.
    pub is_partial: bool,
}

/// What could be read of a damaged catalog.
#[derive(Default)]
struct Salvaged {
    rows: Rows,
    /// Rows that are not what was written, as they are.
    unreadable: Rows,
    /// Whether all rows were seen.
    is_complete: bool,
    /// The number of the newest transaction.
    number: Option<u64>,
}

/// Reads what can be read of the damaged catalog in the file `path`. It is left as it is: the engine works on a copy.
fn salvage(path: &Path) -> Result<Salvaged, CatalogError> {
    let mut salvaged = Salvaged::default();
    if files::metadata(path)?.is_none() {
        return Ok(salvaged);
    }
    let scratch = path.with_extension("salvage");
    files::write_atomically(&scratch, &files::read(path)?)?;
    if let Err(error) = salvage_from(&scratch, &mut salvaged) {
        log::warn!("not all of {} can be read: {error}", path.display());
        salvaged.is_complete = false;
    }
    files::remove_file(&scratch)?;
    Ok(salvaged)
}

fn salvage_from(scratch: &Path, salvaged: &mut Salvaged) -> Result<(), CatalogError> {
    let tables = Tables::open(scratch, CACHE_BYTES)?;
    let names = tables.read()?.table_names()?;
    salvaged.is_complete = !names.is_empty();
    salvaged.number = Some(copy::number_in(&tables)?).filter(|number| *number > 0);
    for table in names.iter().filter(|table| *table != copy::TABLE) {
        let mut before: Option<Vec<u8>> = None;
        let mut count = 0;
        let mut each = |key: &[u8], value: &[u8]| {
            // Keys have no checksum, but an order, and are text.
            let is_key =
                before.as_deref().is_none_or(|before| before < key) && std::str::from_utf8(key).is_ok();
            salvaged.is_complete &= is_key;
            before = Some(key.to_owned());
            count += 1;
            if is_key {
                let is_whole = table == DAMAGED || is_intact(value);
                let rows = if is_whole { &mut salvaged.rows } else { &mut salvaged.unreadable };
                rows.insert((table.clone(), key.to_owned()), value.to_owned());
            }
            true
        };
        // One table that cannot be read to its end keeps no other from being read.
        let read = tables.read().and_then(|reader| reader.scan(table, Prefix::new(&[]), &mut each));
        // A page may also have lost rows and look well.
        salvaged.is_complete &= tables.read()?.count(table)? == count;
        if let Err(error) = read {
            log::warn!("the records of {table} cannot be read to the end: {error}");
            salvaged.is_complete = false;
        }
    }
    Ok(())
}

/// The rows that the copy in the file `path` has, and what was found there.
fn read_copy(path: &Path) -> Result<(Rows, Option<Found>), CatalogError> {
    let mut rows = Rows::new();
    let found = copy::replay(path, &mut |row| {
        let place = (row.table, row.key);
        match row.value {
            Some(value) => rows.insert(place, value),
            None => rows.remove(&place),
        };
    })?;
    Ok((rows, found))
}

/// Whether the copy in the file `copy` has transactions that the catalog it belongs to, whose newest has this `number`,
/// does not have: the catalog has lost them, or all it had.
pub(super) fn is_behind(number: u64, found: Option<Found>) -> bool {
    found.is_some_and(|found| found.is_whole && found.last.is_some_and(|last| last > number))
}

/// Makes a catalog in the file `new`, durably, from the copy in the file `copy` and from what can be read of the damaged one
/// in the file `path`. `None`, and nothing is made, where nothing is left, or, without `partially`, where records may be
/// missing that nobody can name.
pub fn restore(
    path: &Path,
    copy: &Path,
    new: &Path,
    partially: bool,
) -> Result<Option<Restored>, CatalogError> {
    let (mut rows, found) = read_copy(copy)?;
    let salvaged = salvage(path)?;
    let found = found.unwrap_or_default();
    let last = found.last.filter(|_| found.is_whole);
    let copy_has_all = last.is_some_and(|last| salvaged.number.is_none_or(|number| number <= last));
    let mut restored = Restored {
        is_partial: !found.is_whole && !salvaged.is_complete,
        may_lack_newest: match copy_has_all {
            true => salvaged.number.is_none() && !found.is_closed,
            false => !salvaged.is_complete,
        },
    };
    let mut unreadable = Rows::new();
    if !copy_has_all {
        // What is not seen where all was seen was removed.
        rows.retain(|place, _| !salvaged.is_complete || salvaged.unreadable.contains_key(place));
        unreadable = salvaged.unreadable;
        unreadable.retain(|place, _| !rows.contains_key(place));
        rows.extend(salvaged.rows);
    }
    restored.is_partial &= !copy_has_all;
    if rows.is_empty() || (restored.is_partial && !partially) {
        return Ok(None);
    }
    if restored.may_lack_newest {
        skip_numbers(&mut rows);
    }
    write(new, rows, unreadable, found.last.max(salvaged.number).unwrap_or(0))?;
    Ok(Some(restored))
}

fn skip_numbers(rows: &mut Rows) {
    for ((_, _), value) in rows.iter_mut().filter(|((table, _), _)| table == COUNTERS.0) {
        if let Ok(last) = decode::<u64>(COUNTERS.1, value) {
            *value = encode(COUNTERS.1, &last.saturating_add(NUMBERS_SKIPPED));
        }
    }
}

fn write(path: &Path, rows: Rows, unreadable: Rows, number: u64) -> Result<(), CatalogError> {
    let tables = Tables::open(path, CACHE_BYTES)?;
    let mut writer = tables.write()?;
    for ((table, key), value) in rows {
        writer.put(&table, &key, &value)?;
    }
    for ((table, key), value) in unreadable {
        writer.put(DAMAGED, &damaged_key(&table, &key), &value)?;
    }
    let (table, key, value) = copy::number_row(number);
    writer.put(table, key, &value)?;
    Ok(writer.commit()?)
}

/// The key in the table of damaged records.
pub(super) fn damaged_key(table: &str, key: &[u8]) -> Vec<u8> {
    [table.as_bytes(), b"/", key].concat()
}

#[cfg(test)]
mod tests;
