//! What a volume holds in memory: a cache of nodes and of directories' slots, and what is not yet committed.
//!
//! A node or a directory's slots with uncommitted changes stay in memory until the commit, so what is read from the
//! tables never lacks anything. All else may be dropped at any time between two operations: a number is enough to
//! find a node again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::LiveError;
use super::node::{Body, Home, MADE, NUMBERS_END, Node, ROOT};
use super::rows::{Block, RowChange, Slot, VolumeRow};
use super::unsynced::Unsynced;
use crate::trees::{NameKey, Root};

/// How many nodes and slots a volume keeps in memory beyond those it must: some 300 bytes each.
const CACHED_MAX: usize = 32_768;
/// How many cached things are considered for dropping at one operation, so that none takes long.
const CONSIDERED_MAX: usize = 64;
/// How many are considered for each that comes: more than one, since most have a second chance. Without new ones, what is
/// kept is kept for a reason, and looking at it again at every operation would cost more than all else.
const CONSIDERED_PER_NEW: usize = 4;

/// A directory's slots: what its overlay says.
pub(super) type Slots = BTreeMap<NameKey, Slot>;

/// A name whose entry may differ from the newest frozen state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dirty {
    pub(super) epoch: u64,
    pub(super) directory: u64,
    pub(super) key: NameKey,
}

impl Dirty {
    /// In place of a directory's number: the node is hard-linked, and its link number is the cookie.
    pub(super) const LINK: u64 = 0;

    /// The mark of a hard-linked node.
    pub(super) fn link(epoch: u64, link: u64) -> Dirty {
        Dirty { epoch, directory: Dirty::LINK, key: NameKey { cookie: link, name: Box::default() } }
    }

    /// The mark of the root's attributes.
    pub(super) fn root(epoch: u64) -> Dirty {
        Dirty { epoch, directory: ROOT, key: NameKey { cookie: 0, name: Box::default() } }
    }

    pub(super) fn is_root(&self) -> bool {
        self.directory == ROOT && self.key.name.is_empty()
    }
}

/// Changes that belong into one commit: which rows to write. Their values are taken from memory at the commit.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) nodes: HashSet<u64>,
    pub(super) entries: BTreeMap<u64, BTreeSet<NameKey>>,
    /// With the node, for a hard link.
    pub(super) dirty: BTreeMap<Dirty, u64>,
    /// Whether the volume's own row changed.
    pub(super) volume: bool,
    /// Rows that are not derived from memory, applied last.
    pub(super) rows: Vec<RowChange>,
    /// Upper files whose content is made durable before the commit.
    pub(super) flush: BTreeSet<u64>,
    /// Upper files nobody refers to after the commit.
    pub(super) unused: Vec<u64>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        let Batch { nodes, entries, dirty, volume, rows, flush: _, unused } = self;
        nodes.is_empty()
            && entries.is_empty()
            && dirty.is_empty()
            && !volume
            && rows.is_empty()
            && unused.is_empty()
    }

    /// How many rows, roughly.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() + self.dirty.len()
    }

    /// Adds what came after `self`.
    fn extend(&mut self, later: Batch) {
        self.nodes.extend(later.nodes);
        for (directory, keys) in later.entries {
            self.entries.entry(directory).or_default().extend(keys);
        }
        self.dirty.extend(later.dirty);
        self.volume |= later.volume;
        self.rows.extend(later.rows);
        self.flush.extend(later.flush);
        self.unused.extend(later.unused);
    }
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenHandle {
    pub(super) node: u64,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) backing: bool,
    pub(super) execute: bool,
}

enum Cached {
    Node(u64),
    Directory(u64),
}

/// See the module.
pub(super) struct State {
    pub(super) nodes: HashMap<u64, Node>,
    pub(super) directories: HashMap<u64, Slots>,
    /// In the order of loading; what was used meanwhile goes to the end.
    queue: VecDeque<Cached>,
    /// Slots in `directories`.
    slots: usize,
    /// How many are still to be considered for dropping.
    to_consider: usize,
    pub(super) pending: Batch,
    /// What the commit under way writes.
    pub(super) committing: Batch,
    /// Whether the volume has rows, or is about to.
    pub(super) stored: bool,
    pub(super) row: VolumeRow,
    /// The next number; below `row.reserved`.
    pub(super) next_number: u64,
    /// What `row.reserved` is once the commit under way has succeeded.
    pub(super) reserving: u64,
    pub(super) handles: HashMap<u64, OpenHandle>,
    /// Upper files a freeze still reads: not deleted before it has.
    pub(super) held: HashSet<u64>,
    /// Those of them nobody else refers to.
    pub(super) held_unused: HashSet<u64>,
    /// Upper files whose content may not be durable.
    pub(super) unsynced: Unsynced,
    /// The numbers of upper files that are about to be made.
    pub(super) making: BTreeSet<u64>,
}

impl State {
    pub(super) fn new(row: VolumeRow, stored: bool) -> State {
        State {
            nodes: HashMap::new(),
            directories: HashMap::new(),
            queue: VecDeque::new(),
            slots: 0,
            to_consider: 0,
            pending: Batch::default(),
            committing: Batch::default(),
            stored,
            next_number: row.reserved,
            reserving: row.reserved,
            row,
            handles: HashMap::new(),
            held: HashSet::new(),
            held_unused: HashSet::new(),
            unsynced: Unsynced::default(),
            making: BTreeSet::new(),
        }
    }

    /// Adds a node to the cache.
    pub(super) fn insert_node(&mut self, local: u64, node: Node) {
        self.nodes.insert(local, node);
        self.queue.push_back(Cached::Node(local));
        self.consider(1);
    }

    /// Adds a directory's slots to the cache.
    pub(super) fn insert_slots(&mut self, directory: u64, slots: Slots) {
        self.slots += slots.len();
        self.directories.insert(directory, slots);
        self.queue.push_back(Cached::Directory(directory));
        self.consider(1);
    }

    /// So many came into the cache, or may leave it from now on.
    pub(super) fn consider(&mut self, count: usize) {
        self.to_consider = self.to_consider.saturating_add(count.saturating_mul(CONSIDERED_PER_NEW));
    }

    /// Whether a commit has yet to write the node's row.
    pub(super) fn is_uncommitted(&self, local: u64) -> bool {
        self.pending.nodes.contains(&local) || self.committing.nodes.contains(&local)
    }

    /// Drops a few cached things when there are too many. Only between operations: during one, everything loaded
    /// stays.
    pub(super) fn trim(&mut self, cached_max: usize) {
        for _ in 0..CONSIDERED_MAX {
            if self.to_consider == 0 {
                return;
            }
            if self.nodes.len() + self.directories.len() + self.slots <= cached_max {
                self.to_consider = 0;
                return;
            }
            self.to_consider -= 1;
            let Some(cached) = self.queue.pop_front() else { return };
            if let Some(kept) = self.drop_cached(cached) {
                self.queue.push_back(kept);
            }
        }
    }

    pub(super) fn trim_default(&mut self) {
        self.trim(CACHED_MAX);
    }

    /// Drops it, or gives it back.
    fn drop_cached(&mut self, cached: Cached) -> Option<Cached> {
        match cached {
            Cached::Node(local) => {
                let uncommitted = self.is_uncommitted(local);
                let node = self.nodes.get_mut(&local)?;
                let pinned = uncommitted || node.names == 0 || node.open.is_open() || node.is_sealed();
                if pinned || node.recent {
                    node.recent = false;
                    return Some(cached);
                }
                self.nodes.remove(&local);
            }
            Cached::Directory(local) => {
                let slots = self.directories.get(&local)?.len();
                let uncommitted =
                    self.pending.entries.contains_key(&local) || self.committing.entries.contains_key(&local);
                let in_use = self.nodes.get(&local).is_some_and(|node| node.recent);
                if uncommitted || in_use {
                    return Some(cached);
                }
                self.directories.remove(&local);
                self.slots -= slots;
            }
        }
        None
    }

    /// Writes the node's row at the next commit.
    pub(super) fn note_node(&mut self, local: u64) {
        self.begin_rows();
        self.pending.nodes.insert(local);
    }

    /// Marks a name for the next freeze.
    pub(super) fn note_dirty(&mut self, directory: u64, key: NameKey) {
        self.begin_rows();
        let epoch = self.row.epoch;
        self.pending.dirty.insert(Dirty { epoch, directory, key }, 0);
    }

    /// Marks a hard-linked node for the next freeze.
    pub(super) fn note_dirty_link(&mut self, link: u64, local: u64) {
        self.begin_rows();
        self.pending.dirty.insert(Dirty::link(self.row.epoch, link), local);
    }

    /// The volume's own row comes with its first other row.
    fn begin_rows(&mut self) {
        if !self.stored {
            self.stored = true;
            self.pending.volume = true;
        }
    }

    /// Sets or removes the slot of a name; the directory's slots must be loaded.
    pub(super) fn set_slot(&mut self, directory: u64, key: &NameKey, slot: Option<Slot>) {
        let slots = self.directories.get_mut(&directory).expect("an operation loads the slots it sets");
        let before = match slot {
            Some(slot) => slots.insert(key.clone(), slot),
            None => slots.remove(key),
        };
        match (before, slot) {
            (None, Some(_)) => self.slots += 1,
            (Some(_), None) => self.slots -= 1,
            _ => {}
        }
        if before != slot {
            self.pending.entries.entry(directory).or_default().insert(key.clone());
        }
        self.note_dirty(directory, key.clone());
    }

    /// Forgets the slots of a removed directory, and their rows at the next commit.
    pub(super) fn clear_slots(&mut self, directory: u64) {
        let slots = self.directories.insert(directory, Slots::new()).unwrap_or_default();
        self.slots -= slots.len();
        self.pending.entries.entry(directory).or_default().extend(slots.into_keys());
    }

    /// Drops the slots of a removed directory from memory.
    pub(super) fn drop_slots(&mut self, directory: u64) {
        self.slots -= self.directories.remove(&directory).map_or(0, |slots| slots.len());
    }

    /// Notes that a loaded node changed: its row is written, its name has a slot, and the next freeze looks at it.
    /// The slots of its home must be loaded.
    pub(super) fn touch(&mut self, local: u64) {
        let Some(node) = self.nodes.get_mut(&local) else { return };
        if node.names == 0 {
            return;
        }
        let (link, home) = (node.link, node.home.clone());
        self.note_node(local);
        match (link, home) {
            (Some(link), _) => self.note_dirty_link(link, local),
            (None, Some(Home { directory, key })) => self.set_slot(directory, &key, Some(Slot::Node(local))),
            (None, None) => {
                self.pending.dirty.insert(Dirty::root(self.row.epoch), 0);
            }
        }
    }

    /// Takes a new number; [`super::Volume::reserve`] has seen to it that there is one.
    pub(super) fn take_number(&mut self) -> u64 {
        self.take_numbers(1)
    }

    /// All upper files with smaller numbers have been made, but for those that are durable before a row refers to them.
    pub(super) fn made_up_to(&self) -> u64 {
        self.making.first().copied().unwrap_or(self.next_number)
    }

    /// Takes `count` new numbers in a row, reserved before; the first of them.
    pub(super) fn take_numbers(&mut self, count: u64) -> u64 {
        let first = self.next_number;
        self.next_number += count;
        debug_assert!(self.next_number <= self.row.reserved, "numbers are reserved before they are taken");
        first
    }

    /// The end of a reservation of `count` more numbers than are needed now.
    pub(super) fn reservation(&self, count: u64) -> Result<u64, LiveError> {
        self.next_number.checked_add(count).filter(|end| *end <= NUMBERS_END).ok_or(LiveError::NoSpace)
    }

    /// Begins a commit: what is pending is being committed from now on.
    pub(super) fn begin_commit(&mut self) {
        debug_assert!(self.committing.is_empty(), "one commit at a time");
        self.committing = std::mem::take(&mut self.pending);
    }

    /// Ends a commit that succeeded; returns the upper files that nobody refers to any more.
    pub(super) fn end_commit(&mut self) -> Vec<u64> {
        let Batch { unused, nodes, entries, .. } = std::mem::take(&mut self.committing);
        // What was kept because it was not committed may go now.
        self.consider(nodes.len() + entries.len());
        unused.iter().for_each(|number| self.unsynced.forget(*number));
        let (held, free) = unused.into_iter().partition(|number| self.held.contains(number));
        self.held_unused.extend::<Vec<u64>>(held);
        free
    }

    /// The upper files of nodes that have no name left.
    pub(super) fn orphans(&self) -> Vec<u64> {
        let upper = |node: &Node| match &node.body {
            Body::Upper(upper) if node.names == 0 => Some(upper.number),
            _ => None,
        };
        self.nodes.values().filter_map(upper).collect()
    }

    /// Ends a commit that failed: all of it is pending again.
    pub(super) fn undo_commit(&mut self) {
        let later = std::mem::take(&mut self.pending);
        let mut batch = std::mem::take(&mut self.committing);
        batch.extend(later);
        self.pending = batch;
    }

    /// The grafted subtree that `local` is below of.
    pub(super) fn block_of(&self, local: u64) -> Option<Block> {
        let after = self.row.blocks.partition_point(|block| block.first < local);
        let block = *self.row.blocks[..after].last()?;
        (local <= block.first + block.nodes).then_some(block)
    }

    /// The first row of a volume that never had one.
    pub(super) fn first_row(base: [u8; 32], next_link: u64) -> VolumeRow {
        VolumeRow { base, reserved: MADE, next_link, epoch: 1, frozen: None, blocks: Vec::new() }
    }

    /// The newest frozen state.
    pub(super) fn frozen(&self) -> Option<&Root> {
        self.row.frozen.as_ref()
    }
}
