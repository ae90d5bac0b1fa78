//! Whether what a volume's overlay says can be read, and what it refers to is there.
//!
//! Upper files have no checksums: they are files being written, also past this program. That one is missing, cannot be read,
//! or is longer or shorter than it was left, shows; that its bytes have changed does not, until a freeze makes objects of them.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::node::{Body, Home, Node, ROOT};
use super::rows::{self, Slot, VolumeRow};
use super::{LiveError, Volume, upper};
use crate::trees::{Audit, Finding, Totals, TreeId};

impl Volume {
    /// Goes through the base tree and the committed rows of the volume; calls `each` with what is damaged or missing.
    /// Changes go on meanwhile.
    pub fn audit(&self, audit: &mut Audit<'_>, each: &mut dyn FnMut(Finding)) -> Result<(), LiveError> {
        audit.root(&self.base, each);
        let prefix = rows::volume_key(self.number);
        let mut nodes = Vec::new();
        self.shared.engine.scan(rows::NODES, &prefix, |key, value| {
            nodes.push((rows::number_at(key, prefix.len()).unwrap_or_default(), rows::decode::<Node>(value)));
            Ok(())
        })?;
        for (number, node) in nodes {
            let path = |node: &Node| self.path_of(number, node.home.clone());
            match node {
                Ok(node) => match &node.body {
                    Body::Stored(content) => audit.content(content, &path(&node), each),
                    Body::Directory { base, .. } => audit.directory(*base, &path(&node), each),
                    Body::Upper(upper) => {
                        if let Some(what) = self.upper_problem(number, upper.number)? {
                            let upper = self.shared.uppers.path(self.number, upper.number);
                            let upper = upper.display();
                            let reason = format!(
                                "its content, {upper}, {what}; remove it or bring it back from a snapshot"
                            );
                            each(Finding { path: path(&node), object: None, reason });
                        }
                    }
                    Body::Symlink(_)
                    | Body::Fifo
                    | Body::Socket
                    | Body::CharacterDevice(_)
                    | Body::BlockDevice(_) => {}
                },
                Err(error) => {
                    let path = self.path_of(number, self.name_in_entries(number)?);
                    each(Finding { path, object: None, reason: error.to_string() });
                }
            }
        }
        self.audit_rows(each)
    }

    /// What is wrong with the upper file of a node. Every byte of it is read, as of everything else in the store.
    fn upper_problem(&self, local: u64, number: u64) -> Result<Option<String>, LiveError> {
        let mut state = self.state.lock();
        // A freeze may have let go of it meanwhile.
        let size = match self.node(&mut state, local) {
            Ok(Node { body: Body::Upper(now), .. }) if now.number == number => {
                // Who has it open for writing knows its size.
                (!now.written).then_some(now.size)
            }
            Ok(_) | Err(LiveError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let uppers = &self.shared.uppers;
        let opened = match (uppers.look(self.number, number), size) {
            (Ok(None), _) => return Ok(Some("is missing".to_owned())),
            (Ok(Some(facts)), _) if !facts.is_file => return Ok(Some("is no file".to_owned())),
            (Ok(Some(facts)), Some(size)) if facts.size != size => {
                return Ok(Some(format!("has {} bytes and should have {size}", facts.size)));
            }
            // As whoever wants its content does.
            (Ok(Some(_)), _) => uppers.open_file(self.number, number),
            (Err(error), _) => Err(error),
        };
        drop(state);
        let read = opened.and_then(|file| upper::read_through(&file));
        Ok(read.err().map(|error| format!("cannot be read: {error}")))
    }

    /// Rows other than nodes.
    fn audit_rows(&self, each: &mut dyn FnMut(Finding)) -> Result<(), LiveError> {
        let prefix = rows::volume_key(self.number);
        let mut damaged = Vec::new();
        self.shared.engine.scan(rows::ENTRIES, &prefix, |key, value| {
            let directory = rows::number_at(key, prefix.len()).unwrap_or_default();
            let checked = rows::entry_name(key, prefix.len() + 8).and_then(|_| rows::decode::<Slot>(value));
            damaged.extend(checked.err().map(|error| (directory, error)));
            Ok(())
        })?;
        self.check_rows::<u64>(rows::DIRTY, &mut damaged)?;
        self.check_rows::<(Option<TreeId>, Totals)>(rows::FROZEN, &mut damaged)?;
        self.check_rows::<VolumeRow>(rows::VOLUMES, &mut damaged)?;
        for (directory, error) in damaged {
            let home = if directory == ROOT { None } else { self.name_in_entries(directory)? };
            each(Finding { path: self.path_of(directory, home), object: None, reason: error.to_string() });
        }
        Ok(())
    }

    fn check_rows<T: DeserializeOwned>(
        &self,
        table: &'static str,
        damaged: &mut Vec<(u64, LiveError)>,
    ) -> Result<(), LiveError> {
        self.shared.engine.scan(table, &rows::volume_key(self.number), |_, value| {
            damaged.extend(rows::decode::<T>(value).err().map(|error| (ROOT, error)));
            Ok(())
        })
    }

    /// Under which name the rows of directories know a node.
    fn name_in_entries(&self, number: u64) -> Result<Option<Home>, LiveError> {
        let prefix = rows::volume_key(self.number);
        let mut home = None;
        self.shared.engine.scan(rows::ENTRIES, &prefix, |key, value| {
            if let (Some(directory), Ok(key), Ok(Slot::Node(node))) = (
                rows::number_at(key, prefix.len()),
                rows::entry_name(key, prefix.len() + 8),
                rows::decode::<Slot>(value),
            ) && node == number
            {
                home = Some(Home { directory, key });
            }
            Ok(())
        })?;
        Ok(home)
    }

    /// The path of a node from the volume's root, as far as it can be told.
    fn path_of(&self, number: u64, mut home: Option<Home>) -> PathBuf {
        let mut names = Vec::new();
        let mut at = number;
        let mut state = self.state.lock();
        while at != ROOT {
            let Some(Home { directory, key }) = home else {
                names.push(format!("(node {at})").into_bytes().into());
                break;
            };
            names.push(key.name);
            at = directory;
            home = self.load(&mut state, at).ok().and_then(|node| node.home);
        }
        let os = |name: &[u8]| -> PathBuf {
            use std::os::unix::ffi::OsStrExt;
            Path::new(std::ffi::OsStr::from_bytes(name)).to_owned()
        };
        names.iter().rev().map(|name| os(name)).collect()
    }
}
