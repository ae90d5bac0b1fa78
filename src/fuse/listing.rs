//! Directory listings.
//!
//! `.` has cookie 1, `..` cookie 2; all other cookies are greater. Names that share a cookie must come in one reply,
//! because a listing goes on after a cookie. How much fits in a reply is not known here, only that it is at least
//! [`REPLY_BYTES_MIN`]: such a group is put in while the reply is surely long enough, otherwise in the next one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::convert;
use super::session::time_to_live;
use crate::live::{DirectoryEntry, FileSystem, LiveError, NodeId};

/// The kernel asks for a page at least.
const REPLY_BYTES_MIN: usize = 4096;

/// How many entries are asked for at once: about a page of them.
const BATCH_COUNT: usize = 32;

/// A reply that takes entries until it is full.
pub(super) trait Reply {
    /// What an entry takes beside its name, in bytes.
    const OVERHEAD_BYTES: usize;

    /// Adds an entry; `false` when it does not fit.
    fn add(&mut self, entry: &DirectoryEntry) -> bool;
}

impl Reply for ReplyDirectory {
    const OVERHEAD_BYTES: usize = 24;

    fn add(&mut self, entry: &DirectoryEntry) -> bool {
        let found = &entry.attributes;
        let kind = convert::file_type(found.kind);
        !ReplyDirectory::add(self, INodeNo(found.id.0), entry.cookie, kind, OsStr::from_bytes(&entry.name))
    }
}

impl Reply for ReplyDirectoryPlus {
    const OVERHEAD_BYTES: usize = 152;

    fn add(&mut self, entry: &DirectoryEntry) -> bool {
        let ttl = time_to_live(entry.attributes.id);
        let found = convert::attributes(&entry.attributes);
        let name = OsStr::from_bytes(&entry.name);
        !ReplyDirectoryPlus::add(self, found.ino, entry.cookie, name, &ttl, &found, Generation(0))
    }
}

/// Fills `reply` with the entries of `directory` after `cookie`.
pub(super) fn fill<R: Reply>(
    filesystem: &FileSystem,
    directory: NodeId,
    mut cookie: u64,
    reply: &mut R,
) -> Result<(), LiveError> {
    let mut used_bytes = 0;
    if cookie < 2 {
        // The kernel knows the directory above and takes nothing but the name from this `..`.
        let attributes = filesystem.attributes(directory)?;
        for (dots_cookie, name) in [(1, &b"."[..]), (2, b"..")] {
            if cookie < dots_cookie {
                let attributes = attributes.clone();
                let entry = DirectoryEntry { cookie: dots_cookie, name: name.into(), attributes };
                if !put(reply, &[entry], &mut used_bytes) {
                    return Ok(());
                }
                cookie = dots_cookie;
            }
        }
    }
    loop {
        let after = if cookie <= 2 { 0 } else { cookie };
        let entries = filesystem.list(directory, after, BATCH_COUNT)?;
        let Some(last) = entries.last() else { return Ok(()) };
        cookie = last.cookie;
        for group in entries.chunk_by(|one, other| one.cookie == other.cookie) {
            if !put(reply, group, &mut used_bytes) {
                return Ok(());
            }
        }
    }
}

/// Adds the entries of one cookie, all or none.
fn put<R: Reply>(reply: &mut R, group: &[DirectoryEntry], used_bytes: &mut usize) -> bool {
    let sizes = group.iter().map(|entry| (R::OVERHEAD_BYTES + entry.name.len()).next_multiple_of(8));
    let group_bytes: usize = sizes.sum();
    if group.len() > 1 && *used_bytes > 0 && *used_bytes + group_bytes > REPLY_BYTES_MIN {
        return false;
    }
    *used_bytes += group_bytes;
    group.iter().all(|entry| reply.add(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::live::{FileKind, NodeAttributes};

    struct Page {
        names: Vec<Box<[u8]>>,
        free_bytes: usize,
    }

    impl Reply for Page {
        const OVERHEAD_BYTES: usize = 24;

        fn add(&mut self, entry: &DirectoryEntry) -> bool {
            let bytes = (24 + entry.name.len()).next_multiple_of(8);
            if bytes > self.free_bytes {
                return false;
            }
            self.free_bytes -= bytes;
            self.names.push(entry.name.clone());
            true
        }
    }

    fn entry(cookie: u64, name: &str) -> DirectoryEntry {
        let time = Timestamp(0);
        let attributes = NodeAttributes {
            id: NodeId::ROOT,
            kind: FileKind::File,
            mode: 0o644,
            link_count: 1,
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            accessed: time,
            modified: time,
            changed: time,
        };
        DirectoryEntry { cookie, name: name.as_bytes().into(), attributes }
    }

    #[test]
    fn names_of_one_cookie_come_together_or_in_the_next_reply() {
        let long = "x".repeat(200);
        let mut page = Page { names: Vec::new(), free_bytes: REPLY_BYTES_MIN };
        let mut used = 0;
        let mut cookie = 3;
        while used + 2 * 224 <= REPLY_BYTES_MIN {
            assert!(put(&mut page, &[entry(cookie, &long)], &mut used));
            cookie += 1;
        }
        let group = [entry(cookie, &long), entry(cookie, &long)];
        let count = page.names.len();
        assert!(!put(&mut page, &group, &mut used));
        assert_eq!(page.names.len(), count);
        assert!(put(&mut Page { names: Vec::new(), free_bytes: REPLY_BYTES_MIN }, &group, &mut 0));
    }
}
