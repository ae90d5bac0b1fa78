//! Drives a volume and the reference side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;

use super::model::{Id, Kind, Model, ModelNode, ROOT};
use super::*;
use crate::base::{RelativePath, Timestamp};
use crate::trees::{self, Entry, NameKey, TreeId};

/// What can be seen of a volume: a node with its entries and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    kind: FileKind,
    mode: u32,
    uid: u32,
    names: u32,
    modified: Option<Timestamp>,
    entries: BTreeMap<String, NodeId>,
    content: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

struct OpenFile {
    id: Id,
    handle: Handle,
    write: bool,
    backing: Option<Arc<std::fs::File>>,
}

pub(super) struct Driver {
    store: Store,
    volume: Option<Arc<Volume>>,
    number: u32,
    base: Root,
    pub(super) model: Model,
    ids: BTreeMap<Id, NodeId>,
    handles: Vec<OpenFile>,
    /// The states since the last one that is known to be durable, the newest last.
    history: Vec<Model>,
    /// The newest frozen state, and what it was.
    frozen: Option<(Root, Model)>,
}

impl Driver {
    pub(super) fn new() -> Driver {
        let store = Store::new();
        let volume = store.attach(1, &empty_root());
        let ids = BTreeMap::from([(ROOT, volume.root())]);
        let model = Model::new();
        let history = vec![model.clone()];
        Driver {
            store,
            volume: Some(volume),
            number: 1,
            base: empty_root(),
            model,
            ids,
            handles: Vec::new(),
            history,
            frozen: None,
        }
    }

    pub(super) fn volume(&self) -> Arc<Volume> {
        Arc::clone(self.volume.as_ref().unwrap())
    }

    pub(super) fn node(&self, id: Id) -> NodeId {
        self.ids[&id]
    }

    pub(super) fn learn(&mut self, id: Id, node: NodeId) {
        if let Some(known) = self.ids.insert(id, node) {
            assert_eq!(known, node, "a number is for life");
        }
    }

    /// Both must answer the same; true when it was done.
    pub(super) fn same<T, U>(&mut self, real: Result<T, LiveError>, expected: Result<U, LiveError>) -> bool {
        match (&real, &expected) {
            (Ok(_), Ok(_)) => {}
            (Err(real), Err(expected)) => {
                assert_eq!(
                    std::mem::discriminant(real),
                    std::mem::discriminant(expected),
                    "{real:?}, expected {expected:?}"
                );
            }
            (Ok(_), Err(expected)) => panic!("done, expected {expected:?}"),
            (Err(real), Ok(_)) => panic!("{real:?}, expected it to be done"),
        }
        real.is_ok()
    }

    /// After every operation.
    pub(super) fn step(&mut self) {
        self.model.sweep(&self.open_nodes());
        self.history.push(self.model.clone());
    }

    fn open_nodes(&self) -> BTreeSet<Id> {
        self.handles.iter().map(|open| open.id).collect()
    }

    pub(super) fn open(&mut self, id: Id, write: bool, past_program: bool) {
        let mode = OpenMode { write, ..READ };
        let opened = self.volume().open(self.node(id), mode, past_program);
        let file = self.model.nodes[&id].content().is_some();
        let expected = match self.model.nodes[&id].is_directory() {
            true => Err(LiveError::IsADirectory),
            false if !file => Err(LiveError::Invalid),
            false => Ok(()),
        };
        let Ok(opened) = opened else {
            self.same(opened, expected);
            return;
        };
        expected.unwrap();
        let backing = match opened.served {
            Served::Backing(file) => Some(file),
            Served::Program => None,
        };
        let manners = self.handles.iter().filter(|open| open.id == id);
        for other in manners {
            match (&other.backing, &backing) {
                (Some(other), Some(this)) => assert!(Arc::ptr_eq(other, this)),
                (None, None) => {}
                _ => panic!("two manners at one time"),
            }
        }
        self.handles.push(OpenFile { id, handle: opened.handle, write, backing });
    }

    /// Writes through a handle, reads it back through all handles of the node.
    pub(super) fn write_handle(&mut self, at: usize, offset: usize, data: &[u8], append: bool) {
        let Some(open) = self.handles.get(at % self.handles.len().max(1)) else { return };
        let (id, handle, size) = (open.id, open.handle, self.model.nodes[&open.id].content().unwrap().len());
        if !open.write {
            assert!(matches!(self.volume().write(handle, 0, data), Err(LiveError::BadHandle)));
            return;
        }
        let offset = if append { size } else { offset };
        match &open.backing {
            Some(file) => file.write_all_at(data, offset as u64).unwrap(),
            None => assert_eq!(self.volume().write(handle, offset as u64, data).unwrap(), data.len()),
        }
        self.model.write(id, offset, data);
        self.read_handles(id);
    }

    fn read_handles(&self, id: Id) {
        let expected = self.model.nodes[&id].content().unwrap();
        for open in self.handles.iter().filter(|open| open.id == id) {
            let mut bytes = vec![0; expected.len() + 1];
            let count = match &open.backing {
                Some(file) => file.read_at(&mut bytes, 0).unwrap(),
                None => self.volume().read(open.handle, 0, &mut bytes).unwrap(),
            };
            assert_eq!(&bytes[..count], &expected[..]);
        }
        assert_eq!(self.volume().attributes(self.node(id)).unwrap().size, expected.len() as u64);
    }

    pub(super) fn release(&mut self, at: usize) {
        if !self.handles.is_empty() {
            let open = self.handles.remove(at % self.handles.len());
            self.volume().release(open.handle).unwrap();
        }
    }

    pub(super) fn sync(&mut self, at: usize) {
        match self.handles.get(at % self.handles.len().max(1)) {
            Some(open) => self.volume().sync(open.handle, at.is_multiple_of(2)).unwrap(),
            None => self.volume().sync_volume().unwrap(),
        }
        // A sync makes everything durable but for times of files that are being written, which are not compared.
        self.history = vec![self.model.clone()];
    }

    pub(super) fn reopen(&mut self) {
        self.handles.clear();
        self.volume = None;
        self.store.reopen();
        self.attach();
        self.history = vec![self.model.clone()];
        self.check();
    }

    fn attach(&mut self) {
        self.model.sweep(&BTreeSet::new());
        self.volume = Some(self.store.attach(self.number, &self.base));
    }

    pub(super) fn crash(&mut self) {
        self.handles.clear();
        self.volume = None;
        self.store.crash();
        self.volume = Some(self.store.attach(self.number, &self.base));
        let seen = self.observe();
        let found = (0..self.history.len()).rev().find(|at| self.is_state(&seen, *at));
        let Some(at) = found else { panic!("not a state that existed: {seen:#?}\n{:#?}", self.history) };
        self.model = self.history[at].clone();
        self.model.sweep(&BTreeSet::new());
        for (id, node) in &mut self.model.nodes {
            node.modified = None;
            if let Kind::File(content) = &mut node.kind {
                *content = seen[&self.ids[id]].content.clone();
            }
        }
        self.ids.retain(|id, _| self.model.nodes.contains_key(id));
        self.history = vec![self.model.clone()];
        self.check();
    }

    /// Whether what is seen is the state `at` of the history, but for contents, which may be later ones.
    fn is_state(&self, seen: &BTreeMap<NodeId, Seen>, at: usize) -> bool {
        let expected = self.expected(&self.history[at]);
        let later = |id: Id| {
            self.history[at..].iter().filter_map(move |model| model.nodes.get(&id)?.content().cloned())
        };
        let ids: BTreeMap<NodeId, Id> = self.ids.iter().map(|(id, node)| (*node, *id)).collect();
        expected.len() == seen.len()
            && expected.iter().zip(seen).all(|((node, expected), (other, seen))| {
                let names = |seen: &Seen| Seen { content: Vec::new(), modified: None, ..seen.clone() };
                node == other
                    && names(expected) == names(seen)
                    && (expected.content == seen.content
                        || later(ids[node]).any(|content| content == seen.content))
            })
    }

    /// What the model says should be seen.
    fn expected(&self, model: &Model) -> BTreeMap<NodeId, Seen> {
        let seen = |id: Id| {
            let node = &model.nodes[&id];
            let (entries, content) = match &node.kind {
                Kind::Directory(entries) => {
                    (entries.iter().map(|(name, id)| (name.clone(), self.ids[id])).collect(), Vec::new())
                }
                Kind::File(content) => (BTreeMap::new(), content.clone()),
                Kind::Symlink(target) => (BTreeMap::new(), target.clone().into_bytes()),
                Kind::Fifo => (BTreeMap::new(), Vec::new()),
            };
            let ModelNode { mode, uid, mut names, modified, xattrs, .. } = node.clone();
            let kind = node.file_kind();
            if let Kind::Directory(entries) = &node.kind {
                let directories = entries.values().filter(|id| model.nodes[id].is_directory()).count();
                names = 2 + u32::try_from(directories).unwrap();
            }
            (self.ids[&id], Seen { kind, mode, uid, names, modified, entries, content, xattrs })
        };
        model.reachable().into_iter().map(seen).collect()
    }

    /// What is seen by walking.
    fn observe(&self) -> BTreeMap<NodeId, Seen> {
        let volume = self.volume();
        let mut found = BTreeMap::new();
        let mut todo = vec![volume.root()];
        while let Some(id) = todo.pop() {
            let attributes = volume.attributes(id).unwrap();
            let mut seen = Seen {
                kind: attributes.kind,
                mode: attributes.mode,
                uid: attributes.uid,
                names: attributes.link_count,
                modified: Some(attributes.modified),
                entries: BTreeMap::new(),
                content: Vec::new(),
                xattrs: BTreeMap::new(),
            };
            for name in volume.xattr_names(id).unwrap() {
                let value = volume.xattr(id, &name).unwrap();
                seen.xattrs.insert(String::from_utf8(name.into()).unwrap(), value.into());
            }
            match attributes.kind {
                FileKind::Directory => {
                    for name in names(&volume, id, 1 + found.len() % 3) {
                        let child = volume.lookup(id, name.as_bytes()).unwrap();
                        todo.push(child.id);
                        assert!(seen.entries.insert(name, child.id).is_none(), "listed twice");
                    }
                }
                FileKind::File => seen.content = self.content_seen(id),
                FileKind::Symlink => seen.content = volume.read_link(id).unwrap().into(),
                _ => {}
            }
            found.insert(id, seen);
        }
        found
    }

    /// The content by a handle of its own, or by one that is open past the program.
    fn content_seen(&self, id: NodeId) -> Vec<u8> {
        let backing = self.handles.iter().find(|open| self.ids[&open.id] == id && open.backing.is_some());
        match backing.and_then(|open| open.backing.as_ref()) {
            Some(file) => {
                let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            }
            None => content(&self.volume(), id),
        }
    }

    pub(super) fn check(&self) {
        let mut seen = self.observe();
        let expected = self.expected(&self.model);
        for (id, seen) in &mut seen {
            if expected.get(id).is_some_and(|expected| expected.modified.is_none()) {
                seen.modified = None;
            }
        }
        assert_eq!(seen, expected);
    }

    pub(super) fn freeze(&mut self) -> Root {
        let frozen = self.volume().freeze().unwrap();
        assert_eq!(frozen.unstable, Vec::<PathBuf>::new());
        let mut links = BTreeMap::new();
        let totals = self.check_tree(&frozen.root, ROOT, frozen.root.tree, &mut links);
        assert_eq!(frozen.root.totals, totals);
        assert_eq!(frozen.root.attributes.mode, self.model.nodes[&ROOT].mode);
        if self.handles.is_empty() {
            assert_eq!(self.volume().freeze().unwrap(), frozen, "nothing changed");
        }
        self.check();
        self.frozen = Some((frozen.root.clone(), self.model.clone()));
        frozen.root
    }

    /// Compares a directory of a frozen tree with the model; what its sums should be.
    fn check_tree(&self, root: &Root, id: Id, tree: Option<TreeId>, links: &mut BTreeMap<u64, Id>) -> Totals {
        let entries = self.model.nodes[&id].entries();
        let located = self.store.trees.list(tree, 0, usize::MAX).unwrap();
        assert_eq!(located.len(), entries.len(), "{located:#?} {entries:?}");
        let mut totals = Totals::default();
        for (name, id) in entries {
            let found = self.store.trees.lookup(tree, &NameKey::new(name.as_bytes())).unwrap();
            let mut entry: Entry = found.expect("it has the name").entry;
            totals = totals.plus(Totals { nodes: 1, ..Default::default() });
            if let trees::Node::HardLink(link) = entry.node {
                assert_eq!(*links.entry(link).or_insert(*id), *id);
                totals.hard_links += 1;
                entry = self.store.trees.resolve_link(root.links, entry).unwrap();
            } else {
                assert_eq!(self.model.nodes[id].names, 1);
                totals.bytes += self.model.nodes[id].content().map_or(0, |content| content.len() as u64);
            }
            self.check_entry(*id, &entry);
            if let trees::Node::Directory { tree, totals: below } = entry.node {
                let expected = self.check_tree(root, *id, tree, links);
                assert_eq!(below, expected);
                totals = totals.plus(Totals { directories: Some(1), ..below });
            }
        }
        totals
    }

    fn check_entry(&self, id: Id, entry: &Entry) {
        let node = &self.model.nodes[&id];
        let Attributes { mode, uid, mtime, xattrs, .. } = &entry.attributes;
        assert_eq!((*mode, *uid), (node.mode, node.uid));
        assert!(node.modified.is_none_or(|modified| modified == *mtime));
        let expected = node.xattrs.iter().map(|(name, value)| (name.as_bytes().into(), value.clone().into()));
        assert_eq!(*xattrs, expected.collect());
        match (&entry.node, &node.kind) {
            (trees::Node::File(stored), Kind::File(expected)) => {
                let mut bytes = vec![0; stored.size() as usize];
                self.store.trees.objects.read_at(stored, 0, &mut bytes).unwrap();
                assert_eq!(bytes, *expected);
            }
            (trees::Node::Symlink { target }, Kind::Symlink(expected)) => {
                assert_eq!(**target, *expected.as_bytes());
            }
            (trees::Node::Directory { .. }, Kind::Directory(_)) | (trees::Node::Fifo, Kind::Fifo) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Goes on on a clone, and removes what was cloned.
    pub(super) fn clone_and_go_on(&mut self) {
        self.base = self.freeze();
        self.handles.clear();
        self.volume = None;
        let before = self.number;
        self.number += 1;
        self.attach();
        self.store.volumes().discard(VolumeNumber(before)).unwrap();
        let volume = self.volume();
        self.ids = BTreeMap::from([(ROOT, volume.root())]);
        for id in self.model.reachable() {
            let Kind::Directory(entries) = self.model.nodes[&id].kind.clone() else { continue };
            for (name, child) in entries {
                let found = volume.lookup(self.ids[&id], name.as_bytes()).unwrap();
                self.learn(child, found.id);
            }
        }
        self.history = vec![self.model.clone()];
        self.check();
    }

    /// Puts something of the newest frozen tree somewhere.
    pub(super) fn graft(&mut self, from: usize, directory: Id, name: &str) {
        let Some((root, model)) = self.frozen.clone() else { return };
        let all = model.reachable();
        let source = all[from % all.len()];
        if source == ROOT {
            return;
        }
        let entry = self.store.trees.entry_at(&root, &path_of(&model, source)).unwrap().unwrap();
        let path = self.path_below(directory, name);
        self.volume().replace_with_entry(&path, entry, root.links).unwrap();
        self.model.remove_all(directory, name);
        self.graft_model(&model, source, directory, name);
    }

    fn graft_model(&mut self, model: &Model, source: Id, directory: Id, name: &str) {
        let mut node = model.nodes[&source].clone();
        node.names = 1;
        let entries = match &mut node.kind {
            Kind::Directory(entries) => std::mem::take(entries),
            _ => BTreeMap::new(),
        };
        let modified = node.modified;
        let id = self.model.add(directory, name, node);
        let found = self.volume().lookup(self.ids[&directory], name.as_bytes()).unwrap();
        self.learn(id, found.id);
        for (name, child) in entries {
            self.graft_model(model, child, id, &name);
        }
        self.model.node(id).modified = modified;
    }

    pub(super) fn path_below(&self, directory: Id, name: &str) -> RelativePath {
        if directory == ROOT {
            return name.parse().unwrap();
        }
        format!("{}/{name}", path_of(&self.model, directory)).parse().unwrap()
    }
}

/// A path of a node.
fn path_of(model: &Model, id: Id) -> RelativePath {
    let mut names = Vec::new();
    let mut at = id;
    while at != ROOT {
        let holds = |node: &ModelNode| match &node.kind {
            Kind::Directory(entries) => {
                entries.iter().find(|(_, child)| **child == at).map(|(name, _)| name.clone())
            }
            _ => None,
        };
        let reachable = model.reachable();
        let mut above = reachable.iter().filter_map(|id| Some((*id, holds(&model.nodes[id])?)));
        let (parent, name) = above.next().expect("it has a name");
        names.push(name);
        at = parent;
    }
    names.reverse();
    names.join("/").parse().unwrap()
}
