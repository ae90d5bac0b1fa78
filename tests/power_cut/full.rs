//! The disk is full, at one amount of free space after another.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;

use crate::disk::Mounted;
use crate::numbers::{Numbers, rounds, seed};
use crate::place::Place;
use crate::workload::{Step, Workload};

const DISK_BYTES: u64 = 192 << 20;

/// The most that is left free, in bytes: more than any one step needs.
const FREE_BYTES_MAX: u64 = 6 << 20;

/// How many steps are tried on the full disk.
const STEPS: usize = 8;

/// How often a step must succeed, one amount after the other, until no more is tried.
const SUCCESSES: u32 = 4;

/// How much more is left free after a command has foreseen that there is too little and done nothing.
const FORESEEN_GROWTH_BYTES: u64 = 4 << 20;

/// After so many amounts everything is verified, and space is reclaimed.
const CHECK_EACH: u64 = 16;
const COLLECT_EACH: u64 = 16;

/// How many of all steps and what they lack are tried where there is no time for all.
const SAMPLES: usize = 5;

/// How long it may take until the site is right again when there is room.
const RECOVERY_MAX: Duration = Duration::from_secs(120);

/// Whether an error says what is the matter. SQLite has words of its own where it cannot write to or sync a file.
fn is_clear(error: &str) -> bool {
    let says = |texts: &[&str]| texts.iter().any(|text| error.to_lowercase().contains(text));
    let sqlite = ["readonly database", "unable to open", "disk i/o error"];
    says(&["no space", "is full", "disk full", "make room"])
        || ((error.starts_with("insert into") || error.contains("`sqlite3 ")) && says(&sqlite))
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
        let filler = Filler::leave(&place, Scarce::Bytes, keep_free);
        for _ in 0..STEPS {
            if let Err(error) = workload.step() {
                assert!(is_clear(&error), "{keep_free} bytes free: {error}");
                refused += 1;
                workload.settle();
            }
            let faults = workload.unreadable();
            assert!(faults.is_empty(), "{keep_free} bytes free:\n  {}", faults.join("\n  "));
        }
        drop(filler);
        // What was refused may be half done where only a person can end it.
        let _ = place.sitefs(&["update", "shop", "--abort"]);
        workload.settle();
        // The first commit after there is room may still be under way.
        std::thread::sleep(Duration::from_millis(1500));
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

/// Each step is begun with nothing free, then with a little more and so on, until it has succeeded several times: so
/// each of its allocations, one after the other, is the first to fail.
#[test]
fn each_allocation_of_a_step_may_fail_and_nothing_is_lost() {
    let seed = seed();
    // In bytes; without it, a few are tried with one amount each.
    let growth = rounds("SITEFS_TEST_FULL_GROWTH", 0) as u64;
    let mut numbers = Numbers::new(seed ^ 7);
    let steps = Step::OFTEN.into_iter().map(|(step, _)| step).filter(|step| *step != Step::Rest);
    let mut cases: Vec<(Step, Scarce)> =
        steps.flat_map(|step| [(step, Scarce::Bytes), (step, Scarce::Inodes)]).collect();
    // One of them alone, by its name.
    if let Ok(only) = std::env::var("SITEFS_TEST_FULL_STEP") {
        cases.retain(|(step, _)| format!("{step:?}") == only);
    }
    while growth == 0 && cases.len() > SAMPLES {
        cases.swap_remove(numbers.below(cases.len() as u64) as usize);
    }
    let mut refused = 0;
    for (step, scarce) in cases {
        let first = if growth == 0 { numbers.below(scarce.sample_max()) } else { 0 };
        refused += fail_each_allocation(step, scarce, first, scarce.growth(growth), &mut numbers);
    }
    assert!(refused > 0 || growth == 0, "nothing was ever refused");
}

/// How many steps were refused.
fn fail_each_allocation(step: Step, scarce: Scarce, first: u64, growth: u64, numbers: &mut Numbers) -> u64 {
    let place = Place::in_memory();
    let image = place.path("recording/image");
    OpenOptions::new().write(true).create_new(true).open(&image).unwrap().set_len(DISK_BYTES).unwrap();
    let disk = Mounted::mount(&image, &place.path("disk"), true);
    let mut workload = Workload::begin(&place, numbers.below(u64::MAX));
    workload.begin_with_everything();
    let (mut keep_free, mut tried, mut refused, mut successes, mut enough) = (first, 0_u64, 0, 0, 0);
    while successes < SUCCESSES {
        let context = format!("{step:?} with {keep_free} {scarce:?} free");
        let filler = Filler::leave(&place, scarce, keep_free);
        // What is not synced may need room later.
        let errors: Vec<String> =
            [workload.take(step), workload.sync()].into_iter().filter_map(Result::err).collect();
        for error in &errors {
            assert!(is_clear(error), "{context}: {error}");
        }
        assert!(place.is_running(), "{context}: the daemon has ended");
        if !errors.is_empty() {
            workload.settle();
        }
        let faults = workload.unreadable();
        assert!(faults.is_empty(), "{context}:\n  {}", faults.join("\n  "));
        drop(filler);
        let _ = place.sitefs(&["update", "shop", "--abort"]);
        let begun = Instant::now();
        while let Err(error) = workload.sync() {
            assert!(begun.elapsed() < RECOVERY_MAX, "{context}, with room again: {error}");
        }
        workload.settle();
        for step in [Step::Save, Step::Insert] {
            workload.take(step).unwrap_or_else(|error| panic!("{context}, with room again: {error}"));
        }
        tried += 1;
        if tried % CHECK_EACH == 1 || !errors.is_empty() && growth == 0 {
            let faults = workload.faults(numbers);
            assert!(faults.is_empty(), "{context}, with room again:\n  {}", faults.join("\n  "));
        }
        if tried % COLLECT_EACH == 0 {
            for step in [Step::Snapshot, Step::Prune, Step::Collect] {
                workload.take(step).unwrap_or_else(|error| panic!("{context}, with room again: {error}"));
            }
            workload.begin_with_everything();
        }
        if errors.is_empty() {
            successes += 1;
        } else {
            (successes, enough) = (0, keep_free);
            refused += 1;
        }
        if growth == 0 {
            eprintln!("{context}: {}", if errors.is_empty() { "done" } else { "refused" });
            break;
        }
        // Nothing was allocated, so there is nothing between this amount and one that may do.
        let is_foreseen =
            matches!(scarce, Scarce::Bytes) && errors.iter().any(|error| error.contains("may need"));
        keep_free += if is_foreseen { growth.max(FORESEEN_GROWTH_BYTES) } else { growth };
    }
    let faults = workload.faults(numbers);
    assert!(faults.is_empty(), "{step:?}, {scarce:?}, at the end:\n  {}", faults.join("\n  "));
    place.stop().unwrap();
    place.unmount();
    disk.unmount();
    if growth > 0 {
        eprintln!("{step:?}: {tried} amounts of {scarce:?}, refused {refused} times, never above {enough}");
    }
    refused
}

/// What there is too little of.
#[derive(Clone, Copy, Debug)]
enum Scarce {
    Bytes,
    Inodes,
}

impl Scarce {
    /// How much more is left free the next time, where it is `bytes` bytes.
    fn growth(self, bytes: u64) -> u64 {
        match self {
            Scarce::Bytes => bytes,
            Scarce::Inodes => bytes.min(1),
        }
    }

    /// What any step needs at most, or nearly.
    fn sample_max(self) -> u64 {
        match self {
            Scarce::Bytes => 256 << 10,
            Scarce::Inodes => 8,
        }
    }
}

/// What takes the room on the disk, until it is dropped.
struct Filler {
    directory: PathBuf,
}

impl Filler {
    fn leave(place: &Place, scarce: Scarce, keep_free: u64) -> Filler {
        let filler = Filler { directory: place.path("disk/filler") };
        fs::create_dir(&filler.directory).unwrap();
        let file = |number: u64| {
            let path = filler.directory.join(number.to_string());
            OpenOptions::new().write(true).create_new(true).open(path).unwrap()
        };
        let space = rustix::fs::statvfs(&filler.directory).unwrap();
        match scarce {
            Scarce::Bytes => {
                let file = file(0);
                let mut bytes = (space.f_bavail * space.f_frsize).saturating_sub(keep_free);
                // Some of what is free is wanted for the filler's own extents.
                while bytes > 0 && rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).is_err() {
                    bytes = bytes.saturating_sub(4 << 10);
                }
            }
            Scarce::Inodes => (keep_free..space.f_ffree).for_each(|number| drop(file(number))),
        }
        filler
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).unwrap();
    }
}
