//! The bytes of packs: the pack header and the record header (`docs/format.md`, "Packs"). All numbers are
//! little-endian.

use super::{Kind, ObjectId};

/// Length of a pack's header in bytes.
pub(super) const PACK_HEADER_LEN: u64 = 32;
/// Length of a record's header in bytes.
pub(super) const HEADER_LEN: usize = 64;
/// The first bytes of every record.
pub(super) const RECORD_MAGIC: [u8; 4] = *b"sRec";

const PACK_MAGIC: [u8; 8] = *b"sitefsPK";
const PACK_VERSION: u32 = 1;
/// The kind byte of a filler: bytes that a power cut tore, and that no flush had vouched for.
const FILLER: u8 = 0;

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Codec {
    /// As it is.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Location {
    /// The number of the pack.
    pub(super) pack: u32,
    /// The offset of the record's header in the pack, in bytes.
    pub(super) offset: u32,
    /// The length of the stored payload in bytes.
    pub(super) stored_len: u32,
    /// The length of the object in bytes.
    pub(super) raw_len: u32,
}

impl Location {
    /// The offset of the first byte after the record.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + self.record_len()
    }

    /// What the record takes in the pack, in bytes.
    pub(super) fn record_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.stored_len)
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An object.
    Object { id: ObjectId, kind: Kind, codec: Codec, raw_len: u32 },
    /// Nothing: to be skipped.
    Filler,
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) content: Content,
    /// The length of the payload that follows, in bytes.
    pub(super) stored_len: u32,
    /// How much of this pack was durable when the record was made, in bytes: what is torn beyond the highest such
    /// number of a pack is a write that a power cut interrupted; what is torn below it is damage.
    pub(super) durable_len: u32,
    payload_sum: [u8; 8],
}

/// The first eight bytes of BLAKE3.
fn sum(bytes: &[u8]) -> [u8; 8] {
    blake3::hash(bytes).as_bytes()[..8].try_into().expect("a hash has 32 bytes")
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("called with four bytes"))
}

impl Header {
    /// The header of an object with this payload.
    pub(super) fn object(
        id: ObjectId,
        kind: Kind,
        codec: Codec,
        raw_len: u32,
        payload: &[u8],
        durable_len: u32,
    ) -> Header {
        Header {
            content: Content::Object { id, kind, codec, raw_len },
            stored_len: u32::try_from(payload.len()).expect("objects are shorter than 4 GiB"),
            durable_len,
            payload_sum: sum(payload),
        }
    }

    /// A header that makes scans skip it and the `stored_len` bytes behind it.
    pub(super) fn filler(stored_len: u32) -> Header {
        Header { content: Content::Filler, stored_len, durable_len: 0, payload_sum: [0; 8] }
    }

    /// The whole record in bytes.
    pub(super) fn record_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.stored_len)
    }

    /// Whether `payload` is what followed the header when it was written. Always of a filler.
    pub(super) fn matches(&self, payload: &[u8]) -> bool {
        matches!(self.content, Content::Filler) || self.payload_sum == sum(payload)
    }

    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&RECORD_MAGIC);
        if let Content::Object { id, kind, codec, raw_len } = self.content {
            bytes[4] = kind as u8;
            bytes[5] = codec as u8;
            bytes[8..12].copy_from_slice(&raw_len.to_le_bytes());
            bytes[20..52].copy_from_slice(id.as_bytes());
        }
        bytes[12..16].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.durable_len.to_le_bytes());
        bytes[52..60].copy_from_slice(&self.payload_sum);
        let check = sum(&bytes[..60]);
        bytes[60..].copy_from_slice(&check[..4]);
        bytes
    }

    /// The header in the first bytes of `bytes`; `None` when they are not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        if bytes[0..4] != RECORD_MAGIC || sum(&bytes[..60])[..4] != bytes[60..] {
            return None;
        }
        let content = match bytes[4] {
            FILLER => Content::Filler,
            kind => Content::Object {
                id: ObjectId::from_bytes(bytes[20..52].try_into().expect("32 bytes")),
                kind: Kind::from_byte(kind)?,
                codec: match bytes[5] {
                    0 => Codec::Raw,
                    1 => Codec::Zstd,
                    _ => return None,
                },
                raw_len: number(&bytes[8..12]),
            },
        };
        Some(Header {
            content,
            stored_len: number(&bytes[12..16]),
            durable_len: number(&bytes[16..20]),
            payload_sum: bytes[52..60].try_into().expect("8 bytes"),
        })
    }
}

/// The header of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackHeader {
    /// The number in the pack's name.
    pub(super) number: u32,
    /// How much of the pack before this one was durable when this one was begun, in bytes: all that anybody was
    /// told to be stored in it. 0 where there is none.
    pub(super) previous_len: u64,
}

/// Why bytes are not the header of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PackHeaderError {
    /// They are damaged or were never written.
    Damaged,
    /// A version of sitefs that this one does not know wrote them.
    Version(u32),
}

impl PackHeader {
    pub(super) fn encode(&self) -> [u8; PACK_HEADER_LEN as usize] {
        let mut bytes = [0; PACK_HEADER_LEN as usize];
        bytes[0..8].copy_from_slice(&PACK_MAGIC);
        bytes[8..12].copy_from_slice(&PACK_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.previous_len.to_le_bytes());
        let check = sum(&bytes[..24]);
        bytes[24..].copy_from_slice(&check);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<PackHeader, PackHeaderError> {
        let bytes: &[u8; PACK_HEADER_LEN as usize] = bytes.first_chunk().ok_or(PackHeaderError::Damaged)?;
        if bytes[0..8] != PACK_MAGIC || sum(&bytes[..24]) != bytes[24..] {
            return Err(PackHeaderError::Damaged);
        }
        match number(&bytes[8..12]) {
            PACK_VERSION => Ok(PackHeader {
                number: number(&bytes[12..16]),
                previous_len: u64::from_le_bytes(bytes[16..24].try_into().expect("8 bytes")),
            }),
            other => Err(PackHeaderError::Version(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_every_flipped_bit_is_found() {
        let payload = b"payload";
        let header =
            Header::object(ObjectId::of(Kind::Chunk, b"x"), Kind::Chunk, Codec::Zstd, 9, payload, 77);
        assert!(header.matches(payload) && !header.matches(b"payloae"));
        let pack = PackHeader { number: 7, previous_len: 1 << 33 };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        assert_eq!(Header::decode(&Header::filler(5).encode()), Some(Header::filler(5)));
        assert_eq!(PackHeader::decode(&pack.encode()), Ok(pack));
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes), None);
        }
        for bit in 0..PACK_HEADER_LEN as usize * 8 {
            let mut bytes = pack.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(PackHeader::decode(&bytes), Err(PackHeaderError::Damaged));
        }
    }

    #[test]
    fn a_newer_pack_is_named() {
        let mut bytes = PackHeader { number: 1, previous_len: 0 }.encode();
        bytes[8] = 2;
        let check = sum(&bytes[..24]);
        bytes[24..].copy_from_slice(&check);
        assert_eq!(PackHeader::decode(&bytes), Err(PackHeaderError::Version(2)));
    }
}
