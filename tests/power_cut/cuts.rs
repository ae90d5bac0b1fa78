//! The power fails: at each of many points of a recorded workload, with all, none or half of the unflushed writes.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::check::check;
use crate::disk::{Mounted, run};
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

#[test]
fn whatever_was_acknowledged_survives_a_power_cut() {
    let seed = seed();
    let cuts = rounds("SITEFS_TEST_CUTS", 15);
    let place = Place::in_memory();
    let recorder = Recorder::start(&place.path("recording"), DISK_BYTES);
    let disk = Mounted::mount(&recorder.disk(), &place.path("disk"), true);
    let begun = recorder.position();
    let mut workload = Workload::begin_at(&place, Box::new(|| recorder.position()), seed);
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
    let mut points: Vec<u64> = (0..cuts).map(|_| begun + numbers.below(end - begun)).collect();
    points.sort_unstable();
    let mut failed = Vec::new();
    for (number, cut) in points.into_iter().enumerate() {
        let unflushed = Unflushed::ALL[number % 3];
        let image = recording.after_cut(cut, unflushed, &mut numbers);
        let image_path = place.path(&format!("recording/image-{number}"));
        write_sparse(&image_path, &image);
        let disk = Mounted::mount(&image_path, &place.path("disk"), false);
        let mut faults = Vec::new();
        if place.path("disk/store/FORMAT").exists() {
            match place.serve() {
                Ok(()) => {
                    faults = check(&place, &ledger, cut, &mut numbers).0;
                    if let Err(error) = place.stop() {
                        faults.push(format!("stop: {error}"));
                    }
                }
                Err(error) => faults.push(format!("the store does not open: {error}")),
            }
        } else if !ledger.possible("store", cut).contains(&None) {
            faults.push("the store is gone".to_owned());
        }
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
    eprintln!("{cuts} cuts, {} survived", cuts - failed.len());
    assert!(failed.is_empty(), "not survived: {failed:?}");
}

/// Writes a disk that is mostly empty.
fn write_sparse(path: &std::path::Path, image: &[u8]) {
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
fn keep(image: &std::path::Path, cut: u64) {
    if let Some(directory) = std::env::var_os("SITEFS_TEST_KEEP") {
        let kept = std::path::Path::new(&directory).join(format!("cut-{cut}.img"));
        run("cp", &["--sparse=always", image.to_str().unwrap(), kept.to_str().unwrap()]);
    }
}
