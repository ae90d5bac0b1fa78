//! A walk over a directory of the native file system, on all cores.
//!
//! Two kinds of tasks wait on one stack: directories to be listed, and batches of names to be taken in. The newest
//! goes first, a directory's names before its subdirectories. So the walk goes depth first: what is remembered,
//! and what is held open (one descriptor for each directory under way), is bounded by the depth and the number of
//! threads, not by the size of the tree; and files of one directory are read, and what is made of them is stored,
//! next to each other in the order of `readdir`. A directory is done when the last of its tasks is.
//!
//! Everything is opened relative to its directory and no symbolic link is followed, so names that are exchanged
//! while the walk is under way cannot lead it elsewhere.

use std::fs::File;
use std::io::Seek;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::native::{self, Stat};
use super::{NameKey, Skipped, TreesError};
use crate::base::files::At;
use crate::base::{FileError, RelativePath};

/// How often something that changes while it is read is read.
const ATTEMPTS: usize = 3;

/// Names a task takes in: enough that threads rarely meet at the stack, few enough that they share a directory.
const BATCH_NAMES: usize = 64;

/// Threads at most: more would wait for the disk, and hold more directories open.
const THREADS_MAX: usize = 16;

/// What is made of the nodes that a walk finds. Called from several threads.
pub(super) trait Gather: Sync {
    /// What is made of a node.
    type Made: Send;
    /// From a regular file, open at its start; again if it changed meanwhile.
    fn file(&self, file: &File, found: &Found<'_>) -> Result<Self::Made, TreesError>;
    /// From a symbolic link.
    fn symlink(&self, target: &[u8], found: &Found<'_>) -> Self::Made;
    /// From a named pipe.
    fn fifo(&self, found: &Found<'_>) -> Self::Made;
    /// From a directory, `within` sorted by key.
    fn directory(
        &self,
        directory: &OwnedFd,
        found: &Found<'_>,
        within: Vec<(NameKey, Self::Made)>,
    ) -> Result<Self::Made, TreesError>;
}

/// A node that was found.
pub(super) struct Found<'a> {
    /// What the system says of it.
    pub(super) stat: Stat,
    top: &'a Path,
    directory: &'a Path,
    name: &'a [u8],
}

impl Found<'_> {
    /// Its path from the top of the walk; empty for the top itself.
    pub(super) fn relative(&self) -> PathBuf {
        if self.name.is_empty() { PathBuf::new() } else { self.directory.join(native::os(self.name)) }
    }

    /// Its path on the native file system.
    pub(super) fn path(&self) -> PathBuf {
        self.top.join(self.relative())
    }
}

/// A directory under way.
struct Directory<M> {
    parent: Option<(Arc<Directory<M>>, NameKey)>,
    /// From the top.
    relative: PathBuf,
    open: OwnedFd,
    stat: Stat,
    /// Tasks for its listing, its batches and its subdirectories that are not done.
    pending: AtomicUsize,
    within: Mutex<Vec<(NameKey, M)>>,
}

enum Task<M> {
    List { parent: Arc<Directory<M>>, key: NameKey },
    Take { directory: Arc<Directory<M>>, names: Vec<(NameKey, FileType)> },
}

/// What came of trying to take in a name.
enum Taken<M> {
    Made(M),
    /// Made, but from content that was not at rest.
    Unsteady(M),
    /// Nothing to take in, and why.
    Skipped(&'static str),
    /// It is of another type than the listing said.
    OtherType,
}

const VANISHED: &str = "vanished";
const CHANGED: &str = "changed while it was read";

struct Walk<'a, G: Gather> {
    gather: &'a G,
    top: &'a Path,
    exclude: &'a [RelativePath],
    shared: Mutex<Shared<G::Made>>,
    more: Condvar,
    skipped: Mutex<Vec<Skipped>>,
}

struct Shared<M> {
    stack: Vec<Task<M>>,
    outcome: Option<Result<M, TreesError>>,
}

/// Walks `top` and all below it, `exclude` left out; returns what was made of `top`, and what was skipped, sorted.
pub(super) fn walk<G: Gather>(
    gather: &G,
    top: &Path,
    exclude: &[RelativePath],
) -> Result<(G::Made, Vec<Skipped>), TreesError> {
    let walk = Walk {
        gather,
        top,
        exclude,
        shared: Mutex::new(Shared { stack: Vec::new(), outcome: None }),
        more: Condvar::new(),
        skipped: Mutex::default(),
    };
    let open = native::open_top(top).at("open the directory", top)?;
    walk.list(open, PathBuf::new(), None)?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, THREADS_MAX);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| walk.work());
        }
    });
    let outcome = walk.shared.into_inner().outcome.expect("threads end when there is an outcome");
    let mut skipped = walk.skipped.into_inner();
    skipped.sort_by(|left, right| left.path.cmp(&right.path));
    Ok((outcome?, skipped))
}

/// The other threads must not wait for what a panicking one will never do.
struct StopOnPanic<'a, 'w, G: Gather>(&'a Walk<'w, G>);

impl<G: Gather> Drop for StopOnPanic<'_, '_, G> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let source = std::io::Error::other("a thread panicked");
            self.0.finish(Err(FileError { action: "read", path: self.0.top.to_owned(), source }.into()));
        }
    }
}

impl<G: Gather> Walk<'_, G> {
    /// Does tasks until there is an outcome.
    fn work(&self) {
        let _stop = StopOnPanic(self);
        loop {
            let task = {
                let mut shared = self.shared.lock();
                loop {
                    if shared.outcome.is_some() {
                        return;
                    }
                    match shared.stack.pop() {
                        Some(task) => break task,
                        None => self.more.wait(&mut shared),
                    }
                }
            };
            let done = match task {
                Task::List { parent, key } => self.enter(parent, key),
                Task::Take { directory, names } => self.take_all(directory, names),
            };
            if let Err(error) = done {
                self.finish(Err(error));
            }
        }
    }

    fn finish(&self, outcome: Result<G::Made, TreesError>) {
        self.shared.lock().outcome.get_or_insert(outcome);
        self.more.notify_all();
    }

    /// Opens and lists the subdirectory `key` of `parent`.
    fn enter(&self, parent: Arc<Directory<G::Made>>, key: NameKey) -> Result<(), TreesError> {
        let relative = parent.relative.join(native::os(&key.name));
        let path = self.top.join(&relative);
        let open = match native::open_directory(&parent.open, &key.name) {
            Ok(open) => open,
            Err(error) => {
                let reason = match error {
                    Errno::NOENT => VANISHED,
                    Errno::NOTDIR | Errno::LOOP => CHANGED,
                    Errno::XDEV => "is a mount point",
                    _ => return Err(error).at("open the directory", &path)?,
                };
                self.skip(path, reason);
                return self.done_with(parent);
            }
        };
        self.list(open, relative, Some((parent, key)))
    }

    /// Puts what is in a directory on the stack.
    fn list(
        &self,
        open: OwnedFd,
        relative: PathBuf,
        parent: Option<(Arc<Directory<G::Made>>, NameKey)>,
    ) -> Result<(), TreesError> {
        let path = self.top.join(&relative);
        let excluded = self.excluded_in(&relative);
        let mut stat = Stat::of(&open).at("look at", &path)?;
        let mut attempt = 1;
        let names = loop {
            let names = match native::list(&open, |name| !excluded.contains(&name)) {
                // Removed since it was opened.
                Err(Errno::NOENT) if parent.is_some() => {
                    self.skip(path, VANISHED);
                    return parent.map_or(Ok(()), |(parent, _)| self.done_with(parent));
                }
                names => names.at("list", &path)?,
            };
            let after = Stat::of(&open).at("look at", &path)?;
            if after.is_unchanged_since(&stat) {
                break names;
            }
            if attempt == ATTEMPTS {
                self.skip(path.clone(), CHANGED);
                break names;
            }
            attempt += 1;
            stat = after;
        };
        let (pending, within) = (AtomicUsize::new(1), Mutex::default());
        let directory = Arc::new(Directory { parent, relative, open, stat, pending, within });
        let mut keys: Vec<(NameKey, FileType)> =
            names.into_iter().map(|(name, file_type)| (NameKey::from_name(name), file_type)).collect();
        keys.sort_by(|left, right| left.0.cmp(&right.0));
        // A listing may show a name twice that was renamed meanwhile.
        keys.dedup_by(|left, right| left.0 == right.0);
        let (directories, mut rest): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|(_, file_type)| *file_type == FileType::Directory);
        let mut tasks = Vec::new();
        for (key, _) in directories.into_iter().rev() {
            tasks.push(Task::List { parent: Arc::clone(&directory), key });
        }
        // The last batch is the first on the stack, so it goes in first.
        while !rest.is_empty() {
            let names = rest.split_off((rest.len() - 1) / BATCH_NAMES * BATCH_NAMES);
            tasks.push(Task::Take { directory: Arc::clone(&directory), names });
        }
        directory.pending.fetch_add(tasks.len(), Ordering::AcqRel);
        self.shared.lock().stack.append(&mut tasks);
        self.more.notify_all();
        self.done_with(directory)
    }

    /// The names in the directory `relative` that are left out.
    fn excluded_in(&self, relative: &Path) -> Vec<&[u8]> {
        let in_here = self.exclude.iter().filter_map(|path| {
            let path = Path::new(path.as_str());
            (path.parent() == Some(relative)).then(|| path.file_name()).flatten()
        });
        in_here.map(std::ffi::OsStr::as_encoded_bytes).collect()
    }

    /// Takes in a batch of names that are not directories.
    fn take_all(
        &self,
        directory: Arc<Directory<G::Made>>,
        names: Vec<(NameKey, FileType)>,
    ) -> Result<(), TreesError> {
        let mut taken = Vec::with_capacity(names.len());
        for (key, file_type) in names {
            let path = || self.top.join(&directory.relative).join(native::os(&key.name));
            let made = match self.take(&directory, &key.name, file_type)? {
                Taken::Made(made) => made,
                Taken::Unsteady(made) => {
                    self.skip(path(), CHANGED);
                    made
                }
                Taken::Skipped(reason) => {
                    self.skip(path(), reason);
                    continue;
                }
                Taken::OtherType => {
                    self.skip(path(), CHANGED);
                    continue;
                }
            };
            taken.push((key, made));
        }
        directory.within.lock().append(&mut taken);
        self.done_with(directory)
    }

    fn take(
        &self,
        directory: &Directory<G::Made>,
        name: &[u8],
        file_type: FileType,
    ) -> Result<Taken<G::Made>, TreesError> {
        let path = || self.top.join(&directory.relative).join(native::os(name));
        let mut file_type = file_type;
        for _ in 0..ATTEMPTS {
            let found = |stat| Found { stat, top: self.top, directory: &directory.relative, name };
            if file_type == FileType::RegularFile {
                match self.take_file(directory, name, found)? {
                    Taken::OtherType => {}
                    taken => return Ok(taken),
                }
            }
            let stat = match Stat::at(&directory.open, name) {
                Err(Errno::NOENT) => return Ok(Taken::Skipped(VANISHED)),
                stat => stat.at("look at", &path())?,
            };
            file_type = stat.file_type;
            match file_type {
                FileType::RegularFile => {}
                FileType::Symlink => match native::read_link(&directory.open, name) {
                    Ok(target) => return Ok(Taken::Made(self.gather.symlink(&target, &found(stat)))),
                    // Not a symbolic link any more, or gone: what it is now shows next time round.
                    Err(Errno::INVAL | Errno::NOENT) => {}
                    Err(error) => return Err(error).at("read the link", &path())?,
                },
                FileType::Fifo => return Ok(Taken::Made(self.gather.fifo(&found(stat)))),
                FileType::Socket => return Ok(Taken::Skipped("is a socket")),
                FileType::CharacterDevice | FileType::BlockDevice => {
                    return Err(TreesError::Device { path: path() });
                }
                FileType::Directory | FileType::Unknown => break,
            }
        }
        Ok(Taken::OtherType)
    }

    fn take_file<'f>(
        &self,
        directory: &Directory<G::Made>,
        name: &'f [u8],
        found: impl Fn(Stat) -> Found<'f>,
    ) -> Result<Taken<G::Made>, TreesError> {
        let path = || self.top.join(&directory.relative).join(native::os(name));
        let mut file: File = match native::open_file(&directory.open, name) {
            Ok(open) => open.into(),
            Err(Errno::NOENT) => return Ok(Taken::Skipped(VANISHED)),
            // A symbolic link, or a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Taken::OtherType),
            Err(error) => return Err(error).at("open", &path())?,
        };
        let mut before = Stat::of(&file).at("look at", &path())?;
        if before.file_type != FileType::RegularFile {
            return Ok(Taken::OtherType);
        }
        let mut attempt = 1;
        loop {
            let made = self.gather.file(&file, &found(before))?;
            let after = Stat::of(&file).at("look at", &path())?;
            if after.is_unchanged_since(&before) {
                return Ok(Taken::Made(made));
            }
            if attempt == ATTEMPTS {
                return Ok(Taken::Unsteady(made));
            }
            attempt += 1;
            before = after;
            file.rewind().at("read", &path())?;
        }
    }

    fn skip(&self, path: PathBuf, reason: &str) {
        self.skipped.lock().push(Skipped { path, reason: reason.to_owned() });
    }

    /// One task of the directory is done; with the last one, the directory is, and one task of its parent.
    fn done_with(&self, mut directory: Arc<Directory<G::Made>>) -> Result<(), TreesError> {
        while directory.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut within = std::mem::take(&mut *directory.within.lock());
            within.sort_by(|left, right| left.0.cmp(&right.0));
            let (parent_path, name) = match &directory.parent {
                Some((parent, key)) => (parent.relative.as_path(), &*key.name),
                None => (Path::new(""), &b""[..]),
            };
            let found = Found { stat: directory.stat, top: self.top, directory: parent_path, name };
            let made = self.gather.directory(&directory.open, &found, within)?;
            match &directory.parent {
                None => {
                    self.finish(Ok(made));
                    return Ok(());
                }
                Some((parent, key)) => {
                    parent.within.lock().push((key.clone(), made));
                    let parent = Arc::clone(parent);
                    directory = parent;
                }
            }
        }
        Ok(())
    }
}
