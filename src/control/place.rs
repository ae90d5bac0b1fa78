//! Where a daemon's socket is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::files;

/// The store of a machine that has one.
pub const DEFAULT_STORE: &str = "/var/lib/sitefs";

/// The longest path that fits the address of a Unix socket, in bytes: `sun_path` less the closing zero.
const ADDRESS_BYTES_MAX: usize = 107;

/// The socket of the daemon that serves `store`: in `/run` for the default store, else in the store's directory.
pub fn socket_path(store: &Path) -> PathBuf {
    if store == Path::new(DEFAULT_STORE) {
        PathBuf::from("/run/sitefs/control.sock")
    } else {
        store.join("control.sock")
    }
}

/// A path that leads to `path` and fits the address of a socket, for as long as the second value lives: a long one is
/// reached through its open directory.
pub(super) fn reachable(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() <= ADDRESS_BYTES_MAX {
        return Ok((path.to_owned(), None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = files::open(parent).map_err(|error| error.source)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((short, Some(directory)))
}
