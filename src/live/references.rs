//! What volumes refer to in the store: the roots of a garbage collection in this layer.
//!
//! A reference is in a volume's base tree, in a row, or in memory (not yet committed, or of a file that was removed
//! and is still open). It moves from memory to a row by a commit, and from a row to memory by loading a node. So memory
//! is looked at before and after the view of the rows is taken: what is committed between the first look and the view
//! is in the rows, what is loaded and removed between the view's making and the second look is in memory, and all else
//! is where it was.

use std::collections::BTreeSet;

use super::node::{Body, Node};
use super::rows::{self, Block, VolumeRow};
use super::{FileSystem, LiveError, Volume, VolumeNumber};
use crate::base::tables::Reader;
use crate::objects::FileContent;
use crate::trees::{Reference, Root, Totals, TreeId};

/// What all volumes referred to at one moment.
pub struct References<'a> {
    memory: Vec<Reference>,
    rows: Reader<'a>,
    /// Whose rows do not count.
    without: BTreeSet<VolumeNumber>,
}

fn of_root(root: &Root) -> impl Iterator<Item = Reference> + '_ {
    root.tree.iter().chain(&root.links).map(|tree| Reference::Tree(*tree))
}

fn of_row(row: &VolumeRow, found: &mut dyn FnMut(Reference)) {
    row.frozen.iter().flat_map(of_root).for_each(&mut *found);
    let trees = row.blocks.iter().filter_map(|Block { tree, .. }| *tree);
    trees.map(Reference::Tree).for_each(found);
}

fn of_node(node: &Node, found: &mut dyn FnMut(Reference)) {
    match &node.body {
        Body::Directory { base: Some(tree), .. } => found(Reference::Tree(*tree)),
        Body::Stored(content) => found(Reference::Content(*content)),
        Body::Upper(upper) => {
            let copied = upper.copied.map(|copied| copied.content);
            upper.stored.into_iter().chain(copied).map(Reference::Content).for_each(found);
        }
        Body::Directory { base: None, .. }
        | Body::Symlink(_)
        | Body::Fifo
        | Body::Socket
        | Body::CharacterDevice(_)
        | Body::BlockDevice(_) => {}
    }
}

impl Volume {
    /// What is in memory. A node of the base tree that was only looked at is there too: it does no harm.
    fn referred_in_memory(&self, found: &mut Vec<Reference>) {
        found.extend(of_root(&self.base));
        let state = self.state.lock();
        of_row(&state.row, &mut |reference| found.push(reference));
        for node in state.nodes.values() {
            of_node(node, &mut |reference| {
                if reference != Reference::Content(FileContent::Empty) {
                    found.push(reference);
                }
            });
        }
    }
}

impl FileSystem {
    /// What all volumes but `without` refer to now, those that were removed and still have open files among them. Rows
    /// are read when [`References::each`] is called, as they are now.
    pub fn references(&self, without: &BTreeSet<VolumeNumber>) -> Result<References<'_>, LiveError> {
        let mut memory = Vec::new();
        let mut volumes = self.attached_volumes();
        volumes.retain(|volume| !without.contains(&volume.number()));
        volumes.iter().for_each(|volume| volume.referred_in_memory(&mut memory));
        let rows = self.volumes_of_store().rows()?;
        volumes.iter().for_each(|volume| volume.referred_in_memory(&mut memory));
        Ok(References { memory, rows, without: without.clone() })
    }
}

/// What a row refers to.
type Parse = fn(&[u8]) -> Result<Vec<Reference>, LiveError>;

fn node_row(value: &[u8]) -> Result<Vec<Reference>, LiveError> {
    let mut found = Vec::new();
    of_node(&rows::decode(value)?, &mut |reference| found.push(reference));
    Ok(found)
}

fn volume_row(value: &[u8]) -> Result<Vec<Reference>, LiveError> {
    let mut found = Vec::new();
    of_row(&rows::decode(value)?, &mut |reference| found.push(reference));
    Ok(found)
}

fn frozen_row(value: &[u8]) -> Result<Vec<Reference>, LiveError> {
    let (tree, _): (Option<TreeId>, Totals) = rows::decode(value)?;
    Ok(tree.map(Reference::Tree).into_iter().collect())
}

impl References<'_> {
    /// Calls `each` with every reference, with many of them more than once.
    pub fn each<E: From<LiveError>>(self, each: &mut dyn FnMut(Reference) -> Result<(), E>) -> Result<(), E> {
        self.memory.iter().try_for_each(|reference| each(*reference))?;
        let tables: [(&str, Parse); 3] =
            [(rows::NODES, node_row), (rows::VOLUMES, volume_row), (rows::FROZEN, frozen_row)];
        for (table, parse) in tables {
            let mut outcome = Ok(());
            let scanned = self.rows.scan(table, .., |key, value| {
                if rows::volume_of(key).is_some_and(|volume| self.without.contains(&volume)) {
                    return true;
                }
                outcome = parse(value)
                    .map_err(E::from)
                    .and_then(|found| found.into_iter().try_for_each(&mut *each));
                outcome.is_ok()
            });
            outcome?;
            scanned.map_err(LiveError::from)?;
        }
        Ok(())
    }
}
