//! The namespace a person sees, made from the catalog.
//!
//! ```text
//! sites/SITE             -> ../generations/SITE/12
//! generations/SITE/12/   one generation
//! data/SITE/             the data directories of a site
//! snapshots/SITE/ID/     a snapshot, read-only
//! views/P/LANE/          a platform's sites directory
//! live/SITE              -> the document root of the live generation
//! previous/SITE          -> that of the generation that was live before, while it is shown
//! next/SITE              -> that of the generation that is being made
//! windows/SITE/          what web servers look for while writes are held or refused (`windows`)
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::windows::Window;
use crate::base::{Lane, PlatformName, SiteName};
use crate::control::Failure;
use crate::history::{Catalog, SnapshotRecord};
use crate::live::{Namespace, NamespaceEntry, VolumeNumber};
use crate::site::{Generation, GenerationState, LivePointer, Platform, Site};

/// What the platforms have in their sites directories themselves, by lane.
pub(super) type OwnEntries = BTreeMap<(PlatformName, Lane), BTreeMap<String, NamespaceEntry>>;

/// The namespace that shows what the catalog says.
pub(super) fn describe(
    catalog: &Catalog,
    root: &Path,
    own: &OwnEntries,
    windows: &BTreeMap<SiteName, Window>,
) -> Result<Namespace, Failure> {
    let platforms = catalog.list::<Platform>("")?;
    let sites: BTreeMap<String, Site> = catalog.list::<Site>("")?.into_iter().collect();
    let mut generations = catalog.list::<Generation>("")?;
    // Without its record, nothing of a site is to be seen: what would be is not known to be right.
    generations.retain(|(_, generation)| sites.contains_key(generation.name.site.as_str()));
    let pointers: BTreeMap<String, LivePointer> = catalog.list::<LivePointer>("")?.into_iter().collect();
    let mut by_site = Directory::default();
    let mut by_generation = Directory::default();
    let mut data = Directory::default();
    let mut snapshots = Directory::default();
    let mut live = Directory::default();
    let mut previous = Directory::default();
    let mut next = Directory::default();
    let mut windows_shown = Directory::default();
    let mut views = Directory::default();

    for (name, site) in &sites {
        data.volume(&[name], site.data_volume);
        snapshots.directory(&[name]);
    }
    for (_, platform) in &platforms {
        for lane in Lane::ALL {
            let view = views.directory(&[platform.name.as_str(), &lane.to_string()]);
            if let Some(entries) = own.get(&(platform.name.clone(), lane)) {
                view.extend(entries.clone());
            }
        }
    }
    for (_, generation) in &generations {
        let (site, number) = (generation.name.site.as_str(), generation.name.number.to_string());
        by_generation.volume(&[site, &number], generation.volume);
        if generation.state == GenerationState::Retired {
            continue;
        }
        let lane = generation.lane.to_string();
        let target = format!("{}/generations/{site}/{number}", root.display());
        views.link(&[generation.platform.as_str(), &lane, site], target);
        let is_live = pointers.get(site).is_some_and(|pointer| pointer.generation == generation.name.number);
        let platform = platforms.iter().find(|(_, platform)| platform.name == generation.platform);
        let Some((_, platform)) = platform else { continue };
        let docroot = platform.docroot_in(generation.lane).to_string_lossy().into_owned();
        let was_live =
            pointers.get(site).is_some_and(|pointer| pointer.previous == Some(generation.name.number));
        if is_live {
            by_site.link(&[site], format!("../generations/{site}/{number}"));
            live.link(&[site], docroot);
        } else if was_live {
            previous.link(&[site], docroot);
        } else if generation.state == GenerationState::Prepared {
            // In the order of their numbers: the newest is the one that comes.
            next.link(&[site], docroot);
        }
    }
    for (site, window) in windows {
        for flag in window.flags() {
            windows_shown.put(&[site.as_str(), flag], NamespaceEntry::FileMountPoint);
        }
    }
    for (_, record) in catalog.list::<SnapshotRecord>("")? {
        snapshots.volume(&[record.site.as_str(), &record.id.short()], record.volume);
    }

    let parts = [
        ("sites", by_site),
        ("generations", by_generation),
        ("data", data),
        ("snapshots", snapshots),
        ("views", views),
        ("live", live),
        ("previous", previous),
        ("next", next),
        ("windows", windows_shown),
    ];
    Ok(Namespace {
        entries: parts
            .map(|(name, directory)| (name.to_owned(), NamespaceEntry::Directory(directory.entries)))
            .into(),
    })
}

/// A directory of the namespace under construction.
#[derive(Default)]
struct Directory {
    entries: BTreeMap<String, NamespaceEntry>,
}

impl Directory {
    /// The entries of the directory at `path`, made on the way.
    fn directory(&mut self, path: &[&str]) -> &mut BTreeMap<String, NamespaceEntry> {
        let mut entries = &mut self.entries;
        for name in path {
            let entry = entries
                .entry((*name).to_owned())
                .or_insert_with(|| NamespaceEntry::Directory(BTreeMap::new()));
            let NamespaceEntry::Directory(below) = entry else {
                unreachable!("names of different kinds are never mixed on one level of the namespace")
            };
            entries = below;
        }
        entries
    }

    fn put(&mut self, path: &[&str], entry: NamespaceEntry) {
        let (name, parents) = path.split_last().expect("a path has a last component");
        self.directory(parents).insert((*name).to_owned(), entry);
    }

    fn link(&mut self, path: &[&str], target: String) {
        self.put(path, NamespaceEntry::Symlink(target));
    }

    fn volume(&mut self, path: &[&str], number: u32) {
        self.put(path, NamespaceEntry::Volume(VolumeNumber(number)));
    }
}
