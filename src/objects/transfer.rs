//! Objects on their way to another store: as they are stored, and checked where they arrive.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::packs::{Found, Stored};
use super::record::{Codec, Content, Header};
use super::store::expand_checked;
use super::{Kind, ObjectId, Objects, ObjectsError};
use crate::base::files::At;
use crate::base::limits::OBJECT_BYTES_MAX;

/// Length of what precedes the payload in the encoding of a [`Packed`], in bytes.
const HEAD_LEN: usize = 38;

/// A plain file to be read.
pub struct PlainFile {
    /// The file.
    pub file: File,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// An object as it is stored, compressed or not. Not checked against its name.
pub struct Packed {
    id: ObjectId,
    kind: Kind,
    codec: Codec,
    raw_len: u32,
    payload: Vec<u8>,
}

impl Packed {
    /// Longest encoding, in bytes. An object that does not compress is stored as it is.
    pub const LENGTH_MAX: usize = HEAD_LEN + OBJECT_BYTES_MAX;

    /// Name, kind, codec, length, payload (`docs/format.md`, "Streams").
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.payload.len());
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&[self.kind as u8, self.codec as u8]);
        bytes.extend_from_slice(&self.raw_len.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The reverse; `None` when the bytes cannot be an object.
    pub fn decode(bytes: &[u8]) -> Option<Packed> {
        let (head, payload) = bytes.split_at_checked(HEAD_LEN)?;
        Some(Packed {
            id: ObjectId::from_bytes(head[..32].try_into().ok()?),
            kind: Kind::from_byte(head[32]).filter(|kind| *kind != Kind::Plain)?,
            codec: match head[33] {
                0 => Codec::Raw,
                1 => Codec::Zstd,
                _ => return None,
            },
            raw_len: u32::from_le_bytes(head[34..38].try_into().ok()?),
            payload: payload.to_vec(),
        })
    }
}

impl Objects {
    /// An object as it is stored; `None` for one that is no object of a pack. Its payload is what was written.
    pub fn get_packed(&self, id: ObjectId) -> Result<Option<Packed>, ObjectsError> {
        let Some((location, Stored { header, payload })) = self.packs.read(id)? else { return Ok(None) };
        match header.content {
            Content::Object { id: found, kind, codec, raw_len }
                if found == id && header.matches(&payload) =>
            {
                Ok(Some(Packed { id, kind, codec, raw_len, payload }))
            }
            _ => Err(self.packs.damaged(id, &location)),
        }
    }

    /// Stores an object that comes from elsewhere, once it has been checked against its name; its name, or `None`
    /// when it is not what its name says.
    pub fn put_packed(&self, packed: Packed) -> Result<Option<ObjectId>, ObjectsError> {
        let Packed { id, kind, codec, raw_len, payload } = packed;
        let header = Header::object(id, kind, codec, raw_len, &payload, 0);
        let stored = Stored { header, payload };
        self.keep(id);
        let ticket = match self.packs.find(id)? {
            Found::Nowhere(ticket) => ticket,
            Found::Indexed(_) | Found::Pending(_) => return Ok(Some(id)),
        };
        let payload = stored.payload.clone();
        if expand_checked(id, kind, stored).is_none() {
            return Ok(None);
        }
        self.packs.append(id, header, &payload, ticket)?;
        Ok(Some(id))
    }

    /// Opens a plain file by its name; `None` where there is none. Its bytes are not checked against its name.
    pub fn open_plain_by_name(&self, id: ObjectId) -> Result<Option<PlainFile>, ObjectsError> {
        let Some((file, path)) = self.plain.open_file(id)? else { return Ok(None) };
        let size = file.metadata().at("look at", &path)?.len();
        Ok(Some(PlainFile { file, path, size }))
    }

    /// Stores what `content` gives as a plain file, whatever it is; its name.
    pub fn put_plain(&self, content: &mut dyn Read) -> Result<ObjectId, ObjectsError> {
        Ok(self.plain.put(content, &self.packs.index, &|id| self.keep(id))?.0)
    }
}
