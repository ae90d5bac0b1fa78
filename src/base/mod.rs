//! `base`: what every layer stands on, and the only doors to the outside world.
//!
//! Purpose: validated names, the canonical encoding of records, limits with their reasons, accounts, and the doors to
//! the clock ([`clock`]), to files ([`files`]) and to processes ([`process`]).
//!
//! Invariants: no other module calls `std::fs` or `std::process` directly, so every I/O error names its path and
//! what was being done to it; nothing here knows what a site, a snapshot or a mount is.
//!
//! Absent: anything stateful, any thread, any configuration.

pub mod accounts;
pub mod clock;
pub mod encoding;
pub mod files;
pub mod limits;
pub mod names;
pub mod process;
pub mod span;
pub mod tables;
#[cfg(test)]
pub(crate) mod testing;

pub use clock::Timestamp;
pub use files::FileError;
pub use names::{Lane, NameError, PlatformName, RelativePath, SiteName, TagName};
pub use span::{Span, SpanError};
