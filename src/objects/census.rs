//! A census: the objects there were at one moment, each with two marks, in some nine bytes for each.
//!
//! Names are hashes and come in order, so their first bits are their place, nearly: a name is kept as the 64 bits that
//! follow those which say its bucket. Two names that agree in all of these bits (65 and more; 84 of ten million names)
//! would be taken for one: among ten million names the chance is one in 10^11.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ObjectId;

/// How many names share a bucket on average: few enough to be searched in one or two cache lines.
const BUCKET_NAMES: u64 = 8;

/// Bits of a name that say its bucket, at most: the buckets then take 64 MiB.
const BUCKET_BITS_MAX: u32 = 24;

/// A bit for each object.
struct Bits(Vec<AtomicU64>);

impl Bits {
    fn new(count: usize) -> Bits {
        Bits((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets a bit; whether it was not set.
    fn set(&self, at: usize) -> bool {
        let bit = 1 << (at % 64);
        self.0[at / 64].fetch_or(bit, Ordering::SeqCst) & bit == 0
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64].load(Ordering::SeqCst) & (1 << (at % 64)) != 0
    }
}

/// Names in ascending order, on their way into a [`Census`].
pub(super) struct Names {
    bucket_bits: u32,
    /// Where each bucket begins in `rests`.
    starts: Vec<usize>,
    rests: Vec<u64>,
}

impl Names {
    /// Room for about `expected` names.
    pub(super) fn new(expected: u64) -> Names {
        let bits = u64::BITS - (expected / BUCKET_NAMES).leading_zeros();
        let bucket_bits = bits.clamp(1, BUCKET_BITS_MAX);
        Names {
            bucket_bits,
            starts: Vec::with_capacity((1 << bucket_bits) + 1),
            rests: Vec::with_capacity(usize::try_from(expected).unwrap_or_default()),
        }
    }

    /// Adds a name that comes after all others.
    pub(super) fn push(&mut self, id: ObjectId) {
        let (bucket, rest) = split(id, self.bucket_bits);
        while self.starts.len() <= bucket {
            self.starts.push(self.rests.len());
        }
        self.rests.push(rest);
    }

    /// All names are there.
    pub(super) fn finish(mut self) -> Census {
        self.starts.resize((1 << self.bucket_bits) + 1, self.rests.len());
        let count = self.rests.len();
        Census { names: self, reached: Bits::new(count), kept: Bits::new(count) }
    }
}

/// The bucket of a name, and the 64 bits that follow.
fn split(id: ObjectId, bucket_bits: u32) -> (usize, u64) {
    let first: [u8; 16] = id.as_bytes()[..16].try_into().expect("a name has 32 bytes");
    let first = u128::from_be_bytes(first);
    let bucket = usize::try_from(first >> (u128::BITS - bucket_bits)).expect("24 bits at most");
    // The shift to the left drops the bucket, the cast the rest of the name.
    (bucket, ((first << bucket_bits) >> 64) as u64)
}

/// The objects there were at one moment.
pub(super) struct Census {
    names: Names,
    /// Found from the roots.
    reached: Bits,
    /// Put (again) since the collection began.
    kept: Bits,
}

impl Census {
    /// How many objects there were.
    pub(super) fn count(&self) -> usize {
        self.names.rests.len()
    }

    /// Whether the object at a place was marked as reached.
    pub(super) fn is_reached(&self, place: usize) -> bool {
        self.reached.get(place)
    }

    /// A number of an object below [`Census::count`]; `None` when it is not in the census.
    pub(super) fn place(&self, id: ObjectId) -> Option<usize> {
        let (bucket, rest) = split(id, self.names.bucket_bits);
        let (start, end) = (self.names.starts[bucket], self.names.starts[bucket + 1]);
        self.names.rests[start..end].binary_search(&rest).ok().map(|at| start + at)
    }

    /// Marks an object as reached; whether it was not. `None` when it is not in the census.
    pub(super) fn reach(&self, id: ObjectId) -> Option<bool> {
        self.place(id).map(|at| self.reached.set(at))
    }

    /// Marks an object as put since the collection began.
    pub(super) fn keep(&self, id: ObjectId) {
        if let Some(at) = self.place(id) {
            self.kept.set(at);
        }
    }

    /// Whether an object of the census has neither mark.
    pub(super) fn is_garbage(&self, id: ObjectId) -> bool {
        self.place(id).is_some_and(|at| !self.reached.get(at) && !self.kept.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Kind;

    #[test]
    fn every_name_is_found_and_no_other_whatever_was_expected() {
        let mut ids: Vec<ObjectId> =
            (0..5000_u64).map(|n| ObjectId::of(Kind::Chunk, &n.to_le_bytes())).collect();
        ids.sort_unstable();
        for (expected, present) in [(0, 0), (0, 5000), (5000, 5000), (1 << 20, 3000), (7, 1)] {
            let mut names = Names::new(expected);
            ids[..present].iter().for_each(|id| names.push(*id));
            let census = names.finish();
            for (at, id) in ids.iter().enumerate() {
                let is_there = at < present;
                assert_eq!(census.is_garbage(*id), is_there);
                if at % 3 == 0 {
                    census.keep(*id);
                    assert!(!census.is_garbage(*id));
                }
                assert_eq!(census.reach(*id), is_there.then_some(true));
                assert_eq!(census.reach(*id), is_there.then_some(false));
                assert!(!census.is_garbage(*id));
            }
        }
    }
}
