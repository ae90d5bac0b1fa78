//! `objects`: the content-addressed object store.
//!
//! An object is a kind and some bytes; its name is the BLAKE3 hash of both. Objects are zstd-compressed into
//! append-only packs; the index from name to place in a pack can always be rebuilt from the packs.
//!
//! Invariants: an object never changes and its name is never reused; what [`Objects::get`] returns has been
//! checked against its name; after [`Objects::flush`] returns, everything put before it survives a power cut; a
//! crash may leave objects nobody refers to (collected later), never a reference to an object that is not there.
//!
//! Absent: directories, snapshots, any notion of who refers to an object.

mod content;
mod id;
mod store;

pub use content::FileContent;
pub use id::{Kind, ObjectId};
pub use store::{Objects, ObjectsError, Usage};
