//! Names of objects.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an object is. The number is part of the format: it is hashed into the name and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A run of bytes of a file.
    Chunk = 1,
    /// The list of the chunks of a large file.
    ChunkList = 2,
    /// A page of a directory or of the table of hard-linked files.
    TreePage = 3,
    /// A snapshot.
    Snapshot = 4,
    /// A whole file kept as a plain file beside the packs.
    Plain = 5,
}

impl Kind {
    /// The kind with this number.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Chunk, Kind::ChunkList, Kind::TreePage, Kind::Snapshot, Kind::Plain]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The name of an object: BLAKE3 of its kind byte followed by its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId([u8; 32]);

impl ObjectId {
    /// The name of the object of this kind with this content.
    pub fn of(kind: Kind, content: &[u8]) -> ObjectId {
        let mut hasher = ObjectId::hasher(kind);
        hasher.update(content);
        ObjectId::from(&hasher)
    }

    /// What finds the name of an object of this kind, to be given its content piece by piece.
    pub fn hasher(kind: Kind) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind as u8]);
        hasher
    }

    /// From the 32 bytes of a name.
    pub fn from_bytes(bytes: [u8; 32]) -> ObjectId {
        ObjectId(bytes)
    }

    /// The 32 bytes of the name.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The name of an object whose content the hasher has been given.
impl From<&blake3::Hasher> for ObjectId {
    fn from(hasher: &blake3::Hasher) -> ObjectId {
        ObjectId(*hasher.finalize().as_bytes())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for ObjectId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an object name: 64 hexadecimal digits")]
pub struct ParseIdError(String);

impl FromStr for ObjectId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<ObjectId, ParseIdError> {
        let error = || ParseIdError(text.to_owned());
        if text.len() != 64 || !text.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).map_err(|_| error())?;
        }
        Ok(ObjectId(bytes))
    }
}
