//! Databases on a mount, captured by freezing the volume they are in while writers compete.

#![allow(clippy::unwrap_used, reason = "a test ends with what is wrong")]

#[path = "common/bank.rs"]
mod bank;
mod common;

use bank::{BALANCE, PATIENCE};
use common::Served;
use rusqlite::Connection;
use sitefs::database::worker::Worker;
use sitefs::database::{Database, Difference};

#[test]
fn serving_process() {
    common::serve();
}

#[test]
#[ignore = "a process of other tests: transfers for ever"]
fn child_that_writes() {
    bank::write_for_ever();
}

fn snapshots_hold_committed_states(passthrough: bool, journal: &str) {
    let mut served = Served::start(passthrough);
    let path = served.work().join("db");
    bank::make(&path, journal);
    let database = |directory: &str| {
        let worker = Worker::with_program(env!("CARGO_BIN_EXE_sitefs").into());
        let url = "sqlite:db".parse().unwrap();
        Database::new(&url, &served.root().join(directory), worker).wait(PATIENCE)
    };
    let live = database("work");
    let snapshots: Vec<(String, Database)> = (0..6)
        .map(|round| (format!("snapshot{round}"), database(&format!("snapshot{round}")).frozen()))
        .collect();
    let _writers =
        [bank::start("child_that_writes", &path, journal), bank::start("child_that_writes", &path, journal)];
    let mut states = std::collections::BTreeSet::new();
    let mut expected = Vec::new();
    for (name, snapshot) in &snapshots {
        let hold = live.hold(PATIENCE).unwrap();
        let summary = served.freeze(name, || hold.release_with_summary(|| ()).unwrap());
        let found = snapshot.verify().unwrap();
        assert_eq!(found.findings, Vec::<String>::new(), "{name}");
        assert_eq!(Difference::between(&summary, &found.summary), Difference::default(), "{name}");
        states.insert(summary.tables["account"].checksum);
        expected.push(summary);
    }
    assert!(states.len() > 1, "nobody wrote between the snapshots");
    // Snapshots are what they were, and clones of them are ordinary databases.
    for ((name, snapshot), expected) in snapshots.iter().zip(expected) {
        assert_eq!(snapshot.summary().unwrap(), expected, "{name}");
        let worker = Worker::with_program(env!("CARGO_BIN_EXE_sitefs").into());
        let url = format!("sqlite:{name}").parse().unwrap();
        let clone = Database::new(&url, served.directory(), worker);
        assert_eq!(snapshot.clone_to(&clone).unwrap(), expected, "{name}");
        let connection = Connection::open(served.directory().join(name)).unwrap();
        assert_eq!(bank::balance(&connection).unwrap(), BALANCE, "{name}");
    }
}

#[test]
fn snapshots_hold_committed_states_rollback_by_the_program() {
    snapshots_hold_committed_states(false, "DELETE");
}

#[test]
fn snapshots_hold_committed_states_rollback_past_the_program() {
    snapshots_hold_committed_states(true, "DELETE");
}

#[test]
fn snapshots_hold_committed_states_log_by_the_program() {
    snapshots_hold_committed_states(false, "WAL");
}

#[test]
fn snapshots_hold_committed_states_log_past_the_program() {
    snapshots_hold_committed_states(true, "WAL");
}
