//! Copying between open files (copy_file_range), and sharing what was copied whole.
//!
//! A file of the store that is copied whole into an empty file is in the store already: when the copy is closed as it
//! was made, its node refers to the same content and the upper file goes, as after a freeze. So `cp` takes space only
//! while it runs. Nobody is told of what the kernel writes past this program, so a copy is given a time of modification
//! at which nothing was ever written ([`UNTOUCHED`]): any write sets another one. The node has the time that is shown
//! meanwhile. A copy counts as one only while a single handle is open, for writing alone: by that nobody can map it.
//!
//! Power failing meanwhile leaves a row with an upper file, as with any file that is being written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::io::Errno;

use super::handles::{Bytes, room};
use super::node::{Body, Node, Upper};
use super::upper::{self, UpperFacts, facts, failed};
use super::{Handle, LiveError, Volume, clock};
use crate::base::Timestamp;
use crate::objects::FileContent;

/// The time of modification of an upper file that is as it was copied: in 1970. Whole seconds, so that any file system
/// keeps it.
pub(super) const UNTOUCHED: Timestamp = Timestamp(1_000_000_000);

/// How much is copied by one call, in bytes: others are served meanwhile by one thread less.
const COPY_BYTES_MAX: u64 = 8 << 20;

/// Buffer for what the kernel cannot copy by itself, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// What a file was filled with, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copied {
    /// A content of the store.
    pub(super) content: FileContent,
    /// How many of its first bytes.
    pub(super) length: u64,
}

impl Volume {
    /// Copies up to `length` bytes at `from_offset` of a file that `source` has open to `offset` of one that is open
    /// here; returns how many. As everywhere they may be fewer, and none at the end of the source alone.
    pub fn copy_range(
        &self,
        handle: Handle,
        offset: u64,
        source: &Volume,
        from: Handle,
        from_offset: u64,
        length: u64,
    ) -> Result<usize, LiveError> {
        let length = room(offset, length)?;
        // A name of the store goes from one record to another, and no collection may begin between. Where one is about
        // to, the copy is a file of its own: the kernel's calls do not wait for other commands.
        let referring = self.shared.trees.objects.try_referring();
        let bytes = source.readable(from)?;
        let _changing = self.begin_unchecked();
        let (local, file, copied) = {
            let mut state = self.lock();
            let (local, file) = self.written(&mut state, handle)?;
            let write_only = !self.opened(&state, handle)?.read;
            let node = self.node(&mut state, local)?;
            let copied = match &bytes {
                Bytes::Stored(content) if referring.is_some() && write_only && from_offset == offset => {
                    node.continues(&file, *content, offset)?
                }
                _ => None,
            };
            node.forget_copy(&file)?;
            if let Body::Upper(upper) = &mut node.body {
                upper.copied = copied;
            }
            (local, file, copied)
        };
        let count = copy(&self.shared.trees.objects, &bytes, from_offset, &file, offset, length)?;
        if let Some(copied) = copied {
            let mut state = self.lock();
            let node = self.node(&mut state, local)?;
            // Who opened it for writing meanwhile has taken this back.
            if let Body::Upper(upper @ Upper { copied: Some(_), .. }) = &mut node.body {
                upper::set_modified(&file, UNTOUCHED)?;
                upper.copied = Some(Copied { length: copied.length + count as u64, ..copied });
                node.modified = clock::now();
                node.changed = node.modified;
                state.touch(local);
            }
        }
        Ok(count)
    }
}

impl Node {
    /// The copy that goes on when `content` is copied to the file from `offset` on, if it does.
    fn continues(&self, file: &File, content: FileContent, offset: u64) -> Result<Option<Copied>, LiveError> {
        let Body::Upper(Upper { copied, .. }) = &self.body else { return Ok(None) };
        let alone = self.open.program + self.open.backing == 1;
        let facts = facts(file)?;
        let continued = Copied { content, length: offset };
        let continues = match copied {
            Some(_) if facts.modified == UNTOUCHED => *copied == Some(continued),
            _ => offset == 0,
        };
        Ok((alone && continues && facts.size == offset).then_some(continued))
    }

    /// Whether a file with these facts is as it was copied.
    pub(super) fn is_untouched(&self, facts: &UpperFacts) -> bool {
        matches!(&self.body, Body::Upper(Upper { copied: Some(_), .. })) && facts.modified == UNTOUCHED
    }

    /// Whether the file is as it was copied. Looks at it only where it was.
    pub(super) fn is_untouched_copy(&self, file: &File) -> Result<bool, LiveError> {
        match &self.body {
            Body::Upper(Upper { copied: Some(_), .. }) => Ok(self.is_untouched(&facts(file)?)),
            _ => Ok(false),
        }
    }

    /// The content of the store that the file has because it was copied, whole, and not touched since.
    pub(super) fn whole_copy(&self) -> Result<Option<FileContent>, LiveError> {
        let (Body::Upper(Upper { copied: Some(copied), .. }), Some(file)) = (&self.body, &self.open.file)
        else {
            return Ok(None);
        };
        let facts = facts(file)?;
        let whole = copied.length == copied.content.size() && facts.size == copied.length;
        Ok((whole && self.is_untouched(&facts)).then_some(copied.content))
    }

    /// From now on the file is one like any other, because it is going to be written.
    pub(super) fn forget_copy(&mut self, file: &Arc<File>) -> Result<(), LiveError> {
        let modified = self.modified;
        if let Body::Upper(upper) = &mut self.body
            && upper.copied.take().is_some()
            && facts(file)?.modified == UNTOUCHED
        {
            upper::set_modified(file, modified)?;
        }
        Ok(())
    }
}

/// Copies from `from` to `file`; how many bytes.
fn copy(
    objects: &crate::objects::Objects,
    from: &Bytes,
    from_offset: u64,
    file: &File,
    offset: u64,
    length: u64,
) -> Result<usize, LiveError> {
    let length = length.min(COPY_BYTES_MAX) as usize;
    let source = match from {
        Bytes::Upper(source) => Some(Arc::clone(source)),
        Bytes::Stored(content) => objects.open_plain(content)?.map(Arc::new),
    };
    if let Some(source) = source {
        let (mut at, mut to) = (from_offset, offset);
        match rustix::fs::copy_file_range(&*source, Some(&mut at), file, Some(&mut to), length) {
            Err(Errno::INVAL | Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {}
            copied => return copied.map_err(failed("copy to")),
        }
    }
    let mut buffer = vec![0; length.min(BUFFER_BYTES)];
    let mut done = 0;
    while done < length {
        let part = &mut buffer[..(length - done).min(BUFFER_BYTES)];
        let count = from.read_at(objects, from_offset + done as u64, part)?;
        let written = file.write_all_at(&part[..count], offset + done as u64).map_err(failed("write"));
        match written {
            Err(_) if done > 0 => break,
            other => other?,
        }
        done += count;
        if count < part.len() {
            break;
        }
    }
    Ok(done)
}
