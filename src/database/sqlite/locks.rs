//! Which processes hold locks on a file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::base::{files, process};

/// The processes that hold POSIX locks on `path`, except this one, as `1234 (php-fpm8.2)`. Empty where the system
/// does not tell. A database in WAL mode is locked through its `-shm` file.
pub(super) fn holders(path: &Path) -> Vec<String> {
    let table = files::read_to_string(Path::new("/proc/locks")).unwrap_or_default();
    let paths = [path.to_owned(), super::open::beside(path, "-shm")];
    let inodes: Vec<u64> = paths
        .iter()
        .filter_map(|path| files::metadata(path).ok().flatten())
        .map(|found| found.ino())
        .collect();
    let mut ids = lock_owners(&table, &inodes);
    ids.retain(|id| *id != process::own_id());
    ids.into_iter().map(|id| format!("{id}{}", name_of(id))).collect()
}

/// Lines are `1: POSIX  ADVISORY  WRITE 1234 fe:01:131142 1073741826 1073742335`; those that wait for a lock have
/// `->` behind the number. The device is left out of the comparison: a mount may show another one here.
fn lock_owners(table: &str, inodes: &[u64]) -> Vec<u32> {
    let mut owners: Vec<u32> = table
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, "POSIX", _, _, owner, file, ..] = words[..] else { return None };
            let inode: u64 = file.rsplit(':').next()?.parse().ok()?;
            inodes.contains(&inode).then(|| owner.parse().ok())?.filter(|owner| *owner != 0)
        })
        .collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

fn name_of(id: u32) -> String {
    files::read_to_string(Path::new(&format!("/proc/{id}/comm")))
        .map_or_else(|_| String::new(), |name| format!(" ({})", name.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_those_who_have_a_lock_not_those_who_wait() {
        let table = "1: POSIX  ADVISORY  WRITE 1234 fe:01:42 1073741826 1073742335\n\
                     1: -> POSIX  ADVISORY  WRITE 99 fe:01:42 1073741826 1073742335\n\
                     2: FLOCK  ADVISORY  WRITE 77 fe:01:42 0 EOF\n\
                     3: POSIX  ADVISORY  READ 1234 00:2f:43 0 0\n\
                     4: POSIX  ADVISORY  READ 5 00:2f:44 0 0\n";
        assert_eq!(lock_owners(table, &[42, 43]), [1234]);
        assert!(holders(Path::new("/nonexistent")).is_empty());
    }
}
