//! From a result of the live layer to a reply.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fuser::{
    Errno, Generation, INodeNo, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyStatfs,
    ReplyWrite, ReplyXattr,
};

use super::session::{TTL, time_to_live};
use super::{convert, errno};
use crate::base::limits::ENTRY_NAME_BYTES_MAX;
use crate::live::{LiveError, NodeAttributes, NodeId, SpaceReport};

/// Node ids are never used again, so there is one generation of each.
pub(super) const GENERATION: Generation = Generation(0);

/// Does the work of one call. A panic in it is a defect, but no reason to take every site down.
pub(super) fn answer<T>(
    operation: &str,
    number: INodeNo,
    work: impl FnOnce(NodeId) -> Result<T, LiveError>,
) -> Result<T, Errno> {
    match catch_unwind(AssertUnwindSafe(|| work(convert::node(number)))) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => {
            let errno = errno::errno(&error);
            if errno == Errno::EIO {
                log::error!("{operation} of node {:#x}: {error}", number.0);
            }
            Err(errno)
        }
        Err(_) => {
            log::error!("{operation} of node {:#x} panicked", number.0);
            Err(Errno::EIO)
        }
    }
}

/// As [`answer`], for a call on a node that the kernel found earlier. When it is gone, another one may have taken its
/// name (a file that was replaced to be written to): at ESTALE the kernel looks the name up again, and only then says
/// that there is none.
pub(super) fn answer_found<T>(
    operation: &str,
    number: INodeNo,
    work: impl FnOnce(NodeId) -> Result<T, LiveError>,
) -> Result<T, Errno> {
    answer(operation, number, work)
        .map_err(|errno| if errno == Errno::ENOENT { Errno::ESTALE } else { errno })
}

/// A reply that is all made of one result.
pub(super) trait Reply<T>: Sized {
    /// Sends the result.
    fn success(self, result: T);

    /// Sends an error.
    fn failure(self, errno: Errno);

    /// Sends either.
    fn send(self, result: Result<T, Errno>) {
        match result {
            Ok(result) => self.success(result),
            Err(errno) => self.failure(errno),
        }
    }

    /// Does the work of one call and sends what comes of it.
    fn with(self, operation: &str, number: INodeNo, work: impl FnOnce(NodeId) -> Result<T, LiveError>) {
        self.send(answer(operation, number, work));
    }
}

/// `Reply` for a type of fuser's, by its `error` and what is given for success.
macro_rules! reply {
    ($reply:ty, $content:ty, |$this:ident, $result:ident| $send:expr) => {
        impl Reply<$content> for $reply {
            fn success(self, $result: $content) {
                let $this = self;
                $send;
            }

            fn failure(self, errno: Errno) {
                self.error(errno);
            }
        }
    };
}

reply!(ReplyEmpty, (), |reply, _done| reply.ok());
reply!(ReplyEntry, NodeAttributes, |reply, found| {
    reply.entry(&time_to_live(found.id), &convert::attributes(&found), GENERATION)
});
reply!(ReplyAttr, NodeAttributes, |reply, found| reply.attr(&TTL, &convert::attributes(&found)));
reply!(ReplyWrite, usize, |reply, length| reply.written(length as u32));
reply!(ReplyLseek, u64, |reply, offset| reply.offset(offset.cast_signed()));
reply!(ReplyStatfs, SpaceReport, |reply, space| reply.statfs(
    space.blocks,
    space.blocks_free,
    space.blocks_available,
    space.files,
    space.files_free,
    space.block_size,
    ENTRY_NAME_BYTES_MAX as u32,
    space.block_size,
));

/// A value, its size where that is asked for (`size` 0), or ERANGE where it does not fit.
pub(super) fn sized(reply: ReplyXattr, size: u32, result: Result<impl AsRef<[u8]>, Errno>) {
    match result.as_ref().map(AsRef::as_ref) {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(value),
        Err(errno) => reply.error(*errno),
    }
}

thread_local! {
    /// What was read last, so that reading does not allocate.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What `work` puts into a buffer of `size` bytes; it returns how many.
pub(super) fn read(reply: ReplyData, size: usize, work: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) {
    READ_BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        match work(&mut buffer[..size]) {
            Ok(length) => reply.data(&buffer[..length]),
            Err(errno) => reply.error(errno),
        }
    });
}
