//! Extended attributes, access control lists among them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, INodeNo, Request};

use super::adapter::Adapter;
use super::convert;
use super::opening::is_in_group;
use super::reply::answer_found;
use crate::live::SetAttributes;

/// The name of the access control list that the kernel checks.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Names that root alone is shown: others may not read these, and would take that for a failure.
const TRUSTED_PREFIX: &[u8] = b"trusted.";

const SET_GROUP_ID: u32 = 0o2000;

impl Adapter {
    pub(super) fn xattr(&self, node: INodeNo, name: &OsStr) -> Result<Box<[u8]>, Errno> {
        answer_found("getxattr", node, |node| self.filesystem.xattr(node, name.as_bytes()))
    }

    /// The names, each with a zero byte behind it.
    pub(super) fn xattr_names(&self, request: &Request, node: INodeNo) -> Result<Vec<u8>, Errno> {
        let names = answer_found("listxattr", node, |node| self.filesystem.xattr_names(node))?;
        let shown = names.iter().filter(|name| request.uid() == 0 || !name.starts_with(TRUSTED_PREFIX));
        Ok(shown.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    pub(super) fn set_xattr(
        &self,
        request: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        answer_found("setxattr", node, |node| {
            if name.as_bytes() == ACCESS_LIST && request.uid() != 0 {
                // As with chmod: who is not in the file's group may not have it run with the group's rights.
                let found = self.filesystem.attributes(node)?;
                if found.mode & SET_GROUP_ID != 0 && !is_in_group(request, found.gid) {
                    let mode = Some(found.mode & !SET_GROUP_ID);
                    self.filesystem
                        .set_attributes(node, &SetAttributes { mode, ..SetAttributes::default() })?;
                }
            }
            self.filesystem.set_xattr(node, name.as_bytes(), value, convert::xattr_mode(flags))
        })
    }

    pub(super) fn remove_xattr(&self, node: INodeNo, name: &OsStr) -> Result<(), Errno> {
        answer_found("removexattr", node, |node| self.filesystem.remove_xattr(node, name.as_bytes()))
    }
}
