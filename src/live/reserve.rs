//! Space kept back for the day the disk is full.
//!
//! Removing a file frees its space only after the commit that lets go of it, and a commit needs some space itself. So
//! a few megabytes are kept in a file of no use, which is removed when a commit fails for want of space, and made
//! again when there is plenty.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::FallocateFlags;

use super::LiveError;
use super::upper::failed;
use crate::base::files;

/// What a commit of many rows may need at worst, in bytes.
const RESERVE_BYTES: u64 = 4 << 20;
/// The reserve is made only where this many times its size is free.
const PLENTY: u64 = 4;

/// The file kept back.
pub(super) struct Reserve {
    path: PathBuf,
    present: Mutex<bool>,
}

impl Reserve {
    pub(super) fn new(path: PathBuf) -> Reserve {
        let reserve = Reserve { path, present: Mutex::new(false) };
        reserve.refill();
        reserve
    }

    /// Gives the space back; whether there was any.
    pub(super) fn release(&self) -> bool {
        let mut present = self.present.lock();
        if let Err(error) = files::remove_file(&self.path) {
            log::warn!("the reserve of space stays: {error}");
            return false;
        }
        std::mem::take(&mut *present)
    }

    /// Makes the reserve where it is missing and space is plenty. Doing without is no error.
    pub(super) fn refill(&self) {
        let mut present = self.present.lock();
        if !*present {
            *present = self.make().unwrap_or(false);
        }
    }

    fn make(&self) -> Result<bool, LiveError> {
        let parent = self.path.parent().unwrap_or(Path::new("."));
        let space = rustix::fs::statvfs(parent).map_err(failed("look at the space for"))?;
        if space.f_bavail.saturating_mul(space.f_frsize) < PLENTY * RESERVE_BYTES {
            return Ok(false);
        }
        let file = files::open_or_create(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            Ok(()) => Ok(true),
            Err(error) => {
                files::remove_file(&self.path)?;
                Err(failed("allocate")(error))
            }
        }
    }
}
