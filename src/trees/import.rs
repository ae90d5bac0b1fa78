//! A directory of the native file system to a tree.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::links::link_key;
use super::native;
use super::path::{Components, PathEdit};
use super::walk::{Found, Gather, walk};
use super::{Attributes, Change, Entry, NameKey, Node, Root, Trees, TreesError};
use crate::base::files::At;
use crate::base::{FileError, RelativePath};
use crate::objects::ObjectsError;

/// Nodes between two reports of progress: a report may cost a terminal's or a socket's time.
const REPORT_NODES: u64 = 64;

/// Bytes between two reports of progress.
const REPORT_BYTES: u64 = 4 << 20;

/// Progress of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportEvent {
    /// Nodes done so far.
    pub nodes: u64,
    /// Bytes of regular files read so far.
    pub bytes: u64,
}

/// What an import is asked to do differently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Paths below the imported directory that are left out, with all below them, without being opened. They
    /// need not exist.
    pub exclude: Vec<RelativePath>,
}

/// Something an import left out, or took in a state it could not vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The path on the native file system.
    pub path: PathBuf,
    /// Why, in words for the administrator: "changed while it was read", "vanished", "is a socket", "is a mount
    /// point".
    pub reason: String,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Nodes taken in.
    pub nodes: u64,
    /// Bytes of regular files taken in.
    pub bytes: u64,
    /// What was left out, and files that kept changing while they were read; sorted by path.
    pub skipped: Vec<Skipped>,
}

impl Trees {
    /// Stores the directory `directory` with everything below it, on all cores. A device node is an error that
    /// names it; sockets are left out; files that change or vanish meanwhile are read again, then reported.
    /// Does not cross mount points: what is mounted below `directory` is left out and reported.
    /// Objects already stored are not written again, so an interrupted import resumes by being repeated.
    /// The same content always gives the same tree. Extended attributes of symbolic links and named pipes are not
    /// kept. Durable after [`crate::objects::Objects::flush`]; the chunks of a directory's files are stored next
    /// to each other, in the order of `readdir`, and the pages of all directories behind them.
    pub fn import(
        &self,
        directory: &Path,
        options: &ImportOptions,
        progress: &(dyn Fn(ImportEvent) + Sync),
    ) -> Result<(Root, ImportReport), TreesError> {
        let building = self.holding_pages();
        let import = Import {
            trees: &building,
            progress,
            nodes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            several_names: Mutex::default(),
        };
        let (top, skipped) = walk(&import, directory, &options.exclude)?;
        building.put_held()?;
        let Node::Directory { tree, totals } = top.node else {
            unreachable!("a walk makes a directory of the directory it starts from")
        };
        let report = ImportReport { nodes: totals.nodes, bytes: totals.bytes, skipped };
        let root = Root { attributes: top.attributes, tree, totals, links: None, next_link: 1 };
        let root = self.with_links(root, import.several_names.into_inner())?;
        progress(ImportEvent { nodes: report.nodes, bytes: report.bytes });
        Ok((root, report))
    }

    /// Which names share a node is known only after the walk: makes hard links of those names. Nodes are numbered
    /// in the order of their first names, so that the outcome does not depend on the order of the walk.
    fn with_links(&self, root: Root, several_names: SeveralNames) -> Result<Root, TreesError> {
        let mut groups: Vec<Vec<(Components, Entry)>> =
            several_names.into_values().filter(|names| names.len() > 1).collect();
        for names in &mut groups {
            names.sort_by(|left, right| left.0.cmp(&right.0));
        }
        groups.sort_by(|left, right| left[0].0.cmp(&right[0].0));
        let mut edits: Vec<PathEdit> = Vec::new();
        let mut rows: Vec<Change> = Vec::new();
        let mut next_link = root.next_link;
        for names in groups {
            rows.push((link_key(next_link), Some(names[0].1.clone())));
            for (path, _) in names {
                let name = Entry { attributes: Attributes::default(), node: Node::HardLink(next_link) };
                edits.push((path, Some(name)));
            }
            next_link += 1;
        }
        edits.sort_by(|left, right| left.0.cmp(&right.0));
        rows.sort_by(|left, right| left.0.cmp(&right.0));
        let (tree, totals) = self.edit_paths(root.tree, &root.attributes, &edits, 0)?;
        let (links, _) = self.update(None, &rows)?;
        Ok(Root { tree, totals, links, next_link, ..root })
    }
}

/// The names, with their entries, of each node that has several, by its device and inode number.
type SeveralNames = HashMap<(u64, u64), Vec<(Components, Entry)>>;

struct Import<'a> {
    trees: &'a Trees,
    progress: &'a (dyn Fn(ImportEvent) + Sync),
    nodes: AtomicU64,
    bytes: AtomicU64,
    several_names: Mutex<SeveralNames>,
}

impl Import<'_> {
    fn report(&self) {
        let (nodes, bytes) = (self.nodes.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        (self.progress)(ImportEvent { nodes, bytes });
    }

    fn count_node(&self) {
        if self.nodes.fetch_add(1, Ordering::Relaxed) % REPORT_NODES == REPORT_NODES - 1 {
            self.report();
        }
    }

    fn count_bytes(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / REPORT_BYTES != (before + bytes) / REPORT_BYTES {
            self.report();
        }
    }

    fn leaf(&self, entry: Entry, found: &Found<'_>) -> Entry {
        if found.stat.names > 1 {
            let path = found.relative().iter().map(|name| name.as_bytes().into()).collect();
            let mut several_names = self.several_names.lock();
            let names = several_names.entry(found.stat.identity).or_default();
            // A file that changed while it was read comes again.
            names.retain(|(other, _)| *other != path);
            names.push((path, entry.clone()));
        }
        entry
    }
}

/// A file whose bytes are counted as they are read.
struct Counted<'a> {
    file: &'a File,
    import: &'a Import<'a>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.import.count_bytes(length as u64);
        Ok(length)
    }
}

impl Gather for Import<'_> {
    type Made = Entry;

    fn file(&self, file: &File, found: &Found<'_>) -> Result<Entry, TreesError> {
        let mut attributes = found.stat.attributes();
        attributes.xattrs = native::xattrs(file).at("read the extended attributes of", &found.path())?;
        let mut content = Counted { file, import: self };
        let content = match self.trees.objects.put_file(&mut content, found.stat.size) {
            Err(ObjectsError::Source(source)) => {
                return Err(FileError { action: "read", path: found.path(), source }.into());
            }
            content => content?,
        };
        self.count_node();
        Ok(self.leaf(Entry { attributes, node: Node::File(content) }, found))
    }

    fn symlink(&self, target: &[u8], found: &Found<'_>) -> Entry {
        self.count_node();
        let node = Node::Symlink { target: target.into() };
        self.leaf(Entry { attributes: found.stat.attributes(), node }, found)
    }

    fn fifo(&self, found: &Found<'_>) -> Entry {
        self.count_node();
        self.leaf(Entry { attributes: found.stat.attributes(), node: Node::Fifo }, found)
    }

    fn directory(
        &self,
        directory: &OwnedFd,
        found: &Found<'_>,
        within: Vec<(NameKey, Entry)>,
    ) -> Result<Entry, TreesError> {
        let mut attributes = found.stat.attributes();
        attributes.xattrs = native::xattrs(directory).at("read the extended attributes of", &found.path())?;
        let changes: Vec<Change> = within.into_iter().map(|(key, entry)| (key, Some(entry))).collect();
        let (tree, totals) = self.trees.update(None, &changes)?;
        self.count_node();
        Ok(Entry { attributes, node: Node::Directory { tree, totals } })
    }
}

#[cfg(test)]
mod tests;
