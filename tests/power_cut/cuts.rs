//! The power fails: at each of many points of a recorded workload, with all, none or half of the unflushed writes; and then
//! once more, while the daemon recovers from that.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::check::check;
use crate::disk::{Mounted, run};
use crate::ledger::Ledger;
use crate::numbers::{Numbers, rounds, seed};
use crate::place::Place;
use crate::recorder::Recorder;
use crate::replay::{Recording, Unflushed};
use crate::workload::Workload;

/// The size of the disk.
const DISK_BYTES: u64 = 192 << 20;

/// How many steps the workload has for each cut.
const STEPS_PER_CUT: usize = 4;
const STEPS_MIN: usize = 160;
const STEPS_MAX: usize = 400;

/// One of so many cuts is while the store, its platforms and its site are made: a small part of what is recorded, and all
/// that is done for the first time.
const SET_UP_EACH: usize = 5;

/// After each so many cuts there are others during the recovery.
const AGAIN_EACH: usize = 5;
/// How many, each from the disk that the first has left.
const AGAIN: usize = 2;

#[test]
fn whatever_was_acknowledged_survives_a_power_cut() {
    let seed = seed();
    let cuts = rounds("SITEFS_TEST_CUTS", 15);
    let place = Place::in_memory();
    let recorder = Recorder::start(&place.path("recording"), DISK_BYTES);
    let disk = Mounted::mount(&recorder.disk(), &place.path("disk"), true);
    let begun = recorder.position();
    let mut workload = Workload::begin_at(&place, Box::new(|| recorder.position()), seed);
    let set_up = recorder.position();
    for step in 0..(cuts * STEPS_PER_CUT).clamp(STEPS_MIN, STEPS_MAX) {
        workload.step().unwrap_or_else(|error| panic!("step {step}: {error}"));
    }
    let ledger = workload.end();
    let end = recorder.position();
    place.kill();
    place.unmount();
    disk.unmount();
    recorder.finish();

    let mut recording = Recording::open(&place.path("recording"), DISK_BYTES);
    eprintln!("recorded {} writes and {} flushes", recording.len(), recording.flushes());
    let mut numbers = Numbers::new(seed ^ 1);
    let until = |number| if number % SET_UP_EACH == 0 { set_up } else { end };
    let mut points: Vec<u64> = (0..cuts).map(|number| begun + numbers.below(until(number) - begun)).collect();
    points.sort_unstable();
    let (mut failed, mut again) = (Vec::new(), 0);
    for (number, cut) in points.into_iter().enumerate() {
        let unflushed = Unflushed::ALL[number % Unflushed::ALL.len()];
        let image = recording.after_cut(cut, unflushed, &mut numbers);
        let image_path = place.path(&format!("recording/image-{number}"));
        write_sparse(&image_path, &image);
        let mut faults = Vec::new();
        if number % AGAIN_EACH == AGAIN_EACH - 1 {
            faults = cut_again(&place, &image_path, image, &ledger, cut, &mut numbers);
            again += AGAIN;
        }
        let disk = Mounted::mount(&image_path, &place.path("disk"), false);
        faults.extend(faults_of(&place, &ledger, cut, &mut numbers));
        if !faults.is_empty() {
            eprintln!(
                "cut {number} at {cut}, unflushed writes {unflushed:?}:\n  {}\n{}",
                faults.join("\n  "),
                place.log()
            );
            failed.push(cut);
            keep(&image_path, cut);
        }
        place.kill();
        place.unmount();
        disk.unmount();
        fs::remove_file(&image_path).unwrap();
    }
    eprintln!("{cuts} cuts and {again} during recoveries, {} not survived", failed.len());
    assert!(failed.is_empty(), "not survived: {failed:?}");
}

/// What is wrong with the store on the disk that a cut left.
fn faults_of(place: &Place, ledger: &Ledger, cut: u64, numbers: &mut Numbers) -> Vec<String> {
    if !place.path("disk/store/FORMAT").exists() {
        let may_be_gone = ledger.possible("store", cut).contains(&None);
        return if may_be_gone { Vec::new() } else { vec!["the store is gone".to_owned()] };
    }
    if let Err(error) = place.serve() {
        return vec![format!("the store does not open: {error}")];
    }
    let mut faults = check(place, ledger, cut, numbers).0;
    faults.extend(place.stop().err().map(|error| format!("stop: {error}")));
    faults
}

/// Starts the daemon on the disk that a cut left, has the power fail while it recovers, repairs and reclaims, and says what is
/// wrong after that.
fn cut_again(
    place: &Place,
    image_path: &Path,
    image: Vec<u8>,
    ledger: &Ledger,
    cut: u64,
    numbers: &mut Numbers,
) -> Vec<String> {
    let directory = place.path("recording/again");
    fs::create_dir(&directory).unwrap();
    let recorder = Recorder::start_on(&directory, image_path);
    let disk = Mounted::mount(&recorder.disk(), &place.path("disk"), false);
    let begun = recorder.position();
    if place.path("disk/store/FORMAT").exists() && place.serve().is_ok() {
        for verb in [&["verify", "--repair"][..], &["gc"], &["snapshot", "shop"]] {
            // Whether that is possible is looked at elsewhere.
            let _ = place.sitefs(verb);
        }
    }
    let end = recorder.position();
    place.kill();
    place.unmount();
    disk.unmount();
    recorder.finish();
    let mut recording = Recording::open_on(&directory, image);
    let mut points: Vec<u64> = (0..AGAIN).map(|_| begun + numbers.below(end - begun + 1)).collect();
    points.sort_unstable();
    let mut faults = Vec::new();
    for point in points {
        let unflushed = Unflushed::ALL[numbers.below(Unflushed::ALL.len() as u64) as usize];
        let path = directory.join("image");
        write_sparse(&path, &recording.after_cut(point, unflushed, numbers));
        let disk = Mounted::mount(&path, &place.path("disk"), false);
        let found = faults_of(place, ledger, cut, numbers);
        let context = format!("then at {point} of {begun} to {end}, {unflushed:?}");
        faults.extend(found.into_iter().map(|fault| format!("{context}: {fault}")));
        place.kill();
        place.unmount();
        disk.unmount();
    }
    fs::remove_dir_all(&directory).unwrap();
    faults
}

/// Writes a disk that is mostly empty.
fn write_sparse(path: &Path, image: &[u8]) {
    const PIECE: usize = 64 << 10;
    let file = fs::File::create(path).unwrap();
    file.set_len(image.len() as u64).unwrap();
    for (number, piece) in image.chunks(PIECE).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, (number * PIECE) as u64).unwrap();
        }
    }
}

/// Keeps the disk of a cut that was not survived, where somebody wants to look at it.
fn keep(image: &Path, cut: u64) {
    if let Some(directory) = std::env::var_os("SITEFS_TEST_KEEP") {
        let kept = Path::new(&directory).join(format!("cut-{cut}.img"));
        run("cp", &["--sparse=always", image.to_str().unwrap(), kept.to_str().unwrap()]);
    }
}
