//! The canonical encoding of every record kept on disk or sent between processes of different versions.
//!
//! Bytes: one version byte, the postcard encoding of the value (<https://postcard.jamesmunns.com/wire-format>),
//! and the first four bytes of the BLAKE3 hash of all that. The same value always gives the same bytes.

use serde::{Serialize, de::DeserializeOwned};

const CHECKSUM_LEN: usize = 4;

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum EncodingError {
    /// Shorter than the smallest record, or the checksum does not match.
    #[error("the record is damaged: its checksum does not match")]
    Damaged,
    /// Written by a version of sitefs that this one does not know.
    #[error(
        "the record has format version {found}; this sitefs reads version {known}: use the one that wrote it"
    )]
    Version {
        /// The version byte found.
        found: u8,
        /// The version asked for.
        known: u8,
    },
    /// The checksum matches, yet the content is not of the expected shape.
    #[error("the record does not have the expected shape: {0}")]
    Shape(#[from] postcard::Error),
}

/// Encodes `value` as a record of format `version`.
pub fn encode<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    let mut bytes = postcard::to_extend(value, vec![version])
        .expect("serialising to memory fails only for types without a length, and no record has one");
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_LEN]);
    bytes
}

/// Whether bytes are a record of any version: their checksum matches.
pub fn is_intact(bytes: &[u8]) -> bool {
    body(bytes).is_some()
}

/// A record without its checksum; `None` unless that matches.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.len().checked_sub(CHECKSUM_LEN).filter(|length| *length > 0)?;
    let (body, checksum) = bytes.split_at(length);
    (blake3::hash(body).as_bytes()[..CHECKSUM_LEN] == *checksum).then_some(body)
}

/// Decodes a record of format `version`, checking its checksum first.
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, EncodingError> {
    decode_since(version, |_| None, bytes)
}

/// Decodes a record of format `version`, or of an earlier one that `added_since` knows: it says how many optional
/// fields such a record lacks at its end.
pub fn decode_since<T: DeserializeOwned>(
    version: u8,
    added_since: impl Fn(u8) -> Option<usize>,
    bytes: &[u8],
) -> Result<T, EncodingError> {
    let body = body(bytes).ok_or(EncodingError::Damaged)?;
    if body[0] == version {
        return Ok(postcard::from_bytes(&body[1..])?);
    }
    match added_since(body[0]) {
        // An absent value is one zero byte.
        Some(added) => Ok(postcard::from_bytes(&[&body[1..], &vec![0; added]].concat())?),
        None => Err(EncodingError::Version { found: body[0], known: version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_bit_is_found() {
        let bytes = encode(3, &("site", 42_u64));
        assert_eq!(decode::<(String, u64)>(3, &bytes).unwrap(), ("site".to_owned(), 42));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<(String, u64)>(3, &damaged).is_err());
        }
    }

    #[test]
    fn what_an_earlier_version_lacks_is_absent() {
        let earlier = encode(1, &("site", 42_u64));
        let added = |version| (version == 1).then_some(2);
        type Later = (String, u64, Option<u64>, Option<String>);
        let read: Later = decode_since(2, added, &earlier).unwrap();
        assert_eq!(read, ("site".to_owned(), 42, None, None));
        let later = ("site".to_owned(), 42, Some(7), Some("more".to_owned()));
        assert_eq!(decode_since::<Later>(2, added, &encode(2, &later)).unwrap(), later);
        let error = decode_since::<Later>(2, added, &encode(3, &later)).unwrap_err();
        assert!(matches!(error, EncodingError::Version { found: 3, known: 2 }));
    }

    #[test]
    fn another_version_is_named() {
        let error = decode::<u8>(2, &encode(1, &7_u8)).unwrap_err();
        assert!(matches!(error, EncodingError::Version { found: 1, known: 2 }));
        assert!(matches!(decode::<u8>(1, &[]), Err(EncodingError::Damaged)));
    }
}
