//! Who has something open below a directory.
//!
//! A file that was opened past a daemon goes on working when the daemon is killed: the process reads and writes the
//! backing file, but its locks are on a node of the dead mount and mean nothing to whoever opens the file through the
//! next one. So whoever takes a dead mount over names these processes, and waits for them or has them restarted.

use std::path::{Path, PathBuf};

use crate::base::FileError;
use crate::base::files;

/// A process with open files or its working directory below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountUser {
    /// The process id.
    pub process: u32,
    /// The name of its program, as `ps -o comm` shows it.
    pub program: String,
    /// What it has open, as it was named when it was opened.
    pub paths: Vec<PathBuf>,
}

/// The processes that have something open at or below `directories`, by process id. Nothing is looked up there, so
/// it may be asked about a dead mount, and about one's own. Names the processes that this one may look at: as root
/// all of them, those with another root directory not.
pub fn users(directories: &[&Path]) -> Result<Vec<MountUser>, FileError> {
    let mut found = Vec::new();
    for entry in files::list(Path::new("/proc"))? {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let directory = entry.path();
        // A process that ends meanwhile has nothing open.
        let mut links: Vec<PathBuf> = match files::list(&directory.join("fd")) {
            Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
            Err(_) => continue,
        };
        links.push(directory.join("cwd"));
        let mut paths: Vec<PathBuf> = links.iter().filter_map(|link| files::read_link(link).ok()).collect();
        paths.retain(|path| directories.iter().any(|directory| path.starts_with(directory)));
        if !paths.is_empty() {
            paths.sort_unstable();
            paths.dedup();
            let program = files::read_to_string(&directory.join("comm")).unwrap_or_default();
            found.push(MountUser { process, program: program.trim_end().to_owned(), paths });
        }
    }
    found.sort_unstable_by_key(|user| user.process);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::process;

    #[test]
    fn an_open_file_is_found_with_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(users(&[directory.path()]).unwrap().is_empty());
        let file = files::create_new(&path).unwrap();
        let found = users(&[Path::new("/nonexistent"), directory.path()]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].process, &found[0].paths), (process::own_id(), &vec![path]));
        drop(file);
    }
}
