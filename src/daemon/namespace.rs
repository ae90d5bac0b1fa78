//! The namespace a person sees, made from the catalog.
//!
//! ```text
//! sites/SITE             -> ../generations/SITE/12
//! generations/SITE/12/   one generation
//! data/SITE/             the data directories of a site
//! snapshots/SITE/ID/     a snapshot, read-only
//! views/P/LANE/          a platform's sites directory, and in it `.sitefs`, a sign of life
//! live/SITE              -> the document root of the live generation
//! docroots/SITE          the same as a text, for web servers that cannot resolve a link
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
use crate::live::{Namespace, NamespaceEdit, NamespaceEntry, VolumeNumber};
use crate::site::{Generation, GenerationName, GenerationState, LivePointer, Platform, Site};

/// The directories at the top.
const PARTS: [&str; 10] =
    ["sites", "generations", "data", "snapshots", "views", "live", "docroots", "previous", "next", "windows"];

/// A file in every view, which web servers look for: not there while the view is not, nor when the daemon is dead.
const SIGN_OF_LIFE: &str = ".sitefs";

/// What the platforms have in their sites directories themselves, by lane.
pub(super) type OwnEntries = BTreeMap<(PlatformName, Lane), BTreeMap<String, NamespaceEntry>>;

/// The namespace that shows what the catalog says.
pub(super) fn describe(
    catalog: &Catalog,
    root: &Path,
    own: &OwnEntries,
    windows: &BTreeMap<SiteName, Window>,
) -> Result<Namespace, Failure> {
    let platforms = platforms(catalog)?;
    let mut records: BTreeMap<SiteName, SiteRecords> = BTreeMap::new();
    for (_, site) in catalog.list::<Site>("")? {
        records.entry(site.name.clone()).or_default().data_volume = Some(site.data_volume);
    }
    for (_, generation) in catalog.list::<Generation>("")? {
        records.entry(generation.name.site.clone()).or_default().generations.push(generation);
    }
    for (site, pointer) in catalog.list::<LivePointer>("")? {
        if let Ok(site) = site.parse::<SiteName>() {
            records.entry(site).or_default().pointer = Some(pointer);
        }
    }
    for (_, record) in catalog.list::<SnapshotRecord>("")? {
        let volume = (record.id.short(), record.volume);
        records.entry(record.site).or_default().snapshots.push(volume);
    }
    let mut top = Directory::default();
    for name in PARTS {
        top.directory(&[name]);
    }
    for platform in &platforms {
        for lane in Lane::ALL {
            let view = top.directory(&["views", platform.name.as_str(), &lane.to_string()]);
            if let Some(entries) = own.get(&(platform.name.clone(), lane)) {
                view.extend(entries.clone());
            }
            view.insert(SIGN_OF_LIFE.to_owned(), NamespaceEntry::SignOfLife);
        }
    }
    for (site, records) in &records {
        for edit in records.entries(site, root, &platforms, windows.get(site)) {
            let path: Vec<&str> = edit.path.iter().map(String::as_str).collect();
            if let Some(entry) = edit.entry {
                top.put(&path, entry);
            }
        }
    }
    Ok(Namespace { entries: top.entries })
}

/// What the namespace shows of one site, as changes of one that shows anything else of it.
pub(super) fn describe_site(
    catalog: &Catalog,
    root: &Path,
    site: &SiteName,
    window: Option<&Window>,
) -> Result<Vec<NamespaceEdit>, Failure> {
    let prefix = GenerationName::prefix(site);
    let records = SiteRecords {
        data_volume: catalog.get::<Site>(site.as_str())?.map(|site| site.data_volume),
        generations: values(catalog.list(&prefix)?),
        pointer: catalog.get(site.as_str())?,
        snapshots: values(catalog.list::<SnapshotRecord>(&prefix)?)
            .into_iter()
            .map(|record| (record.id.short(), record.volume))
            .collect(),
    };
    Ok(records.entries(site, root, &platforms(catalog)?, window))
}

/// What the namespace shows of a new snapshot of a site that it shows.
pub(super) fn describe_snapshot(record: &SnapshotRecord) -> NamespaceEdit {
    NamespaceEdit {
        path: vec!["snapshots".to_owned(), record.site.to_string(), record.id.short()],
        entry: Some(NamespaceEntry::Volume(VolumeNumber(record.volume))),
    }
}

fn platforms(catalog: &Catalog) -> Result<Vec<Platform>, Failure> {
    Ok(values(catalog.list("")?))
}

fn values<R>(listed: Vec<(String, R)>) -> Vec<R> {
    listed.into_iter().map(|(_, record)| record).collect()
}

/// What the catalog has of a site.
#[derive(Default)]
struct SiteRecords {
    data_volume: Option<u32>,
    /// In the order of their numbers.
    generations: Vec<Generation>,
    pointer: Option<LivePointer>,
    /// Names and volumes.
    snapshots: Vec<(String, u32)>,
}

impl SiteRecords {
    /// All that is shown of the site, and nothing where it might be.
    fn entries(
        &self,
        site: &SiteName,
        root: &Path,
        platforms: &[Platform],
        window: Option<&Window>,
    ) -> Vec<NamespaceEdit> {
        let name = site.as_str();
        let volume = |number: u32| NamespaceEntry::Volume(VolumeNumber(number));
        let (mut head, mut live, mut text, mut previous, mut next) = (None, None, None, None, None);
        let mut views = BTreeMap::new();
        // Without its record, nothing of a site is to be seen: what would be is not known to be right.
        let generations = if self.data_volume.is_some() { self.generations.as_slice() } else { &[] };
        for generation in generations.iter().filter(|generation| generation.is_shown()) {
            let number = generation.name.number;
            let target = format!("{}/generations/{name}/{number}", root.display());
            views.insert((&generation.platform, generation.lane), NamespaceEntry::Symlink(target));
            let Some(platform) = platforms.iter().find(|platform| platform.name == generation.platform)
            else {
                continue;
            };
            let docroot = platform.docroot_in(generation.lane).to_string_lossy().into_owned();
            let shown = Some(NamespaceEntry::Text(docroot.clone()));
            let docroot = Some(NamespaceEntry::Symlink(docroot));
            if self.pointer.as_ref().is_some_and(|pointer| pointer.generation == number) {
                head = Some(NamespaceEntry::Symlink(format!("../generations/{name}/{number}")));
                (live, text) = (docroot, shown);
            } else if self.pointer.as_ref().is_some_and(|pointer| pointer.previous == Some(number)) {
                previous = docroot;
            } else if generation.state == GenerationState::Prepared {
                // In the order of their numbers: the newest is the one that comes.
                next = docroot;
            }
        }
        let generations: BTreeMap<String, NamespaceEntry> = generations
            .iter()
            .map(|generation| (generation.name.number.to_string(), volume(generation.volume)))
            .collect();
        let snapshots: BTreeMap<String, NamespaceEntry> =
            self.snapshots.iter().map(|(id, number)| (id.clone(), volume(*number))).collect();
        let has_snapshots = self.data_volume.is_some() || !snapshots.is_empty();
        let flags = window.map(|window| {
            let flags = window.flags().map(|flag| (flag.to_owned(), NamespaceEntry::FileMountPoint));
            NamespaceEntry::Directory(flags.collect())
        });
        let parts = [
            ("sites", head),
            ("generations", (!generations.is_empty()).then_some(NamespaceEntry::Directory(generations))),
            ("data", self.data_volume.map(volume)),
            ("snapshots", has_snapshots.then_some(NamespaceEntry::Directory(snapshots))),
            ("live", live),
            ("docroots", text),
            ("previous", previous),
            ("next", next),
            ("windows", flags),
        ];
        let mut edits: Vec<NamespaceEdit> = parts
            .into_iter()
            .map(|(part, entry)| NamespaceEdit { path: vec![part.to_owned(), name.to_owned()], entry })
            .collect();
        for platform in platforms {
            for lane in Lane::ALL {
                let path = ["views", platform.name.as_str(), &lane.to_string(), name].map(str::to_owned);
                let entry = views.remove(&(&platform.name, lane));
                edits.push(NamespaceEdit { path: path.into(), entry });
            }
        }
        edits
    }
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
}
