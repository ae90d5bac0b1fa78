//! Stopping at every write and sync, and disks that fail.

use std::sync::Arc;

use super::super::media::Directory;
use super::super::packs::Sizes;
use super::disk::{Disk, Faults, Numbers};
use super::*;

/// Small enough that a short run fills buffers, packs and batches.
const SMALL: Sizes = Sizes {
    pack_bytes: 20_000,
    buffer_bytes: 2_000,
    dirty_bytes: 9_000,
    batch_objects: 12,
    sweep_objects: 7,
};

/// A store whose packs are on a disk of the test's making.
pub(super) struct Rig {
    directory: tempfile::TempDir,
    pub(super) disk: Arc<Disk>,
    sizes: Sizes,
}

impl Rig {
    pub(super) fn new() -> Rig {
        let directory = directory();
        Objects::create(directory.path()).unwrap();
        Rig { directory, disk: Disk::new(), sizes: SMALL }
    }

    pub(super) fn open(&self) -> Result<Objects, ObjectsError> {
        Objects::open_on(self.directory.path(), self.disk.clone(), self.sizes)
    }

    pub(super) fn index(&self) -> std::path::PathBuf {
        self.directory.path().join("index.redb")
    }

    /// The same store after a crash: other packs, and the index as it is on the disk now, or none.
    pub(super) fn crashed(&self, disk: Arc<Disk>, with_index: bool) -> Rig {
        let directory = directory();
        Objects::create(directory.path()).unwrap();
        let index = self.directory.path().join("index.redb");
        if with_index && index.exists() {
            std::fs::copy(index, directory.path().join("index.redb")).unwrap();
        }
        Rig { directory, disk, sizes: self.sizes }
    }
}

/// The object of a number: some compress, some do not, some repeat.
pub(super) fn object(number: u64) -> Vec<u8> {
    let length = Numbers::new(number << 20).below(1500) as usize;
    if number.is_multiple_of(3) { noise(number, length) } else { text(number, length) }
}

/// Puts objects with flushes between; stops at the first error. Returns the numbers that were put, and how many of
/// them a flush vouched for.
fn work(objects: &Objects, range: std::ops::Range<u64>) -> (Vec<u64>, usize) {
    let (mut put, mut flushed) = (Vec::new(), 0);
    for number in range {
        // Every seventh is one that came before.
        let number = if number % 7 == 6 { number / 2 } else { number };
        if objects.put(Kind::Chunk, &object(number)).is_err() {
            break;
        }
        put.push(number);
        if number % 5 == 4 {
            if objects.flush().is_err() {
                break;
            }
            flushed = put.len();
        }
    }
    (put, flushed)
}

pub(super) fn check_has(objects: &Objects, numbers: &[u64], context: &str) {
    for number in numbers {
        let content = object(*number);
        let id = ObjectId::of(Kind::Chunk, &content);
        let found = objects.get(Kind::Chunk, id);
        let is_there = found.as_ref().is_ok_and(|found| found[..] == content[..]);
        assert!(is_there, "object {number} {context}: {:?}", found.err());
    }
}

pub(super) fn check_sound(objects: &Objects, context: &str) {
    let report = objects.verify(&mut |_| ()).unwrap();
    assert_eq!(report.damages, [], "{context}");
    assert_eq!(report.sound, objects.usage().objects, "{context}");
}

/// Ends a store as a crash does: without a last flush.
fn kill(objects: Objects, disk: &Disk) {
    disk.set_faults(Faults { steps: Some(0), ..Faults::default() });
    drop(objects);
}

#[test]
fn a_crash_at_every_write_keeps_what_was_flushed() {
    let mut stop = 0;
    loop {
        let rig = Rig::new();
        let objects = rig.open().unwrap();
        rig.disk.set_faults(Faults { steps: Some(stop), ..Faults::default() });
        let (put, flushed) = work(&objects, 0..70);
        let finished = !rig.disk.stopped();
        for (cut, with_index) in [(None, true), (Some(stop), true), (Some(stop + 1000), stop % 2 == 0)] {
            let context = format!("stopped after {stop} steps, cut {cut:?}, index {with_index}");
            let disk = cut.map_or_else(|| rig.disk.after_kill(), |seed| rig.disk.after_power_cut(seed));
            let after = rig.crashed(disk, with_index);
            let reopened = after.open().unwrap_or_else(|error| panic!("{context}: {error}"));
            check_has(&reopened, &put[..flushed], &context);
            check_sound(&reopened, &context);
            if with_index {
                // Life goes on, also through another power cut.
                let (again, flushed_again) = work(&reopened, 0..30);
                assert_eq!(again.len(), 30, "{context}");
                kill(reopened, &after.disk);
                let last = after.crashed(after.disk.after_power_cut(stop), stop % 3 == 0);
                let reopened = last.open().unwrap();
                check_has(&reopened, &put[..flushed], &context);
                check_has(&reopened, &again[..flushed_again], &context);
                check_sound(&reopened, &context);
            }
        }
        kill(objects, &rig.disk);
        if finished {
            assert!(stop > 50, "the work has only {stop} steps");
            break;
        }
        stop += 1;
    }
}

#[test]
fn a_failed_sync_is_made_good_in_a_new_pack() {
    let rig = Rig::new();
    let objects = rig.open().unwrap();
    let (put, _) = work(&objects, 0..20);
    for round in 0..4_u64 {
        let numbers: Vec<u64> = (100 * (round + 1)..100 * (round + 1) + 7).collect();
        for number in &numbers {
            objects.put(Kind::Chunk, &object(*number)).unwrap();
        }
        rig.disk.set_faults(Faults { failing_syncs: 1, ..Faults::default() });
        objects.flush().unwrap();
        check_has(&objects, &numbers, "after the failed sync");
        let after = rig.crashed(rig.disk.after_power_cut(round), round % 2 == 0);
        let reopened = after.open().unwrap();
        check_has(&reopened, &put, "a power cut later");
        check_has(&reopened, &numbers, "a power cut later");
        check_sound(&reopened, "a power cut later");
    }
    check_sound(&objects, "at the end");
}

#[test]
fn a_device_that_keeps_failing_stops_the_store_and_nothing_refers_to_what_it_lost() {
    // Large buffers: nothing is flushed unasked.
    let rig = Rig { sizes: Sizes::default(), ..Rig::new() };
    let objects = rig.open().unwrap();
    let (put, flushed) = work(&objects, 0..20);
    assert_eq!(put.len(), flushed);
    let lost: Vec<u64> = (100..107).collect();
    for number in &lost {
        objects.put(Kind::Chunk, &object(*number)).unwrap();
    }
    rig.disk.set_faults(Faults { failing_syncs: 2, ..Faults::default() });
    assert!(matches!(objects.flush(), Err(ObjectsError::Failed { .. })));
    // Another thread's flush must not succeed now: its objects may be among the lost.
    assert!(matches!(objects.flush(), Err(ObjectsError::Failed { .. })));
    assert!(matches!(objects.put(Kind::Chunk, b"new"), Err(ObjectsError::Failed { .. })));
    check_has(&objects, &put, "in the failed store");
    for number in &lost {
        assert!(!objects.contains(ObjectId::of(Kind::Chunk, &object(*number))).unwrap());
    }
    assert_eq!(objects.usage().objects, u64::try_from(unique(&put)).unwrap());
    drop(objects);

    // The kernel's cache still shows nothing of them to the next process.
    let reopened = rig.open().unwrap();
    check_has(&reopened, &put, "reopened");
    for number in &lost {
        assert!(!reopened.contains(ObjectId::of(Kind::Chunk, &object(*number))).unwrap());
        reopened.put(Kind::Chunk, &object(*number)).unwrap();
    }
    reopened.flush().unwrap();
    let after = rig.crashed(rig.disk.after_power_cut(0), false);
    let last = after.open().unwrap();
    check_has(&last, &put, "a power cut later");
    check_has(&last, &lost, "a power cut later");
    check_sound(&last, "a power cut later");
}

fn unique(numbers: &[u64]) -> usize {
    numbers.iter().map(|number| object(*number)).collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
    for free_bytes in (0..30_000).step_by(1_777) {
        let rig = Rig::new();
        let objects = rig.open().unwrap();
        rig.disk.set_faults(Faults { free_bytes: Some(free_bytes), ..Faults::default() });
        let mut put = Vec::new();
        let error = (0..200)
            .find_map(|number| {
                let result = objects.put(Kind::Chunk, &object(number));
                put.extend(result.is_ok().then_some(number));
                result.err()
            })
            .expect("the disk fills up");
        assert!(error.is_disk_full(), "{error}");
        assert!(objects.flush().unwrap_err().is_disk_full());
        check_has(&objects, &put, "on the full disk");
        rig.disk.set_faults(Faults::default());
        objects.flush().unwrap();
        let after = rig.crashed(rig.disk.after_power_cut(7), true);
        let reopened = after.open().unwrap();
        check_has(&reopened, &put, "a power cut later");
        check_sound(&reopened, "a power cut later");
        objects.put(Kind::Chunk, &object(1000)).unwrap();
        check_sound(&objects, "with room again");
    }
}

#[test]
fn a_full_disk_below_packs_index_and_plain_files_is_survived() {
    let Some(disk) = crate::base::testing::SmallDisk::mount(12 << 20) else { return };
    let directory = disk.path().join("store");
    std::fs::create_dir(&directory).unwrap();
    Objects::create(&directory).unwrap();
    let objects = Objects::open_on(
        &directory,
        Arc::new(Directory::new(&directory.join("packs"))),
        Sizes {
            pack_bytes: 1 << 20,
            buffer_bytes: 20_000,
            dirty_bytes: 100_000,
            batch_objects: 500,
            sweep_objects: 100,
        },
    )
    .unwrap();
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; 3 << 20]).unwrap();
    let (mut put, mut files) = (Vec::new(), Vec::new());
    let error = (0..10_000)
        .find_map(|number| {
            let result = objects.put(Kind::Chunk, &object(number)).map(|_| put.push(number)).and_then(|()| {
                if number % 1000 == 999 {
                    files.push(objects.put_file(&mut &noise(number, 1 << 20)[..], 0)?);
                }
                Ok(())
            });
            result.err()
        })
        .expect("the disk fills up");
    assert!(error.is_disk_full(), "{error}");
    for number in 0..3 {
        let result = objects.put_file(&mut &noise(number, 3 << 20)[..], 0);
        assert!(result.is_err_and(|error| error.is_disk_full()));
        check_has(&objects, &put, "on the full disk");
    }
    std::fs::remove_file(&filler).unwrap();
    objects.flush().unwrap();
    check_has(&objects, &put, "with room again");
    drop(objects);
    let objects = Objects::open(&directory).unwrap();
    check_has(&objects, &put, "reopened");
    assert!(!files.is_empty());
    for (content, number) in files.iter().zip([999, 1999, 2999]) {
        assert_eq!(read_all(&objects, content), noise(number, 1 << 20));
    }
    check_sound(&objects, "reopened");
}
