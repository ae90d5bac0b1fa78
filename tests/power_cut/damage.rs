//! A bit of one of the store's files flips.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sitefs::objects::{ObjectId, Objects};

use crate::check::readable;
use crate::disk::run;
use crate::numbers::{Numbers, rounds, seed};
use crate::place::Place;
use crate::workload::Workload;

/// A kind of file, by a part of its path in the store.
pub(crate) const KINDS: [&str; 5] =
    ["objects/packs/", "objects/plain/", "objects/index.redb", "catalog.redb", "live/live.redb"];

/// Those whose damage a start finds and puts right, or nobody can find; and what says what the directory is.
const OTHERS: [&str; 3] = ["catalog.copy", "live/upper/", "FORMAT"];

const STEPS: usize = 70;

pub(crate) fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Flips a bit of a file in the part that holds something; which byte it is in.
fn flip(path: &Path, numbers: &mut Numbers) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let used: Vec<usize> = (0..bytes.len())
        .step_by(512)
        .filter(|at| bytes[*at..].iter().take(512).any(|byte| *byte != 0))
        .collect();
    let sector = used[numbers.below(used.len() as u64) as usize];
    let at = (sector + numbers.below(512) as usize).min(bytes.len() - 1);
    bytes[at] ^= 1 << numbers.below(8);
    fs::write(path, bytes).unwrap();
    at
}

/// Whether the byte `at` of a pack belongs to an object that has been reclaimed: its record stays until the pack is
/// compacted, and nobody reads it any more. Laid out as `docs/format.md` says.
fn is_reclaimed(pack: &[u8], at: usize, used: &BTreeSet<ObjectId>) -> bool {
    let Some(record) = pack[..at].windows(4).rposition(|four| four == b"sRec") else { return false };
    let name = pack[record + 20..record + 52].try_into().unwrap();
    !used.contains(&ObjectId::from_bytes(name))
}

#[test]
fn a_flipped_bit_is_found_and_named_and_never_served() {
    let seed = seed();
    let flips = rounds("SITEFS_TEST_FLIPS", 32);
    let place = Place::new();
    let ledger = Workload::history(&place, seed, STEPS);
    let store = place.path("disk/store");
    let pristine = place.path("recording/pristine");
    run("cp", &["-a", store.to_str().unwrap(), pristine.to_str().unwrap()]);
    let mut used = BTreeSet::new();
    Objects::open(&store.join("objects"))
        .unwrap()
        .each_id(&mut |id| {
            used.insert(id);
            Ok(())
        })
        .unwrap();
    let mut numbers = Numbers::new(seed ^ 4);
    let (mut found_count, mut harmless_count) = (0, 0);
    for number in 0..flips {
        let kind = KINDS.iter().chain(&OTHERS).copied().cycle().nth(number).unwrap();
        fs::remove_dir_all(&store).unwrap();
        run("cp", &["-a", pristine.to_str().unwrap(), store.to_str().unwrap()]);
        let mut all = Vec::new();
        files(&store, &mut all);
        all.retain(|path| path.strip_prefix(&store).unwrap().to_str().unwrap().starts_with(kind));
        all.sort();
        assert!(!all.is_empty(), "there is nothing in {kind}");
        let path = all[numbers.below(all.len() as u64) as usize].clone();
        let at = flip(&path, &mut numbers);
        let context = format!("flip {number} of byte {at} in {}", path.display());
        match place.serve() {
            Err(error) => {
                // Names are not to be trusted any more: better no site than a wrong one.
                let is_named = match kind {
                    "FORMAT" => error.contains("another layout"),
                    kind => kind.ends_with(".redb") && error.contains("redb"),
                };
                assert!(is_named, "{context}: {error}");
                place.kill();
                found_count += 1;
            }
            Ok(()) => {
                // Files that are written to have no checksums.
                let (is_plain, is_written) = (kind.contains("plain"), kind.contains("upper"));
                let wrong = readable(&place, &ledger, u64::MAX).0;
                let wrong: Vec<_> = wrong.into_iter().filter(|fault| !fault.contains("os error")).collect();
                assert!(
                    is_written || wrong.is_empty(),
                    "{context}: served wrongly:\n  {}",
                    wrong.join("\n  ")
                );
                let verified = place.sitefs(&["verify"]);
                assert!([0, 1].contains(&verified.exit), "{context}: {}", verified.stderr);
                let found = verified.exit == 1;
                let report: Value = serde_json::from_str(&verified.stdout).unwrap_or_else(|_| {
                    let log = fs::read_to_string(store.join("daemon.log")).unwrap_or_default();
                    panic!("{context}: no report: {}\n{log}", verified.stderr)
                });
                let is_named = |report: &Value| report["damages"].to_string().contains("index.redb");
                assert!(!found || kind != "objects/index.redb" || is_named(&report), "{context}: {report}");
                let is_harmless = || match kind {
                    "objects/packs/" => {
                        let pack = pristine.join(path.strip_prefix(&store).unwrap());
                        is_reclaimed(&fs::read(pack).unwrap(), at, &used)
                    }
                    kind => kind.ends_with(".redb") || kind == "catalog.copy" || is_written,
                };
                assert!(found || is_harmless(), "{context}: not found");
                if found && is_plain {
                    let affected = &report["affected"][0];
                    assert!(affected["site"] == "shop" && affected["path"] != "", "{context}: {report}");
                }
                found_count += usize::from(found);
                harmless_count += usize::from(!found);
                let repaired = place.sitefs(&["verify", "--repair"]);
                assert!([0, 1].contains(&repaired.exit), "{context}: {}", repaired.stderr);
                let report: Value = serde_json::from_str(&place.sitefs(&["verify"]).stdout).unwrap();
                assert_eq!(report["damages_count"], 0, "{context}: after the repair: {report}");
                let wrong = readable(&place, &ledger, u64::MAX).0;
                let wrong: Vec<_> = wrong.into_iter().filter(|fault| !fault.contains("os error")).collect();
                assert!(
                    is_written || wrong.is_empty(),
                    "{context}: after the repair:\n  {}",
                    wrong.join("\n  ")
                );
                if let Err(error) = place.stop() {
                    panic!("{context}: stop: {error}");
                }
            }
        }
        let log = fs::read_to_string(store.join("daemon.log")).unwrap_or_default();
        assert!(!log.contains("panicked at") && !log.contains("defect"), "{context}: {log}");
        place.unmount();
    }
    eprintln!("{flips} flips, {found_count} found, {harmless_count} without effect, 0 served wrongly");
    assert!(found_count > 0);
}
