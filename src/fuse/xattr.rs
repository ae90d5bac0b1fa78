//! Extended attributes, and those that are refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, INodeNo, Request};

use super::adapter::Adapter;
use super::convert;
use super::reply::answer_found;

/// The names under which the kernel keeps POSIX access control lists. They are refused, and not shown: one that is kept
/// without having an effect would be worse than none.
const ACL_PREFIX: &[u8] = b"system.";

/// Names that root alone is shown: others may not read these, and would take that for a failure.
const TRUSTED_PREFIX: &[u8] = b"trusted.";

impl Adapter {
    pub(super) fn xattr(&self, node: INodeNo, name: &OsStr) -> Result<Box<[u8]>, Errno> {
        self.check_wanted()?;
        answer_found("getxattr", node, |node| self.filesystem.xattr(node, name.as_bytes()))
    }

    /// The names, each with a zero byte behind it.
    pub(super) fn xattr_names(&self, request: &Request, node: INodeNo) -> Result<Vec<u8>, Errno> {
        self.check_wanted()?;
        let names = answer_found("listxattr", node, |node| self.filesystem.xattr_names(node))?;
        let shown = names.iter().filter(|name| {
            !name.starts_with(ACL_PREFIX) && (request.uid() == 0 || !name.starts_with(TRUSTED_PREFIX))
        });
        Ok(shown.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    pub(super) fn set_xattr(
        &self,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        self.check_wanted()?;
        answer_found("setxattr", node, |node| {
            self.filesystem.set_xattr(node, name.as_bytes(), value, convert::xattr_mode(flags))
        })
    }

    pub(super) fn remove_xattr(&self, node: INodeNo, name: &OsStr) -> Result<(), Errno> {
        self.check_wanted()?;
        answer_found("removexattr", node, |node| self.filesystem.remove_xattr(node, name.as_bytes()))
    }

    fn check_wanted(&self) -> Result<(), Errno> {
        // After this the kernel answers by itself that they are not supported.
        if self.options.extended_attributes { Ok(()) } else { Err(Errno::ENOSYS) }
    }
}
