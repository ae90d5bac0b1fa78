//! A new catalog in place of one that is damaged or gone.
//!
//! As long as the catalog's copy is whole, or the names of all its records can be read, everything is as it was; a daemon
//! does that itself when it starts. Otherwise, what is left of tags and platforms is kept, and all snapshots are listed:
//! a snapshot says itself of which site it is, when it was taken and what of. Sites have to be made again from them. What was
//! changed since is in the overlays of volumes that nobody knows any more, and is set aside with the damaged catalog.
//!
//! Power fails here: the new catalog is whole and durable before it takes the place of the old one, in one rename;
//! repeating the command does what is left to do.

use std::path::{Path, PathBuf};

use super::mending::{mend, register_snapshots};
use super::store::{catalog_files, is_emptied};
use crate::base::files;
use crate::control::Failure;
use crate::history::{Catalog, SnapshotRecord, restore_catalog};
use crate::objects::Objects;
use crate::site::{Generation, LivePointer, Site};

/// What was made.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// How many snapshots are listed again.
    pub snapshots: u64,
    /// How many sites there are again.
    pub sites: u64,
    /// How many snapshots and other records cannot be read.
    pub damaged: u64,
    /// What was set aside.
    pub aside: Vec<PathBuf>,
}

/// Makes a new catalog for the store in `directory`. Refused while a daemon serves it, and where the catalog is sound.
pub fn rebuild_catalog(directory: &Path) -> Result<Rebuilt, Failure> {
    super::store::check_format(directory)?;
    let objects = Objects::open(&directory.join("objects"))?;
    let (path, copy) = catalog_files(directory);
    let is_sound = match files::metadata(&path)? {
        Some(_) => match Catalog::open_kept(&path, &copy) {
            Ok(catalog) => !is_emptied(&catalog, &objects)?,
            Err(_) => false,
        },
        None => false,
    };
    if is_sound {
        return Err(Failure::refused(format!("{} is sound", path.display()))
            .hint("there is nothing to rebuild; start the daemon: sitefs serve"));
    }
    let rebuilt = rebuild(directory, &objects, true)?;
    Ok(rebuilt.expect("what is partial is made, too"))
}

/// As [`rebuild_catalog`]. `None`, and nothing is changed, without `partially`, where records may be missing that nobody
/// can name.
pub(super) fn rebuild(
    directory: &Path,
    objects: &Objects,
    partially: bool,
) -> Result<Option<Rebuilt>, Failure> {
    let (path, copy) = catalog_files(directory);
    let new = path.with_extension("new.redb");
    files::remove_file(&new)?;
    let restored = restore_catalog(&path, &copy, &new, partially)?;
    if restored.is_none() && !partially {
        return Ok(None);
    }
    let catalog = Catalog::open(&new)?;
    files::set_mode(&new, 0o600)?;
    let is_partial = restored.as_ref().is_none_or(|restored| restored.is_partial);
    let mut damaged = 0;
    if is_partial {
        // Whatever else was among the overlays is nobody's now, and the sites that are left would miss some of theirs.
        forget_sites(&catalog)?;
        damaged = register_snapshots(&catalog, objects, None)?.unreadable;
    } else if restored.is_some_and(|restored| restored.may_lack_newest) {
        let newest = catalog.list::<SnapshotRecord>("")?.iter().map(|(_, record)| record.created).max();
        let found = register_snapshots(&catalog, objects, newest)?.listed;
        log::warn!(
            "changes of the last second before a power cut may be missing; {found} snapshots were found"
        );
    }
    mend(&catalog, objects)?;
    let mut rebuilt = Rebuilt {
        snapshots: catalog.list::<SnapshotRecord>("")?.len() as u64,
        sites: catalog.list::<Site>("")?.len() as u64,
        damaged: damaged + catalog.damaged()?.len() as u64,
        aside: Vec::new(),
    };
    drop(catalog);
    if is_partial {
        rebuilt.aside.extend(set_overlays_aside(directory)?);
    }
    if files::metadata(&path)?.is_some() {
        let aside = files::name_aside(&path)?;
        files::hard_link(&path, &aside)?;
        rebuilt.aside.push(aside);
    }
    files::rename(&new, &path)?;
    files::sync_directory(directory)?;
    Ok(Some(rebuilt))
}

/// Takes the sites out of a catalog that lacks records; tags, platforms and snapshots stay.
fn forget_sites(catalog: &Catalog) -> Result<(), Failure> {
    catalog.write(|tx| {
        for (key, _) in tx.list::<Site>("")? {
            tx.remove::<Site>(&key)?;
            tx.remove::<LivePointer>(&key)?;
        }
        for (key, _) in tx.list::<Generation>("")? {
            tx.remove::<Generation>(&key)?;
        }
        Ok(())
    })
}

fn set_overlays_aside(directory: &Path) -> Result<Option<PathBuf>, Failure> {
    let live = directory.join("live");
    let mut aside = None;
    if files::metadata(&live)?.is_some() {
        let name = files::name_aside(&live)?;
        files::rename(&live, &name)?;
        aside = Some(name);
    }
    files::create_directories(&live)?;
    files::sync_directory(directory)?;
    Ok(aside)
}
