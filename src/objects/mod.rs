//! `objects`: the content-addressed object store.
//!
//! An object is a kind and some bytes; its name is the BLAKE3 hash of both. Objects are zstd-compressed into
//! append-only packs; the index from name to place in a pack can always be rebuilt from the packs.
//!
//! Invariants: an object never changes and its name is never reused; what [`Objects::get`] returns has been
//! checked against its name; after [`Objects::flush`] returns, everything put before it survives a power cut; a
//! crash may leave objects nobody refers to (collected later), never a reference to an object that is not there.
//!
//! [`Objects::prepare_collection`] takes objects away that its caller says nobody refers to, beside writers; why that
//! is safe is said in `collection`.
//!
//! Absent: directories, snapshots, any notion of who refers to an object.

mod appender;
mod cache;
mod census;
mod codec;
mod collection;
mod compaction;
mod content;
mod error;
mod file;
mod id;
mod index;
mod list;
mod media;
mod packs;
mod plain;
mod record;
mod recovery;
mod renewal;
mod repair;
mod scan;
mod shares;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod verify;

pub use collection::{Collection, Referring, Swept};
pub use compaction::Compacted;
pub use content::FileContent;
pub use error::ObjectsError;
pub use id::{Kind, ObjectId, ParseIdError};
pub use repair::Repaired;
pub use shares::{Shares, Sums};
pub use store::{Objects, Usage};
pub use transfer::{Packed, PlainFile};
pub use verify::{Damage, VerifyProgress, VerifyReport};
