//! The child process that mounts, and the protocol with it.
//!
//! A path below a sitefs mount is looked up by asking the daemon. A thread of the daemon that did so could never be
//! killed: it waits for an answer that only the daemon can give, and while it waits, it keeps open the device whose
//! closing would end the wait. So `sitefs internal-mount REQUEST` does it: a request as JSON in its first argument,
//! an answer as a line of JSON on its standard output.
//!
//! Whatever is put together of several mounts is put together in a staging directory, and moved to its place as a
//! whole. The staging directory is a private mount: a copy of a mount belongs to the propagation group of what it was
//! copied from, and what is mounted in it would appear there as well. So each copy is made private before anything
//! else; moved to its place it gets a group of its own where that place is shared, and is seen by services with a
//! mount namespace of their own.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, mount_move, unmount,
};
use serde::{Deserialize, Serialize};

use super::table::{self, MountEntry};
use crate::base::FileError;
use crate::base::files::{self, At};
use crate::base::process::ExitCode;

/// The verb that starts the child process; not for people.
pub const VERB: &str = "internal-mount";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Shows `source`, without what is mounted below it, at `target`. With `own`, these entries of the directory
    /// that is the standard input, with what is mounted below them, are shown at the same names in it.
    Bind { source: PathBuf, target: PathBuf, staging: PathBuf, own: Vec<String> },
    /// Takes `removed` names in `view` away, and adds `added` ones from the directory that is the standard input.
    Refresh { view: PathBuf, staging: PathBuf, removed: Vec<String>, added: Vec<String> },
    /// Takes away what is mounted at `path`, with what is mounted below it: all of it, or down to the first that is
    /// not of sitefs.
    Unmount { path: PathBuf, only_sitefs: bool },
    /// Whether the file system at `path` answers.
    Probe { path: PathBuf },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Done,
    Alive,
    Dead,
    Problem(String),
}

/// The child process: `arguments` are those behind [`VERB`].
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let request = arguments.next().and_then(|argument| argument.into_string().ok()).unwrap_or_default();
    let answer = match serde_json::from_str(&request) {
        Ok(request) => work(request).unwrap_or_else(|error| Answer::Problem(error.to_string())),
        Err(_) => Answer::Problem("this sitefs does not know the request: restart the daemon".to_owned()),
    };
    let sent = serde_json::to_string(&answer).is_ok_and(|line| writeln!(io::stdout(), "{line}").is_ok());
    if sent { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(request: Request) -> Result<Answer, FileError> {
    match request {
        Request::Bind { source, target, staging, own } => {
            let staging = Staging::begin(&staging)?;
            let point = staging.copy(&source)?;
            for name in &own {
                bind_own(name, &point)?;
            }
            mount_move(&point, &target).at("move a mount to", &target)?;
        }
        Request::Refresh { view, staging, removed, added } => {
            for name in removed {
                unmount_all(&view.join(name))?;
            }
            let staging = Staging::begin(&staging)?;
            for name in added {
                staging.bring(&name, &view)?;
            }
        }
        Request::Unmount { path, only_sitefs: false } => unmount_all(&path)?,
        Request::Unmount { path, only_sitefs: true } => unmount_from_top(&path, MountEntry::is_sitefs)?,
        Request::Probe { path } => return probe(&path),
    }
    Ok(Answer::Done)
}

/// A private mount for as long as it lives.
struct Staging {
    directory: PathBuf,
}

impl Staging {
    fn begin(directory: &Path) -> Result<Staging, FileError> {
        // What a killed child left.
        unmount_all(directory)?;
        for name in ["directory", "file"] {
            let path = directory.join(name);
            let is_directory = name == "directory";
            match files::metadata(&path)? {
                Some(found) if if is_directory { found.is_dir() } else { found.is_file() } => continue,
                Some(found) if found.is_dir() => files::remove_directory_all(&path)?,
                Some(_) => files::remove_file(&path)?,
                None => {}
            }
            if is_directory {
                files::create_directories(&path)?;
            } else {
                drop(files::create_new(&path)?);
            }
        }
        mount_bind(directory, directory).at("mount on itself", directory)?;
        let staging = Staging { directory: directory.to_owned() };
        make_private(&staging.directory)?;
        Ok(staging)
    }

    /// A private copy of the mount of a directory; returns where it is, ready to be moved.
    fn copy(&self, source: &Path) -> Result<PathBuf, FileError> {
        let point = self.directory.join("directory");
        mount_bind(source, &point).at("show elsewhere", source)?;
        make_private(&point)?;
        Ok(point)
    }

    /// Mounts an entry of the standard input's directory at its name in `view`.
    fn bring(&self, name: &str, view: &Path) -> Result<(), FileError> {
        let source = own_path(name);
        let is_directory = files::metadata(&source)?.is_some_and(|found| found.is_dir());
        let point = self.directory.join(if is_directory { "directory" } else { "file" });
        mount_bind_recursive(&source, &point).at("show elsewhere", Path::new(name))?;
        make_private(&point)?;
        let target = view.join(name);
        mount_move(&point, &target).at("move a mount to", &target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Takes with it what was not moved to its place. The next staging begins with it if this fails.
        let _ = unmount(&self.directory, UnmountFlags::DETACH);
    }
}

fn bind_own(name: &str, view: &Path) -> Result<(), FileError> {
    let target = view.join(name);
    mount_bind_recursive(own_path(name), &target).at("show in the view", Path::new(name))?;
    make_private(&target)
}

/// The path of an entry of the directory that is the standard input.
fn own_path(name: &str) -> PathBuf {
    Path::new("/proc/self/fd/0").join(name)
}

/// Takes a mount, and those below it, out of the propagation group of what it was copied from.
fn make_private(point: &Path) -> Result<(), FileError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(point, private).at("make a mount private at", point)
}

/// Detaches the mounts that are exactly at `path`, those below going with them.
fn unmount_all(path: &Path) -> Result<(), FileError> {
    unmount_from_top(path, |_| true)
}

/// As [`unmount_all`], from the topmost on for as long as they are `wanted`.
fn unmount_from_top(path: &Path, wanted: impl Fn(&MountEntry) -> bool) -> Result<(), FileError> {
    let stack: Vec<MountEntry> =
        table::list()?.into_iter().filter(|entry| entry.mount_point == path).collect();
    for _ in stack.iter().rev().take_while(|entry| wanted(entry)) {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Somebody else was faster.
            Err(Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error).at("unmount", path),
        }
    }
    Ok(())
}

/// Asks for the space of a file system: that, unlike attributes, the kernel never answers from what it knows.
fn probe(path: &Path) -> Result<Answer, FileError> {
    match rustix::fs::statfs(path) {
        Ok(_) => Ok(Answer::Alive),
        Err(Errno::NOTCONN | Errno::CONNABORTED) => Ok(Answer::Dead),
        Err(error) => Err(error).at("look at", path),
    }
}
