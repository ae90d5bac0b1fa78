//! What time it is, for files.
//!
//! The kernel gives files a time that lags behind the clock by up to a tick (4 ms), and a later one only where somebody
//! has looked at the file since (multigrain timestamps, Linux 6.13). What it writes past this program has such times. Had
//! the names and modes that are changed here the time of the clock, a file would be older than another one that was
//! touched before it, for which `make` builds again what is there; and a write would take a file back in time. So the
//! kernel is asked here as well: by changing a file in memory that nobody else sees.

use std::fs::File;
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, Timespec, Timestamps, UTIME_NOW};

use super::upper::UpperFacts;
use crate::base::Timestamp;

/// The time now: not before any that the kernel gave a file so far, nor after any that it is going to give.
pub(super) fn now() -> Timestamp {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let file = FILE.get_or_init(|| match rustix::fs::memfd_create("clock", MemfdFlags::CLOEXEC) {
        Ok(file) => Some(File::from(file)),
        Err(error) => {
            log::warn!("times of files are those of the clock: {error}");
            None
        }
    });
    file.as_ref().and_then(time_of_change).unwrap_or_else(Timestamp::now)
}

fn time_of_change(file: &File) -> Option<Timestamp> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now }).ok()?;
    // To look is what makes the next time another one.
    Some(UpperFacts::from(&file.metadata().ok()?).changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_what_is_done_here_have_times_in_the_order_it_was_done_in() {
        let directory = tempfile::tempdir().unwrap();
        let mut last = Timestamp::now().0 - 1_000_000_000;
        for number in 0..2000 {
            let file = File::create(directory.path().join(format!("{number}"))).unwrap();
            let made = UpperFacts::from(&file.metadata().unwrap()).changed;
            let here = now();
            assert!(last <= made.0 && made <= here, "{last} {made:?} {here:?}");
            last = here.0;
        }
        assert!(last <= Timestamp::now().0);
    }
}
