//! Who takes how much of the store, where many share what is stored.
//!
//! The objects of some *groups* (snapshots, say) are gone through after those of everybody else have been reached. Each
//! object then has one number: of the one group that has it, or that several have, or that it is *held*, which is more
//! than any group. So the memory needed is four bytes for each object beside the census, however many groups there are.
//! An object is looked into again when the answer changes: twice at most.

use super::collection::Collection;
use super::store::LIST_ENTRIES;
use super::{ObjectId, ObjectsError};

/// No group has it.
const NOBODY: u32 = 0;
/// It is held.
const HELD: u32 = u32::MAX;
/// Several groups have it.
const SEVERAL: u32 = u32::MAX - 1;

/// Who has which object.
pub struct Shares<'a> {
    collection: &'a Collection<'a>,
    owners: Vec<u32>,
}

/// What objects take on the disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// What one group has alone, by its number.
    pub alone: Vec<u64>,
    /// What several groups have, and nobody else.
    pub several: u64,
    /// What is held, and nobody else has.
    pub held: u64,
    /// What is held or in a group, and others have too.
    pub shared: u64,
}

impl<'a> Shares<'a> {
    /// Nobody has anything yet. What others have has been reached in `collection`.
    pub fn new(collection: &'a Collection<'a>) -> Shares<'a> {
        Shares { collection, owners: vec![NOBODY; collection.census.count()] }
    }

    /// Notes that an object is held; whether it has to be looked into. All that is held comes before any group.
    pub fn hold(&mut self, id: ObjectId) -> bool {
        self.set(id, |_| Some(HELD))
    }

    /// Notes that a group has an object; whether it has to be looked into.
    pub fn has(&mut self, group: u32, id: ObjectId) -> bool {
        let own = group + 1;
        self.set(id, |owner| match owner {
            NOBODY => Some(own),
            // What is below such a one is so too.
            HELD | SEVERAL => None,
            other if other == own => None,
            _ => Some(SEVERAL),
        })
    }

    /// What is newer than the census belongs to nobody.
    fn set(&mut self, id: ObjectId, decide: impl FnOnce(u32) -> Option<u32>) -> bool {
        let Some(owner) = self.collection.census.place(id).map(|at| &mut self.owners[at]) else {
            return false;
        };
        match decide(*owner) {
            Some(new) if new != *owner => {
                *owner = new;
                true
            }
            _ => false,
        }
    }

    /// The sums, for groups with numbers below `groups`. Reads the index once.
    pub fn sums(&self, groups: u32) -> Result<Sums, ObjectsError> {
        let mut sums = Sums { alone: vec![0; groups as usize], ..Sums::default() };
        let objects = self.collection.objects;
        let mut after = None;
        loop {
            let entries = objects.packs.index.list(after, LIST_ENTRIES)?;
            let Some((last, _)) = entries.last() else { break };
            after = Some(*last);
            entries.iter().for_each(|(id, location)| self.add(&mut sums, *id, location.record_len()));
        }
        objects.plain.each_durable(&mut |id, size| {
            self.add(&mut sums, id, size);
            Ok::<_, ObjectsError>(())
        })?;
        Ok(sums)
    }

    fn add(&self, sums: &mut Sums, id: ObjectId, bytes: u64) {
        let Some(at) = self.collection.census.place(id) else { return };
        let sum = match self.owners[at] {
            NOBODY => return,
            _ if self.collection.census.is_reached(at) => &mut sums.shared,
            HELD => &mut sums.held,
            SEVERAL => &mut sums.several,
            group => match sums.alone.get_mut(group as usize - 1) {
                Some(sum) => sum,
                None => return,
            },
        };
        *sum += bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::objects::{Kind, Objects};

    #[test]
    fn each_object_counts_once_for_whoever_has_it() {
        let directory = tempfile::tempdir().unwrap();
        Objects::create(directory.path()).unwrap();
        let objects = Objects::open(directory.path()).unwrap();
        let put = |text: &str| objects.put(Kind::Chunk, text.as_bytes()).unwrap();
        let ids = ["one", "two", "both", "held and one", "held", "others and one", "garbage"].map(put);
        let collection = objects.prepare_collection().unwrap();
        collection.begin(Duration::ZERO, || ()).unwrap();
        let bytes = |at: usize| collection.stored_bytes(ids[at]).unwrap();
        collection.reach(ids[5]);
        let mut shares = Shares::new(&collection);
        assert!(shares.hold(ids[3]) && shares.hold(ids[4]) && !shares.hold(ids[4]));
        assert!(shares.has(0, ids[0]) && shares.has(0, ids[2]) && shares.has(0, ids[5]));
        assert!(!shares.has(0, ids[3]), "all below it is held too");
        assert!(shares.has(1, ids[1]) && shares.has(1, ids[2]), "what was one group's is looked into again");
        assert!(!shares.has(0, ids[2]));
        let newer = put("newer");
        assert!(!shares.has(0, newer));
        let expected = Sums {
            alone: vec![bytes(0), bytes(1)],
            several: bytes(2),
            held: bytes(3) + bytes(4),
            shared: bytes(5),
        };
        assert_eq!(shares.sums(2).unwrap(), expected);
    }
}
