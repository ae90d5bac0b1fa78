//! Messages on the connection.
//!
//! Bytes: a kind byte (1 a message, 2 plain bytes), the length of what follows (four bytes, little-endian), and that:
//! JSON for a message. Plain bytes of length zero end the bytes that a client sends.

use std::io::{self, Read};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Event, Reply};

/// The version of the protocol: raised when requests, events or answers change so that the other side would
/// misunderstand them. The frame and [`Hello`] never change.
pub(super) const PROTOCOL: u32 = 1;

/// The version of this program.
pub(super) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

const MESSAGE: u8 = 1;
const BYTES: u8 = 2;
const HEADER_BYTES: usize = 5;

/// The first message in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The version of the protocol.
    pub(super) protocol: u32,
    /// The version of the program.
    pub(super) program: String,
    /// The process.
    pub(super) pid: u32,
}

impl Hello {
    /// What this program says.
    pub(super) fn ours() -> Hello {
        Hello { protocol: PROTOCOL, program: PROGRAM.to_owned(), pid: own_pid() }
    }
}

/// The process id of this program.
pub(super) fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_pid().unsigned_abs()
}

/// What the daemon sends after its hello.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one at a time exists, for as long as it takes to send it")]
pub(super) enum FromDaemon {
    /// Any number of them.
    Event(Event),
    /// One, at the end.
    Reply(Reply),
}

/// What came over the connection.
#[derive(Debug)]
pub(super) enum Frame {
    /// The JSON of a message.
    Message(Vec<u8>),
    /// Plain bytes.
    Bytes(Vec<u8>),
}

/// What can go wrong with frames.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The other side closed the connection between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The connection failed, or was closed within a frame.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The bytes are no frame.
    #[error("a frame of the unknown kind {0}: the other side is not sitefs")]
    Kind(u8),
    /// The frame is longer than it may be.
    #[error("a message of {length} bytes; at most {limit} are taken")]
    TooLong {
        /// How long it is.
        length: u64,
        /// How long it may be.
        limit: u32,
    },
    /// The message is not of the expected shape.
    #[error("a message of an unexpected shape: {0}")]
    Shape(#[from] serde_json::Error),
    /// Bytes where a message belongs, or the other way round.
    #[error("a frame that does not belong here")]
    Order,
}

/// The frame of a message.
pub(super) fn message<T: Serialize>(value: &T, limit: u32) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![MESSAGE, 0, 0, 0, 0];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() - HEADER_BYTES;
    match u32::try_from(length) {
        Ok(length) if length <= limit => frame[1..HEADER_BYTES].copy_from_slice(&length.to_le_bytes()),
        _ => return Err(FrameError::TooLong { length: length as u64, limit }),
    }
    Ok(frame)
}

/// The frame of plain bytes, at most `u32::MAX` of them.
pub(super) fn bytes(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("callers send pieces of a bounded size");
    let mut frame = vec![BYTES];
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

/// Reads one frame whose content is not longer than `limit` bytes.
pub(super) fn read(stream: &mut impl Read, limit: u32) -> Result<Frame, FrameError> {
    let mut header = [0; HEADER_BYTES];
    // The first byte on its own: an end here is a clean one.
    if stream.read(&mut header[..1])? == 0 {
        return Err(FrameError::Closed);
    }
    if !matches!(header[0], MESSAGE | BYTES) {
        return Err(FrameError::Kind(header[0]));
    }
    stream.read_exact(&mut header[1..])?;
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    if length > limit {
        return Err(FrameError::TooLong { length: length.into(), limit });
    }
    // Grown as the bytes arrive, so that a length alone takes no memory.
    let mut content = Vec::new();
    if stream.take(length.into()).read_to_end(&mut content)? < length as usize {
        return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(if header[0] == MESSAGE { Frame::Message(content) } else { Frame::Bytes(content) })
}

/// Reads one message.
pub(super) fn read_message<T: DeserializeOwned>(stream: &mut impl Read, limit: u32) -> Result<T, FrameError> {
    match read(stream, limit)? {
        Frame::Message(json) => Ok(serde_json::from_slice(&json)?),
        Frame::Bytes(_) => Err(FrameError::Order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_back() {
        let mut wire = message(&Hello::ours(), 4_096).unwrap();
        wire.extend(bytes(b"dump"));
        let mut wire = wire.as_slice();
        assert_eq!(read_message::<Hello>(&mut wire, 4_096).unwrap(), Hello::ours());
        assert!(matches!(read(&mut wire, 4).unwrap(), Frame::Bytes(content) if content == b"dump"));
        assert!(matches!(read(&mut wire, 4), Err(FrameError::Closed)));
    }

    #[test]
    fn lengths_are_checked_before_memory_is_taken() {
        let wire = [MESSAGE, 255, 255, 255, 255];
        assert!(matches!(
            read(&mut wire.as_slice(), 4_096),
            Err(FrameError::TooLong { length: 4_294_967_295, limit: 4_096 })
        ));
        assert!(matches!(message(&"x".repeat(10), 10), Err(FrameError::TooLong { length: 12, limit: 10 })));
    }

    #[test]
    fn garbage_and_torn_frames_are_errors() {
        assert!(matches!(read(&mut b"GET / HTTP/1.1".as_slice(), 4_096), Err(FrameError::Kind(b'G'))));
        let whole = message(&Hello::ours(), 4_096).unwrap();
        for length in 1..whole.len() {
            assert!(matches!(read(&mut &whole[..length], 4_096), Err(FrameError::Io(_))), "{length}");
        }
        let mut odd = message(&"no hello", 4_096).unwrap();
        assert!(matches!(read_message::<Hello>(&mut odd.as_slice(), 4_096), Err(FrameError::Shape(_))));
        odd = bytes(b"{}");
        assert!(matches!(read_message::<Hello>(&mut odd.as_slice(), 4_096), Err(FrameError::Order)));
    }
}
