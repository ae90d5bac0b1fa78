//! Storing: contents first, then directories from the deepest up, each rebuilt from its tree in the newest frozen
//! state. Nothing here holds a lock for longer than a moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::FrozenTree;
use super::plan::{Plan, Planned, PlannedContent};
use crate::live::load::link_key;
use crate::live::node::ROOT;
use crate::live::rows;
use crate::live::{LiveError, Volume};
use crate::objects::FileContent;
use crate::trees::{Attributes, Change, Entry, Node, Root, Totals, TreeId};

/// Files are hashed and compressed by this many threads at most: the store's lock is then the limit.
const THREADS_MAX: usize = 8;
/// Below this many files, starting threads costs more than it gains.
const PARALLEL_FILES_MIN: usize = 16;

/// A directory's tree and what is below it.
pub(super) type Built = (Option<TreeId>, Totals);

impl Volume {
    /// Carries out the plan.
    pub(super) fn store(&self, plan: &mut Plan) -> Result<FrozenTree, LiveError> {
        let start = plan.start.take().ok_or(LiveError::Invalid)?;
        if plan.epoch.is_none() {
            return Ok(FrozenTree { root: start, unstable: Vec::new() });
        }
        self.store_contents(&mut plan.contents)?;
        let built = self.build_directories(plan)?;
        let links = self.build_links(plan, &start)?;
        let (tree, totals) = built.get(&ROOT).copied().unwrap_or((start.tree, start.totals));
        let attributes = plan.root_attributes.clone();
        let root = Root { attributes, tree, totals, links, next_link: plan.next_link };
        // Nothing may refer to these objects before they are durable.
        self.shared.trees.objects.flush()?;
        self.settle(plan, &built, &root);
        Ok(FrozenTree { root, unstable: std::mem::take(&mut plan.unstable) })
    }

    pub(super) fn store_contents(&self, contents: &mut [PlannedContent]) -> Result<(), LiveError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(contents.len()));
        let work = || -> Result<(), LiveError> {
            while let Some((at, content)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                contents.get(at).map(|content| (at, content))
            } {
                let stored = self.store_content(content)?;
                results.lock().push((at, stored));
            }
            Ok(())
        };
        if contents.len() < PARALLEL_FILES_MIN || threads == 1 {
            work()?;
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
            })?;
        }
        for (at, stored) in results.into_inner() {
            contents[at].stored = Some(stored);
        }
        Ok(())
    }

    fn store_content(&self, content: &PlannedContent) -> Result<FileContent, LiveError> {
        let mut file = self.shared.uppers.open_file(self.number, content.number)?;
        let stored = self.shared.trees.objects.put_file(&mut file, content.size)?;
        self.content_stored(content, stored);
        Ok(stored)
    }

    /// The new tree of each directory of the plan.
    fn build_directories(&self, plan: &Plan) -> Result<HashMap<u64, Built>, LiveError> {
        let mut order: Vec<_> = plan.directories.iter().collect();
        order.sort_by_key(|(_, directory)| std::cmp::Reverse(directory.depth));
        let mut built = HashMap::with_capacity(order.len());
        for (local, directory) in order {
            let changes = self.changes(plan, &directory.changes, &built)?;
            let (tree, _) = self.built_before(plan, *local)?;
            built.insert(*local, self.shared.trees.update(tree, &changes)?);
        }
        Ok(built)
    }

    fn build_links(&self, plan: &Plan, start: &Root) -> Result<Option<TreeId>, LiveError> {
        let nothing = HashMap::new();
        let mut changes = Vec::with_capacity(plan.links.len());
        for (link, planned) in &plan.links {
            let entry = planned.as_ref().map(|planned| self.entry(plan, planned, &nothing)).transpose()?;
            changes.push((link_key(*link), entry));
        }
        changes.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(self.shared.trees.update(start.links, &changes)?.0)
    }

    fn changes(
        &self,
        plan: &Plan,
        planned: &BTreeMap<crate::trees::NameKey, Option<Planned>>,
        built: &HashMap<u64, Built>,
    ) -> Result<Vec<Change>, LiveError> {
        let change = |(key, planned): (&crate::trees::NameKey, &Option<Planned>)| {
            let entry = planned.as_ref().map(|planned| self.entry(plan, planned, built)).transpose()?;
            Ok((key.clone(), entry))
        };
        planned.iter().map(change).collect()
    }

    fn entry(&self, plan: &Plan, planned: &Planned, built: &HashMap<u64, Built>) -> Result<Entry, LiveError> {
        match planned {
            Planned::Entry(entry) => Ok(entry.clone()),
            Planned::File { attributes, content } => {
                let content = &plan.contents[*content];
                let stored = content.stored.ok_or(LiveError::Invalid)?;
                let mtime = content.modified.unwrap_or(attributes.mtime);
                Ok(Entry { attributes: Attributes { mtime, ..attributes.clone() }, node: Node::File(stored) })
            }
            Planned::Directory { local, attributes } => {
                let (tree, totals) = match built.get(local) {
                    Some(built) => *built,
                    None => self.built_before(plan, *local)?,
                };
                Ok(Entry { attributes: attributes.clone(), node: Node::Directory { tree, totals } })
            }
        }
    }

    /// A directory's tree in the newest frozen state, or the one it was made with.
    fn built_before(&self, plan: &Plan, local: u64) -> Result<Built, LiveError> {
        match self.shared.engine.get(rows::FROZEN, &rows::node_key(self.number, local))? {
            Some(built) => Ok(built),
            None => Ok(plan.bases.get(&local).copied().unwrap_or_default()),
        }
    }
}
