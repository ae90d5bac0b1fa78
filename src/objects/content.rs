//! The content of one file as objects.

use serde::{Deserialize, Serialize};

use super::ObjectId;

/// Where the bytes of a regular file are, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileContent {
    /// No bytes.
    Empty,
    /// One [`super::Kind::Chunk`].
    Chunk {
        /// The chunk.
        id: ObjectId,
        /// Its length in bytes, as a file's size.
        size: u64,
    },
    /// Several chunks, cut where the content says (FastCDC), named in order by a [`super::Kind::ChunkList`].
    Chunks {
        /// The list.
        list: ObjectId,
        /// The file's size in bytes.
        size: u64,
    },
    /// A large incompressible file, kept as a plain file named by a [`super::Kind::Plain`]: the kernel can serve
    /// it without this program (passthrough, sendfile).
    Plain {
        /// The name.
        id: ObjectId,
        /// The file's size in bytes.
        size: u64,
    },
}

impl FileContent {
    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        match *self {
            FileContent::Empty => 0,
            FileContent::Chunk { size, .. }
            | FileContent::Chunks { size, .. }
            | FileContent::Plain { size, .. } => size,
        }
    }
}
