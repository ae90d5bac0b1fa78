//! Which volumes can be reached by their numbers: those that were added, and those of snapshots when somebody looks.
//!
//! A snapshot's volume has no overlay and never changes, and the numbers of its nodes derive from its tree. So it is made
//! when an operation needs it, dropped after others were looked at unless something of it is open or being done, and
//! is the same when it is made again. What is kept of each of the others is the name of the snapshot.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::{LiveError, Volume, VolumeNumber, Volumes};
use crate::history::SnapshotId;

/// How many volumes of snapshots are kept beyond those with open files: some 10 KB each, and up to 10 MB for what was
/// looked at in it.
const BROWSED_MAX: usize = 32;

/// A volume that can be reached. A removed one can be reached as long as files in it are open.
pub(super) struct Attached {
    pub(super) volume: Arc<Volume>,
    open_count: AtomicUsize,
    removed: AtomicBool,
}

/// See the module.
pub(super) struct Attachments {
    volumes_of_store: Arc<Volumes>,
    places: RwLock<Places>,
}

#[derive(Default)]
struct Places {
    attached: HashMap<VolumeNumber, Arc<Attached>>,
    /// Those that can be looked at, whether their volumes are attached or not.
    snapshots: HashMap<VolumeNumber, SnapshotId>,
    /// Attached volumes of snapshots, and some that were removed since; the next to be dropped first.
    browsed: VecDeque<VolumeNumber>,
}

impl Attachments {
    pub(super) fn new(volumes_of_store: Arc<Volumes>) -> Attachments {
        Attachments { volumes_of_store, places: RwLock::default() }
    }

    /// The volumes of the store.
    pub(super) fn volumes_of_store(&self) -> &Volumes {
        &self.volumes_of_store
    }

    pub(super) fn add(&self, volume: Arc<Volume>) {
        self.places.write().attached.insert(volume.number(), Attached::new(volume));
    }

    pub(super) fn add_snapshot(&self, number: VolumeNumber, snapshot: SnapshotId) {
        self.places.write().snapshots.insert(number, snapshot);
    }

    /// Makes a volume unreachable: at once, or when the last open file in it is closed.
    pub(super) fn remove(&self, number: VolumeNumber) {
        let mut places = self.places.write();
        places.snapshots.remove(&number);
        if let Some(attached) = places.attached.get(&number) {
            attached.removed.store(true, Ordering::Relaxed);
            if attached.open_count.load(Ordering::Relaxed) == 0 {
                places.attached.remove(&number);
            }
        }
    }

    /// The volume of this number, for one operation.
    pub(super) fn get(&self, number: VolumeNumber) -> Result<Arc<Attached>, LiveError> {
        match self.get_attached(number) {
            Some(attached) => Ok(attached),
            None => self.browse(number),
        }
    }

    /// The same, unless it would have to be made.
    pub(super) fn get_attached(&self, number: VolumeNumber) -> Option<Arc<Attached>> {
        self.places.read().attached.get(&number).map(Arc::clone)
    }

    /// Counts a file as open before it is, under the lock that removing a volume takes: so it is not removed between.
    pub(super) fn open(&self, number: VolumeNumber) -> Result<Arc<Attached>, LiveError> {
        loop {
            if let Some(attached) = self.places.read().attached.get(&number) {
                attached.open_count.fetch_add(1, Ordering::Relaxed);
                return Ok(Arc::clone(attached));
            }
            self.browse(number)?;
        }
    }

    /// A file that was counted is closed.
    pub(super) fn close(&self, attached: &Attached) {
        if attached.open_count.fetch_sub(1, Ordering::Relaxed) > 1
            || !attached.removed.load(Ordering::Relaxed)
        {
            return;
        }
        let mut places = self.places.write();
        if attached.open_count.load(Ordering::Relaxed) == 0 {
            places.attached.remove(&attached.volume.number());
        }
    }

    /// All volumes that are attached, those removed and still open among them.
    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        self.places.read().attached.values().map(|attached| Arc::clone(&attached.volume)).collect()
    }

    /// Attaches the volume of a snapshot.
    fn browse(&self, number: VolumeNumber) -> Result<Arc<Attached>, LiveError> {
        let snapshot = self.places.read().snapshots.get(&number).copied().ok_or(LiveError::NotFound)?;
        // Without the lock: others go on meanwhile. What two make at the same time is the same.
        let volume = self.volumes_of_store.browse(number, snapshot)?;
        let mut places = self.places.write();
        if !places.snapshots.contains_key(&number) {
            return Err(LiveError::NotFound);
        }
        if let Some(attached) = places.attached.get(&number) {
            return Ok(Arc::clone(attached));
        }
        places.drop_unused();
        let attached = Attached::new(volume);
        places.attached.insert(number, Arc::clone(&attached));
        places.browsed.push_back(number);
        Ok(attached)
    }
}

impl Attached {
    fn new(volume: Arc<Volume>) -> Arc<Attached> {
        Arc::new(Attached { open_count: AtomicUsize::new(0), removed: AtomicBool::new(false), volume })
    }

    /// Whether anything of it is open, or an operation under way has it.
    fn is_used(self: &Arc<Self>) -> bool {
        // Nobody gets it while the lock is held for writing.
        self.open_count.load(Ordering::Relaxed) > 0 || Arc::strong_count(self) > 1
    }
}

impl Places {
    /// Makes room for one more.
    fn drop_unused(&mut self) {
        for _ in 0..self.browsed.len() {
            if self.browsed.len() < BROWSED_MAX {
                return;
            }
            let Some(number) = self.browsed.pop_front() else { return };
            match self.attached.get(&number) {
                Some(attached) if attached.is_used() => self.browsed.push_back(number),
                Some(_) => drop(self.attached.remove(&number)),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{READ, Store, empty_root, put};
    use super::super::{FileSystem, Namespace, NamespaceEntry, NodeId};
    use super::*;
    use crate::base::Timestamp;
    use crate::history::Snapshot;

    /// Stores a snapshot with one file, whose content is `content`.
    fn snapshot(store: &Store, number: u32, content: &str) -> SnapshotId {
        let volume = store.attach(number, &empty_root());
        put(&volume, volume.root(), "file", content.as_bytes());
        let root = volume.freeze().unwrap().root;
        let snapshot = Snapshot {
            site: "shop".parse().unwrap(),
            created: Timestamp::now(),
            author: "root".to_owned(),
            message: content.to_owned(),
            parent: None,
            root,
            data: Vec::new(),
            database: None,
            platform: None,
            generation: None,
            added_bytes: 0,
        };
        snapshot.store(&store.trees.objects).unwrap()
    }

    fn read(files: &FileSystem, node: NodeId, handle: super::super::Handle) -> String {
        let mut bytes = [0; 64];
        let count = files.read(node, handle, 0, &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn snapshots_are_attached_when_they_are_looked_at_and_few_of_them_stay() {
        let store = Store::new();
        let files = FileSystem::new(Arc::clone(store.volumes()));
        let count = BROWSED_MAX as u32 * 3;
        let numbers = || (1000..1000 + count).map(VolumeNumber);
        for number in numbers() {
            let id = snapshot(&store, number.0 - 1000 + 1, &format!("of {}", number.0));
            files.add_snapshot(number, id);
        }
        let lost = VolumeNumber(9999);
        let none = crate::objects::ObjectId::of(crate::objects::Kind::Snapshot, b"lost");
        files.add_snapshot(lost, SnapshotId(none));
        let shown =
            numbers().chain([lost]).map(|number| (number.0.to_string(), NamespaceEntry::Volume(number)));
        files.set_namespace(&Namespace { entries: shown.collect() });
        assert!(files.attached_volumes().is_empty());

        // What is open stays reachable whatever else is looked at; the rest does not stay.
        let first = files.lookup(NodeId::ROOT, b"1000").unwrap().id;
        let file = files.lookup(first, b"file").unwrap().id;
        let handle = files.open(file, READ, false).unwrap().handle;
        for number in numbers() {
            let root = files.lookup(NodeId::ROOT, number.0.to_string().as_bytes()).unwrap();
            assert_eq!(root.id, NodeId::volume_root(number));
            let file = files.lookup(root.id, b"file").unwrap();
            let opened = files.open(file.id, READ, false).unwrap().handle;
            assert_eq!(read(&files, file.id, opened), format!("of {}", number.0));
            files.release(file.id, opened).unwrap();
            assert!(files.attached_volumes().len() <= BROWSED_MAX);
        }
        assert_eq!(read(&files, file, handle), "of 1000");
        assert_eq!(
            files.lookup(first, b"file").unwrap().id,
            file,
            "the same number whenever it is made again"
        );

        // One that cannot be read is no missing name, and keeps the others in the listing.
        let found = files.lookup(NodeId::ROOT, b"9999");
        assert!(matches!(found, Err(LiveError::Trees(_))), "{found:?}");
        assert_eq!(files.list(NodeId::ROOT, 0, usize::MAX).unwrap().len(), count as usize);

        // A removed one is there for who has something of it open, and for nobody else.
        files.remove_volume(VolumeNumber(1000));
        files.remove_volume(VolumeNumber(1001));
        assert_eq!(read(&files, file, handle), "of 1000");
        files.release(file, handle).unwrap();
        assert!(matches!(files.attributes(first), Err(LiveError::NotFound)));
        assert!(matches!(files.lookup(NodeId::ROOT, b"1001"), Err(LiveError::NotFound)));
    }
}
