//! The verbs from end to end: the real program, a real daemon, a real mount and SQLite's own program.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on has failed")]

mod adoption;
mod bench;
mod compat;
mod databases;
mod files;
mod losses;
mod mistakes;
mod platforms;
mod releases;
mod restarts;
mod snapshots;
mod space;
mod tampering;
mod transfer;
