//! The files of a database in a site's tree, as [`DatabaseRecipe::files_in`] finds them in a directory.

use super::DatabaseRecipe;
use super::database::is_name_of;
use crate::base::RelativePath;
use crate::trees::{Node, Root, Trees, TreesError};

/// How many entries are read at once.
const PAGE: usize = 512;

impl DatabaseRecipe {
    /// The files of the database whose main one is `main`, that one first.
    pub fn files_in_tree(
        &self,
        trees: &Trees,
        root: &Root,
        main: &RelativePath,
    ) -> Result<Vec<RelativePath>, TreesError> {
        let mut files = vec![main.clone()];
        for pattern in &self.additional {
            let (parent, name) = pattern.as_str().rsplit_once('/').unwrap_or(("", pattern.as_str()));
            let tree = match parent.parse::<RelativePath>() {
                Err(_) => root.tree,
                Ok(directory) => match trees.entry_at(root, &directory)?.map(|entry| entry.node) {
                    Some(Node::Directory { tree, .. }) => tree,
                    _ => continue,
                },
            };
            let mut found = Vec::new();
            let mut after = 0;
            loop {
                let page = trees.list(tree, after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = last.key.cookie;
                for located in &page {
                    let is_file = matches!(located.entry.node, Node::File(_) | Node::HardLink(_));
                    let Ok(entry) = std::str::from_utf8(&located.key.name) else { continue };
                    if is_file && is_name_of(name, entry) {
                        let path =
                            if parent.is_empty() { entry.to_owned() } else { format!("{parent}/{entry}") };
                        found.extend(path.parse::<RelativePath>());
                    }
                }
            }
            found.retain(|path| !files.contains(path));
            found.sort();
            files.extend(found);
        }
        Ok(files)
    }
}
