//! Tests of the volume as a whole: a store in a directory of its own, and no mount.

mod basics;
mod copies;
mod driver;
mod freezing;
mod generated;
mod limits;
mod model;
mod salvage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::objects::Objects;
use crate::trees::{Attributes, Root, Totals, Trees};

pub(super) const USER: Caller = Caller { uid: 33, gid: 33, umask: 0 };
pub(super) const NUMBER: VolumeNumber = VolumeNumber(7);

/// A store with its overlay.
pub(super) struct Store {
    _directory: TempDir,
    pub(super) trees: Arc<Trees>,
    pub(super) live: PathBuf,
    pub(super) volumes: Option<Arc<Volumes>>,
}

pub(super) fn empty_root() -> Root {
    Root {
        attributes: Attributes { mode: 0o755, ..Attributes::default() },
        tree: None,
        totals: Totals::default(),
        links: None,
        next_link: 1,
    }
}

impl Store {
    pub(super) fn new() -> Store {
        let directory = tempfile::tempdir().unwrap();
        let objects = directory.path().join("objects");
        std::fs::create_dir(&objects).unwrap();
        Objects::create(&objects).unwrap();
        let trees = Arc::new(Trees::new(Arc::new(Objects::open(&objects).unwrap()), 64 << 20));
        let live = directory.path().join("live");
        let mut store = Store { _directory: directory, trees, live, volumes: None };
        store.open();
        store
    }

    pub(super) fn open(&mut self) {
        self.volumes = Some(Volumes::open(&self.live, Arc::clone(&self.trees)).unwrap());
    }

    pub(super) fn volumes(&self) -> &Arc<Volumes> {
        self.volumes.as_ref().unwrap()
    }

    /// Closes in order and opens again.
    pub(super) fn reopen(&mut self) {
        self.volumes = None;
        self.open();
    }

    /// As if the process had been killed.
    pub(super) fn crash(&mut self) {
        let mut volumes = Arc::into_inner(self.volumes.take().unwrap()).expect("nobody else holds it");
        volumes.crash();
        drop(volumes);
        self.open();
    }

    pub(super) fn attach(&self, number: u32, base: &Root) -> Arc<Volume> {
        self.volumes().attach(VolumeNumber(number), base.clone(), Access::Writable).unwrap()
    }

    /// How many upper files there are, those that are being deleted not counted.
    pub(super) fn upper_files(&self) -> usize {
        self.volumes().wait_for_removals();
        fn count(directory: &Path) -> usize {
            let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(&self.live.join("upper"))
    }

    pub(super) fn volume(&self) -> Arc<Volume> {
        self.attach(NUMBER.0, &empty_root())
    }
}

pub(super) const READ: OpenMode = OpenMode { read: true, write: false, truncate: false, execute: false };
pub(super) const WRITE: OpenMode = OpenMode { read: true, write: true, truncate: false, execute: false };
pub(super) const TRUNCATE: OpenMode = OpenMode { read: true, write: true, truncate: true, execute: false };

/// Makes a file with this content.
pub(super) fn put(volume: &Volume, parent: NodeId, name: &str, content: &[u8]) -> NodeId {
    let id = match volume.make_node(parent, name.as_bytes(), FileKind::File, 0o644, USER) {
        Ok(attributes) => attributes.id,
        Err(LiveError::Exists) => volume.lookup(parent, name.as_bytes()).unwrap().id,
        Err(error) => panic!("{error}"),
    };
    let handle = volume.open(id, TRUNCATE, false).unwrap().handle;
    assert_eq!(volume.write(handle, 0, content).unwrap(), content.len());
    volume.release(handle).unwrap();
    id
}

/// The content of a file.
pub(super) fn content(volume: &Volume, id: NodeId) -> Vec<u8> {
    let handle = volume.open(id, READ, false).unwrap().handle;
    let mut bytes = vec![0; volume.attributes(id).unwrap().size as usize];
    let count = volume.read(handle, 0, &mut bytes).unwrap();
    bytes.truncate(count);
    volume.release(handle).unwrap();
    bytes
}

/// Bytes that cannot be compressed, always the same.
pub(super) fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// The names in a directory, listed in pages of `count`.
pub(super) fn names(volume: &Volume, directory: NodeId, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let page = volume.list(directory, cookie, count).unwrap();
        let Some(last) = page.last() else { return names };
        cookie = last.cookie;
        names.extend(page.iter().map(|entry| String::from_utf8(entry.name.to_vec()).unwrap()));
    }
}

pub(super) fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
