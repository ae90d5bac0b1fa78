//! Collecting: from dirty marks to a plan. The gate is held, so nothing changes but what the kernel writes past this
//! program; the state is unlocked now and then for the sake of readers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::plan::{OpenSource, Plan, Planned, PlannedContent};
use crate::base::Timestamp;
use crate::live::copies::UNTOUCHED;
use crate::live::load::number_below;
use crate::live::node::{Body, Home, Node, ROOT};
use crate::live::rows::{self, Slot};
use crate::live::state::{Dirty, State};
use crate::live::upper::{self, facts};
use crate::live::{LiveError, Volume};
use crate::trees::{self, Entry, NameKey};

/// How many marks are looked at before others get the lock.
const MARKS_AT_ONCE: usize = 64;
/// How often it is tried to copy a file that is being written past this program, before it is called unstable.
const ATTEMPTS_MAX: usize = 5;
/// A file written longer ago than this shows any later write in its times, however coarse the system's clock for
/// them is (10 ms at most).
const TIMES_SETTLE: Duration = Duration::from_millis(25);

/// The work under way.
struct Collector<'a> {
    volume: &'a Volume,
    plan: &'a mut Plan,
    /// The node's content in the plan.
    contents: HashMap<u64, usize>,
    /// How deep each directory is; `None` for one that was removed.
    depths: HashMap<u64, Option<usize>>,
}

impl Volume {
    /// Fills `plan`. What is sealed is in the plan even when this fails.
    pub(super) fn collect(&self, plan: &mut Plan) -> Result<(), LiveError> {
        let mut state = self.state.lock();
        let dirty = self.dirty(&state)?;
        plan.start = Some(state.frozen().unwrap_or(&self.base).clone());
        if dirty.is_empty() {
            return Ok(());
        }
        plan.epoch = Some(state.row.epoch);
        plan.next_link = state.row.next_link;
        state.row.epoch += 1;
        state.pending.volume = true;
        let mut collector =
            Collector { volume: self, plan, contents: HashMap::new(), depths: HashMap::new() };
        collector.marks(&mut state, &dirty)?;
        collector.plan.root_attributes = self.node(&mut state, ROOT)?.tree_attributes();
        drop(state);
        self.copy_open_files(plan)
    }

    /// All marks, with the node for a hard link.
    fn dirty(&self, state: &State) -> Result<BTreeMap<Dirty, u64>, LiveError> {
        let mut found = BTreeMap::new();
        if state.stored {
            let prefix = rows::volume_key(self.number);
            let at = prefix.len();
            self.shared.engine.scan(rows::DIRTY, &prefix, |key, value| {
                if let (Some(epoch), Some(directory), Some(key)) =
                    (rows::number_at(key, at), rows::number_at(key, at + 8), rows::name_at(key, at + 16))
                {
                    found.insert(Dirty { epoch, directory, key }, rows::decode(value)?);
                }
                Ok(())
            })?;
        }
        for batch in [&state.committing, &state.pending] {
            found.extend(batch.dirty.iter().map(|(dirty, node)| (dirty.clone(), *node)));
        }
        Ok(found)
    }

    /// Copies the files that are open for writing.
    fn copy_open_files(&self, plan: &mut Plan) -> Result<(), LiveError> {
        for content in &mut plan.contents {
            let Some(open) = &content.open else { continue };
            let (modified, stable) = self.copy_open_file(content.number, open)?;
            // A copy that nobody wrote to (see `copies`) has its time in the node.
            content.modified = (modified != UNTOUCHED).then_some(modified);
            if !stable {
                plan.unstable.push(open.path.clone());
            }
            content.size = facts(&self.shared.uppers.open_file(self.number, content.number)?)?.size;
        }
        Ok(())
    }

    /// Copies one; its time, and whether the copy is one state of the file.
    fn copy_open_file(&self, number: u64, open: &OpenSource) -> Result<(Timestamp, bool), LiveError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let before = facts(&open.file)?;
            let last = attempts == ATTEMPTS_MAX || !open.past_program;
            // A write in the same tick of the clock as one before would not show in the times.
            let quiet = Timestamp::now().seconds_since(before.changed) > TIMES_SETTLE.as_secs_f64();
            if quiet || last {
                upper::copy(&open.file, &self.shared.uppers.create(self.number, number)?)?;
                let stable = !open.past_program || quiet && facts(&open.file)? == before;
                if stable || last {
                    return Ok((before.modified, stable));
                }
                self.shared.uppers.remove(self.number, number);
            }
            std::thread::sleep(TIMES_SETTLE);
        }
    }
}

impl Collector<'_> {
    fn marks(
        &mut self,
        state: &mut MutexGuard<'_, State>,
        dirty: &BTreeMap<Dirty, u64>,
    ) -> Result<(), LiveError> {
        // The same name may be marked in several epochs, when a freeze did not finish.
        let mut names = BTreeSet::new();
        for (mark, node) in dirty {
            if mark.directory == Dirty::LINK {
                let planned = match *node {
                    0 => None,
                    local => self.linked(state, local)?,
                };
                self.plan.links.insert(mark.key.cookie, planned);
            } else if !mark.is_root() {
                names.insert((mark.directory, &mark.key));
            }
        }
        self.directory(state, ROOT)?;
        for (count, (directory, key)) in names.into_iter().enumerate() {
            if count % MARKS_AT_ONCE == 0 {
                MutexGuard::bump(state);
                state.trim_default();
            }
            if self.directory(state, directory)?.is_some() {
                let planned = self.name(state, directory, key)?;
                let changes = &mut self.plan.directories.entry(directory).or_default().changes;
                changes.insert(key.clone(), planned);
            }
        }
        Ok(())
    }

    /// Puts a directory and those above it into the plan; its depth, or `None` when it was removed.
    fn directory(&mut self, state: &mut State, local: u64) -> Result<Option<usize>, LiveError> {
        if let Some(depth) = self.depths.get(&local) {
            return Ok(*depth);
        }
        let node = match self.volume.node(state, local) {
            Ok(node) if node.names > 0 => node,
            Ok(_) | Err(LiveError::NotFound) => {
                self.depths.insert(local, None);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Body::Directory { base, totals } = node.body else { return Ok(None) };
        let (home, attributes) = (node.home.clone(), node.tree_attributes());
        let depth = match home {
            None => Some(0),
            Some(Home { directory, key }) => {
                let above = self.directory(state, directory)?;
                if above.is_some() {
                    let planned = Planned::Directory { local, attributes };
                    let changes = &mut self.plan.directories.entry(directory).or_default().changes;
                    changes.insert(key, Some(planned));
                }
                above.map(|above| above + 1)
            }
        };
        self.depths.insert(local, depth);
        if let Some(depth) = depth {
            self.plan.directories.entry(local).or_default().depth = depth;
            self.plan.bases.insert(local, (base, totals));
        }
        Ok(depth)
    }

    /// What a marked name stands for now.
    fn name(
        &mut self,
        state: &mut State,
        directory: u64,
        key: &NameKey,
    ) -> Result<Option<Planned>, LiveError> {
        match self.volume.slots(state, directory)?.get(key) {
            Some(Slot::Whiteout) => Ok(None),
            Some(Slot::Node(local)) => {
                let local = *local;
                self.node(state, local)
            }
            None => {
                let tree = self.volume.tree_of(state, directory)?;
                let Some(located) = self.volume.shared.trees.lookup(tree, key)? else { return Ok(None) };
                match located.entry.node {
                    trees::Node::Directory { .. } => self.node(state, number_below(directory, &located)),
                    _ => Ok(Some(Planned::Entry(located.entry))),
                }
            }
        }
    }

    /// A node under one of its names.
    fn node(&mut self, state: &mut State, local: u64) -> Result<Option<Planned>, LiveError> {
        let node = self.volume.node(state, local)?;
        match (node.link, &node.body) {
            (Some(link), _) => {
                let entry =
                    Entry { attributes: trees::Attributes::default(), node: trees::Node::HardLink(link) };
                Ok(Some(Planned::Entry(entry)))
            }
            (None, Body::Directory { base, totals }) => {
                self.plan.bases.insert(local, (*base, *totals));
                Ok(Some(Planned::Directory { local, attributes: node.tree_attributes() }))
            }
            (None, _) => self.itself(state, local),
        }
    }

    /// A hard-linked node, for the tree of links.
    fn linked(&mut self, state: &mut State, local: u64) -> Result<Option<Planned>, LiveError> {
        match self.volume.node(state, local) {
            Ok(node) if node.names > 0 => self.itself(state, local),
            Ok(_) | Err(LiveError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A node that is not a directory, whatever its names.
    fn itself(&mut self, state: &mut State, local: u64) -> Result<Option<Planned>, LiveError> {
        let node = self.volume.node(state, local)?;
        let attributes = node.tree_attributes();
        let tree_node = match &node.body {
            Body::Stored(content) => trees::Node::File(*content),
            Body::Symlink(target) => trees::Node::Symlink { target: target.clone() },
            Body::Fifo => trees::Node::Fifo,
            // A socket means nothing without the process behind it, nor a device without the machine.
            Body::Socket | Body::CharacterDevice(_) | Body::BlockDevice(_) | Body::Directory { .. } => {
                return Ok(None);
            }
            Body::Upper(upper) => match upper.stored {
                Some(content) => trees::Node::File(content),
                None => return self.upper(state, local).map(Some),
            },
        };
        Ok(Some(Planned::Entry(Entry { attributes, node: tree_node })))
    }

    /// A file whose content is in an upper file.
    fn upper(&mut self, state: &mut State, local: u64) -> Result<Planned, LiveError> {
        let writing = self.volume.node(state, local)?.open.writers > 0;
        let content = match self.contents.get(&local) {
            Some(content) => *content,
            None => {
                let content = if writing { self.writing(state, local)? } else { self.seal(state, local)? };
                self.plan.contents.push(content);
                self.contents.insert(local, self.plan.contents.len() - 1);
                self.plan.contents.len() - 1
            }
        };
        let node = self.volume.node(state, local)?;
        Ok(Planned::File { attributes: node.tree_attributes(), content })
    }

    /// A file that nobody writes: from now on nobody can.
    fn seal(&mut self, state: &mut State, local: u64) -> Result<PlannedContent, LiveError> {
        let Node { body: Body::Upper(upper), .. } = self.volume.node(state, local)? else {
            return Err(LiveError::Invalid);
        };
        upper.sealed = true;
        let (number, size) = (upper.number, upper.size);
        state.held.insert(number);
        Ok(PlannedContent { local, number, size, open: None, modified: None, stored: None })
    }

    /// A file that is open for writing: it will be copied, and the next freeze must look at it again.
    fn writing(&mut self, state: &mut State, local: u64) -> Result<PlannedContent, LiveError> {
        self.volume.prepare(state, local)?;
        self.volume.reserve(state, 1)?;
        let number = state.take_number();
        let path = self.path(state, local)?;
        let node = self.volume.node(state, local)?;
        let file = self.volume.shared_file(node)?;
        let past_program = node.open.backing > 0;
        state.touch(local);
        let open = Some(OpenSource { file: Arc::clone(&file), past_program, path });
        Ok(PlannedContent { local, number, size: 0, open, modified: None, stored: None })
    }

    /// A path of a node from the root. Of a hard-linked one nobody knows a path; its number says which it is.
    fn path(&self, state: &mut State, local: u64) -> Result<PathBuf, LiveError> {
        let mut names = Vec::new();
        let mut at = local;
        while let Some(home) = self.volume.node(state, at)?.home.clone() {
            names.push(home.key.name);
            at = home.directory;
        }
        if names.is_empty() {
            return Ok(PathBuf::from(format!("node {local}")));
        }
        Ok(names.iter().rev().map(|name| OsStr::from_bytes(name)).collect())
    }
}
