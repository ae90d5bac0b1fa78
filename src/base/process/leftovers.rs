//! Processes that outlived the daemon that started them.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};

use super::containment;
use crate::base::files;

/// How long they are waited for. One that hangs in the kernel is left behind then.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// How soon it is looked again.
const POLL: Duration = Duration::from_millis(5);

/// Kills every process that has the variable `name` with this value in the environment it was started with, and waits
/// until they are gone; how many there were. What a command has started without that variable is killed by the process
/// that contains the command, which has it.
pub fn kill_by_environment(name: &str, value: &str) -> usize {
    let variable = format!("{name}={value}");
    let begun = Instant::now();
    let mut killed = std::collections::BTreeSet::new();
    loop {
        let found = find(variable.as_bytes());
        if found.is_empty() || begun.elapsed() > KILL_WAIT {
            return killed.len();
        }
        for process in found {
            killed.insert(process.as_raw_nonzero());
            // One that kills others is given the time for it. One that has ended meanwhile is what is wanted.
            let signal = if containment::is_one(process) { Signal::HUP } else { Signal::KILL };
            let _ = kill_process(process, signal);
        }
        std::thread::sleep(POLL);
    }
}

fn find(variable: &[u8]) -> Vec<Pid> {
    let entries = files::list("/proc".as_ref()).unwrap_or_default();
    let ids = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(Pid::from_raw).filter(|process| *process != getpid() && has(*process, variable)).collect()
}

/// A process that has ended, and waits to be reaped, has no environment any more.
fn has(process: Pid, variable: &[u8]) -> bool {
    let environment = files::read(format!("/proc/{}/environ", process.as_raw_nonzero()).as_ref());
    environment.is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|one| one == variable))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_command_started_is_found_in_sessions_of_its_own() {
        let value = format!("test-{}", getpid().as_raw_nonzero());
        let mut shell = Command::new("sh")
            .args(["-c", "setsid sleep 60 & sleep 60; true"])
            .env("SITEFS_RUN", &value)
            .spawn()
            .unwrap();
        let variable = format!("SITEFS_RUN={value}");
        while find(variable.as_bytes()).len() < 3 {
            std::thread::sleep(POLL);
        }
        assert!(kill_by_environment("SITEFS_RUN", &value) >= 3);
        assert_eq!(find(variable.as_bytes()), []);
        shell.wait().unwrap();
    }
}
