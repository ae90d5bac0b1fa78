//! How many files may be open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::FileError;

/// Lets this process, and what it starts from now on, have `wanted` files open, or as many as the administrator allows
/// when that is less (the hard limit). Never lowers what is allowed already.
pub fn allow_open_files(wanted: u64) -> Result<(), FileError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).map_err(|error| FileError {
        action: "raise the limit of open files of",
        path: "/proc/self".into(),
        source: error.into(),
    })
}
