//! The trees of a site: one whole tree in a snapshot, a code tree and a data tree behind a generation.
//!
//! *Splitting* takes each data directory out of the whole tree and leaves a symbolic link to the place where the
//! site's data is shown; *joining* puts them back. Splitting and joining give the tree one began with, but for two
//! things: data directories that were missing are made, so that what the application puts there is shared; and a
//! file that has names both in a data directory and outside of it becomes two, as it would across file systems.

use crate::base::{RelativePath, SiteName};
use crate::trees::{Attributes, Entry, Node, Root, Totals, Trees, TreesError, Xattrs};

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
        let attributes = match find(trees, root, path)? {
            Found::Nothing { parent } => {
                let node = Node::Directory { tree: None, totals: Totals::default() };
                let empty = Entry { attributes: parent.clone(), node };
                data_root = trees.replace_at(&data_root, path, Some(empty))?;
                parent
            }
            Found::Entry(entry) if matches!(entry.node, Node::Directory { .. }) => {
                data_root = trees.graft(&data_root, path, root, path)?;
                entry.attributes
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
            attributes: Attributes { mode: 0o777, xattrs: Xattrs::default(), ..attributes },
            node: Node::Symlink { target: data_link(site, path).into_bytes().into() },
        };
        code = trees.replace_at(&code, path, Some(link))?;
        directories.push(path.clone());
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
    let mut root = code.clone();
    let mut warnings = Vec::new();
    for path in directories {
        if !trees.entry_at(code, path)?.is_some_and(|entry| is_data_link(&entry.node, site, path)) {
            warnings.push(format!(
                "{path} is no longer the link to the site's data: what stands there now belongs to this generation"
            ));
        } else if trees.entry_at(data, path)?.is_some() {
            root = trees.graft(&root, path, data, path)?;
        } else {
            root = trees.replace_at(&root, path, None)?;
        }
    }
    Ok(Joined { root, warnings })
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::objects::Objects;
    use crate::trees::{ImportOptions, ImportReport};

    struct Fixture {
        trees: Trees,
        directory: tempfile::TempDir,
    }

    impl Fixture {
        /// An imported site: `settings.php`, two modules, and whatever `more` puts into its directory.
        fn new(more: impl FnOnce(&std::path::Path)) -> (Fixture, Root) {
            let directory = tempfile::tempdir().unwrap();
            let (store, site) = (directory.path().join("store"), directory.path().join("site"));
            fs::create_dir(&store).unwrap();
            fs::create_dir_all(site.join("modules/one")).unwrap();
            fs::write(site.join("settings.php"), "<?php").unwrap();
            fs::write(site.join("modules/one/one.module"), "<?php // one").unwrap();
            more(&site);
            Objects::create(&store).unwrap();
            let trees = Trees::new(Arc::new(Objects::open(&store).unwrap()), 8 << 20);
            let (root, _): (Root, ImportReport) =
                trees.import(&site, &ImportOptions::default(), &|_| {}).unwrap();
            (Fixture { trees, directory }, root)
        }

        fn target(&self, root: &Root, path: &str) -> String {
            match self.trees.entry_at(root, &path.parse().unwrap()).unwrap().unwrap().node {
                Node::Symlink { target } => String::from_utf8(target.into()).unwrap(),
                other => panic!("{path} is {other:?}"),
            }
        }

        fn differences(&self, old: &Root, new: &Root) -> Vec<String> {
            let mut paths = Vec::new();
            let mut each = |difference: crate::trees::Difference| {
                paths.push(difference.path.display().to_string());
                Ok(())
            };
            self.trees.diff(old, new, &mut each).unwrap();
            paths
        }
    }

    fn paths(paths: &[&str]) -> Vec<RelativePath> {
        paths.iter().map(|path| path.parse().unwrap()).collect()
    }

    fn site() -> SiteName {
        "example.com".parse().unwrap()
    }

    fn with_uploads(site: &std::path::Path) {
        fs::create_dir_all(site.join("files/css")).unwrap();
        fs::create_dir_all(site.join("private/deep/files")).unwrap();
        fs::write(site.join("files/a.png"), "a picture").unwrap();
        fs::write(site.join("private/deep/files/b.pdf"), "a paper").unwrap();
        fs::write(site.join("private/note"), "code").unwrap();
    }

    #[test]
    fn joining_what_was_split_gives_the_very_same_tree() {
        let (fixture, root) = Fixture::new(with_uploads);
        let data = paths(&["files", "private/deep/files"]);
        let split = split(&fixture.trees, &root, &site(), &data).unwrap();
        assert_eq!((&split.directories, split.warnings.len()), (&data, 0));
        assert_eq!(fixture.target(&split.code, "files"), "../../../data/example.com/files");
        assert_eq!(
            fixture.target(&split.code, "private/deep/files"),
            "../../../../../data/example.com/private/deep/files"
        );
        // What is left in the data is the directories, and what is above them.
        assert_eq!(split.data.totals.nodes, 7);
        let joined = join(&fixture.trees, &split.code, &split.data, &site(), &data).unwrap();
        assert_eq!((joined.root, joined.warnings.len()), (root, 0));
    }

    #[test]
    fn the_links_lead_to_the_data_where_both_are_shown() {
        let (fixture, root) = Fixture::new(with_uploads);
        let split = split(&fixture.trees, &root, &site(), &paths(&["files", "private/deep/files"])).unwrap();
        let shown = fixture.directory.path().join("shown");
        for (tree, place) in [(&split.code, "generations/example.com/7"), (&split.data, "data/example.com")] {
            fs::create_dir_all(shown.join(place)).unwrap();
            fixture.trees.export(tree, &shown.join(place)).unwrap();
        }
        let generation = shown.join("generations/example.com/7");
        assert_eq!(fs::read(generation.join("files/a.png")).unwrap(), b"a picture");
        assert_eq!(fs::read(generation.join("private/deep/files/b.pdf")).unwrap(), b"a paper");
    }

    #[test]
    fn a_missing_data_directory_is_made_with_the_rights_of_what_it_is_in() {
        let (fixture, root) = Fixture::new(|_| {});
        let data = paths(&["modules/one/cache"]);
        let split = split(&fixture.trees, &root, &site(), &data).unwrap();
        let joined = join(&fixture.trees, &split.code, &split.data, &site(), &data).unwrap();
        assert_eq!(fixture.differences(&root, &joined.root), ["modules/one/cache"]);
        let made = fixture.trees.entry_at(&joined.root, &data[0]).unwrap().unwrap();
        let above = fixture.trees.entry_at(&root, &"modules/one".parse().unwrap()).unwrap().unwrap();
        assert_eq!(made.attributes, above.attributes);
    }

    #[test]
    fn a_data_directory_that_is_a_link_stays_one() {
        let (fixture, root) = Fixture::new(|site| symlink("/srv/uploads", site.join("files")).unwrap());
        let split =
            split(&fixture.trees, &root, &site(), &paths(&["files", "files/css", "settings.php/x"])).unwrap();
        assert_eq!((split.directories.len(), split.warnings.len()), (0, 3), "{:?}", split.warnings);
        assert_eq!(split.code, root);
        assert_eq!(split.data.tree, None);
    }

    #[test]
    fn a_data_directory_that_a_generation_replaced_is_its_own() {
        let (fixture, root) = Fixture::new(with_uploads);
        let data = paths(&["files"]);
        let split = split(&fixture.trees, &root, &site(), &data).unwrap();
        let own = fixture.trees.entry_at(&root, &"modules".parse().unwrap()).unwrap();
        let code = fixture.trees.replace_at(&split.code, &data[0], own.clone()).unwrap();
        let joined = join(&fixture.trees, &code, &split.data, &site(), &data).unwrap();
        assert_eq!(fixture.trees.entry_at(&joined.root, &data[0]).unwrap(), own);
        assert_eq!(joined.warnings.len(), 1);
        let emptied = fixture.trees.replace_at(&split.data, &data[0], None).unwrap();
        let joined = join(&fixture.trees, &split.code, &emptied, &site(), &data).unwrap();
        assert_eq!(fixture.trees.entry_at(&joined.root, &data[0]).unwrap(), None);
    }

    #[test]
    fn hard_links_survive_on_both_sides() {
        let (fixture, root) = Fixture::new(|site| {
            with_uploads(site);
            fs::hard_link(site.join("files/a.png"), site.join("files/css/again.png")).unwrap();
            fs::hard_link(site.join("settings.php"), site.join("modules/settings.php")).unwrap();
        });
        let data = paths(&["files"]);
        let split = split(&fixture.trees, &root, &site(), &data).unwrap();
        assert!(split.code.links.is_some() && split.data.links.is_some());
        let joined = join(&fixture.trees, &split.code, &split.data, &site(), &data).unwrap();
        assert_eq!(fixture.differences(&root, &joined.root), Vec::<String>::new());
        assert_eq!(joined.root.totals, root.totals);
    }
}
