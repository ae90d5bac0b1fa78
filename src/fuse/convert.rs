//! Between the types of the live layer and those of the kernel interface.

use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, RenameFlags, Request, TimeOrNow};
use rustix::fs::{OFlags, XattrFlags};

use crate::base::Timestamp;
use crate::live::{Caller, FileKind, NodeAttributes, NodeId, OpenMode, RenameMode, TimeChange, XattrMode};

/// What the kernel takes for the best size of a read or write.
const BLOCK_SIZE: u32 = 4096;

/// With which the kernel opens a file that it is going to run (`__FMODE_EXEC` in its `include/linux/fs.h`).
const EXECUTE: u32 = 0x20;

/// The kernel leaves the umask to us (`DONT_MASK`).
pub(super) fn caller(request: &Request, umask: u32) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), umask }
}

pub(super) fn xattr_mode(flags: i32) -> XattrMode {
    let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
    if flags.contains(XattrFlags::CREATE) {
        XattrMode::Create
    } else if flags.contains(XattrFlags::REPLACE) {
        XattrMode::Replace
    } else {
        XattrMode::Set
    }
}

pub(super) fn node(number: INodeNo) -> NodeId {
    NodeId(number.0)
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharacterDevice(_) => FileType::CharDevice,
        FileKind::BlockDevice(_) => FileType::BlockDevice,
    }
}

pub(super) fn attributes(found: &NodeAttributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(found.id.0),
        size: found.size,
        blocks: found.blocks,
        atime: found.accessed.into(),
        mtime: found.modified.into(),
        ctime: found.changed.into(),
        crtime: UNIX_EPOCH,
        kind: file_type(found.kind),
        perm: (found.mode & 0o7777) as u16,
        nlink: found.link_count,
        uid: found.uid,
        gid: found.gid,
        rdev: match found.kind {
            FileKind::CharacterDevice(number) | FileKind::BlockDevice(number) => number,
            _ => 0,
        },
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The node id 0: in answer to a lookup, "there is no such name", which the kernel may keep.
pub(super) fn no_node() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

pub(super) fn time_change(time: TimeOrNow) -> TimeChange {
    match time {
        TimeOrNow::Now => TimeChange::Now,
        TimeOrNow::SpecificTime(time) => TimeChange::To(timestamp(time)),
    }
}

/// fuser (0.18) makes of the kernel's "seconds before 1970, nanoseconds after that" the time that lies both before
/// 1970; the two parts come out of it unharmed.
fn timestamp(time: SystemTime) -> Timestamp {
    match UNIX_EPOCH.duration_since(time) {
        Ok(before) => {
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_parts(-seconds, i64::from(before.subsec_nanos()))
        }
        Err(_) => time.into(),
    }
}

pub(super) fn open_mode(flags: OpenFlags) -> OpenMode {
    let (read, write) = match flags.acc_mode() {
        OpenAccMode::O_RDONLY => (true, false),
        OpenAccMode::O_WRONLY => (false, true),
        OpenAccMode::O_RDWR => (true, true),
    };
    let execute = flags.0.cast_unsigned() & EXECUTE != 0;
    OpenMode { read, write, truncate: has(flags, OFlags::TRUNC), execute }
}

pub(super) fn has(flags: OpenFlags, flag: OFlags) -> bool {
    OFlags::from_bits_retain(flags.0.cast_unsigned()).contains(flag)
}

pub(super) fn rename_mode(flags: RenameFlags, owner: Caller) -> Option<RenameMode> {
    let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
    if flags.is_empty() {
        Some(RenameMode::Replace)
    } else if flags.difference(RenameFlags::RENAME_NOREPLACE) == RenameFlags::RENAME_WHITEOUT {
        Some(RenameMode::Whiteout { owner, replace })
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Some(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Some(RenameMode::Exchange)
    } else {
        None
    }
}

/// The kind of node that mknod(2) asks for. The kernel lets only the administrator make devices.
pub(super) fn made_kind(mode: u32, device: u32) -> Option<FileKind> {
    match rustix::fs::FileType::from_raw_mode(mode) {
        // mknod(2) takes no type for a regular file.
        rustix::fs::FileType::RegularFile => Some(FileKind::File),
        rustix::fs::FileType::Unknown if mode >> 12 == 0 => Some(FileKind::File),
        rustix::fs::FileType::Fifo => Some(FileKind::Fifo),
        rustix::fs::FileType::Socket => Some(FileKind::Socket),
        rustix::fs::FileType::CharacterDevice => Some(FileKind::CharacterDevice(device)),
        rustix::fs::FileType::BlockDevice => Some(FileKind::BlockDevice(device)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_before_1970_come_through() {
        // Half a second before 1970 is (-1 s, 500,000,000 ns) for the kernel, of which fuser makes -1.5 s.
        let as_fuser_gives_it = UNIX_EPOCH - Duration::new(1, 500_000_000);
        assert_eq!(timestamp(as_fuser_gives_it), Timestamp(-500_000_000));
        assert_eq!(timestamp(UNIX_EPOCH), Timestamp(0));
        assert_eq!(timestamp(UNIX_EPOCH + Duration::new(2, 5)), Timestamp(2_000_000_005));
    }

    #[test]
    fn only_kinds_that_are_kept_are_made() {
        assert_eq!(made_kind(0o100_644, 0), Some(FileKind::File));
        assert_eq!(made_kind(0o644, 0), Some(FileKind::File));
        assert_eq!(made_kind(0o010_600, 0), Some(FileKind::Fifo));
        assert_eq!(made_kind(0o140_600, 0), Some(FileKind::Socket));
        assert_eq!(made_kind(0o020_600, 5), Some(FileKind::CharacterDevice(5)));
        assert_eq!(made_kind(0o060_600, 6), Some(FileKind::BlockDevice(6)));
        assert_eq!(made_kind(0o120_600, 0), None);
    }
}
