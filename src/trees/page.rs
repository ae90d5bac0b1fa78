//! Pages: the objects that directories are made of, and the rule that says where a page ends.
//!
//! Leaf pages hold names with their entries; index pages hold, for each page below them, its last name, its id and
//! its sums. Keys are stored as names alone, their cookies being hashes of them. The bytes are described in
//! `docs/format.md`.
//!
//! Where a page ends depends on nothing but the items from its start to its end. With the start given by the page
//! before it, the pages of a directory are a pure function of its entries.

use serde::ser::{Serialize, Serializer};
use serde::{Deserialize, Serialize as DeriveSerialize};

use super::{Entry, NameKey, Node, Totals, TreesError};
use crate::base::encoding::{self, EncodingError};
use crate::objects::ObjectId;

/// Pages of version 1 do not say how many directories are in a directory, and are read as any other.
const PAGE_VERSION: u8 = 2;

/// Bits of a name's hash that must be zero for a page to end after it: 64 items a page on average.
const BOUNDARY_BITS: u32 = 6;

/// A page also ends after the item with which its weight reaches this. It is for pages whose items are heavy
/// (extended attributes) or whose names happen to have no boundary among them: 1 page in 300 with ordinary names.
const PAGE_WEIGHT_MAX: usize = 32 * 1024;

/// What an item weighs beside its variable parts. Weights stand for bytes, roughly; they are part of the format.
const ITEM_WEIGHT: usize = 64;

/// Index pages this high would index more names than there can be: a page that says so is damaged.
const HEIGHT_MAX: u8 = 64;

/// How many levels of pages a boundary at this name ends: 0 for 63 names of 64, 1 for most others, and so on.
/// The bytes of the hash are others than the cookie's.
fn boundary_levels(name: &[u8]) -> u32 {
    let hash = blake3::hash(name);
    let bytes: [u8; 8] = hash.as_bytes()[8..16].try_into().expect("a hash has 32 bytes");
    u64::from_le_bytes(bytes).trailing_zeros() / BOUNDARY_BITS
}

/// A reference to a page below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveSerialize, Deserialize)]
pub(super) struct Child {
    /// The page.
    pub(super) page: ObjectId,
    /// The sums over its entries.
    pub(super) totals: Totals,
}

/// What a page holds under its keys: entries or children.
pub(super) trait Value: Clone + PartialEq {
    /// What the value adds to the sums of its page.
    fn totals(&self) -> Totals;
    /// The weight of the value's variable parts.
    fn weight(&self) -> usize;
    /// The run of a page that holds such values.
    fn run_of(page: &Page) -> Option<&Run<Self>>;
    /// A page of such values, `height` levels above the leaves.
    fn page(height: u8, run: Run<Self>) -> Page;
}

impl Value for Entry {
    fn totals(&self) -> Totals {
        Entry::totals(self)
    }

    fn weight(&self) -> usize {
        let xattrs: usize = self.attributes.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let target = if let Node::Symlink { target } = &self.node { target.len() } else { 0 };
        xattrs + target
    }

    fn run_of(page: &Page) -> Option<&Run<Entry>> {
        if let Page::Leaf(run) = page { Some(run) } else { None }
    }

    fn page(height: u8, run: Run<Entry>) -> Page {
        assert_eq!(height, 0, "entries are in leaf pages");
        Page::Leaf(run)
    }
}

impl Value for Child {
    fn totals(&self) -> Totals {
        self.totals
    }

    fn weight(&self) -> usize {
        0
    }

    fn run_of(page: &Page) -> Option<&Run<Child>> {
        if let Page::Index { run, .. } = page { Some(run) } else { None }
    }

    fn page(height: u8, run: Run<Child>) -> Page {
        assert!(height > 0, "children are in index pages");
        Page::Index { height, run }
    }
}

/// The items of a page: at least one, keys ascending.
#[derive(Debug)]
pub(super) struct Run<V> {
    /// The keys of the items; of a child, the last key below it.
    pub(super) keys: Box<[NameKey]>,
    /// The values, in the order of the keys.
    pub(super) values: Box<[V]>,
    /// For each item, how many nodes the items before it have. Not stored.
    pub(super) preceding: Box<[u64]>,
    /// The sums over all items. Not stored.
    pub(super) totals: Totals,
}

impl<V: Value> Run<V> {
    /// From at least one item, in ascending order.
    pub(super) fn new(keys: Vec<NameKey>, values: Vec<V>) -> Run<V> {
        let mut totals = Totals::default();
        let preceding = values
            .iter()
            .map(|value| {
                let before = totals.nodes;
                totals = totals.plus(value.totals());
                before
            })
            .collect();
        Run { keys: keys.into(), values: values.into(), preceding, totals }
    }

    fn from_pairs(pairs: Vec<(Box<[u8]>, V)>) -> Option<Run<V>> {
        let (keys, values): (Vec<_>, Vec<_>) =
            pairs.into_iter().map(|(name, value)| (NameKey::from_name(name), value)).unzip();
        let ordered = !keys.is_empty() && keys.is_sorted_by(|left, right| left < right);
        ordered.then(|| Run::new(keys, values))
    }

    /// The item that holds the node at `position`, which must be below the total.
    pub(super) fn at_position(&self, position: u64) -> usize {
        self.preceding.partition_point(|before| *before <= position) - 1
    }
}

/// One page.
#[derive(Debug)]
pub(super) enum Page {
    /// Names with their entries.
    Leaf(Run<Entry>),
    /// References to the pages of the level below.
    Index {
        /// Levels above the leaves: at least 1.
        height: u8,
        /// The references.
        run: Run<Child>,
    },
}

/// The items of a run as they are written: names with values.
struct Pairs<'a, V>(&'a Run<V>);

impl<V: Serialize> Serialize for Pairs<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.keys.iter().zip(&self.0.values).map(|(key, value)| (&key.name, value)))
    }
}

/// A page as it is written.
#[derive(DeriveSerialize)]
enum Written<'a> {
    Leaf(Pairs<'a, Entry>),
    Index(u8, Pairs<'a, Child>),
}

/// A page as it is read: the same shape as [`Written`].
#[derive(Deserialize)]
enum Read {
    Leaf(Vec<(Box<[u8]>, Entry)>),
    Index(u8, Vec<(Box<[u8]>, Child)>),
}

impl Page {
    /// Levels above the leaves.
    pub(super) fn height(&self) -> u8 {
        match self {
            Page::Leaf(_) => 0,
            Page::Index { height, .. } => *height,
        }
    }

    /// The sums over all items.
    pub(super) fn totals(&self) -> Totals {
        match self {
            Page::Leaf(run) => run.totals,
            Page::Index { run, .. } => run.totals,
        }
    }

    /// The keys of the items.
    pub(super) fn keys(&self) -> &[NameKey] {
        match self {
            Page::Leaf(run) => &run.keys,
            Page::Index { run, .. } => &run.keys,
        }
    }

    /// For each item, how many nodes the items before it have.
    pub(super) fn preceding(&self) -> &[u64] {
        match self {
            Page::Leaf(run) => &run.preceding,
            Page::Index { run, .. } => &run.preceding,
        }
    }

    /// The bytes of the page.
    pub(super) fn encode(&self) -> Vec<u8> {
        let written = match self {
            Page::Leaf(run) => Written::Leaf(Pairs(run)),
            Page::Index { height, run } => Written::Index(*height, Pairs(run)),
        };
        encoding::encode(PAGE_VERSION, &written)
    }

    /// The page of these bytes, its order and height checked.
    pub(super) fn decode(id: ObjectId, bytes: &[u8]) -> Result<Page, TreesError> {
        let page = match encoding::decode_since(PAGE_VERSION, |version| (version == 1).then_some(0), bytes) {
            Ok(Read::Leaf(pairs)) => Run::from_pairs(pairs).map(Page::Leaf),
            Ok(Read::Index(height, pairs)) if (1..=HEIGHT_MAX).contains(&height) => {
                Run::from_pairs(pairs).map(|run| Page::Index { height, run })
            }
            Ok(Read::Index(..)) => None,
            Err(source) => return Err(TreesError::Page { id, source }),
        };
        page.ok_or(TreesError::Page { id, source: EncodingError::Damaged })
    }

    /// About what the page takes in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        // Boxes and map nodes come with some overhead of the allocator.
        const ITEM_OVERHEAD: usize = 24;
        let keys: usize =
            self.keys().iter().map(|key| size_of::<NameKey>() + key.name.len() + ITEM_OVERHEAD).sum();
        let values: usize = match self {
            Page::Leaf(run) => run.values.iter().map(|value| size_of::<Entry>() + 2 * value.weight()).sum(),
            Page::Index { run, .. } => run.values.len() * size_of::<Child>(),
        };
        size_of::<Page>() + keys + values + size_of_val(self.preceding())
    }
}

/// Cuts a sequence of items of one level into pages.
pub(super) struct Chunker<V> {
    height: u8,
    keys: Vec<NameKey>,
    values: Vec<V>,
    weight: usize,
}

impl<V: Value> Chunker<V> {
    /// For the level `height` above the leaves.
    pub(super) fn new(height: u8) -> Chunker<V> {
        Chunker { height, keys: Vec::new(), values: Vec::new(), weight: 0 }
    }

    /// Takes the next item; returns the page that ends with it, if one does.
    pub(super) fn push(&mut self, key: NameKey, value: V) -> Option<Page> {
        self.weight += ITEM_WEIGHT + key.name.len() + value.weight();
        let ends = boundary_levels(&key.name) > u32::from(self.height) || self.weight >= PAGE_WEIGHT_MAX;
        self.keys.push(key);
        self.values.push(value);
        if ends { self.finish() } else { None }
    }

    /// Whether the last item ended a page.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The page of the items since the last page's end, if there are any.
    pub(super) fn finish(&mut self) -> Option<Page> {
        if self.is_empty() {
            return None;
        }
        self.weight = 0;
        let run = Run::new(std::mem::take(&mut self.keys), std::mem::take(&mut self.values));
        Some(V::page(self.height, run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Kind;
    use crate::trees::TreeId;
    use crate::trees::testing::{file, store};

    fn leaf(names: &[&[u8]]) -> Page {
        let keys: Vec<NameKey> = names.iter().map(|name| NameKey::new(name)).collect();
        Page::Leaf(Run::new(keys, names.iter().map(|_| file(1)).collect()))
    }

    #[test]
    fn pages_round_trip() {
        let id = ObjectId::of(Kind::TreePage, b"");
        let mut names: [&[u8]; 3] = [b"a", b"b", b"not \xff utf-8"];
        names.sort_by_key(|name| NameKey::new(name));
        let page = leaf(&names);
        let read = Page::decode(id, &page.encode()).unwrap();
        assert_eq!((read.keys(), read.totals()), (page.keys(), page.totals()));
        assert_eq!(read.encode(), page.encode());
    }

    #[test]
    fn a_page_written_before_directories_were_counted_is_read() {
        let id = ObjectId::of(Kind::TreePage, b"");
        let page = leaf(&[b"a"]);
        let Page::Leaf(run) = &page else { panic!("a leaf") };
        let before = encoding::encode(1, &Written::Leaf(Pairs(run)));
        assert_eq!(Page::decode(id, &before).unwrap().keys(), page.keys());
        let later = encoding::encode(PAGE_VERSION + 1, &Written::Leaf(Pairs(run)));
        assert!(matches!(Page::decode(id, &later), Err(TreesError::Page { .. })));
    }

    #[test]
    fn pages_that_do_not_hold_together_are_errors() {
        let store = store();
        let put = |page: &Page| store.trees.objects.put(Kind::TreePage, &page.encode()).unwrap();
        let mut names: [&[u8]; 2] = [b"a", b"b"];
        names.sort_by_key(|name| NameKey::new(name));
        let good = put(&leaf(&names));
        let child = |page| Child { page, totals: Totals { nodes: 5, ..Totals::default() } };
        let last = NameKey::new(names[1]);
        let index = |height| {
            let run = Run::new(vec![last.clone()], vec![child(good)]);
            put(&Page::Index { height, run })
        };
        names.reverse();
        let garbage = store.trees.objects.put(Kind::TreePage, b"not a page").unwrap();
        let damaged = [put(&leaf(&names)), put(&leaf(&[])), index(0), index(2), index(255), garbage];
        for tree in damaged.map(|id| Some(TreeId(id))) {
            let key = NameKey::new(b"a");
            assert!(matches!(store.trees.lookup(tree, &key), Err(TreesError::Page { .. })));
            assert!(matches!(store.trees.list(tree, 0, 9), Err(TreesError::Page { .. })));
            assert!(matches!(store.trees.at_position(tree, 0), Err(TreesError::Page { .. })));
            assert!(matches!(store.trees.update(tree, &[(key, None)]), Err(TreesError::Page { .. })));
        }
        // Sums that promise more nodes than there are lead nowhere.
        assert_eq!(store.trees.at_position(Some(TreeId(index(1))), 4).unwrap(), None);
    }
}
