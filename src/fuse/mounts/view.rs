//! The view that covers a platform's sites directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::worker::Request;
use super::{Mounts, MountsError, list};
use crate::base::files::{self, At};
use crate::live::NamespaceEntry;

/// A platform's sites directory, and what is needed to cover it and to uncover it.
///
/// The view is a directory of the namespace with the attached sites and, for everything that the platform itself has
/// there (`all`, `default`, `sites.php`), an empty place onto which the platform's own entry is mounted: so that
/// stays native, at native speed. View and own entries appear and go in one step.
///
/// The directory itself is never changed. A crash at any point leaves it covered by a dead view or not at all.
pub struct PlatformView {
    sites: PathBuf,
    /// The directory below the view, opened before it was covered.
    native: File,
}

impl PlatformView {
    /// Takes hold of the directory `sites` while it is not covered.
    pub fn open(sites: &Path) -> Result<PlatformView, MountsError> {
        let sites = files::canonical(sites)?;
        if list()?.iter().any(|entry| entry.is_sitefs() && entry.mount_point == sites) {
            return Err(MountsError::Covered { path: sites });
        }
        let native = files::open(&sites)?;
        Ok(PlatformView { sites, native })
    }

    /// The directory that is covered.
    pub fn sites(&self) -> &Path {
        &self.sites
    }

    /// What the platform itself has in the directory, covered or not, as the namespace must have it: symbolic links
    /// as they are, places to mount on for the rest. Names that are not text in UTF-8 are left out.
    pub fn own_entries(&self) -> Result<BTreeMap<String, NamespaceEntry>, MountsError> {
        let mut entries = BTreeMap::new();
        let directory = PathBuf::from(format!("/proc/self/fd/{}", self.native.as_raw_fd()));
        for entry in files::list(&directory)? {
            let Ok(name) = entry.file_name().into_string() else {
                log::warn!("{:?} in {} is not shown: not UTF-8", entry.file_name(), self.sites.display());
                continue;
            };
            let path = directory.join(&name);
            let Some(found) = files::metadata(&path)? else { continue };
            let entry = if found.is_dir() {
                NamespaceEntry::DirectoryMountPoint
            } else if found.is_symlink() {
                match files::read_link(&path)?.into_os_string().into_string() {
                    Ok(target) => NamespaceEntry::Symlink(target),
                    Err(_) => continue,
                }
            } else {
                NamespaceEntry::FileMountPoint
            };
            entries.insert(name, entry);
        }
        Ok(entries)
    }

    /// Covers the directory with the directory `view` of the namespace, which has `entries`: those that are places to
    /// mount on get the platform's own entries.
    pub fn attach(
        &self,
        mounts: &Mounts,
        view: &Path,
        entries: &BTreeMap<String, NamespaceEntry>,
    ) -> Result<(), MountsError> {
        let staging = mounts.staging.lock();
        let own = entries.iter().filter(|(_, entry)| is_mount_point(entry)).map(|(name, _)| name.clone());
        let request = Request::Bind {
            source: view.to_owned(),
            target: self.sites.clone(),
            staging: staging.clone(),
            own: own.collect(),
        };
        mounts.done(request, Some(self.native()?))
    }

    /// Follows a change of the view's entries, which the namespace shows already: uncovers the places that are gone,
    /// and mounts the platform's own entries on new ones.
    pub fn refresh(
        &self,
        mounts: &Mounts,
        before: &BTreeMap<String, NamespaceEntry>,
        after: &BTreeMap<String, NamespaceEntry>,
    ) -> Result<(), MountsError> {
        let (removed, added) = (mount_points_only_in(before, after), mount_points_only_in(after, before));
        if removed.is_empty() && added.is_empty() {
            return Ok(());
        }
        let staging = mounts.staging.lock();
        let request = Request::Refresh { view: self.sites.clone(), staging: staging.clone(), removed, added };
        mounts.done(request, Some(self.native()?))
    }

    /// Uncovers the directory.
    pub fn detach(&self, mounts: &Mounts) -> Result<(), MountsError> {
        mounts.unmount_views(&self.sites)
    }

    fn native(&self) -> Result<File, MountsError> {
        Ok(self.native.try_clone().at("hold", &self.sites)?)
    }
}

/// The places to mount on in `entries` that are not, or are something else, in `others`.
fn mount_points_only_in(
    entries: &BTreeMap<String, NamespaceEntry>,
    others: &BTreeMap<String, NamespaceEntry>,
) -> Vec<String> {
    let only =
        entries.iter().filter(|(name, entry)| is_mount_point(entry) && others.get(*name) != Some(entry));
    only.map(|(name, _)| name.clone()).collect()
}

fn is_mount_point(entry: &NamespaceEntry) -> bool {
    matches!(entry, NamespaceEntry::DirectoryMountPoint | NamespaceEntry::FileMountPoint)
}
