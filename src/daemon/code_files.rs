//! The files of a platform's code, one by one: `platform verify`, and what is written down for it.
//!
//! The store does not have the code itself, which is native. It has a list of what each file was, as the content of a file
//! among its objects: some 40 bytes a file.

use std::cmp::Ordering;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Daemon;
use crate::base::accounts::User;
use crate::base::encoding;
use crate::control::response::{ChangeKind, CodeChange, PlatformVerification};
use crate::control::{Failure, request};
use crate::history::Record;
use crate::objects::FileContent;
use crate::site::Platform;
use crate::trees::{DigestedNode, Listed, list_directory};

/// How many differing files an answer names: enough that it is a list and no longer somebody's doing.
pub(super) const CHANGES_MAX: usize = 10_000;

/// The version of the list's encoding.
const LIST_VERSION: u8 = 1;

/// Where the list of a platform's files is. The key is the platform's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CodeFiles {
    /// A record: the [`DigestedNode`]s, by path.
    pub(super) list: FileContent,
}

impl Record for CodeFiles {
    const TABLE: &'static str = "code-files";
    const VERSION: u8 = 1;
}

impl Daemon {
    /// `platform verify`.
    pub(super) fn platform_verify(
        &self,
        request: &request::PlatformVerify,
    ) -> Result<PlatformVerification, Failure> {
        let name = &request.platform;
        let mut platform = self.platform(name)?;
        let recorded = platform.code;
        let excluded = std::slice::from_ref(&platform.sites);
        let (digest, listed) = list_directory(Path::new(&platform.directory), excluded)?;
        let (mut changes, mut changes_count) = (Vec::new(), 0);
        let known = self.store.catalog.get::<CodeFiles>(name.as_str())?;
        if digest.id != recorded
            && let Some(files) = &known
        {
            compare(&self.read_code_files(files)?, &listed, &mut |was, is| {
                changes_count += 1;
                if changes.len() < CHANGES_MAX {
                    changes.push(change(was, is));
                }
            });
        }
        let accepted = request.accept && (digest.id != recorded || known.is_none());
        if accepted {
            let files = self.store_code_files(&listed)?;
            (platform.code, platform.files, platform.size_bytes) = (digest.id, digest.files, digest.bytes);
            self.store.catalog.write(|tx| {
                if tx.get::<Platform>(name.as_str())?.is_none_or(|found| found.code != recorded) {
                    return Err(Failure::refused(format!("platform {name} has changed meanwhile"))
                        .hint("look again: sitefs platform verify"));
                }
                tx.put(name.as_str(), &files)?;
                Ok(tx.put(name.as_str(), &platform)?)
            })?;
        }
        Ok(PlatformVerification {
            platform: name.clone(),
            code_recorded: recorded.to_string(),
            code_found: digest.id.to_string(),
            files: digest.files,
            changes,
            changes_count,
            accepted,
        })
    }

    /// Puts a list of files into the store, durably. A record that refers to it is the caller's.
    pub(super) fn store_code_files(&self, listed: &[Listed]) -> Result<CodeFiles, Failure> {
        let nodes: Vec<&DigestedNode> = listed.iter().map(|listed| &listed.node).collect();
        let bytes = encoding::encode(LIST_VERSION, &nodes);
        let objects = &self.store.trees.objects;
        let list = objects.put_file(&mut &bytes[..], bytes.len() as u64)?;
        objects.flush()?;
        Ok(CodeFiles { list })
    }

    fn read_code_files(&self, files: &CodeFiles) -> Result<Vec<DigestedNode>, Failure> {
        let mut bytes = vec![0; usize::try_from(files.list.size()).unwrap_or(usize::MAX)];
        let mut read = 0;
        while read < bytes.len() {
            match self.store.trees.objects.read_at(&files.list, read as u64, &mut bytes[read..])? {
                0 => break,
                count => read += count,
            }
        }
        encoding::decode(LIST_VERSION, &bytes).map_err(|error| {
            Failure::failed("the list of the platform's files cannot be read").because(&error)
        })
    }
}

/// Calls `each` with every node that is not the same in both lists, which are sorted by path.
fn compare(
    was: &[DigestedNode],
    is: &[Listed],
    each: &mut dyn FnMut(Option<&DigestedNode>, Option<&Listed>),
) {
    let (mut was, mut is) = (was.iter().peekable(), is.iter().peekable());
    loop {
        let order = match (was.peek(), is.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) => was.path.cmp(&is.node.path),
        };
        match order {
            Ordering::Less => each(was.next(), None),
            Ordering::Greater => each(None, is.next()),
            Ordering::Equal => {
                let (was, is) = (was.next(), is.next());
                if was != is.map(|listed| &listed.node) {
                    each(was, is);
                }
            }
        }
    }
}

fn change(was: Option<&DigestedNode>, is: Option<&Listed>) -> CodeChange {
    let is_file = |tag: u8| matches!(tag, b'f' | b'x');
    let size = |node: &DigestedNode| is_file(node.tag).then_some(node.size);
    let change = match (was, is.map(|listed| &listed.node)) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        (Some(was), Some(is)) if was.tag == is.tag => ChangeKind::Modified,
        (Some(was), Some(is)) if is_file(was.tag) && is_file(is.tag) && was.hash == is.hash => {
            ChangeKind::Attributes
        }
        (Some(was), Some(is)) if is_file(was.tag) && is_file(is.tag) => ChangeKind::Modified,
        _ => ChangeKind::Type,
    };
    let path = was.map(|was| &was.path).or(is.map(|is| &is.node.path));
    CodeChange {
        path: path.map(|path| String::from_utf8_lossy(path).into_owned()).unwrap_or_default(),
        change,
        old_size_bytes: was.and_then(size),
        new_size_bytes: is.and_then(|is| size(&is.node)),
        uid: is.map(|is| is.uid),
        owner: is.and_then(|is| user_name(is.uid)),
        modified: is.map(|is| is.modified.into()),
        changed: is.map(|is| is.changed.into()),
        last_as_it_was: None,
        first_as_it_is: None,
    }
}

/// The name of a user, where there is one.
pub(super) fn user_name(uid: u32) -> Option<String> {
    User::by_id(uid, 0).ok().filter(|user| user.has_account).map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::objects::{Kind, ObjectId};

    fn node(path: &str, tag: u8, content: &str) -> DigestedNode {
        let hash = ObjectId::of(Kind::Chunk, content.as_bytes());
        DigestedNode { path: path.as_bytes().into(), tag, hash, size: content.len() as u64 }
    }

    #[test]
    fn each_file_that_differs_is_named_with_how_it_does() {
        let was = [node("a", b'f', "1"), node("b", b'f', "2"), node("c", b'f', "3"), node("d", b'l', "4")];
        let was = was.into_iter().chain([node("gone", b'f', "5")]).collect::<Vec<_>>();
        let time = Timestamp::from_parts(1, 0);
        let is: Vec<Listed> =
            [("a", b'f', "1"), ("b", b'x', "2"), ("c", b'f', "x"), ("d", b'f', "4"), ("e", b'f', "6")]
                .map(|(path, tag, content)| Listed {
                    node: node(path, tag, content),
                    uid: 0,
                    modified: time,
                    changed: time,
                })
                .to_vec();
        let mut found = Vec::new();
        compare(&was, &is, &mut |was, is| {
            let change = change(was, is);
            found.push((change.path, change.change));
        });
        let expected = [
            ("b", ChangeKind::Attributes),
            ("c", ChangeKind::Modified),
            ("d", ChangeKind::Type),
            ("e", ChangeKind::Added),
            ("gone", ChangeKind::Removed),
        ];
        assert_eq!(found, expected.map(|(path, kind)| (path.to_owned(), kind)));
    }
}
