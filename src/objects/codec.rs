//! Compression, with contexts kept per thread: making one costs more than compressing a small file.

use std::cell::RefCell;

use super::record::Codec;

/// zstd's default; higher levels cost several times the time for a few percent on PHP, CSS and SQL.
const LEVEL: i32 = 3;

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The stored form of `content` when compression makes it shorter; `None` when it is best stored as it is.
pub(super) fn compress(content: &[u8]) -> Option<Vec<u8>> {
    let mut shorter = vec![0; content.len().saturating_sub(1)];
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            // Out of memory is the only way this fails; the object is then stored uncompressed.
            *slot = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let length = slot.as_mut()?.compress_to_buffer(content, shorter.as_mut_slice()).ok()?;
        shorter.truncate(length);
        Some(shorter)
    })
}

/// The content of `raw_len` bytes whose stored form is `payload`; `None` when the payload is not such a form.
pub(super) fn expand(codec: Codec, payload: Vec<u8>, raw_len: usize) -> Option<Vec<u8>> {
    let content = match codec {
        Codec::Raw => payload,
        Codec::Zstd => DECOMPRESSOR.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = zstd::bulk::Decompressor::new().ok();
            }
            let mut content = Vec::with_capacity(raw_len);
            slot.as_mut()?.decompress_to_buffer(&payload, &mut content).ok()?;
            Some(content)
        })?,
    };
    (content.len() == raw_len).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_round_trips_and_what_does_not_is_left() {
        let text = b"public function build(): array { return []; }\n".repeat(100);
        let stored = compress(&text).expect("text shrinks");
        assert!(stored.len() < text.len() / 4);
        assert_eq!(expand(Codec::Zstd, stored.clone(), text.len()), Some(text.clone()));
        assert_eq!(expand(Codec::Zstd, stored.clone(), text.len() - 1), None);
        assert_eq!(expand(Codec::Zstd, stored[1..].to_vec(), text.len()), None);
        let noise = blake3::hash(b"noise");
        assert_eq!(compress(noise.as_bytes()), None);
        assert_eq!(compress(b""), None);
    }
}
