//! Which paths of a tree damaged objects are needed for.
//!
//! An audit goes through trees that share most of their pages: what was found whole once is not gone through again, so
//! all snapshots of a site cost little more than one. It reads pages and chunk lists; of chunks and plain files it only
//! asks whether they are there, and not among those known to be damaged.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::native::os;
use super::page::Page;
use super::{Node, Root, TreeId, Trees, TreesError};
use crate::objects::{FileContent, ObjectId, ObjectsError};

/// A path that something is missing for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The path from the tree's root; of a damaged directory, the directory. Empty: the root itself.
    pub path: PathBuf,
    /// The object that is damaged or missing, where it is one.
    pub object: Option<ObjectId>,
    /// What is wrong.
    pub reason: String,
}

/// Goes through trees. What it has found whole it remembers: 32 bytes a page.
pub struct Audit<'a> {
    trees: &'a Trees,
    bad: &'a BTreeSet<ObjectId>,
    /// Pages below which all is well, and lists of chunks.
    whole: HashSet<ObjectId>,
    /// Why a node with several names is not whole, by link number, for the tree under way.
    links: BTreeMap<u64, Finding>,
}

/// What is called with each finding.
type Each<'a> = dyn FnMut(Finding) + 'a;

impl<'a> Audit<'a> {
    /// An audit that takes the objects in `bad` for damaged, and others for whole when they are there.
    pub fn new(trees: &'a Trees, bad: &'a BTreeSet<ObjectId>) -> Audit<'a> {
        Audit { trees, bad, whole: HashSet::new(), links: BTreeMap::new() }
    }

    /// Goes through a tree and calls `each` with what it finds.
    pub fn root(&mut self, root: &Root, each: &mut Each<'_>) {
        self.links.clear();
        let mut links = BTreeMap::new();
        if let Some(TreeId(page)) = root.links {
            let mut note = |finding: Finding| {
                // A link's name is its number. Where a whole page is damaged, each of its links is missing from it.
                let name = finding.path.as_os_str().as_encoded_bytes();
                match <[u8; 8]>::try_from(name) {
                    Ok(number) => drop(links.insert(u64::from_be_bytes(number), finding)),
                    Err(_) => each(finding),
                }
            };
            self.page(page, None, Path::new(""), &mut note);
        }
        self.links = links;
        // Pages with hard links may be whole in another tree and not in this one.
        let kept = (!self.links.is_empty()).then(|| std::mem::take(&mut self.whole));
        self.directory(root.tree, Path::new(""), each);
        if let Some(kept) = kept {
            self.whole = kept;
        }
    }

    /// Checks one content, as [`Audit::root`] does for those of a tree.
    pub fn content(&mut self, content: &FileContent, path: &Path, each: &mut Each<'_>) {
        if let Some(finding) = self.content_finding(content, path) {
            each(finding);
        }
    }

    /// Checks the entries of a directory.
    pub fn directory(&mut self, tree: Option<TreeId>, path: &Path, each: &mut Each<'_>) {
        if let Some(TreeId(page)) = tree {
            self.page(page, None, path, each);
        }
    }

    /// Goes through a page and what is below it; whether all of it is whole.
    fn page(&mut self, id: ObjectId, height: Option<u8>, path: &Path, each: &mut Each<'_>) -> bool {
        if self.whole.contains(&id) {
            return true;
        }
        let missing = || Err(TreesError::Objects(ObjectsError::Missing { id }));
        let page = match (self.is_there(id), height) {
            (Ok(true), Some(height)) => self.trees.page_of_height(id, height),
            (Ok(true), None) => self.trees.page(id),
            (Ok(false), _) => missing(),
            (Err(error), _) => Err(error.into()),
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                let reason = format!("a part of the directory cannot be read: {error}");
                each(Finding { path: path.to_owned(), object: Some(id), reason });
                return false;
            }
        };
        let mut whole = true;
        match &*page {
            Page::Index { height, run } => {
                for child in &run.values {
                    whole &= self.page(child.page, Some(height - 1), path, each);
                }
            }
            Page::Leaf(run) => {
                for (key, entry) in run.keys.iter().zip(&run.values) {
                    let path = path.join(os(&key.name));
                    let finding = match &entry.node {
                        Node::File(content) => self.content_finding(content, &path),
                        Node::HardLink(number) => {
                            self.links.get(number).cloned().map(|finding| Finding { path, ..finding })
                        }
                        Node::Directory { tree: Some(TreeId(below)), .. } => {
                            whole &= self.page(*below, None, &path, each);
                            None
                        }
                        Node::Directory { tree: None, .. } | Node::Symlink { .. } | Node::Fifo => None,
                    };
                    if let Some(finding) = finding {
                        whole = false;
                        each(finding);
                    }
                }
            }
        }
        if whole {
            self.whole.insert(id);
        }
        whole
    }

    fn is_there(&self, id: ObjectId) -> Result<bool, ObjectsError> {
        Ok(!self.bad.contains(&id) && self.trees.objects.contains(id)?)
    }

    fn content_finding(&mut self, content: &FileContent, path: &Path) -> Option<Finding> {
        if let FileContent::Chunks { list, .. } = content
            && self.whole.contains(list)
        {
            return None;
        }
        let mut object = None;
        let checked = self.trees.objects.each_object(content, &mut |id| match self.is_there(id)? {
            true => Ok(()),
            false => {
                object = Some(id);
                Err(ObjectsError::Missing { id })
            }
        });
        match checked {
            Ok(()) => {
                if let FileContent::Chunks { list, .. } = content {
                    self.whole.insert(*list);
                }
                None
            }
            Err(error) => {
                let reason = match object {
                    Some(id) if self.bad.contains(&id) => format!("object {id} is damaged"),
                    Some(id) => format!("object {id} is missing"),
                    None => error.to_string(),
                };
                Some(Finding { path: path.to_owned(), object, reason })
            }
        }
    }
}
