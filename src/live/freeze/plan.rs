//! What a freeze has to do, as it was found at one instant.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::Timestamp;
use crate::objects::FileContent;
use crate::trees::{self, Entry, NameKey, Root, Totals, TreeId};

/// What a name will stand for.
#[derive(Debug)]
pub(super) enum Planned {
    /// This.
    Entry(Entry),
    /// A directory, with the tree it turns out to have.
    Directory { local: u64, attributes: trees::Attributes },
    /// A file with this content of [`Plan::contents`], once it is stored.
    File { attributes: trees::Attributes, content: usize },
}

/// A directory some of whose entries changed, or have something changed below them.
#[derive(Debug, Default)]
pub(super) struct PlannedDirectory {
    /// How many directories are above it.
    pub(super) depth: usize,
    pub(super) changes: BTreeMap<NameKey, Option<Planned>>,
}

/// A content to be stored.
#[derive(Debug)]
pub(super) struct PlannedContent {
    pub(super) local: u64,
    /// The upper file to read.
    pub(super) number: u64,
    /// In bytes.
    pub(super) size: u64,
    /// Set for a file that is open for writing: it is copied to the upper file `number` first, which is then this
    /// freeze's own.
    pub(super) open: Option<OpenSource>,
    /// When it was last written, if it is open for writing.
    pub(super) modified: Option<Timestamp>,
    /// Where it is in the store, in the end.
    pub(super) stored: Option<FileContent>,
}

/// A file that is open for writing.
#[derive(Debug)]
pub(super) struct OpenSource {
    pub(super) file: Arc<File>,
    /// Whether the kernel writes to it without asking, so that the gate does not keep it out.
    pub(super) past_program: bool,
    /// The path, for the report.
    pub(super) path: PathBuf,
}

/// See the module. The default is the plan to do nothing.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The state to start from: the newest frozen one or the base. `None`: nothing was collected.
    pub(super) start: Option<Root>,
    /// The newest epoch whose dirty marks this freeze answers; `None` when nothing changed.
    pub(super) epoch: Option<u64>,
    pub(super) directories: BTreeMap<u64, PlannedDirectory>,
    /// The trees directories were made with, for those that never were in a freeze.
    pub(super) bases: HashMap<u64, (Option<TreeId>, Totals)>,
    /// Hard-linked nodes, by link number.
    pub(super) links: BTreeMap<u64, Option<Planned>>,
    pub(super) contents: Vec<PlannedContent>,
    pub(super) root_attributes: trees::Attributes,
    pub(super) next_link: u64,
    pub(super) unstable: Vec<PathBuf>,
}
