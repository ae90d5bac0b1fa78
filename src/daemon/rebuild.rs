//! A new catalog in place of one that is damaged or gone, from the snapshots among the store's objects.
//!
//! A snapshot says itself of which site it is, when it was taken and what of; that is all that is left when the catalog is
//! lost. Sites, generations, platforms and tags have to be made again. What was changed since the last snapshots is in the
//! overlays of volumes that nobody knows any more, and is set aside with the damaged catalog.
//!
//! Power fails here: the new catalog is whole before it takes the place of the old one, in one rename; repeating the
//! command does what is left to do.

use std::path::{Path, PathBuf};

use crate::base::files;
use crate::control::Failure;
use crate::history::{Catalog, Refs, Snapshot, SnapshotId};
use crate::objects::{Kind, Objects};

/// What was made.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// How many snapshots are listed again.
    pub snapshots: u64,
    /// How many cannot be read.
    pub damaged: u64,
    /// What was set aside.
    pub aside: Vec<PathBuf>,
}

/// The first path of the form `NAME.damaged-NUMBER` that is free.
fn free_name(path: &Path) -> Result<PathBuf, Failure> {
    let mut number = 1_u32;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        let name = PathBuf::from(name);
        if files::metadata(&name)?.is_none() {
            return Ok(name);
        }
        number += 1;
    }
}

/// Makes a new catalog for the store in `directory`. Refused while a daemon serves it, and where the catalog is sound.
pub fn rebuild_catalog(directory: &Path) -> Result<Rebuilt, Failure> {
    super::store::check_format(directory)?;
    let objects = Objects::open(&directory.join("objects"))?;
    let path = directory.join("catalog.redb");
    let exists = files::metadata(&path)?.is_some();
    if exists && Catalog::open(&path).is_ok() {
        return Err(Failure::refused(format!("{} is sound", path.display()))
            .hint("there is nothing to rebuild; start the daemon: sitefs serve"));
    }
    let mut found = Vec::new();
    objects.each_of(Kind::Snapshot, &mut |id| {
        found.push(SnapshotId(id));
        Ok(())
    })?;
    let mut snapshots = Vec::new();
    for id in &found {
        match Snapshot::load(&objects, *id) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(error) => log::warn!("{error}"),
        }
    }
    let damaged = (found.len() - snapshots.len()) as u64;
    snapshots.sort_by_key(|snapshot| snapshot.created);
    let new = directory.join("catalog.new.redb");
    if files::metadata(&new)?.is_some() {
        files::remove_file(&new)?;
    }
    let catalog = Catalog::open(&new)?;
    for snapshot in &snapshots {
        Refs::new(&catalog).register(&objects, snapshot, None)?;
    }
    drop(catalog);
    files::set_mode(&new, 0o600)?;
    let mut aside = Vec::new();
    let live = directory.join("live");
    if files::metadata(&live)?.is_some() {
        let name = free_name(&live)?;
        files::rename(&live, &name)?;
        aside.push(name);
    }
    files::create_directories(&live)?;
    if exists {
        let name = free_name(&path)?;
        files::hard_link(&path, &name)?;
        aside.push(name);
    }
    files::rename(&new, &path)?;
    files::sync_directory(directory)?;
    Ok(Rebuilt { snapshots: snapshots.len() as u64, damaged, aside })
}
