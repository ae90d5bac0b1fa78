//! Reading directories: one name, one position, or a run of entries.

use std::path::PathBuf;
use std::sync::Arc;

use super::cache::PageCache;
use super::cursor::Cursor;
use super::held::Held;
use super::page::{Page, Run};
use super::{Entry, NameKey, TreeId};
use crate::base::encoding::EncodingError;
use crate::objects::{Kind, ObjectId, Objects, ObjectsError};

/// What can go wrong with trees.
#[derive(Debug, thiserror::Error)]
pub enum TreesError {
    /// An object could not be read or written.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// A file outside the store could not be read or written (import, export).
    #[error(transparent)]
    File(#[from] crate::base::FileError),
    /// A device node: nothing that a site has, and opening one that came with a tree would be a risk.
    #[error("{} is a device node, and sitefs keeps none: remove it, or leave it out", path.display())]
    Device {
        /// The path on the native file system.
        path: PathBuf,
    },
    /// The target of an export has something in it.
    #[error("{} is not empty: what is there would be mixed with what is written", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A page is not what it should be.
    #[error("the directory page {id} cannot be read: {source}")]
    Page {
        /// The page.
        id: ObjectId,
        /// Why.
        source: EncodingError,
    },
    /// A path leads nowhere, or through something that is not a directory.
    #[error("{path} is not in the tree")]
    NotFound {
        /// The path from the root.
        path: String,
    },
    /// A name refers to a node with several names that the tree does not have.
    #[error("the tree is damaged: the node with several names, number {number}, is missing from it")]
    LinkMissing {
        /// The link number.
        number: u64,
    },
}

/// An entry with its place among the nodes of its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The key of its name.
    pub key: NameKey,
    /// The entry.
    pub entry: Entry,
    /// How many nodes of the directory (with all below them) come before it: the entry's pre-order number is that
    /// of the directory, plus one, plus this.
    pub preceding: u64,
}

/// A new entry under a name, or (`None`) its removal.
pub type Change = (NameKey, Option<Entry>);

/// Trees over an object store, with a cache of decoded pages bounded in bytes.
pub struct Trees {
    /// The objects below.
    pub objects: Arc<Objects>,
    pub(super) cache: PageCache,
    /// Where new pages go, instead of the store.
    pub(super) held: Option<Held>,
}

impl Trees {
    /// Trees over `objects`, keeping at most `cache_bytes_max` of decoded pages.
    pub fn new(objects: Arc<Objects>, cache_bytes_max: usize) -> Trees {
        Trees { objects, cache: PageCache::new(cache_bytes_max), held: None }
    }

    /// The entry under a name.
    pub fn lookup(&self, tree: Option<TreeId>, key: &NameKey) -> Result<Option<Located>, TreesError> {
        let Some(TreeId(top)) = tree else { return Ok(None) };
        let mut page = self.page(top)?;
        let mut preceding = 0_u64;
        loop {
            let (at, below) = match &*page {
                Page::Leaf(run) => {
                    return Ok(run.keys.binary_search(key).ok().map(|at| run.located(at, preceding)));
                }
                Page::Index { height, run } => {
                    let at = run.keys.partition_point(|last| last < key);
                    let Some(child) = run.values.get(at) else { return Ok(None) };
                    (at, self.page_of_height(child.page, height - 1)?)
                }
            };
            preceding = preceding.saturating_add(page.preceding()[at]);
            page = below;
        }
    }

    /// The entry that holds the node at `position` (0 is the first node of the directory): itself, or the
    /// directory the node is somewhere below. Resolves a pre-order number step by step.
    pub fn at_position(&self, tree: Option<TreeId>, position: u64) -> Result<Option<Located>, TreesError> {
        let Some(TreeId(top)) = tree else { return Ok(None) };
        let mut page = self.page(top)?;
        let mut preceding = 0_u64;
        loop {
            let rest = position - preceding;
            if rest >= page.totals().nodes {
                return Ok(None);
            }
            let (at, below) = match &*page {
                Page::Leaf(run) => return Ok(Some(run.located(run.at_position(rest), preceding))),
                Page::Index { height, run } => {
                    let at = run.at_position(rest);
                    (at, self.page_of_height(run.values[at].page, height - 1)?)
                }
            };
            preceding += page.preceding()[at];
            page = below;
        }
    }

    /// Up to `count_max` entries whose cookie is greater than `after` (0: from the start), in order. Entries of
    /// one cookie are never separated: the last group may exceed `count_max`.
    pub fn list(
        &self,
        tree: Option<TreeId>,
        after: u64,
        count_max: usize,
    ) -> Result<Vec<Located>, TreesError> {
        let mut cursor = Cursor::new(self, tree)?;
        cursor.seek_cookie(after)?;
        let mut found: Vec<Located> = Vec::new();
        while let Some(located) = cursor.entry()? {
            let same_cookie = found.last().is_some_and(|last| last.key.cookie == located.key.cookie);
            if found.len() >= count_max && !same_cookie {
                break;
            }
            found.push(located);
            cursor.advance();
        }
        Ok(found)
    }

    /// A page, from the cache or the store.
    pub(super) fn page(&self, id: ObjectId) -> Result<Arc<Page>, TreesError> {
        if let Some(page) = self.cache.get(id) {
            return Ok(page);
        }
        let content = match self.held.as_ref().and_then(|held| held.get(id)) {
            Some(content) => content,
            None => self.objects.get(Kind::TreePage, id)?,
        };
        let page = Arc::new(Page::decode(id, &content)?);
        self.cache.insert(id, Arc::clone(&page));
        Ok(page)
    }

    /// A page that is referred to as being `height` levels above the leaves. Checking it bounds every descent.
    pub(super) fn page_of_height(&self, id: ObjectId, height: u8) -> Result<Arc<Page>, TreesError> {
        let page = self.page(id)?;
        if page.height() == height {
            Ok(page)
        } else {
            Err(TreesError::Page { id, source: EncodingError::Damaged })
        }
    }
}

impl Run<Entry> {
    fn located(&self, at: usize, preceding: u64) -> Located {
        Located {
            key: self.keys[at].clone(),
            entry: self.values[at].clone(),
            preceding: preceding.saturating_add(self.preceding[at]),
        }
    }
}
