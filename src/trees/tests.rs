//! Directories against a map in memory, and what changes cost.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::{file, store, symlink};
use super::*;

type Model = BTreeMap<NameKey, Entry>;

fn build(trees: &Trees, model: &Model) -> (Option<TreeId>, Totals) {
    let all: Vec<Change> = model.iter().map(|(key, entry)| (key.clone(), Some(entry.clone()))).collect();
    trees.update(None, &all).unwrap()
}

fn apply(model: &mut Model, changes: &[Change]) {
    for (key, entry) in changes {
        match entry {
            Some(entry) => model.insert(key.clone(), entry.clone()),
            None => model.remove(key),
        };
    }
}

/// What every reading function says about `tree` is what the model says.
fn check(trees: &Trees, tree: Option<TreeId>, totals: Totals, model: &Model) {
    let mut preceding = 0;
    let mut expected = Vec::new();
    for (key, entry) in model {
        let located = Located { key: key.clone(), entry: entry.clone(), preceding };
        assert_eq!(trees.lookup(tree, key).unwrap().as_ref(), Some(&located));
        let nodes = entry.totals().nodes;
        for position in [preceding, preceding + nodes - 1] {
            assert_eq!(trees.at_position(tree, position).unwrap().as_ref(), Some(&located));
        }
        preceding += nodes;
        expected.push(located);
    }
    assert_eq!(trees.at_position(tree, preceding).unwrap(), None);
    assert_eq!(totals, expected.iter().fold(Totals::default(), |sum, one| sum.plus(one.entry.totals())));
    for count_max in [1, 7, usize::MAX] {
        let mut listed = Vec::new();
        let mut after = 0;
        loop {
            let part = trees.list(tree, after, count_max).unwrap();
            let Some(last) = part.last() else { break };
            assert!(part.len() <= count_max, "no two names of these tests share a cookie");
            after = last.key.cookie;
            listed.extend(part);
        }
        assert_eq!(listed, expected);
    }
    assert_eq!(trees.lookup(tree, &NameKey::new(b"never a name of a model")).unwrap(), None);
}

fn directory(nodes: u64) -> Entry {
    let totals = Totals { nodes, bytes: 10 * nodes, hard_links: nodes / 2, directories: Some(nodes / 3) };
    let tree = (nodes > 0).then(|| TreeId(crate::objects::ObjectId::from_bytes([7; 32])));
    Entry { attributes: Attributes::default(), node: Node::Directory { tree, totals } }
}

/// Entries of every weight: heavy ones make pages end by weight.
fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        60 => (0_u64..9).prop_map(file),
        20 => (0_u64..50).prop_map(directory),
        3 => (1_usize..4096).prop_map(|length| symlink(&vec![b'x'; length])),
        1 => (0_usize..12_000).prop_map(|length| {
            let mut entry = file(1);
            entry.attributes.xattrs.insert(b"user.heavy"[..].into(), vec![1; length].into());
            entry
        }),
    ]
}

fn any_changes(count: usize) -> impl Strategy<Value = Vec<Change>> {
    let change = (0_u32..3_000, prop::option::weighted(0.7, any_entry()));
    prop::collection::vec(change, 0..count).prop_map(|changes| {
        let by_key: BTreeMap<NameKey, Option<Entry>> = changes
            .into_iter()
            .map(|(number, entry)| (NameKey::new(format!("name{number}").as_bytes()), entry))
            .collect();
        by_key.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_gives_the_pages_of_its_outcome(
        steps in prop::collection::vec(prop_oneof![any_changes(700), any_changes(6)], 1..7),
    ) {
        let store = store();
        let trees = &store.trees;
        let mut model = Model::new();
        let mut tree = None;
        let mut totals = Totals::default();
        for changes in &steps {
            apply(&mut model, changes);
            (tree, totals) = trees.update(tree, changes).unwrap();
            prop_assert_eq!((tree, totals), build(trees, &model));
        }
        check(trees, tree, totals, &model);
        let removals: Vec<Change> = model.keys().map(|key| (key.clone(), None)).collect();
        prop_assert_eq!(trees.update(tree, &removals).unwrap(), (None, Totals::default()));
    }
}

fn large_model(count: u64) -> Model {
    (0..count).map(|number| (NameKey::new(format!("file-{number}.txt").as_bytes()), file(number))).collect()
}

#[test]
fn one_change_in_a_directory_of_100_000_entries_writes_a_few_pages() {
    let store = store();
    let trees = &store.trees;
    let mut model = large_model(100_000);
    let (tree, totals) = build(trees, &model);
    assert_eq!(totals.nodes, 100_000);
    let cases: [(&[u8], Option<Entry>); 4] = [
        (b"file-50000.txt", Some(file(1))),
        (b"file-70000.txt", None),
        (b"another", Some(symlink(b"target"))),
        (b"file-0.txt", Some(file(3))),
    ];
    let mut changed = tree;
    for (name, entry) in cases {
        let before = trees.objects.usage();
        let change = [(NameKey::new(name), entry)];
        apply(&mut model, &change);
        (changed, _) = trees.update(changed, &change).unwrap();
        let after = trees.objects.usage();
        let pages = after.objects - before.objects;
        assert!((1..=8).contains(&pages), "{pages} pages");
        assert!(after.raw_bytes - before.raw_bytes < 64 << 10);
    }
    assert_eq!(changed, build(trees, &model).0);
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let store = store();
    let trees = &store.trees;
    let model = large_model(1_000);
    let built = build(trees, &model);
    let before = trees.objects.usage();
    let same = (NameKey::new(b"file-7.txt"), Some(file(7)));
    let mut changes = [same, (NameKey::new(b"missing"), None)];
    changes.sort_by(|left, right| left.0.cmp(&right.0));
    assert_eq!(trees.update(built.0, &changes).unwrap(), built);
    assert_eq!(trees.update(built.0, &[]).unwrap(), built);
    assert_eq!(trees.update(None, &[(NameKey::new(b"missing"), None)]).unwrap(), (None, Totals::default()));
    assert_eq!(trees.objects.usage(), before);
}

#[test]
fn reading_needs_no_cache() {
    let store = store();
    let model = large_model(1_000);
    let (tree, totals) = build(&store.trees, &model);
    let cold = Trees::new(store.trees.objects.clone(), 0);
    check(&cold, tree, totals, &model);
}

#[test]
fn pages_are_of_a_useful_size() {
    let store = store();
    let before = store.trees.objects.usage();
    build(&store.trees, &large_model(20_000));
    let after = store.trees.objects.usage();
    let mean = (after.raw_bytes - before.raw_bytes) / (after.objects - before.objects);
    assert!((3_000..8_000).contains(&mean), "{mean} bytes a page");
}
