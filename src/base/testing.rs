//! Disks for tests.

use std::path::Path;

/// A small disk of its own, mounted in a temporary directory until this is dropped.
pub(crate) struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// A disk of `bytes` bytes; `None` where this process may not mount.
    pub(crate) fn mount(bytes: u64) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("no zero byte");
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("none", directory.path(), "tmpfs", flags, Some(options.as_c_str())) {
            Ok(()) => Some(SmallDisk { directory }),
            Err(rustix::io::Errno::PERM) => {
                eprintln!("skipped: only root can mount a small disk");
                None
            }
            Err(error) => panic!("cannot mount: {error}"),
        }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.directory.path(), rustix::mount::UnmountFlags::DETACH);
    }
}
