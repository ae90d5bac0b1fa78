//! The daemon's own work on a volume, by path and without the mount: writing settings, putting snapshots' files and
//! directories in place, clearing away. Allowed whatever the volume's [`super::Access`]; what it returns must be
//! passed on to the kernel.
//!
//! What is put in place of something else is always a new node: whoever has the old one open keeps it.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;

use super::change::{count_directories, drop_name, stamp};
use super::directory::name_key;
use super::filesystem::Invalidation;
use super::node::{Body, Home, Node, Upper};
use super::rows::{self, Block, Slot};
use super::state::State;
use super::upper::failed;
use super::{Caller, LiveError, NodeId, Volume, clock};
use crate::base::limits::SYMLINK_TARGET_BYTES_MAX;
use crate::base::{RelativePath, Timestamp};
use crate::trees::{self, Entry, NameKey, Totals, TreeId};

/// How many entries of a tree are read at once.
const PAGE: usize = 512;

impl Volume {
    /// Writes a file, replacing whatever is at `path` but a directory. Its directory must exist. After a crash there
    /// is what was there before, or the whole of `content`.
    pub fn write_file(
        &self,
        path: &RelativePath,
        content: &[u8],
        mode: u32,
        owner: Caller,
    ) -> Result<Vec<Invalidation>, LiveError> {
        let _changing = self.begin_bulk()?;
        let number = {
            let mut state = self.lock();
            self.reserve(&mut state, 1)?;
            state.take_number()
        };
        let file = self.shared.uppers.create(self.number, number)?;
        if let Err(error) = file.write_all_at(content, 0) {
            self.shared.uppers.remove(self.number, number);
            return Err(failed("write")(error));
        }
        let body = Body::Upper(Upper::new(number, content.len() as u64));
        let put = self.put(path, Node::made(body, mode, owner), false);
        if put.is_err() {
            self.shared.uppers.remove(self.number, number);
        }
        put
    }

    /// Makes a symbolic link, replacing whatever is at `path` but a directory. Its directory must exist.
    pub fn put_symlink(
        &self,
        path: &RelativePath,
        target: &[u8],
        owner: Caller,
    ) -> Result<Vec<Invalidation>, LiveError> {
        let _changing = self.begin_bulk()?;
        if target.is_empty() || target.len() > SYMLINK_TARGET_BYTES_MAX {
            return Err(LiveError::Invalid);
        }
        self.put(path, Node::made(Body::Symlink(target.into()), 0o777, owner), false)
    }

    /// Makes the directory at `path` and those above it where they are missing.
    pub fn ensure_directory(
        &self,
        path: &RelativePath,
        mode: u32,
        owner: Caller,
    ) -> Result<Vec<Invalidation>, LiveError> {
        let _changing = self.begin_bulk()?;
        let mut invalidations = Vec::new();
        let mut directory = self.root();
        for name in path.components() {
            let found = match self.lookup(directory, name.as_bytes()) {
                Err(LiveError::NotFound) => {
                    let key = name_key(name.as_bytes())?;
                    let body = Body::Directory { base: None, totals: Totals::default() };
                    let node = Node::made(body, mode, owner);
                    invalidations.extend(self.put_in(directory.local(), &key, node, false)?);
                    self.lookup(directory, name.as_bytes())?
                }
                found => found?,
            };
            if found.kind != super::FileKind::Directory {
                return Err(LiveError::NotADirectory);
            }
            directory = found.id;
        }
        Ok(invalidations)
    }

    /// Removes what is at `path` with all below it. A missing path is no error. Costs what was changed below it, and
    /// the directories that have hard links.
    pub fn remove_all(&self, path: &RelativePath) -> Result<Vec<Invalidation>, LiveError> {
        let _changing = self.begin_bulk()?;
        let (parent, key) = match self.parent_of(path) {
            Err(LiveError::NotFound) => return Ok(Vec::new()),
            found => found?,
        };
        let mut state = self.lock();
        let state = &mut *state;
        let directory = parent.local();
        let Some(local) = self.find(state, directory, &key)? else { return Ok(Vec::new()) };
        let doomed = self.subtree(state, local)?;
        let vacancy = self.vacancy(state, directory, &key)?;
        self.prepare(state, directory)?;
        let now = clock::now();
        let invalidations = self.changed_name(state, directory, &key, &doomed);
        let was_directory = self.node(state, local)?.is_directory();
        self.drop_all(state, &doomed, now);
        state.set_slot(directory, &key, vacancy);
        count_directories(state, directory, -i32::from(was_directory));
        stamp(state, directory, now);
        Ok(invalidations)
    }

    /// Puts an entry of a tree in place of what is at `path`, with all that was below it. The entry comes with all
    /// that is below it, at the cost of one entry; only where it has hard links, whose numbers mean something in
    /// `links` of its tree alone, each of their names becomes a file of its own. The directory of `path` must exist.
    pub fn replace_with_entry(
        &self,
        path: &RelativePath,
        entry: Entry,
        links: Option<TreeId>,
    ) -> Result<Vec<Invalidation>, LiveError> {
        let _changing = self.begin_bulk()?;
        let mut entry = self.shared.trees.resolve_link(links, entry)?;
        if let trees::Node::Directory { tree, totals } = &mut entry.node
            && totals.hard_links > 0
        {
            (*tree, *totals) = self.without_links(*tree, links)?;
            self.shared.trees.objects.flush()?;
        }
        self.put(path, Node::of_entry(entry, None)?, true)
    }

    /// Begins bulk work: whether the mount may change the volume does not matter.
    fn begin_bulk(&self) -> Result<super::volume::Changing<'_>, LiveError> {
        let changing = self.begin_unchecked();
        match self.shared.committer.failure() {
            _ if self.is_discarded() => Err(LiveError::NotFound),
            Some(failure) => Err(failure),
            None => Ok(changing),
        }
    }

    /// The directory that holds `path`, and its last name.
    fn parent_of(&self, path: &RelativePath) -> Result<(NodeId, NameKey), LiveError> {
        let mut components = path.components();
        let name = components.next_back().ok_or(LiveError::Invalid)?;
        let mut directory = self.root();
        for component in components {
            directory = self.lookup(directory, component.as_bytes())?.id;
        }
        Ok((directory, name_key(name.as_bytes())?))
    }

    fn put(
        &self,
        path: &RelativePath,
        node: Node,
        over_directory: bool,
    ) -> Result<Vec<Invalidation>, LiveError> {
        let (parent, key) = self.parent_of(path)?;
        self.put_in(parent.local(), &key, node, over_directory)
    }

    /// Puts a node under a name, instead of what is there.
    fn put_in(
        &self,
        directory: u64,
        key: &NameKey,
        mut node: Node,
        over_directory: bool,
    ) -> Result<Vec<Invalidation>, LiveError> {
        let mut state = self.lock();
        let state = &mut *state;
        let (doomed, was_directory) = match self.find(state, directory, key)? {
            Some(local) => {
                let was_directory = self.node(state, local)?.is_directory();
                if was_directory && !over_directory {
                    return Err(LiveError::IsADirectory);
                }
                (self.subtree(state, local)?, was_directory)
            }
            None => (Vec::new(), false),
        };
        self.prepare(state, directory)?;
        // A grafted subtree has its own run of numbers, so that those below it are found as in a base tree.
        let (below, block_tree) = match node.body {
            Body::Directory { base: Some(tree), totals } => (totals.nodes, Some(tree)),
            _ => (0, None),
        };
        let count = below.checked_add(1).ok_or(LiveError::TooLarge)?;
        self.reserve(state, count)?;
        let local = state.take_numbers(count);
        if let Some(tree) = block_tree {
            state.row.blocks.push(Block { first: local, nodes: below, tree: Some(tree) });
            state.pending.volume = true;
        }
        let now = clock::now();
        let invalidations = self.changed_name(state, directory, key, &doomed);
        self.drop_all(state, &doomed, now);
        node.home = Some(Home { directory, key: key.clone() });
        node.changed = now;
        if let Body::Upper(upper) = &node.body {
            // In the same commit as its row, or a crash could leave the name with an empty file.
            state.pending.flush.insert(upper.number);
            state.unsynced.note(upper.number, true);
        }
        let more = i32::from(node.is_directory()) - i32::from(was_directory);
        state.insert_node(local, node);
        state.touch(local);
        count_directories(state, directory, more);
        stamp(state, directory, now);
        Ok(invalidations)
    }

    /// What the kernel must forget when a name of `directory` changes and these nodes go.
    fn changed_name(
        &self,
        state: &State,
        directory: u64,
        key: &NameKey,
        doomed: &[u64],
    ) -> Vec<Invalidation> {
        let parent = self.id(directory);
        let mut invalidations =
            vec![Invalidation::Entry { parent, name: key.name.clone() }, Invalidation::Node(parent)];
        // What has other names goes on to be seen, with another count of them.
        let linked =
            |local: &&u64| state.nodes.get(local).is_some_and(|node| node.names > 1 && !node.is_directory());
        invalidations.extend(doomed.iter().filter(linked).map(|local| Invalidation::Node(self.id(*local))));
        invalidations
    }

    /// Takes one name from each of the loaded nodes.
    fn drop_all(&self, state: &mut State, doomed: &[u64], now: Timestamp) {
        for local in doomed {
            if state.nodes.get(local).is_some_and(|node| node.names > 0) {
                drop_name(state, *local, now);
            }
            // The kernel will not tell about what it never knew.
            if state.nodes.get(local).is_some_and(|node| node.names == 0 && !node.open.is_open()) {
                self.free(state, *local);
            }
        }
    }

    /// The node `top` and what is below it, as far as it is in memory or in rows; a hard-linked node once for each
    /// name. All of it is loaded. The rest is in base trees only, and goes with the names above it.
    fn subtree(&self, state: &mut State, top: u64) -> Result<Vec<u64>, LiveError> {
        let mut found = vec![top];
        let mut seen = HashSet::from([top]);
        let mut todo = vec![top];
        while let Some(local) = todo.pop() {
            let Body::Directory { base, totals } = self.node(state, local)?.body else { continue };
            let mut below = self.numbered_below(state, local, totals.nodes)?;
            let slots = self.slots(state, local)?;
            below.extend(slots.values().filter_map(|slot| match slot {
                Slot::Node(child) => Some(*child),
                Slot::Whiteout => None,
            }));
            if totals.hard_links > 0 {
                below.extend(self.links_of_base(state, local, base)?);
            }
            for child in below {
                let node = self.node(state, child)?;
                if node.link.is_some() {
                    found.push(child);
                } else if seen.insert(child) {
                    found.push(child);
                    todo.push(child);
                }
            }
        }
        Ok(found)
    }

    /// The nodes numbered as part of the base tree of `directory` that are in memory or have slots, and are still
    /// below it.
    fn numbered_below(&self, state: &mut State, directory: u64, nodes: u64) -> Result<Vec<u64>, LiveError> {
        let numbers = directory + 1..=directory.saturating_add(nodes);
        let mut found: HashSet<u64> = state.nodes.keys().copied().filter(|n| numbers.contains(n)).collect();
        found.extend(state.directories.keys().copied().filter(|number| numbers.contains(number)));
        if state.stored && nodes > 0 {
            self.shared.engine.scan_keys(
                rows::ENTRIES,
                &rows::node_key(self.number, *numbers.start()),
                &rows::node_key(self.number, numbers.end().saturating_add(1)),
                |key| found.extend(rows::number_at(key, 4)),
            )?;
        }
        let mut below = Vec::new();
        for number in found {
            if self.is_below(state, number, directory)? {
                below.push(number);
            }
        }
        Ok(below)
    }

    /// Whether a node with one name is somewhere below a directory.
    fn is_below(&self, state: &mut State, local: u64, directory: u64) -> Result<bool, LiveError> {
        let mut at = local;
        loop {
            let home = match self.node(state, at) {
                Ok(node) => node.home.clone(),
                Err(LiveError::NotFound) => return Ok(false),
                Err(error) => return Err(error),
            };
            match home {
                Some(home) if home.directory == directory => return Ok(true),
                Some(home) => at = home.directory,
                None => return Ok(false),
            }
        }
    }

    /// The unmodified names of hard-linked nodes in a directory, and the unmodified directories that have some below.
    fn links_of_base(
        &self,
        state: &mut State,
        directory: u64,
        tree: Option<TreeId>,
    ) -> Result<Vec<u64>, LiveError> {
        let mut found = Vec::new();
        self.each_entry(tree, &mut |located| {
            let linked = match &located.entry.node {
                trees::Node::HardLink(_) => true,
                trees::Node::Directory { totals, .. } => totals.hard_links > 0,
                _ => false,
            };
            if linked && !self.slots(state, directory)?.contains_key(&located.key) {
                found.push(super::load::number_below(directory, &located));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// A tree with every hard link replaced by the file itself.
    fn without_links(
        &self,
        tree: Option<TreeId>,
        links: Option<TreeId>,
    ) -> Result<(Option<TreeId>, Totals), LiveError> {
        let mut changes = Vec::new();
        self.each_entry(tree, &mut |mut located| {
            match &mut located.entry.node {
                trees::Node::HardLink(_) => {
                    let file = self.shared.trees.resolve_link(links, located.entry)?;
                    changes.push((located.key, Some(file)));
                }
                trees::Node::Directory { tree, totals } if totals.hard_links > 0 => {
                    (*tree, *totals) = self.without_links(*tree, links)?;
                    changes.push((located.key, Some(located.entry)));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(self.shared.trees.update(tree, &changes)?)
    }

    fn each_entry(
        &self,
        tree: Option<TreeId>,
        each: &mut dyn FnMut(trees::Located) -> Result<(), LiveError>,
    ) -> Result<(), LiveError> {
        let mut after = 0;
        loop {
            let page = self.shared.trees.list(tree, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.key.cookie;
            page.into_iter().try_for_each(&mut *each)?;
        }
    }
}
