//! `fuse`: a thin adapter between the kernel and the live layer.
//!
//! A [`Session`] is one mount: it answers kernel calls by the calls of the same name of
//! [`FileSystem`](crate::live::FileSystem), in two threads. What the kernel may keep, it keeps for a day: names
//! (missing ones too), attributes, pages, listings, targets of links. Whatever changes otherwise than through the
//! kernel is taken back through [`Session::invalidations`].
//!
//! Invariants: no notification is sent from a thread that answers requests (the kernel may hold a lock that it only
//! gives up when the request is answered); a panic answers EIO and ends nothing; a file is either served by this
//! program or by the kernel past it (passthrough) while it is open, never both.
//!
//! Absent: file-system semantics (in `live`), and state, but for the kernel's backing ids. Not supported, and
//! answered so that the kernel stops asking: POSIX access control lists (refused with EOPNOTSUPP rather than kept
//! without effect), locks across machines (the kernel's own locks work), device nodes. File capabilities are kept
//! as an attribute but have no effect (the mount is `nosuid`), so writing does not remove them.

mod adapter;
mod awake;
mod backings;
mod convert;
mod errno;
mod follow;
mod invalidator;
mod listing;
pub mod mounts;
mod opening;
mod reply;
mod session;
mod xattr;

pub use session::{Session, SessionError, SessionOptions};
