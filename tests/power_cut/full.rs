//! The disk is full, at one amount of free space after another.

use std::fs::{self, OpenOptions};

use rustix::fs::FallocateFlags;

use crate::disk::Mounted;
use crate::numbers::{Numbers, rounds, seed};
use crate::place::Place;
use crate::workload::Workload;

const DISK_BYTES: u64 = 192 << 20;

/// The most that is left free, in bytes: more than any one step needs.
const FREE_BYTES_MAX: u64 = 6 << 20;

/// How many steps are tried on the full disk.
const STEPS: usize = 8;

/// Whether an error says what is the matter. SQLite has words of its own where it cannot write to or sync a file.
fn is_clear(error: &str) -> bool {
    let says = |texts: &[&str]| texts.iter().any(|text| error.to_lowercase().contains(text));
    let sqlite = ["readonly database", "unable to open", "disk i/o error"];
    says(&["no space", "is full", "disk full", "make room"])
        || (error.starts_with("insert into") && says(&sqlite))
}

#[test]
fn a_full_disk_is_told_and_all_is_right_when_there_is_room_again() {
    let seed = seed();
    let points = rounds("SITEFS_TEST_FULL", 8);
    let place = Place::in_memory();
    let image = place.path("recording/image");
    OpenOptions::new().write(true).create_new(true).open(&image).unwrap().set_len(DISK_BYTES).unwrap();
    let disk = Mounted::mount(&image, &place.path("disk"), true);
    let mut workload = Workload::begin(&place, seed);
    let mut numbers = Numbers::new(seed ^ 3);
    let mut refused = 0;
    for point in 0..points {
        let keep_free = FREE_BYTES_MAX * point as u64 / points as u64;
        let filler = place.path("disk/filler");
        let file = OpenOptions::new().write(true).create_new(true).open(&filler).unwrap();
        let space = rustix::fs::statvfs(place.path("disk")).unwrap();
        let mut bytes = (space.f_bavail * space.f_frsize).saturating_sub(keep_free);
        // Some of what is free is wanted for the filler's own extents.
        while bytes > 0 && rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).is_err() {
            bytes = bytes.saturating_sub(32 << 10);
        }
        drop(file);
        for _ in 0..STEPS {
            if let Err(error) = workload.step() {
                assert!(is_clear(&error), "{keep_free} bytes free: {error}");
                refused += 1;
                workload.settle();
            }
            let faults = workload.unreadable();
            assert!(faults.is_empty(), "{keep_free} bytes free:\n  {}", faults.join("\n  "));
        }
        fs::remove_file(&filler).unwrap();
        // What was refused may be half done where only a person can end it.
        let _ = place.sitefs(&["update", "shop", "--abort"]);
        workload.settle();
        // The first commit after there is room may still be under way.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        for _ in 0..2 {
            workload.step().unwrap_or_else(|error| panic!("with room again, after {keep_free}: {error}"));
        }
        let faults = workload.faults(&mut numbers);
        assert!(faults.is_empty(), "with room again, after {keep_free}:\n  {}", faults.join("\n  "));
        if point % 5 == 4 {
            place.kill();
            place.serve().unwrap();
            let faults = workload.faults(&mut numbers);
            assert!(faults.is_empty(), "killed after {keep_free}:\n  {}", faults.join("\n  "));
            workload.settle();
        }
    }
    place.stop().unwrap();
    place.unmount();
    disk.unmount();
    eprintln!("{points} amounts of free space, {refused} steps refused");
    assert!(refused > 0, "the disk was never full");
}
