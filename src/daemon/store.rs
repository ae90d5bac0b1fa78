//! A store: one directory with everything sitefs keeps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mending::mend;
use super::overlays::{known_mark, new_mark, set_known_mark};
use super::rebuild::rebuild;
use crate::base::files;
use crate::control::Failure;
use crate::history::Catalog;
use crate::live::{LiveError, Marks, Volumes};
use crate::objects::Objects;
use crate::site::Site;
use crate::trees::Trees;

/// The first line of the file that makes a directory a store; the number is the version of the layout.
const FORMAT: &str = "sitefs store, layout 1\n";

/// Decoded directory pages kept in memory, in bytes.
pub(super) const PAGE_CACHE_BYTES_MAX: usize = 32 << 20;

/// An open store. The object store's lock makes it the only one.
pub struct Store {
    directory: PathBuf,
    /// Directories as trees, over the objects.
    pub trees: Arc<Trees>,
    /// The records.
    pub catalog: Catalog,
    /// The writable layer.
    pub volumes: Arc<Volumes>,
    next_temporary: AtomicU64,
}

impl Store {
    /// Makes `directory` (missing, or empty) a store. The format file comes last: without it there is no store, so
    /// an interrupted creation is simply repeated after the directory has been emptied.
    pub fn create(directory: &Path) -> Result<(), Failure> {
        if files::metadata(&directory.join("FORMAT"))?.is_some() {
            return Err(Failure::refused(format!("{} is a store already", directory.display()))
                .hint(format!("start the daemon: sitefs --store {} serve", directory.display())));
        }
        files::create_directories(directory)?;
        if !files::list(directory)?.is_empty() {
            return Err(Failure::refused(format!("{} is not empty", directory.display()))
                .hint("choose a directory that does not exist yet, or empty this one"));
        }
        let objects = directory.join("objects");
        files::create_directories(&objects)?;
        Objects::create(&objects)?;
        let catalog = Catalog::open(&directory.join("catalog.redb"))?;
        // From here on it is never empty again, so one that is has been emptied.
        set_known_mark(&catalog, Some(new_mark()?))?;
        drop(catalog);
        files::create_directories(&directory.join("live"))?;
        files::sync_directory(directory)?;
        files::write_atomically(&directory.join("FORMAT"), FORMAT.as_bytes())?;
        files::sync_parent(directory)?;
        Ok(())
    }

    /// Opens a store and recovers what a crash left.
    pub fn open(directory: &Path) -> Result<Store, Failure> {
        check_format(directory)?;
        let objects = Arc::new(Objects::open(&directory.join("objects"))?);
        let trees = Arc::new(Trees::new(objects, PAGE_CACHE_BYTES_MAX));
        let catalog = open_catalog(directory, &trees.objects)?;
        // It has the passwords of the applications' databases.
        files::set_mode(&directory.join("catalog.redb"), 0o600)?;
        mend(&catalog, &trees.objects)?;
        let volumes = open_volumes(directory, &catalog, &trees)?;
        let store = Store {
            directory: files::canonical(directory)?,
            trees,
            catalog,
            volumes,
            next_temporary: AtomicU64::new(0),
        };
        // Whatever a killed process was writing there is worth nothing.
        files::remove_directory_all(&store.temporary())?;
        files::create_directories(&store.temporary())?;
        Ok(store)
    }

    /// The store's directory, absolute.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The files and directories that were set aside because they are damaged.
    pub fn set_aside(&self) -> Result<Vec<PathBuf>, Failure> {
        let entries =
            files::list(&self.directory)?.into_iter().chain(files::list(&self.directory.join("live"))?);
        let is_aside = |path: &PathBuf| path.to_string_lossy().contains(".damaged-");
        Ok(entries.map(|entry| entry.path()).filter(is_aside).collect())
    }

    /// A new directory for files that live no longer than one command.
    pub fn temporary_directory(&self) -> Result<TemporaryDirectory, Failure> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.temporary().join(number.to_string());
        files::create_directories(&path)?;
        Ok(TemporaryDirectory { path })
    }

    fn temporary(&self) -> PathBuf {
        self.directory.join("temporary")
    }
}

/// An error unless `directory` is a store of the layout that is known.
pub(super) fn check_format(directory: &Path) -> Result<(), Failure> {
    let format = directory.join("FORMAT");
    if files::metadata(&format)?.is_none() {
        return Err(Failure::failed(format!("{} is not a sitefs store", directory.display()))
            .hint(format!("create one: sitefs --store {} init", directory.display())));
    }
    if files::read(&format)? != FORMAT.as_bytes() {
        return Err(Failure::failed(format!(
            "{} has another layout than this sitefs knows",
            directory.display()
        ))
        .hint(format!(
            "use the version of sitefs that made it, or a newer one; if it was this one, {} is damaged and has to be the line \
             {:?}",
            format.display(),
            FORMAT.trim_end()
        )));
    }
    Ok(())
}

/// The file of records, and that of their copy.
pub(super) fn catalog_files(directory: &Path) -> (PathBuf, PathBuf) {
    (directory.join("catalog.redb"), directory.join("catalog.copy"))
}

/// Whether everything is gone that was in the catalog: the store has objects, which something referred to.
pub(super) fn is_emptied(catalog: &Catalog, objects: &Objects) -> Result<bool, Failure> {
    Ok(catalog.is_empty()? && objects.usage().objects > 0)
}

/// Opens the records; where they are damaged or gone, they are restored from their copy first. Without them nobody knows
/// which overlays are somebody's, so a store that has lost any of which not even the name is known is not opened.
pub(super) fn open_catalog(directory: &Path, objects: &Objects) -> Result<Catalog, Failure> {
    let (path, copy) = catalog_files(directory);
    let failure = match files::metadata(&path)? {
        None => Failure::failed(format!(
            "{} is missing: it says which sites and snapshots there are",
            path.display()
        )),
        Some(_) => match Catalog::open_kept(&path, &copy) {
            Ok(catalog) if !is_emptied(&catalog, objects)? => return Ok(catalog),
            Ok(_) => Failure::failed(format!(
                "{} is empty, and the store is not: it says which sites and snapshots there are",
                path.display()
            )),
            Err(error) if error.is_damaged() => Failure::from(error),
            Err(error) => return Err(error.into()),
        },
    };
    log::error!("{}: {}", failure.message, failure.causes.join(": "));
    let Some(rebuilt) = rebuild(directory, objects, false)? else {
        return Err(failure.hint(format!(
            "restore it from a copy of the store; without one, sitefs --store {} init --rebuild-catalog makes a new one \
             in which all snapshots are listed",
            directory.display()
        )));
    };
    log::warn!("the catalog was restored; {} of its records cannot be read", rebuilt.damaged);
    Ok(Catalog::open_kept(&path, &copy)?)
}

/// Opens the overlays. A store with sites that has lost them, or has those of another time, would show old states for the
/// newest.
fn open_volumes(directory: &Path, catalog: &Catalog, trees: &Arc<Trees>) -> Result<Arc<Volumes>, Failure> {
    let live = directory.join("live");
    let rows = live.join("live.redb");
    let hint = format!(
        "restore {} from a copy of the store, all of it from the same copy; without one, sitefs --store {} init \
         --rebuild-live keeps the sites whose changes are whole, and has the others go back to their newest snapshots",
        directory.display(),
        directory.display()
    );
    let has_sites = !catalog.list::<Site>("")?.is_empty();
    if files::metadata(&rows)?.is_none() && has_sites {
        let message = format!("{} is missing: it says what was changed in the sites", rows.display());
        return Err(Failure::failed(message).hint(hint));
    }
    let (known, next) = (known_mark(catalog)?, new_mark()?);
    let opened = Volumes::open_marked(&live, Arc::clone(trees), Some(Marks { known, next }));
    let volumes = opened.map_err(|error| {
        let is_damaged = match &error {
            LiveError::Tables(error) => error.is_damaged(),
            LiveError::OtherTime { .. } => true,
            _ => false,
        };
        let failure = Failure::from(error);
        if is_damaged { failure.hint(hint) } else { failure }
    })?;
    set_known_mark(catalog, Some(next))?;
    Ok(volumes)
}

/// A directory that is removed when this is dropped, or when the store is next opened.
pub struct TemporaryDirectory {
    path: PathBuf,
}

impl TemporaryDirectory {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if let Err(error) = files::remove_directory_all(&self.path) {
            log::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tables::Tables;

    #[test]
    fn a_first_start_that_was_cut_off_is_made_again_and_lost_overlays_are_noticed_later() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("store");
        Store::create(&directory).unwrap();
        let live = directory.join("live");
        std::fs::write(live.join("live.first.redb"), [0; 8192]).unwrap();
        for _ in 0..2 {
            drop(Store::open(&directory).unwrap());
            assert!(!live.join("live.first.redb").exists());
        }
        files::remove_file(&live.join("live.redb")).unwrap();
        drop(Tables::open(&live.join("live.redb"), 1 << 20).unwrap());
        let failure = Store::open(&directory).err().unwrap();
        assert!(failure.message.contains("not of the same time"), "{}", failure.message);
    }
}
