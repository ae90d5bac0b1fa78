//! The output of a process, bounded, and cut into lines.

use std::borrow::Cow;
use std::collections::VecDeque;

/// Longest line handed on in one piece, in bytes: a program that never ends its line must not fill memory.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What a process wrote to one of its outputs. Of a long output the beginning and the end are kept: the beginning
/// says what was going on, the end what went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    omitted_bytes: u64,
    part_bytes_max: usize,
}

impl Captured {
    /// Keeps at most `bytes_max`, half of it from the beginning.
    pub(super) fn new(bytes_max: usize) -> Captured {
        Captured { part_bytes_max: bytes_max / 2, ..Captured::default() }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.part_bytes_max.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(self.part_bytes_max);
        self.tail.drain(..excess);
        self.omitted_bytes += excess as u64;
    }

    /// How many bytes of the middle were not kept.
    pub fn omitted_bytes(&self) -> u64 {
        self.omitted_bytes
    }

    /// The bytes; where some were not kept, a line in their place says how many.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if self.tail.is_empty() {
            return Cow::Borrowed(&self.head);
        }
        let mut bytes = self.head.clone();
        if self.omitted_bytes > 0 {
            bytes
                .extend_from_slice(format!("\n[... {} bytes left out ...]\n", self.omitted_bytes).as_bytes());
        }
        bytes.extend(&self.tail);
        Cow::Owned(bytes)
    }

    /// The bytes as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// The last `count` lines that are not blank.
    pub fn last_lines(&self, count: usize) -> String {
        let text = self.text();
        let mut lines: Vec<&str> =
            text.lines().rev().filter(|line| !line.trim().is_empty()).take(count).collect();
        lines.reverse();
        lines.join("\n")
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Takes more bytes and hands on each line they complete, without its end.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if self.pending.ends_with(b"\n") || self.pending.len() >= LINE_BYTES_MAX {
                self.finish(&mut line);
            }
        }
    }

    /// Hands on what is left: a last line without its end.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&str)) {
        if self.pending.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.pending);
        line(text.trim_end_matches(['\n', '\r']));
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_keeps_its_beginning_and_its_end() {
        let mut captured = Captured::new(8);
        captured.push(b"abcd");
        captured.push(b"efgh");
        assert_eq!(captured.text(), "abcdefgh");
        captured.push(b"ijk");
        assert_eq!(captured.text(), "abcd\n[... 3 bytes left out ...]\nhijk");
        captured.push(&[b'x'; 1000]);
        assert_eq!(captured.omitted_bytes(), 1003);
        assert_eq!(captured.text().len(), "abcd\n[... 1003 bytes left out ...]\nxxxx".len());
    }

    #[test]
    fn lines_are_whole_however_the_bytes_arrive() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for bytes in [&b"on"[..], b"e\r\ntwo\n\nthr", b"ee"] {
            lines.push(bytes, |line| seen.push(line.to_owned()));
        }
        lines.finish(|line| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "two", "", "three"]);
        let mut count = 0;
        Lines::default().push(&vec![b'x'; 3 * LINE_BYTES_MAX], |_| count += 1);
        assert_eq!(count, 1, "a line without an end is handed on before it fills memory");
    }

    #[test]
    fn last_lines_skips_blank_ones() {
        let mut captured = Captured::new(100);
        captured.push(b"a\n\nb\n  \nc\n");
        assert_eq!(captured.last_lines(2), "b\nc");
    }
}
