//! Disks that refuse to be read in places.

use super::super::index::damage_mark;
use super::crash::{Rig, check_has, check_sound, object};
use super::disk::Faults;
use super::*;

/// A part of a pack in the middle: one block.
const BAD: (u32, std::ops::Range<usize>) = (2, 4096..8192);

const OBJECTS: std::ops::Range<u64> = 0..200;

/// A closed store of several packs.
fn closed() -> Rig {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    OBJECTS.for_each(|number| assert!(store.put(Kind::Chunk, &object(number)).is_ok()));
    drop(store);
    assert!(rig.disk.lengths().len() > 3);
    rig
}

fn is_there(store: &Objects, number: u64) -> bool {
    let content = object(number);
    store.get(Kind::Chunk, ObjectId::of(Kind::Chunk, &content)).is_ok_and(|found| found[..] == content[..])
}

fn fail(rig: &Rig, unreadable: (u32, std::ops::Range<usize>)) {
    rig.disk.set_faults(Faults { unreadable: vec![unreadable], ..Faults::default() });
}

fn heal(rig: &Rig) {
    rig.disk.set_faults(Faults::default());
}

/// The pack is whole but for one block, and so is the index; both are to be known as such.
fn check_partial(rig: &Rig, store: &Objects) {
    let lost = OBJECTS.filter(|number| !is_there(store, *number)).count();
    assert!((1..30).contains(&lost), "{lost} objects are in a block");
    let problem = store.index_problem().unwrap().to_string();
    assert!(problem.contains("00000002.pack") && problem.contains("verify --repair"), "{problem}");
    assert!(damage_mark(&rig.index()).exists());
    assert!(matches!(store.prepare_collection().err(), Some(ObjectsError::Unread { .. })));
    let report = store.verify(&mut |_| ()).unwrap();
    assert!(report.needs_repair());
}

fn check_whole(rig: &Rig, store: &Objects) {
    check_has(store, &OBJECTS.collect::<Vec<_>>(), "when it can be read again");
    check_sound(store, "when it can be read again");
    assert!(store.index_problem().is_none() && !damage_mark(&rig.index()).exists());
}

/// The same daemon, once the disk is well again.
fn check_mended(rig: &Rig, store: &Objects) {
    heal(rig);
    assert_eq!(store.verify(&mut |_| ()).unwrap().damages_count, 0);
    check_whole(rig, store);
}

#[test]
fn an_index_is_made_anew_beside_a_sector_that_cannot_be_read() {
    let rig = closed();
    std::fs::remove_file(rig.index()).unwrap();
    fail(&rig, BAD);
    let store = rig.open().unwrap();
    check_partial(&rig, &store);
    check_mended(&rig, &store);
}

#[test]
fn what_could_not_be_read_is_looked_at_again_at_the_next_open() {
    let rig = closed();
    std::fs::remove_file(rig.index()).unwrap();
    fail(&rig, BAD);
    drop(rig.open().unwrap());
    assert!(damage_mark(&rig.index()).exists());
    heal(&rig);
    check_whole(&rig, &rig.open().unwrap());
}

#[test]
fn a_renewal_goes_on_beside_a_sector_that_cannot_be_read() {
    let rig = closed();
    let store = rig.open().unwrap();
    let index = std::fs::read(rig.index()).unwrap();
    let name = ObjectId::of(Kind::Chunk, &object(40));
    let file = std::fs::OpenOptions::new().write(true).open(rig.index()).unwrap();
    // Copies of the page from before are changed, too.
    for (at, _) in index.windows(32).enumerate().filter(|(_, bytes)| bytes == name.as_bytes()) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x55; 32], at as u64).unwrap();
    }
    fail(&rig, BAD);
    let damages = store.verify(&mut |_| ()).unwrap().damages;
    assert!(damages.iter().any(|damage| matches!(damage, Damage::Index { .. })), "{damages:?}");
    check_partial(&rig, &store);
    check_mended(&rig, &store);
}

#[test]
fn what_stays_unreadable_is_given_up_by_a_repair_and_can_be_stored_again() {
    let rig = closed();
    std::fs::remove_file(rig.index()).unwrap();
    fail(&rig, BAD);
    let store = rig.open().unwrap();
    let bad = store.verify(&mut |_| ()).unwrap().bad;
    store.repair(&bad).unwrap();
    assert!(store.index_problem().is_none() && !damage_mark(&rig.index()).exists());
    drop(store.prepare_collection().unwrap());
    OBJECTS.for_each(|number| assert!(store.put(Kind::Chunk, &object(number)).is_ok()));
    store.flush().unwrap();
    check_has(&store, &OBJECTS.collect::<Vec<_>>(), "stored again");
    drop(store);
    check_has(&rig.open().unwrap(), &OBJECTS.collect::<Vec<_>>(), "opened again");
}

#[test]
fn the_end_of_a_pack_is_not_cut_off_because_it_cannot_be_read() {
    let rig = closed();
    let lengths = rig.disk.lengths();
    let newest = lengths.len();
    std::fs::remove_file(rig.index()).unwrap();
    fail(&rig, (newest as u32, lengths[newest - 1] as usize - 1..usize::MAX));
    let store = rig.open().unwrap();
    store.put(Kind::Chunk, b"something new").unwrap();
    store.flush().unwrap();
    drop(store);
    assert_eq!(rig.disk.lengths()[..newest], lengths);
    heal(&rig);
    check_whole(&rig, &rig.open().unwrap());
}
