//! Whether a place is as it must be after a cut.

use std::fs;

use serde_json::Value;

use crate::ledger::Ledger;
use crate::numbers::Numbers;
use crate::place::Place;
use crate::workload::{is_loose, live};

/// How many of the snapshots are compared with what was saved when they were taken.
const SNAPSHOTS_READ: usize = 3;

/// What is wrong at a cut; empty when all is well.
pub(crate) struct Faults(pub(crate) Vec<String>);

impl Faults {
    fn unless(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.0.push(fault());
        }
    }
}

fn shortened(value: &Option<String>) -> String {
    match value {
        Some(text) => format!("{:?} ({} bytes)", text.chars().take(30).collect::<String>(), text.len()),
        None => "absent".to_owned(),
    }
}

/// Checks everything while the daemon serves.
pub(crate) fn check(place: &Place, ledger: &Ledger, cut: u64, numbers: &mut Numbers) -> Faults {
    let mut faults = Faults(Vec::new());
    let verified = place.sitefs(&["verify"]);
    faults.unless(verified.exit == 0, || format!("verify: {}{}", verified.stdout, verified.stderr));
    let sites = match place.sitefs(&["site", "list"]).answer() {
        Ok(sites) => names(&sites["sites"], "site"),
        Err(error) => return Faults(vec![format!("site list: {error}")]),
    };
    let is_there = sites.contains(&"shop".to_owned());
    faults.unless(ledger.possible("site", cut).contains(&is_there.then(|| "shop".to_owned())), || {
        "the imported site is not there".to_owned()
    });
    for key in ledger.names("clone:", cut) {
        let found = sites.iter().any(|site| *site == key["clone:".len()..]);
        let found = found.then(|| "clone".to_owned());
        faults
            .unless(ledger.possible(&key, cut).contains(&found), || format!("{key}: {}", shortened(&found)));
    }
    if !is_there || ledger.possible("ready", cut).contains(&None) {
        return faults;
    }
    for (key, found) in [("live", live(place)), ("rows", place.rows())] {
        let possible = ledger.possible(key, cut);
        // A switch was under way: either generation.
        let is_any = found.is_ok() && possible.contains(&Some("unknown".to_owned()));
        let is_possible = found.as_ref().is_ok_and(|found| possible.contains(&Some(found.clone())));
        faults.unless(is_any || is_possible, || format!("{key} is {found:?}, may be {possible:?}"));
    }
    let possible = ledger.possible("read-only", cut);
    faults.unless(possible != [Some("on".to_owned())] || is_read_only(place), || {
        "the site takes writes and was made read-only".to_owned()
    });
    let platforms = place.sitefs(&["platform", "list"]).answer();
    let found = platforms.map(|list| names(&list["platforms"], "platform").contains(&"three".to_owned()));
    let is_possible =
        |found: bool| ledger.possible("platform", cut).contains(&found.then(|| "three".to_owned()));
    faults.unless(found.as_ref().is_ok_and(|found| is_possible(*found)), || {
        format!("platform three: {found:?}")
    });
    check_files(place, ledger, cut, &mut faults);
    check_sequence(place, ledger, cut, &mut faults);
    check_snapshots(place, ledger, cut, numbers, &mut faults);
    faults
}

/// Checks that what is there can be read, and is what it must be.
pub(crate) fn readable(place: &Place, ledger: &Ledger, cut: u64) -> Faults {
    let mut faults = Faults(Vec::new());
    check_files(place, ledger, cut, &mut faults);
    for (key, found) in [("live", live(place)), ("rows", place.rows())] {
        let possible = ledger.possible(key, cut);
        match found {
            Ok(found) => {
                let is_possible = [found.clone(), "unknown".to_owned()]
                    .into_iter()
                    .any(|value| possible.contains(&Some(value)));
                faults.unless(is_possible, || format!("{key} is {found}, may be {possible:?}"));
            }
            Err(error) => faults.0.push(format!("{key} cannot be read: os error: {error}")),
        }
    }
    faults
}

/// Whatever was begun and not acknowledged is what is found now.
pub(crate) fn settle(place: &Place, ledger: &mut Ledger, position: u64) {
    for key in ledger.names("file:", position) {
        let found = fs::read(place.site("files").join(&key["file:".len()..]));
        ledger.found(&key, found.ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()), position);
    }
    let sites = names(&place.done(&["site", "list"])["sites"], "site");
    for key in ledger.names("clone:", position) {
        let is_there = sites.iter().any(|site| *site == key["clone:".len()..]);
        ledger.found(&key, is_there.then(|| "clone".to_owned()), position);
    }
    if is_read_only(place) {
        // On a full disk it stays so.
        let _ = place.sitefs(&["readonly", "shop", "off"]);
    }
    ledger.found("read-only", is_read_only(place).then(|| "on".to_owned()), position);
    let platforms = names(&place.done(&["platform", "list"])["platforms"], "platform");
    ledger.found("platform", platforms.contains(&"three".to_owned()).then(|| "three".to_owned()), position);
    let listed = names(&place.done(&["log", "shop"])["snapshots"], "id");
    ledger.found_snapshots(&listed.into_iter().collect());
    ledger.found("live", Some(live(place).unwrap()), position);
    ledger.found("rows", Some(place.rows().unwrap()), position);
    ledger.found_sequence(sequence(place).unwrap(), position);
}

/// Whether code and database refuse writes.
fn is_read_only(place: &Place) -> bool {
    let probe = place.site("probe");
    let written = fs::write(&probe, "");
    let _ = fs::remove_file(&probe);
    written.is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}

fn names(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry[field].as_str().unwrap().to_owned()).collect()
}

fn check_files(place: &Place, ledger: &Ledger, cut: u64, faults: &mut Faults) {
    for key in ledger.names("file:", cut) {
        let found = match fs::read(place.site("files").join(&key["file:".len()..])) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                faults.0.push(format!("{key}: {error}"));
                continue;
            }
        };
        let possible = ledger.possible(&key, cut);
        faults.unless(possible.contains(&found), || {
            let possible: Vec<String> = possible.iter().map(shortened).collect();
            format!("{key} is {}, may be {possible:?}", shortened(&found))
        });
    }
    let loose = fs::read_dir(place.site("files/loose")).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match loose {
        Ok(entries) => {
            for entry in entries {
                let name = entry.file_name().into_string().unwrap();
                match fs::read(entry.path()) {
                    Ok(found) => faults.unless(is_loose(&name, &found), || format!("loose/{name} is torn")),
                    Err(error) => faults.0.push(format!("loose/{name}: {error}")),
                }
            }
        }
        Err(error) => faults.0.push(format!("loose: {error}")),
    }
}

fn check_sequence(place: &Place, ledger: &Ledger, cut: u64, faults: &mut Faults) {
    match sequence(place) {
        Ok(length) => {
            let (least, most) = ledger.sequence_length(cut);
            faults.unless((least..=most).contains(&length), || {
                format!("{length} directories of the sequence are there, {least} were synced, {most} begun")
            });
        }
        Err(error) => faults.0.push(error),
    }
}

/// How many directories of the sequence are there: the first ones, or something is lost from the middle.
pub(crate) fn sequence(place: &Place) -> Result<usize, String> {
    let entries = fs::read_dir(place.site("files/sequence")).map_err(|error| error.to_string())?;
    let mut numbers: Vec<usize> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    if numbers.iter().copied().eq(0..numbers.len()) {
        Ok(numbers.len())
    } else {
        Err(format!("the sequence has a hole: {numbers:?}"))
    }
}

fn check_snapshots(place: &Place, ledger: &Ledger, cut: u64, numbers: &mut Numbers, faults: &mut Faults) {
    let listed = match place.sitefs(&["log", "shop"]).answer() {
        Ok(log) => names(&log["snapshots"], "id"),
        Err(error) => return faults.0.push(format!("log: {error}")),
    };
    let (mut readable, mut newest) = (Vec::new(), None);
    for snapshot in &ledger.snapshots {
        let is_there = listed.contains(&snapshot.id);
        faults.unless(is_there || !snapshot.is_certain(cut), || {
            format!("snapshot {} is not there", snapshot.id)
        });
        faults.unless(!is_there || !snapshot.is_gone(cut), || {
            format!("snapshot {} is there and was removed", snapshot.id)
        });
        if is_there && snapshot.acknowledged <= cut {
            readable.push(snapshot);
            newest = Some(snapshot);
        }
    }
    let chosen = (1..SNAPSHOTS_READ.min(readable.len()))
        .map(|_| readable[numbers.below(readable.len() as u64) as usize])
        .collect::<Vec<_>>();
    for snapshot in chosen.into_iter().chain(newest) {
        let directory = place.path("root/snapshots/shop").join(&snapshot.id[..12]).join("files");
        for (name, content) in &snapshot.files {
            let found = fs::read(directory.join(name));
            let is_same = found.as_ref().is_ok_and(|found| found == content.as_bytes());
            faults.unless(is_same, || format!("{name} of snapshot {}: {:?}", snapshot.id, found.err()));
        }
        let count = fs::read_dir(&directory).map(|entries| {
            entries
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("file"))
                .count()
        });
        let is_same = count.as_ref().is_ok_and(|count| *count == snapshot.files.len());
        faults.unless(is_same, || format!("snapshot {} has {count:?} files", snapshot.id));
    }
}
