//! What is left of damaged tables, and tables of another time.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// How many volumes there are.
const VOLUMES: u32 = 6;

/// How many files each has.
const FILES: u32 = 9;

const PAGE: usize = 4096;

fn mark(number: u8) -> Mark {
    Mark([number; 16])
}

/// What a volume shows: paths with contents.
fn shown(volume: &Volume) -> Result<BTreeMap<String, Vec<u8>>, LiveError> {
    let mut found = BTreeMap::new();
    let root = volume.root();
    for name in names(volume, root, 100) {
        let node = volume.lookup(root, name.as_bytes())?;
        let bytes = if node.kind == FileKind::File { content(volume, node.id) } else { Vec::new() };
        found.insert(name, bytes);
    }
    Ok(found)
}

/// A closed store with changes in every volume; what each shows.
fn closed() -> (Store, Vec<BTreeMap<String, Vec<u8>>>) {
    let mut store = Store::new();
    let mut truth = Vec::new();
    for number in 1..=VOLUMES {
        let volume = store.attach(number, &empty_root());
        for file in 0..FILES {
            put(
                &volume,
                volume.root(),
                &format!("file {file} of {number}"),
                format!("{number} {file}").as_bytes(),
            );
        }
        volume.make_directory(volume.root(), b"directory", 0o755, USER).unwrap();
        truth.push(shown(&volume).unwrap());
    }
    store.volumes = None;
    (store, truth)
}

/// Puts the new tables in place of the damaged ones, for as many volumes as are lost.
fn put_right(store: &mut Store, salvaged: &Salvaged) -> BTreeSet<VolumeNumber> {
    let lost: BTreeSet<_> =
        (1..=VOLUMES).map(VolumeNumber).filter(|number| salvaged.is_lost(*number)).collect();
    put_in_place(&store.live, &lost).unwrap();
    store.open();
    lost
}

#[test]
fn sound_tables_are_left_alone() {
    let (store, _) = closed();
    assert!(salvage(&store.live, KnownMark::Any).unwrap().is_none());
    assert!(!store.live.join("live.new.redb").exists());
}

#[test]
fn whatever_page_is_damaged_volumes_that_are_kept_are_as_they_were() {
    let (mut store, truth) = closed();
    let path = store.live.join("live.redb");
    let pristine = std::fs::read(&path).unwrap();
    let uppers = store.live.join("upper");
    let saved = store.live.with_file_name("saved");
    assert!(std::process::Command::new("cp").arg("-a").args([&uppers, &saved]).status().unwrap().success());
    let (mut kept, mut lost) = (0, 0);
    let pages = pristine.chunks(PAGE).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    for (page, bytes) in pages {
        for (kind, at) in [("flip", 700), ("zeros", 0)] {
            let context = format!("{kind} at {at} of page {page}");
            let mut damaged = pristine.clone();
            let here = &mut damaged[page * PAGE..page * PAGE + bytes.len()];
            match kind {
                "flip" => here[at % bytes.len()] ^= 4,
                _ => here.fill(0),
            }
            std::fs::write(&path, damaged).unwrap();
            match salvage(&store.live, KnownMark::Any).unwrap_or_else(|error| panic!("{context}: {error}")) {
                // A page that nothing is in any more.
                None => store.open(),
                Some(salvaged) => lost += put_right(&mut store, &salvaged).len(),
            }
            for (number, truth) in (1..=VOLUMES).zip(&truth) {
                let volume = store.attach(number, &empty_root());
                let found = shown(&volume).unwrap_or_else(|error| panic!("{context}: {error}"));
                // One that is lost is empty, as its base is.
                assert!(found == *truth || found.is_empty(), "{context}: volume {number} shows {found:?}");
                kept += usize::from(!found.is_empty());
            }
            store.volumes = None;
            std::fs::remove_dir_all(&store.live).unwrap();
            std::fs::create_dir(&store.live).unwrap();
            assert!(
                std::process::Command::new("cp")
                    .arg("-a")
                    .args([&saved, &uppers])
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }
    assert!(kept > 0 && lost > 0, "{kept} kept, {lost} lost");
}

#[test]
fn a_damaged_value_costs_its_volume_alone() {
    let (mut store, truth) = closed();
    let path = store.live.join("live.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    // The name is in the row of the node, too, whose checksum then is wrong.
    let name = b"file 7 of 3";
    for at in (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(name)).collect::<Vec<_>>() {
        bytes[at] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
    let salvaged = salvage(&store.live, KnownMark::Any).unwrap().unwrap();
    assert_eq!(put_right(&mut store, &salvaged), BTreeSet::from([VolumeNumber(3)]));
    for (number, truth) in (1..=VOLUMES).zip(&truth) {
        let found = shown(&store.attach(number, &empty_root())).unwrap();
        assert!(if number == 3 { found.is_empty() } else { found == *truth }, "volume {number}: {found:?}");
    }
}

#[test]
fn tables_of_another_time_are_not_opened_and_nothing_of_them_is_kept() {
    let (mut store, _) = closed();
    let path = store.live.join("live.redb");
    let trees = Arc::clone(&store.trees);
    let live = store.live.clone();
    let open = |known, next| {
        let marks = Marks { known, next: mark(next) };
        Volumes::open_marked(&live, Arc::clone(&trees), Some(marks)).map(drop)
    };
    // Tables from before there were marks, and records that never had one.
    open(KnownMark::Never, 1).unwrap();
    open(KnownMark::Mark(mark(1)), 2).unwrap();
    let older = std::fs::read(&path).unwrap();
    open(KnownMark::Mark(mark(2)), 3).unwrap();
    // The power failed before the records had it.
    open(KnownMark::Mark(mark(2)), 4).unwrap();
    open(KnownMark::Mark(mark(4)), 5).unwrap();
    let newer = std::fs::read(&path).unwrap();
    let is_other = |known| matches!(open(known, 9), Err(LiveError::OtherTime { .. }));
    assert!(is_other(KnownMark::Mark(mark(2))), "older records");
    assert!(is_other(KnownMark::Never), "records that lost all they had");
    for tables in [older, Vec::new()] {
        std::fs::write(&path, &tables).unwrap();
        assert!(is_other(KnownMark::Mark(mark(5))), "{} bytes", tables.len());
    }
    for number in 1..=VOLUMES {
        assert!(live.join(format!("upper/{number:06x}")).exists(), "the contents of volume {number}");
    }
    std::fs::write(&path, newer).unwrap();
    let salvaged = salvage(&live, KnownMark::Mark(mark(4))).unwrap();
    assert!(salvaged.is_none(), "the mark before counts");
    open(KnownMark::Any, 6).unwrap();
    let salvaged = salvage(&live, KnownMark::Mark(mark(7))).unwrap().unwrap();
    assert_eq!(put_right(&mut store, &salvaged).len(), VOLUMES as usize);
    store.volumes = None;
    open(KnownMark::Mark(mark(7)), 8).unwrap();
}

#[test]
fn a_changed_length_of_an_upper_file_is_found() {
    let (mut store, _) = closed();
    store.open();
    let volume = store.attach(1, &empty_root());
    let id = put(&volume, volume.root(), "long", b"0123456789");
    store.volumes().sync_all().unwrap();
    let none = BTreeSet::new();
    let findings = || {
        let mut findings = Vec::new();
        let mut audit = crate::trees::Audit::new(&store.trees, &none);
        volume.audit(&mut audit, &mut |finding| findings.push(finding)).unwrap();
        findings
    };
    assert_eq!(findings().len(), 0);
    let upper = |content: &[u8]| {
        let mut found = Vec::new();
        let mut directories = vec![store.live.join("upper/000001")];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { directories.push(path) } else { found.push(path) }
            }
        }
        found.into_iter().find(|path| std::fs::read(path).unwrap() == content).unwrap()
    };
    let path = upper(b"0123456789");
    let handle = volume.open(id, WRITE, false).unwrap().handle;
    std::fs::write(&path, b"012345678901").unwrap();
    assert_eq!(findings().len(), 0, "whoever writes it knows how long it is");
    volume.release(handle).unwrap();
    assert_eq!(findings().len(), 0);
    // Nobody has a checksum of what is being changed: the medium is trusted with it, as by ext4.
    std::fs::write(&path, b"01234X678901").unwrap();
    assert_eq!((findings().len(), &content(&volume, id)[..]), (0, &b"01234X678901"[..]));
    for (content, word) in [(&b"0123"[..], "4 bytes"), (b"0123456789abcdef", "16 bytes")] {
        std::fs::write(&path, content).unwrap();
        let findings = findings();
        assert_eq!((findings.len(), findings[0].path.to_str()), (1, Some("long")));
        assert!(findings[0].reason.contains(word), "{}", findings[0].reason);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(findings()[0].reason.contains("no file"));
}
