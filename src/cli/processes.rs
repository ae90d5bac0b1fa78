//! Whether a process still is there.

use std::path::PathBuf;

use crate::base::files;

/// Whether a process exists that has not ended: one that has ended, and whose exit code nobody has asked for, does not
/// count.
pub(super) fn is_running(pid: u32) -> bool {
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    files::read(&stat).is_ok_and(|stat| {
        // The state follows the name, which is in parentheses and may hold anything.
        let after_name = stat.iter().rposition(|byte| *byte == b')').map_or(0, |place| place + 2);
        !matches!(stat.get(after_name), None | Some(b'Z' | b'X'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::process::Command;

    #[test]
    fn this_process_runs_and_one_that_has_ended_does_not() {
        assert!(is_running(rustix::process::getpid().as_raw_pid().unsigned_abs()));
        let outcome = Command::script("echo $$").run().unwrap();
        let pid = outcome.output.text().trim().parse().unwrap();
        assert!(!is_running(pid));
    }
}
