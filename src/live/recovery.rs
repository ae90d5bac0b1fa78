//! What is put right after a crash, before any volume is shown.
//!
//! Rows are always a state that existed, but the upper files beside them go on on their own: a file that was open for
//! writing knows its size and time better than its row, a file may have been created whose row was never committed,
//! and where the power failed, contents that nobody synced may be shorter than the row says, or missing. So each row
//! with an upper file is compared with it, and files without a row are removed.

use std::collections::{BTreeSet, HashSet};

use super::copies::UNTOUCHED;
use super::names;
use super::node::{Body, Node};
use super::rows::{self, Engine, RowChange, VolumeRow};
use super::state::Dirty;
use super::upper::Uppers;
use super::{LiveError, VolumeNumber};
use crate::objects::FileContent;

/// How many corrections are committed at once.
const CHANGES_MAX: usize = 10_000;

/// The volumes that have rows.
pub(super) fn volumes_with_rows(engine: &Engine) -> Result<BTreeSet<VolumeNumber>, LiveError> {
    let mut found = BTreeSet::new();
    engine.scan(rows::VOLUMES, &[], |key, _| {
        if let Ok(number) = key.try_into() {
            found.insert(VolumeNumber(u32::from_be_bytes(number)));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Compares all rows with all upper files. Repeating it changes nothing more.
pub(super) fn recover(engine: &Engine, uppers: &Uppers) -> Result<(), LiveError> {
    let with_rows = volumes_with_rows(engine)?;
    for volume in uppers.volumes()? {
        if !with_rows.contains(&volume) {
            uppers.remove_volume(volume)?;
        }
    }
    for volume in with_rows {
        recover_volume(engine, uppers, volume)?;
    }
    Ok(())
}

fn recover_volume(engine: &Engine, uppers: &Uppers, volume: VolumeNumber) -> Result<(), LiveError> {
    let Some(VolumeRow { epoch, .. }) = engine.get(rows::VOLUMES, &rows::volume_key(volume))? else {
        return Ok(());
    };
    let named = names::named(engine, volume)?;
    let prefix = rows::volume_key(volume);
    let mut used = HashSet::new();
    let mut changes = Vec::new();
    let mut corrected = 0;
    engine.scan(rows::NODES, &prefix, |key, value| {
        let node: Node = rows::decode(value)?;
        if let Body::Upper(upper) = &node.body {
            used.insert(upper.number);
            if let Some(node) = compared(uppers, volume, named, node)? {
                let local = rows::number_at(key, prefix.len()).ok_or(LiveError::Invalid)?;
                changes.extend(mark_dirty(volume, epoch, local, &node));
                changes.push(RowChange::Put {
                    table: rows::NODES,
                    key: key.to_vec(),
                    value: rows::encode(&node),
                });
                corrected += 1;
            }
        }
        Ok(())
    })?;
    for part in changes.chunks(CHANGES_MAX) {
        engine.apply(part)?;
    }
    if corrected > 0 {
        log::info!("volume {}: {corrected} files were being written when the last run ended", volume.0);
    }
    for number in uppers.numbers(volume)? {
        if !used.contains(&number) {
            uppers.remove(volume, number);
        }
    }
    Ok(())
}

/// The node as its upper file says it is; `None` when the row says the same, or what is missing has had a durable name.
fn compared(
    uppers: &Uppers,
    volume: VolumeNumber,
    named: u64,
    mut node: Node,
) -> Result<Option<Node>, LiveError> {
    let Body::Upper(upper) = &mut node.body else { return Ok(None) };
    match uppers.look(volume, upper.number)? {
        Some(facts) if facts.size == upper.size && !upper.written => return Ok(None),
        Some(facts) => {
            // A copy that nobody wrote to (see `copies`) has its time in the row.
            if upper.written && facts.modified != UNTOUCHED && facts.modified != node.modified {
                node.modified = facts.modified;
                node.changed = node.changed.max(facts.modified);
            }
            upper.size = facts.size;
            upper.written = false;
        }
        // Damage, told to whoever opens it, and by `verify`.
        None if upper.number < named => {
            log::error!("a changed file is gone: {}", uppers.path(volume, upper.number).display());
            return Ok(None);
        }
        // Created, named in a row, and lost with the power before anyone synced it.
        None => node.body = Body::Stored(FileContent::Empty),
    }
    Ok(Some(node))
}

/// What makes the next freeze look at the node again.
fn mark_dirty(volume: VolumeNumber, epoch: u64, local: u64, node: &Node) -> Option<RowChange> {
    let (dirty, value) = match (node.link, &node.home) {
        (Some(link), _) => (Dirty::link(epoch, link), local),
        (None, Some(home)) => (Dirty { epoch, directory: home.directory, key: home.key.clone() }, 0),
        (None, None) => return None,
    };
    let key = rows::dirty_key(volume, dirty.epoch, dirty.directory, &dirty.key);
    Some(RowChange::Put { table: rows::DIRTY, key, value: rows::encode(&value) })
}
