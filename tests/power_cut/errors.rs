//! The disk under the store refuses to be read or written.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use crate::check::{check, readable};
use crate::damage::{KINDS, files};
use crate::disk::{Mounted, extents};
use crate::numbers::{Numbers, rounds, seed};
use crate::place::Place;
use crate::recorder::{Access, EVERYTHING, Recorder};
use crate::workload::Workload;

const DISK_BYTES: u64 = 192 << 20;

/// How much becomes unreadable, in bytes.
const BLOCK_BYTES: u64 = 4096;

const STEPS: usize = 30;

/// What an application or the caller of a command is told.
fn is_clear(error: &str) -> bool {
    // SQLite has words of its own.
    let words = ["os error", "disk i/o error", "readonly database", "unable to open", "read-only"];
    words.iter().any(|word| error.to_lowercase().contains(word))
}

/// Files of a kind that have bytes on the disk.
fn of_kind(place: &Place, kind: &str) -> Vec<PathBuf> {
    let store = place.path("disk/store");
    let mut all = Vec::new();
    files(&store, &mut all);
    all.retain(|path| path.strip_prefix(&store).unwrap().to_str().unwrap().starts_with(kind));
    all.retain(|path| fs::metadata(path).unwrap().len() > 0);
    all.sort();
    all
}

fn assert_no_panic(place: &Place, context: &str) {
    let log = fs::read_to_string(place.path("disk/store/daemon.log")).unwrap_or_default();
    assert!(!log.contains("panicked at") && !log.contains("defect"), "{context}: {log}");
}

#[test]
fn what_cannot_be_read_is_told_and_all_is_right_when_it_can_be_again() {
    let seed = seed();
    let errors = rounds("SITEFS_TEST_READ_ERRORS", 5);
    let place = Place::new();
    let mut recorder = Recorder::start(&place.path("recording"), DISK_BYTES);
    let disk = Mounted::mount(&recorder.disk(), &place.path("disk"), true);
    let ledger = Workload::history(&place, seed, STEPS);
    let mut numbers = Numbers::new(seed ^ 5);
    let (mut found, mut refused) = (0, 0);
    disk.unmount();
    for number in 0..errors {
        let kind = KINDS[number % KINDS.len()];
        let disk = Mounted::mount(&recorder.disk(), &place.path("disk"), false);
        let candidates = of_kind(&place, kind);
        let path = candidates[numbers.below(candidates.len() as u64) as usize].clone();
        let extents = extents(&path);
        let extent = extents[numbers.below(extents.len() as u64) as usize].clone();
        let start = extent.start + numbers.below((extent.end - extent.start) / BLOCK_BYTES) * BLOCK_BYTES;
        // What the kernel has of it in memory goes with the mount.
        disk.unmount();
        let disk = Mounted::mount(&recorder.disk(), &place.path("disk"), false);
        let bad = start..start + BLOCK_BYTES;
        recorder.fail(Access::Read, std::slice::from_ref(&bad));
        let context = format!("read error {number} in {} at {start} on the disk", path.display());
        match place.serve() {
            Err(error) => {
                assert!(is_clear(&error) && error.contains("redb"), "{context}: {error}");
                place.kill();
                place.unmount();
                refused += 1;
                recorder.heal();
                place.serve().unwrap_or_else(|error| panic!("{context}: healed: {error}"));
            }
            Ok(()) => {
                let wrong = readable(&place, &ledger, u64::MAX).0;
                let wrong: Vec<_> = wrong.into_iter().filter(|fault| !is_clear(fault)).collect();
                assert!(wrong.is_empty(), "{context}: served wrongly:\n  {}", wrong.join("\n  "));
                let verified = place.sitefs(&["verify"]);
                assert!([0, 1].contains(&verified.exit), "{context}: {}", verified.stderr);
                assert!(verified.exit == 1 || kind.ends_with(".redb"), "{context}: not found");
                found += usize::from(verified.exit == 1);
                place.done(&["status"]);
                recorder.heal();
                // What could not be read at the start is looked at again.
                place.done(&["verify"]);
            }
        }
        let faults = check(&place, &ledger, u64::MAX, &mut numbers).0;
        assert!(faults.is_empty(), "{context}: healed:\n  {}", faults.join("\n  "));
        assert_no_panic(&place, &context);
        place.stop().unwrap_or_else(|error| panic!("{context}: stop: {error}"));
        place.unmount();
        disk.unmount();
    }
    recorder.finish();
    eprintln!("{errors} read errors: {found} found by verify, {refused} kept the daemon from starting");
}

/// What of the disk refuses to be written.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// The places of files of a kind, for a time.
    Kind(&'static str),
    /// Everything, from now on.
    All,
}

#[test]
fn what_cannot_be_written_is_told_and_what_was_acknowledged_is_there() {
    let seed = seed();
    let errors = rounds("SITEFS_TEST_WRITE_ERRORS", 3);
    let place = Place::new();
    let mut recorder = Recorder::start(&place.path("recording"), DISK_BYTES);
    let mut disk = Mounted::mount(&recorder.disk(), &place.path("disk"), true);
    let mut workload = Workload::begin(&place, seed);
    let parts = [
        Part::Kind("live/live.redb"),
        Part::Kind("objects/packs/"),
        Part::Kind("catalog.redb"),
        Part::All,
        Part::Kind("objects/index.redb"),
        Part::Kind("live/upper/"),
    ];
    let mut numbers = Numbers::new(seed ^ 6);
    let mut refused = 0;
    for number in 0..errors {
        let part = parts[number % parts.len()];
        let context = format!("write errors {number}, {part:?}");
        for _ in 0..numbers.below(12) {
            workload.step().unwrap_or_else(|error| panic!("{context}: before: {error}"));
        }
        let ranges: Vec<Range<u64>> = match part {
            Part::All => std::iter::once(EVERYTHING).collect(),
            Part::Kind(kind) => of_kind(&place, kind).iter().flat_map(|path| extents(path)).collect(),
        };
        recorder.fail(Access::Write, &ranges);
        for _ in 0..STEPS {
            if let Err(error) = workload.step() {
                assert!(is_clear(&error), "{context}: {error}");
                refused += 1;
                break;
            }
        }
        let status = place.sitefs(&["status"]);
        let said = status.answer().err().unwrap_or_default();
        assert!(place.is_running() && (said.is_empty() || is_clear(&said)), "{context}: status: {said}");
        if matches!(part, Part::Kind(_)) {
            recorder.heal();
            // The same daemon goes on: the commit after the failed one is at most a second away.
            std::thread::sleep(std::time::Duration::from_millis(1500));
            let _ = place.sitefs(&["update", "shop", "--abort"]);
            fs::File::open(place.site("files")).and_then(|directory| directory.sync_all()).unwrap();
            workload.settle();
            for _ in 0..4 {
                workload.step().unwrap_or_else(|error| panic!("{context}: healed: {error}"));
            }
        }
        assert_no_panic(&place, &context);
        // What is only in the kernel's memory and not on the disk shows when it is read again.
        place.kill();
        place.unmount();
        disk.unmount();
        recorder.heal();
        disk = Mounted::mount(&recorder.disk(), &place.path("disk"), false);
        place.serve().unwrap_or_else(|error| panic!("{context}: again: {error}"));
        let faults = workload.faults(&mut numbers);
        assert!(faults.is_empty(), "{context}: again:\n  {}", faults.join("\n  "));
        let _ = place.sitefs(&["update", "shop", "--abort"]);
        workload.settle();
    }
    place.stop().unwrap();
    place.unmount();
    disk.unmount();
    recorder.finish();
    eprintln!("{errors} times the disk refused to be written, {refused} steps were refused");
    assert!(refused > 0, "nothing was ever refused");
}
