//! Makes a store with many sites, snapshots and objects, for `scripts/bench --only sites`.
//!
//! Every object is put, and every record written, by the code that the daemon does it with; left out is what costs time
//! and is measured elsewhere: reading files, and a flush for each snapshot.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test ends with what is wrong")]

use std::path::Path;

use sitefs::base::{Lane, SiteName, Timestamp};
use sitefs::daemon::Store;
use sitefs::history::{PlatformBinding, Snapshot, SnapshotRecord, VOLUME_COUNTER};
use sitefs::site::{
    Generation, GenerationName, GenerationState, LivePointer, Platform, Site, SiteKind, layout,
};
use sitefs::trees::{Attributes, Entry, NameKey, Node, Root, Totals, Trees};

/// How many snapshots each site has.
const SNAPSHOTS_PER_SITE: u64 = 10;

/// A site has so many directories of so many files, if not told otherwise; from one snapshot to the next, all files of
/// one directory change. With the pages of the directories that is 10,000 objects for each site.
const DIRECTORIES: u64 = 86;
const FILES_PER_DIRECTORY: u64 = 100;

/// Names a store that is not being served and has one platform.
const STORE: &str = "SITEFS_SCALE_STORE";
const SITES: &str = "SITEFS_SCALE_SITES";

/// May say how many files a directory has.
const FILES: &str = "SITEFS_SCALE_FILES";

#[test]
#[ignore = "scripts/bench runs it"]
fn a_store_of_many_sites_is_made() {
    let store = std::env::var(STORE).unwrap();
    let sites: u64 = std::env::var(SITES).unwrap().parse().unwrap();
    let files = std::env::var(FILES).ok().map_or(FILES_PER_DIRECTORY, |files| files.parse().unwrap());
    make(Path::new(&store), sites, files);
}

#[test]
fn a_store_of_a_few_sites_is_made_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    Store::create(&path).unwrap();
    let store = Store::open(&path).unwrap();
    let platform = Platform {
        name: "one".parse().unwrap(),
        directory: "/nowhere".to_owned(),
        sites: "sites".parse().unwrap(),
        docroot: None,
        code: sitefs::objects::ObjectId::from_bytes([1; 32]),
        files: 0,
        size_bytes: 0,
        added: Timestamp::now(),
        application: None,
        version: None,
    };
    store.catalog.write(|tx| tx.put("one", &platform)).unwrap();
    drop(store);
    make(&path, 2, FILES_PER_DIRECTORY);
    let store = Store::open(&path).unwrap();
    let objects = store.trees.objects.usage().objects;
    assert!((19_000..21_000).contains(&objects), "{objects} objects");
    assert_eq!(store.catalog.list::<SnapshotRecord>("").unwrap().len(), 20);
    let mut reached = std::collections::BTreeSet::new();
    for (_, record) in store.catalog.list::<SnapshotRecord>("").unwrap() {
        let snapshot = Snapshot::load(&store.trees.objects, record.id).unwrap();
        store.trees.reach_root(&snapshot.root, &mut |id| reached.insert(id)).unwrap();
    }
    for (_, generation) in store.catalog.list::<Generation>("").unwrap() {
        store.trees.reach_root(&generation.base, &mut |id| reached.insert(id)).unwrap();
    }
    assert!(reached.into_iter().all(|id| store.trees.objects.contains(id).unwrap()));
    assert!(store.trees.objects.verify(&mut |_| {}).unwrap().damages.is_empty());
}

/// Adds `sites` sites to the store.
fn make(store: &Path, sites: u64, files: u64) {
    let store = Store::open(store).unwrap();
    let (_, platform) = store.catalog.list::<Platform>("").unwrap().remove(0);
    for site in 0..sites {
        make_site(&store, &platform, site, files);
        if (site + 1) % 10 == 0 {
            eprintln!("{} of {sites} sites", site + 1);
        }
    }
    store.trees.objects.flush().unwrap();
}

fn make_site(store: &Store, platform: &Platform, number: u64, files: u64) {
    let name: SiteName = format!("site{number}.example").parse().unwrap();
    let trees = &store.trees;
    let mut directories: Vec<Entry> =
        (0..DIRECTORIES).map(|directory| make_directory(trees, number, 0, directory, files)).collect();
    let mut snapshots: Vec<Snapshot> = Vec::new();
    let mut parent = None;
    for version in 0..SNAPSHOTS_PER_SITE {
        if version > 0 {
            let changed = version % DIRECTORIES;
            directories[changed as usize] = make_directory(trees, number, version, changed, files);
        }
        let snapshot = Snapshot {
            site: name.clone(),
            created: Timestamp::now(),
            author: "root".to_owned(),
            message: format!("version {version}"),
            parent,
            root: root_of(trees, &directories),
            data: Vec::new(),
            database: None,
            platform: Some(PlatformBinding { name: platform.name.clone(), code: platform.code }),
            generation: Some(1),
            added_bytes: 0,
        };
        parent = Some(snapshot.store(&trees.objects).unwrap());
        snapshots.push(snapshot);
    }
    let first = &snapshots[0].root;
    let split = layout::split(trees, first, &name, &[]).unwrap();
    trees.objects.flush().unwrap();
    let record = store.catalog.write(|tx| {
        let mut next_volume = || tx.next_number(VOLUME_COUNTER).map(|number| u32::try_from(number).unwrap());
        let site = Site {
            name: name.clone(),
            kind: SiteKind::Live,
            recipe: "generic".to_owned(),
            created: Timestamp::now(),
            data: split.directories,
            data_volume: next_volume()?,
            data_base: split.data,
            database: None,
            uid: 0,
            gid: 0,
            read_only: false,
            settings: Default::default(),
        };
        let generation = Generation {
            name: GenerationName { site: name.clone(), number: 1 },
            volume: next_volume()?,
            base: split.code,
            platform: platform.name.clone(),
            lane: Lane::A,
            created: Timestamp::now(),
            state: GenerationState::Live,
            snapshot: None,
            platform_code: platform.code,
        };
        let volumes = snapshots.iter().map(|_| next_volume()).collect::<Result<Vec<_>, _>>()?;
        for (snapshot, volume) in snapshots.iter().zip(volumes) {
            let id = snapshot.store(&trees.objects).unwrap();
            let (site, created) = (snapshot.site.clone(), snapshot.created);
            let (author, message) = (snapshot.author.clone(), snapshot.message.clone());
            tx.put(&format!("{site}/{id}"), &SnapshotRecord { site, id, created, author, message, volume })?;
        }
        tx.next_number(&GenerationName::counter(&name))?;
        tx.put(name.as_str(), &site)?;
        tx.put(&generation.name.key(), &generation)?;
        tx.put(name.as_str(), &LivePointer { generation: 1, previous: None, switched: Timestamp::now() })
    });
    record.unwrap();
}

/// A directory of files that no other version, directory or site has.
fn make_directory(trees: &Trees, site: u64, version: u64, directory: u64, count: u64) -> Entry {
    let files = (0..count).map(|file| {
        let content =
            format!("This is file {file} of directory {directory} of site {site}, version {version}.\n");
        let content = trees.objects.put_file(&mut content.as_bytes(), content.len() as u64).unwrap();
        (format!("file-{file}.txt"), Entry { attributes: attributes(0o644), node: Node::File(content) })
    });
    let (tree, totals) = make_tree(trees, files);
    Entry { attributes: attributes(0o755), node: Node::Directory { tree, totals } }
}

fn root_of(trees: &Trees, directories: &[Entry]) -> Root {
    let entries = directories.iter().enumerate();
    let (tree, totals) =
        make_tree(trees, entries.map(|(number, entry)| (format!("directory-{number}"), entry.clone())));
    Root { attributes: attributes(0o755), tree, totals, links: None, next_link: 1 }
}

fn make_tree(
    trees: &Trees,
    entries: impl Iterator<Item = (String, Entry)>,
) -> (Option<sitefs::trees::TreeId>, Totals) {
    let mut changes: Vec<_> =
        entries.map(|(name, entry)| (NameKey::new(name.as_bytes()), Some(entry))).collect();
    changes.sort_by(|left, right| left.0.cmp(&right.0));
    trees.update(None, &changes).unwrap()
}

fn attributes(mode: u32) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}
