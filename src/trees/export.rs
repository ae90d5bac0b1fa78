//! A tree to a directory of the native file system.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;

use super::cursor::Cursor;
use super::native;
use super::{Attributes, Entry, Node, Root, TreeId, Trees, TreesError};
use crate::base::files::At;
use crate::objects::FileContent;

/// Bytes of a large file that are read together.
const READ_BYTES: usize = 1 << 20;

/// Runs of zeros of this length, so aligned, become holes: a block of the usual file systems.
const HOLE_BYTES: usize = 4096;

/// A directory under way.
struct Level<'a> {
    open: OwnedFd,
    cursor: Cursor<'a>,
    attributes: Attributes,
}

impl Trees {
    /// Writes the tree below the existing, empty directory `target`, with all attributes, those of `target`
    /// included. Long runs of zeros become holes. Owners other than the caller's, and some extended attributes,
    /// need privileges; lacking them is an error. Not synced; a failure leaves what was written so far.
    pub fn export(&self, root: &Root, target: &Path) -> Result<(), TreesError> {
        let open = native::open_top(target).at("open the directory", target)?;
        if !native::list(&open, |_| true).at("list", target)?.is_empty() {
            return Err(TreesError::NotEmpty { path: target.to_owned() });
        }
        let mut export = Export { trees: self, links: root.links, target, first_names: HashMap::new() };
        export.run(open, root)
    }
}

struct Export<'a> {
    trees: &'a Trees,
    links: Option<TreeId>,
    target: &'a Path,
    /// The path from the top of the first name of each node with several names.
    first_names: HashMap<u64, PathBuf>,
}

impl<'a> Export<'a> {
    fn run(&mut self, open: OwnedFd, root: &Root) -> Result<(), TreesError> {
        let top = open.try_clone().at("open the directory", self.target)?;
        let mut relative = PathBuf::new();
        // The directories under way, the innermost last: a tree may be deeper than a thread's stack.
        let mut levels = vec![self.level(open, root.tree, root.attributes.clone())?];
        while let Some(level) = levels.last_mut() {
            let Some(located) = level.cursor.entry()? else {
                // Last, as every name made in the directory changed its time.
                let path = self.target.join(&relative);
                native::set_attributes(&level.open, &level.attributes).at("set the attributes of", &path)?;
                levels.pop();
                relative.pop();
                continue;
            };
            level.cursor.advance();
            let name = &located.key.name;
            relative.push(native::os(name));
            match located.entry.node {
                Node::Directory { tree, .. } => {
                    let path = self.target.join(&relative);
                    let open = native::make_directory(&level.open, name).at("create the directory", &path)?;
                    let level = self.level(open, tree, located.entry.attributes)?;
                    levels.push(level);
                    continue;
                }
                Node::HardLink(number) => self.hard_link(&top, &level.open, name, number, &relative)?,
                _ => self.leaf(&level.open, name, &located.entry, &relative)?,
            }
            relative.pop();
        }
        Ok(())
    }

    fn level(
        &self,
        open: OwnedFd,
        tree: Option<TreeId>,
        attributes: Attributes,
    ) -> Result<Level<'a>, TreesError> {
        Ok(Level { open, cursor: Cursor::new(self.trees, tree)?, attributes })
    }

    fn hard_link(
        &mut self,
        top: &OwnedFd,
        directory: &OwnedFd,
        name: &[u8],
        number: u64,
        relative: &Path,
    ) -> Result<(), TreesError> {
        if let Some(first) = self.first_names.get(&number) {
            let linked = rustix::fs::linkat(top, first, directory, name, AtFlags::empty());
            return Ok(linked.at("link", &self.target.join(relative))?);
        }
        let node = self.trees.linked_node(self.links, number)?;
        self.first_names.insert(number, relative.to_owned());
        self.leaf(directory, name, &node, relative)
    }

    fn leaf(
        &self,
        directory: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        relative: &Path,
    ) -> Result<(), TreesError> {
        let path = || self.target.join(relative);
        match &entry.node {
            Node::File(content) => {
                let file: File = native::create_file(directory, name).at("create", &path())?.into();
                self.write(content, &file, &path)?;
                native::set_attributes(&file, &entry.attributes).at("set the attributes of", &path())?;
            }
            Node::Symlink { target } => {
                rustix::fs::symlinkat(&**target, directory, name).at("create the link", &path())?;
                native::set_attributes_at(directory, name, &entry.attributes, false)
                    .at("set the attributes of", &path())?;
            }
            Node::Fifo => {
                native::make_fifo(directory, name).at("create", &path())?;
                native::set_attributes_at(directory, name, &entry.attributes, true)
                    .at("set the attributes of", &path())?;
            }
            Node::Directory { .. } | Node::HardLink(_) => unreachable!("neither is a leaf"),
        }
        Ok(())
    }

    /// Writes a file's content. Only files in several chunks are searched for holes: small ones have none worth
    /// it, and plain ones are incompressible.
    fn write(
        &self,
        content: &FileContent,
        file: &File,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<(), TreesError> {
        let FileContent::Chunks { size, .. } = *content else {
            return Ok(self.trees.objects.copy_to(content, file)?);
        };
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while offset < size {
            let length = self.trees.objects.read_at(content, offset, &mut buffer)?;
            for (at, block) in (offset..).step_by(HOLE_BYTES).zip(buffer[..length].chunks(HOLE_BYTES)) {
                if block.iter().any(|byte| *byte != 0) {
                    file.write_all_at(block, at).at("write", &path())?;
                }
            }
            offset += length as u64;
        }
        Ok(file.set_len(size).at("write", &path())?)
    }
}
