//! Real programs on a mount, users with and without rights, and what several paths show of one change; with and
//! without passthrough.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;

mod coherence;
mod files;
mod permissions;
mod processes;
mod snapshots;
mod tools;

use std::path::Path;
use std::process::Command;

pub(crate) use common::both_ways;

#[test]
fn serving_process() {
    common::serve();
}

/// Runs a script in `directory` with more arguments as `$1` and so on; it must succeed. Returns what it wrote.
pub(crate) fn run(interpreter: &[&str], script: &str, directory: &Path, arguments: &[&Path]) -> String {
    let output = Command::new(interpreter[0])
        .args(&interpreter[1..])
        .arg(script)
        .args(arguments)
        .current_dir(directory)
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{problems}");
    text
}

pub(crate) fn bash(script: &str, directory: &Path, arguments: &[&Path]) -> String {
    run(&["bash", "-euo", "pipefail", "-c"], script, directory, &[&[Path::new("bash")], arguments].concat())
}

pub(crate) fn python(script: &str, directory: &Path, arguments: &[&Path]) -> String {
    run(&["python3", "-c"], script, directory, arguments)
}
