//! Ranges of keys.

use std::ops::{Bound, RangeBounds};

/// A range of byte strings in the form redb takes.
pub(super) struct BytesRange<'a>(pub(super) (Bound<&'a [u8]>, Bound<&'a [u8]>));

impl<'a> RangeBounds<&'a [u8]> for BytesRange<'a> {
    fn start_bound(&self) -> Bound<&&'a [u8]> {
        self.0.0.as_ref()
    }
    fn end_bound(&self) -> Bound<&&'a [u8]> {
        self.0.1.as_ref()
    }
}

/// The range of all keys that start with a prefix.
pub struct Prefix {
    start: Vec<u8>,
    end: Bound<Vec<u8>>,
}

impl Prefix {
    /// All keys that start with `prefix`.
    pub fn new(prefix: &[u8]) -> Prefix {
        let mut end = prefix.to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let end = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        Prefix { start: prefix.to_vec(), end }
    }
}

impl RangeBounds<[u8]> for Prefix {
    fn start_bound(&self) -> Bound<&[u8]> {
        Bound::Included(&self.start)
    }
    fn end_bound(&self) -> Bound<&[u8]> {
        self.end.as_ref().map(Vec::as_slice)
    }
}
