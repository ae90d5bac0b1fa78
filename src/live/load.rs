//! From a number to a node: the cache, the row, the base tree.
//!
//! The rule everything rests on: a child without a slot in its directory is an unmodified node of the base tree,
//! unless it is hard-linked (then its row, if any, counts). So every modified node with one name has a slot.

use std::collections::HashMap;

use super::node::{Body, Home, LINKS, MADE, Node, ROOT};
use super::rows::{self, Slot};
use super::state::{Slots, State};
use super::{LiveError, Volume};
use crate::trees::{self, Entry, Located, NameKey, TreeId};

/// How many entries are read at once where all are wanted.
const PAGE: usize = 512;

impl Volume {
    /// The node with this number; it stays in memory until the state is unlocked, at least.
    pub(super) fn node<'s>(&self, state: &'s mut State, local: u64) -> Result<&'s mut Node, LiveError> {
        if !state.nodes.contains_key(&local) {
            let node = self.load(state, local)?;
            state.insert_node(local, node);
        }
        let node = state.nodes.get_mut(&local).expect("it is there or was just inserted");
        node.recent = true;
        Ok(node)
    }

    /// The node with this number, without keeping it.
    pub(super) fn load(&self, state: &mut State, local: u64) -> Result<Node, LiveError> {
        if state.is_uncommitted(local) {
            // Its row is about to be removed: it is gone.
            return Err(LiveError::NotFound);
        }
        if state.stored
            && let Some(mut node) =
                self.shared.engine.get::<Node>(rows::NODES, &rows::node_key(self.number, local))?
        {
            if let Body::Upper(upper) = &mut node.body {
                upper.blocks = self.shared.uppers.look(self.number, upper.number)?.map(|facts| facts.blocks);
            }
            return Ok(node);
        }
        match local {
            0 => Err(LiveError::NotFound),
            ROOT => {
                let directory = trees::Node::Directory { tree: self.base.tree, totals: self.base.totals };
                let attributes = self.base.attributes.clone();
                Node::of_entry(Entry { attributes, node: directory }, None)
            }
            MADE.. => {
                let block = state.block_of(local).ok_or(LiveError::NotFound)?;
                self.descend(state, block.first, block.tree, local)
            }
            LINKS.. => self.load_link(local - LINKS),
            _ => self.descend(state, ROOT, self.base.tree, local),
        }
    }

    /// The unmodified hard-linked node `link` of the base tree.
    fn load_link(&self, link: u64) -> Result<Node, LiveError> {
        let key = link_key(link);
        let located = self.shared.trees.lookup(self.base.links, &key)?.ok_or(LiveError::NotFound)?;
        let mut node = Node::of_entry(located.entry, None)?;
        node.link = Some(link);
        node.names = *self.base_links()?.get(&link).ok_or(LiveError::NotFound)?;
        Ok(node)
    }

    /// The unmodified node `local` below the directory `directory`, whose entries were `tree` when its nodes were
    /// numbered. A node that was removed since is not found.
    fn descend(
        &self,
        state: &mut State,
        mut directory: u64,
        mut tree: Option<TreeId>,
        local: u64,
    ) -> Result<Node, LiveError> {
        loop {
            let position = local.checked_sub(directory + 1).ok_or(LiveError::NotFound)?;
            let located = self.shared.trees.at_position(tree, position)?.ok_or(LiveError::NotFound)?;
            let number = number_below(directory, &located);
            if !self.is_in_place(state, directory, &located.key, number)? {
                return Err(LiveError::NotFound);
            }
            if number == local {
                return Node::of_entry(located.entry, Some(Home { directory, key: located.key }));
            }
            let trees::Node::Directory { tree: below, .. } = located.entry.node else {
                return Err(LiveError::NotFound);
            };
            (directory, tree) = (number, below);
        }
    }

    /// Whether the node `number` of the base tree, numbered as `key` of `directory`, still exists somewhere.
    fn is_in_place(
        &self,
        state: &mut State,
        directory: u64,
        key: &NameKey,
        number: u64,
    ) -> Result<bool, LiveError> {
        if let Some(node) = state.nodes.get(&number) {
            return Ok(node.names > 0);
        }
        Ok(match self.slots(state, directory)?.get(key) {
            None => true,
            Some(Slot::Node(node)) if *node == number => true,
            // Something else is there now: it was moved, and then it has a row, or it is gone.
            Some(_) => {
                !state.is_uncommitted(number)
                    && self.shared.engine.contains(rows::NODES, &rows::node_key(self.number, number))?
            }
        })
    }

    /// The slots of a directory.
    pub(super) fn slots<'s>(&self, state: &'s mut State, directory: u64) -> Result<&'s Slots, LiveError> {
        if !state.directories.contains_key(&directory) {
            let mut slots = Slots::new();
            if state.stored {
                let prefix = rows::node_key(self.number, directory);
                self.shared.engine.scan(rows::ENTRIES, &prefix, |key, value| {
                    let name = rows::entry_name(key, prefix.len())?;
                    slots.insert(name, rows::decode(value)?);
                    Ok(())
                })?;
            }
            state.insert_slots(directory, slots);
        }
        Ok(state.directories.get(&directory).expect("it is there or was just inserted"))
    }

    /// The base tree of a directory that still has a name.
    pub(super) fn tree_of(&self, state: &mut State, directory: u64) -> Result<Option<TreeId>, LiveError> {
        let node = self.node(state, directory)?;
        match node.body {
            Body::Directory { .. } if node.names == 0 => Err(LiveError::NotFound),
            Body::Directory { base, .. } => Ok(base),
            _ => Err(LiveError::NotADirectory),
        }
    }

    /// The node under a name, loaded; `None` where there is none.
    pub(super) fn find(
        &self,
        state: &mut State,
        directory: u64,
        key: &NameKey,
    ) -> Result<Option<u64>, LiveError> {
        let tree = self.tree_of(state, directory)?;
        let local = match self.slots(state, directory)?.get(key) {
            Some(Slot::Node(local)) => *local,
            Some(Slot::Whiteout) => return Ok(None),
            None => match self.shared.trees.lookup(tree, key)? {
                Some(located) => self.remember(state, directory, located)?,
                None => return Ok(None),
            },
        };
        self.node(state, local)?;
        Ok(Some(local))
    }

    /// Puts an unmodified entry of a base tree into the cache; returns its number.
    pub(super) fn remember(
        &self,
        state: &mut State,
        directory: u64,
        located: Located,
    ) -> Result<u64, LiveError> {
        let local = number_below(directory, &located);
        let linked = matches!(located.entry.node, trees::Node::HardLink(_));
        if !linked && !state.nodes.contains_key(&local) {
            let node = Node::of_entry(located.entry, Some(Home { directory, key: located.key }))?;
            state.insert_node(local, node);
        }
        Ok(local)
    }

    /// Loads what [`State::touch`] needs, so that it cannot fail.
    pub(super) fn prepare(&self, state: &mut State, local: u64) -> Result<(), LiveError> {
        if let Some(home) = self.node(state, local)?.home.clone() {
            self.slots(state, home.directory)?;
        }
        Ok(())
    }

    /// The slot a removed name leaves behind: none where the base tree does not have the name.
    pub(super) fn vacancy(
        &self,
        state: &mut State,
        directory: u64,
        key: &NameKey,
    ) -> Result<Option<Slot>, LiveError> {
        let tree = self.tree_of(state, directory)?;
        Ok(self.shared.trees.lookup(tree, key)?.map(|_| Slot::Whiteout))
    }

    /// How many names each hard-linked node of the base tree has. Trees do not keep that, but say where hard links
    /// are, so that only directories with some below them are walked, once.
    fn base_links(&self) -> Result<&HashMap<u64, u32>, LiveError> {
        if let Some(links) = self.base_links.get() {
            return Ok(links);
        }
        let mut links = HashMap::new();
        let mut todo = vec![self.base.tree];
        while let Some(tree) = todo.pop() {
            let mut after = 0;
            loop {
                let page = self.shared.trees.list(tree, after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = last.key.cookie;
                for located in page {
                    match located.entry.node {
                        trees::Node::HardLink(link) => *links.entry(link).or_insert(0) += 1,
                        trees::Node::Directory { tree, totals } if totals.hard_links > 0 => todo.push(tree),
                        _ => {}
                    }
                }
            }
        }
        Ok(self.base_links.get_or_init(|| links))
    }
}

/// The number of an entry of the directory with the number `directory`.
pub(super) fn number_below(directory: u64, located: &Located) -> u64 {
    match located.entry.node {
        trees::Node::HardLink(link) => LINKS.saturating_add(link),
        _ => directory.saturating_add(1).saturating_add(located.preceding),
    }
}

/// The name of a hard-linked node in the tree of links.
pub(super) fn link_key(link: u64) -> NameKey {
    NameKey::new(&link.to_be_bytes())
}
