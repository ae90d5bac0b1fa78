//! The trees of a site: one whole tree in a snapshot, a code tree and a data tree behind a generation.
//!
//! *Splitting* takes each data directory out of the whole tree and leaves a symbolic link to the place where the
//! site's data is shown; *joining* puts them back. Splitting and joining give the very tree one began with, apart
//! from data directories that were missing: those are made, so that what the application puts there is shared.

use std::collections::{BTreeMap, BTreeSet};

use super::records::is_within;
use super::{Facts, Settings, SiteKind};
use crate::base::{RelativePath, SiteName, Timestamp};
use crate::trees::{Attributes, Change, Entry, NameKey, Node, Root, Totals, TreeId, Trees, TreesError};

/// How many entries of a directory are looked at in one go.
const ENTRIES_AT_ONCE: usize = 1024;

/// A whole tree in two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What the code volume stands on: the tree with links in place of the data directories.
    pub code: Root,
    /// What the data volume stands on: the data directories alone, at their paths.
    pub data: Root,
    /// The data directories: those asked for, less those that were left in the code.
    pub directories: Vec<RelativePath>,
    /// Data directories that were left in the code, each with the reason, for people.
    pub warnings: Vec<String>,
}

/// A whole tree made of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The tree as the application sees it.
    pub root: Root,
    /// Data directories that the code does not link to any more, each with what is there, for people.
    pub warnings: Vec<String>,
}

/// The target of the link that stands for the data directory `path` in the generations of `site`: from the link's
/// own directory up to the root of the file system that sitefs shows, where `generations/` and `data/` are side by
/// side.
pub fn data_link(site: &SiteName, path: &RelativePath) -> String {
    // `generations`, the site and the number, and the directories in which the link is.
    let up = 3 + path.components().count() - 1;
    format!("{}data/{site}/{path}", "../".repeat(up))
}

/// Splits the whole tree `root` of `site` at the directories `data`, none of which is within another.
///
/// A data directory that is missing is made, empty. One that is a symbolic link, a file, or below one, stays in the
/// code, with a warning.
pub fn split(
    trees: &Trees,
    root: &Root,
    site: &SiteName,
    data: &[RelativePath],
) -> Result<Split, TreesError> {
    let mut code = root.clone();
    let mut data_root = Root { tree: None, totals: Totals::default(), links: None, ..root.clone() };
    let (mut directories, mut warnings) = (Vec::new(), Vec::new());
    for path in data {
        let (entry, attributes) = match find(trees, root, path)? {
            Found::Nothing { parent } => {
                let node = Node::Directory { tree: None, totals: Totals::default() };
                (Entry { attributes: parent.clone(), node }, parent)
            }
            Found::Entry(entry) if matches!(entry.node, Node::Directory { .. }) => {
                let attributes = entry.attributes.clone();
                (entry, attributes)
            }
            Found::Entry(_) | Found::Blocked => {
                warnings.push(format!(
                    "{path} is not a directory of the site's own, so it stays as it is: sitefs neither shares nor \
                     snapshots what it leads to"
                ));
                continue;
            }
        };
        let link = Entry {
            attributes: Attributes { mode: 0o777, xattrs: BTreeMap::new(), ..attributes },
            node: Node::Symlink { target: data_link(site, path).into_bytes().into() },
        };
        data_root = trees.replace_at(&data_root, path, Some(entry))?;
        code = trees.replace_at(&code, path, Some(link))?;
        directories.push(path.clone());
    }
    if root.links.is_some() {
        data_root.links = links_of(trees, root, data_root.tree)?;
        code.links = links_of(trees, root, code.tree)?;
    }
    Ok(Split { code, data: data_root, directories, warnings })
}

/// Puts the data directories of `site` back into the code tree they were taken out of.
pub fn join(
    trees: &Trees,
    code: &Root,
    data: &Root,
    site: &SiteName,
    directories: &[RelativePath],
) -> Result<Joined, TreesError> {
    let data = without_collisions(trees, code, data)?;
    let mut root = code.clone();
    let mut warnings = Vec::new();
    for path in directories {
        let linked = match trees.entry_at(code, path) {
            Ok(entry) => entry.is_some_and(|entry| is_data_link(&entry.node, site, path)),
            Err(TreesError::NotFound { .. }) => false,
            Err(error) => return Err(error),
        };
        if linked {
            root = trees.replace_at(&root, path, trees.entry_at(&data, path)?)?;
        } else {
            warnings.push(format!(
                "{path} is no longer the link to the site's data: what stands there now belongs to this generation"
            ));
        }
    }
    root.links = merge_links(trees, code.links, data.links)?;
    root.next_link = code.next_link.max(data.next_link);
    Ok(Joined { root, warnings })
}

/// The code tree `code` with the recipe's settings file, owned as the tree's root and readable by its group.
pub fn with_settings(
    trees: &Trees,
    code: &Root,
    settings: &Settings,
    facts: &Facts,
    kind: &SiteKind,
    now: Timestamp,
) -> Result<Root, TreesError> {
    let text = settings.render(facts, kind);
    let content = trees.objects.put_file(&mut text.as_bytes(), text.len() as u64)?;
    let attributes = Attributes {
        mode: 0o640,
        uid: code.attributes.uid,
        gid: code.attributes.gid,
        mtime: now,
        ..Attributes::default()
    };
    trees.replace_at(code, &settings.file, Some(Entry { attributes, node: Node::File(content) }))
}

/// Which of `data` a database's file is in, where it must not be.
pub fn data_directory_of<'a>(file: &RelativePath, data: &'a [RelativePath]) -> Option<&'a RelativePath> {
    data.iter().find(|directory| is_within(file, directory))
}

fn is_data_link(node: &Node, site: &SiteName, path: &RelativePath) -> bool {
    matches!(node, Node::Symlink { target } if **target == *data_link(site, path).as_bytes())
}

/// What is at a path.
enum Found {
    Entry(Entry),
    /// Nothing; the attributes of the innermost directory on the way that there is.
    Nothing {
        parent: Attributes,
    },
    /// The way there leads through something that is not a directory.
    Blocked,
}

fn find(trees: &Trees, root: &Root, path: &RelativePath) -> Result<Found, TreesError> {
    let mut parent = root.attributes.clone();
    let ends = path.as_str().match_indices('/').map(|(end, _)| end);
    for end in ends {
        let above = path.as_str()[..end].parse().expect("the parents of a relative path are relative paths");
        match trees.entry_at(root, &above)? {
            Some(entry) if matches!(entry.node, Node::Directory { .. }) => parent = entry.attributes,
            Some(_) => return Ok(Found::Blocked),
            None => return Ok(Found::Nothing { parent }),
        }
    }
    Ok(match trees.entry_at(root, path)? {
        Some(entry) => Found::Entry(entry),
        None => Found::Nothing { parent },
    })
}

/// The part of the table of hard links of `root` that `tree` refers to.
fn links_of(trees: &Trees, root: &Root, tree: Option<TreeId>) -> Result<Option<TreeId>, TreesError> {
    let mut numbers = BTreeSet::new();
    each_link(trees, tree, &mut |number| {
        numbers.insert(number);
    })?;
    let mut changes = Vec::new();
    for number in numbers {
        let key = link_key(number);
        if let Some(located) = trees.lookup(root.links, &key)? {
            changes.push((key, Some(located.entry)));
        }
    }
    changes.sort_by(|left: &Change, right| left.0.cmp(&right.0));
    Ok(trees.update(None, &changes)?.0)
}

fn link_key(number: u64) -> NameKey {
    NameKey::new(&number.to_be_bytes())
}

/// Calls `each` with the number of every hard link of a directory and all below it.
fn each_link(trees: &Trees, tree: Option<TreeId>, each: &mut dyn FnMut(u64)) -> Result<(), TreesError> {
    each_entry(trees, tree, &mut |located| {
        match located.entry.node {
            Node::HardLink(number) => each(number),
            Node::Directory { tree, .. } => each_link(trees, tree, each)?,
            _ => {}
        }
        Ok(())
    })
}

/// Calls `each` with every entry of a directory.
fn each_entry(
    trees: &Trees,
    tree: Option<TreeId>,
    each: &mut dyn FnMut(crate::trees::Located) -> Result<(), TreesError>,
) -> Result<(), TreesError> {
    let mut after = 0;
    loop {
        let entries = trees.list(tree, after, ENTRIES_AT_ONCE)?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = last.key.cookie;
        entries.into_iter().try_for_each(&mut *each)?;
    }
}

/// `data` with new numbers for those of its hard links whose numbers mean other nodes in `code`: the two volumes
/// count on from the same number, each for itself.
fn without_collisions(trees: &Trees, code: &Root, data: &Root) -> Result<Root, TreesError> {
    let (Some(_), Some(_)) = (code.links, data.links) else { return Ok(data.clone()) };
    let mut numbers = BTreeMap::new();
    let mut next_link = code.next_link.max(data.next_link);
    let mut changes = BTreeMap::new();
    each_entry(trees, data.links, &mut |located| {
        let other = trees.lookup(code.links, &located.key)?;
        if other.is_some_and(|other| other.entry != located.entry) {
            let bytes = <[u8; 8]>::try_from(&*located.key.name).map_err(|_| TreesError::NotFound {
                path: "a link number of eight bytes in the table of hard links".to_owned(),
            })?;
            numbers.insert(u64::from_be_bytes(bytes), next_link);
            changes.insert(link_key(next_link), Some(located.entry));
            changes.insert(located.key, None);
            next_link += 1;
        }
        Ok(())
    })?;
    if numbers.is_empty() {
        return Ok(data.clone());
    }
    let changes: Vec<Change> = changes.into_iter().collect();
    let (links, _) = trees.update(data.links, &changes)?;
    let (tree, totals) = renumber(trees, data.tree, &numbers)?;
    Ok(Root { tree, totals, links, next_link, ..data.clone() })
}

/// The directory with other numbers in its hard links, and below it.
fn renumber(
    trees: &Trees,
    tree: Option<TreeId>,
    numbers: &BTreeMap<u64, u64>,
) -> Result<(Option<TreeId>, Totals), TreesError> {
    let mut changes: Vec<Change> = Vec::new();
    each_entry(trees, tree, &mut |located| {
        let node = match located.entry.node {
            Node::HardLink(number) => numbers.get(&number).map(|number| Node::HardLink(*number)),
            Node::Directory { tree: below, .. } => {
                let (tree, totals) = renumber(trees, below, numbers)?;
                (tree != below).then_some(Node::Directory { tree, totals })
            }
            _ => None,
        };
        if let Some(node) = node {
            changes.push((located.key, Some(Entry { attributes: located.entry.attributes, node })));
        }
        Ok(())
    })?;
    trees.update(tree, &changes)
}

/// Both tables of hard links as one; where they share a number they agree.
fn merge_links(
    trees: &Trees,
    code: Option<TreeId>,
    data: Option<TreeId>,
) -> Result<Option<TreeId>, TreesError> {
    if code.is_none() || code == data {
        return Ok(data);
    }
    let mut changes: Vec<Change> = Vec::new();
    each_entry(trees, data, &mut |located| {
        changes.push((located.key, Some(located.entry)));
        Ok(())
    })?;
    Ok(trees.update(code, &changes)?.0)
}
