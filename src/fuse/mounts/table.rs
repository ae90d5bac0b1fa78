//! The mounts this process sees: `/proc/self/mountinfo`, as in proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::base::FileError;
use crate::base::files;
use crate::fuse::session::FILE_SYSTEM_TYPE;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The device number of the file system, "major:minor": the same for all its bind mounts.
    pub device: String,
    /// What of the file system is mounted: `/` for all of it.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The type of the file system.
    pub file_system_type: String,
}

impl MountEntry {
    /// Whether it shows a file system of sitefs, living or dead.
    pub fn is_sitefs(&self) -> bool {
        self.file_system_type == FILE_SYSTEM_TYPE
    }

    fn parse(line: &[u8]) -> Option<MountEntry> {
        // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
        let mut words = line.split(|byte| *byte == b' ');
        let device = String::from_utf8(words.nth(2)?.to_vec()).ok()?;
        let root = unescape(words.next()?);
        let mount_point = unescape(words.next()?);
        words.find(|word| *word == b"-")?;
        let file_system_type = String::from_utf8(words.next()?.to_vec()).ok()?;
        Some(MountEntry { device, root, mount_point, file_system_type })
    }
}

/// All mounts, in an order in which a mount comes after the one it is on.
pub fn list() -> Result<Vec<MountEntry>, FileError> {
    let table = files::read(Path::new("/proc/self/mountinfo"))?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(MountEntry::parse).collect())
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        match behind.first_chunk() {
            Some([a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7']) if *first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &behind[3..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_read() {
        let line = br"101 27 0:45 /views/p\040a/b /srv/a\134b\011c rw,nosuid shared:5 master:1 - fuse.sitefs sitefs rw";
        let entry = MountEntry::parse(line).unwrap();
        assert_eq!(entry.device, "0:45");
        assert_eq!(entry.root, Path::new("/views/p a/b"));
        assert_eq!(entry.mount_point, Path::new("/srv/a\\b\tc"));
        assert!(entry.is_sitefs());
        assert_eq!(MountEntry::parse(b""), None);
        assert_eq!(MountEntry::parse(b"27 1 254:0 / / rw,relatime ext4"), None);
    }

    #[test]
    fn the_system_has_a_proc() {
        assert!(list().unwrap().iter().any(|entry| entry.file_system_type == "proc"));
    }
}
