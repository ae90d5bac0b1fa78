//! What survives when the power fails, when the daemon is killed, and when the disk is full or goes bad.
//!
//! A workload of file operations through the mount, transactions, snapshots, clones, deploys, rollbacks and updates is
//! done by the real daemon, on a store on a real ext4. A ledger knows what was acknowledged as durable, and therefore
//! what must be there afterwards.
//!
//! Each run prints its seed. These tests take a minute or two; more is done with
//! `SITEFS_TEST_CUTS=600`, `SITEFS_TEST_KILLS=300`, `SITEFS_TEST_FULL_GROWTH=65536` (bytes) and so on, and with a seed of
//! one's own: `SITEFS_TEST_SEED=1`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test ends with what is wrong"
)]

mod check;
mod cuts;
mod damage;
mod disk;
mod errors;
mod full;
mod kills;
mod ledger;
mod numbers;
mod place;
mod recorder;
mod replay;
mod workload;

#[test]
fn recording_process() {
    recorder::record();
}
