//! The calls to the native file system that reading and writing trees need, relative to open directories.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::{Errno, Result};

use super::{Attributes, Xattrs};
use crate::base::Timestamp;

/// Bytes of names that one call lists.
const LISTING_BYTES: usize = 32 * 1024;

/// What `stat` says of a node, as far as it is kept or compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// The type.
    pub(super) file_type: FileType,
    /// Device and inode number.
    pub(super) identity: (u64, u64),
    /// How many names it has.
    pub(super) names: u64,
    /// The size in bytes.
    pub(super) size: u64,
    /// Permission bits, `0o7777` at most.
    pub(super) mode: u32,
    /// The owner.
    pub(super) uid: u32,
    /// The group.
    pub(super) gid: u32,
    /// Last change of the content.
    pub(super) mtime: Timestamp,
    /// Last change of content or attributes.
    pub(super) ctime: Timestamp,
}

impl Stat {
    /// Of something open.
    pub(super) fn of(open: impl AsFd) -> Result<Stat> {
        rustix::fs::fstat(open).map(|stat| Stat::new(&stat))
    }

    /// Of a name, a symbolic link not followed.
    pub(super) fn at(directory: &OwnedFd, name: &[u8]) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statat(directory, name, flags).map(|stat| Stat::new(&stat))
    }

    #[allow(clippy::unnecessary_cast, reason = "the widths differ between architectures")]
    fn new(stat: &rustix::fs::Stat) -> Stat {
        Stat {
            file_type: FileType::from_raw_mode(stat.st_mode),
            identity: (stat.st_dev as u64, stat.st_ino as u64),
            names: stat.st_nlink as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timestamp::from_parts(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: Timestamp::from_parts(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// Whether the content is the same as when `before` was taken. The number of names may have changed.
    pub(super) fn is_unchanged_since(&self, before: &Stat) -> bool {
        (self.size, self.mtime) == (before.size, before.mtime)
            && (self.ctime == before.ctime || self.names != before.names)
    }

    /// The attributes that are kept, without the extended ones.
    pub(super) fn attributes(&self) -> Attributes {
        let Stat { mode, uid, gid, mtime, .. } = *self;
        Attributes { mode, uid, gid, mtime, ..Attributes::default() }
    }
}

/// A name as a path.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the directory that a walk starts from; symbolic links on the way are followed.
pub(super) fn open_top(path: &Path) -> Result<OwnedFd> {
    without_access_time(DIRECTORY, |flags| rustix::fs::open(path, flags, Mode::empty()))
}

/// Opens a subdirectory. A symbolic link is [`Errno::LOOP`] or [`Errno::NOTDIR`]; a mount point is
/// [`Errno::XDEV`], told by the kernel without a call into what is mounted there: that may be sitefs itself.
pub(super) fn open_directory(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    without_access_time(DIRECTORY | OFlags::NOFOLLOW, |flags| {
        rustix::fs::openat2(directory, name, flags, Mode::empty(), ResolveFlags::NO_XDEV)
    })
}

/// Opens a file for reading. Should it have become a named pipe, this does not wait for a writer.
pub(super) fn open_file(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    without_access_time(flags, |flags| rustix::fs::openat(directory, name, flags, Mode::empty()))
}

/// Reading for an import is no access worth a write; the kernel allows that to the owner and the administrator.
fn without_access_time(flags: OFlags, open: impl Fn(OFlags) -> Result<OwnedFd>) -> Result<OwnedFd> {
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}

/// The names in a directory that are `wanted`, with their types, from its start, without `.` and `..`. Names not
/// wanted are not looked at.
pub(super) fn list(
    directory: &OwnedFd,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<(Box<[u8]>, FileType)>> {
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
    let mut listing = RawDir::new(directory, &mut buffer);
    let mut names: Vec<(Box<[u8]>, FileType)> = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && wanted(name) {
            names.push((name.into(), entry.file_type()));
        }
    }
    for (name, file_type) in &mut names {
        // Not every file system says the type in the listing.
        if *file_type == FileType::Unknown
            && let Ok(stat) = Stat::at(directory, name)
        {
            *file_type = stat.file_type;
        }
    }
    Ok(names)
}

/// The target of a symbolic link.
pub(super) fn read_link(directory: &OwnedFd, name: &[u8]) -> Result<Vec<u8>> {
    rustix::fs::readlinkat(directory, name, Vec::new()).map(|target| target.into_bytes())
}

/// Makes a file for writing, accessible by its owner only; an existing one is an error.
pub(super) fn create_file(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
}

/// Makes a directory, accessible by its owner only, and opens it.
pub(super) fn make_directory(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700))?;
    open_directory(directory, name)
}

/// Makes a named pipe, accessible by its owner only.
pub(super) fn make_fifo(directory: &OwnedFd, name: &[u8]) -> Result<()> {
    rustix::fs::mknodat(directory, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
}

/// Gives an open file or directory its attributes. The order matters: a change of the owner clears set-user-id and
/// capabilities, and any of them would set the time of a directory's change.
pub(super) fn set_attributes(open: impl AsFd, attributes: &Attributes) -> Result<()> {
    let open = open.as_fd();
    let (uid, gid) = owners(attributes)?;
    rustix::fs::fchown(open, Some(uid), Some(gid))?;
    rustix::fs::fchmod(open, Mode::from_raw_mode(attributes.mode))?;
    for (name, value) in &attributes.xattrs {
        rustix::fs::fsetxattr(open, &**name, value, XattrFlags::empty())?;
    }
    rustix::fs::futimens(open, &times(attributes))
}

/// Gives a symbolic link or a named pipe its attributes; the first has no permissions of its own.
pub(super) fn set_attributes_at(
    directory: &OwnedFd,
    name: &[u8],
    attributes: &Attributes,
    has_mode: bool,
) -> Result<()> {
    let (uid, gid) = owners(attributes)?;
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if has_mode {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(directory, name, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)
}

fn owners(attributes: &Attributes) -> Result<(Uid, Gid)> {
    // The largest number means "leave as it is" to the kernel, so nothing can belong to it.
    if attributes.uid == u32::MAX || attributes.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    Ok((Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid)))
}

fn times(attributes: &Attributes) -> Timestamps {
    let (tv_sec, nanoseconds) = attributes.mtime.parts();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec: nanoseconds.into() },
    }
}

/// The extended attributes of an open file or directory that belong to the tree: `user.`, `trusted.`, POSIX
/// access lists, and `security.` but for SELinux labels, which belong to the machine's policy.
pub(super) fn xattrs(open: impl AsFd) -> Result<Xattrs> {
    let open = open.as_fd();
    let names = sized(|| rustix::fs::flistxattr_query(open), |buffer| rustix::fs::flistxattr(open, buffer));
    let names = match names {
        Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
        names => names?,
    };
    let mut found = Xattrs::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let length = || rustix::fs::fgetxattr_query(open, name);
        match sized(length, |buffer| rustix::fs::fgetxattr(open, name, buffer)) {
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            value => {
                found.insert(name.into(), value?.into());
            }
        }
    }
    Ok(found)
}

fn is_kept(name: &[u8]) -> bool {
    let kept: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];
    kept.iter().any(|prefix| name.starts_with(prefix)) && name != b"security.selinux"
}

/// Asks for a length, then for that many bytes; anew when there are more by then.
fn sized(length: impl Fn() -> Result<usize>, get: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    loop {
        let mut buffer = vec![0; length()?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match get(&mut buffer) {
            Err(Errno::RANGE) => {}
            length => {
                buffer.truncate(length?);
                return Ok(buffer);
            }
        }
    }
}
