//! Differences, replacing and grafting against trees kept as maps from paths to entries.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::base::RelativePath;
use crate::trees::links::link_key;
use crate::trees::path::{Components, joined};
use crate::trees::testing::{file, store};
use crate::trees::*;

/// The leaves of a tree by path, and its nodes with several names. Directories are there for their leaves alone.
#[derive(Clone, Debug, Default)]
struct Model {
    leaves: BTreeMap<Components, Entry>,
    links: BTreeMap<u64, Entry>,
}

fn components(path: &str) -> Components {
    path.split('/').map(|name| name.as_bytes().into()).collect()
}

fn relative(path: &Components) -> RelativePath {
    joined(path).to_str().unwrap().parse().unwrap()
}

fn hard_link(number: u64) -> Entry {
    Entry { attributes: Attributes::default(), node: Node::HardLink(number) }
}

impl Model {
    /// Puts a leaf in, taking out whatever is in its way.
    fn put(&mut self, path: &Components, entry: Option<Entry>) {
        self.leaves.retain(|other, _| !other.starts_with(path) && !path.starts_with(other));
        self.leaves.extend(entry.map(|entry| (path.clone(), entry)));
    }

    fn root(&self, trees: &Trees) -> Root {
        let attributes = Attributes { mode: 0o750, ..Attributes::default() };
        let edits: Vec<_> =
            self.leaves.iter().map(|(path, entry)| (path.clone(), Some(entry.clone()))).collect();
        let (tree, totals) = trees.edit_paths(None, &attributes, &edits, 0).unwrap();
        let mut rows: Vec<Change> =
            self.links.iter().map(|(number, entry)| (link_key(*number), Some(entry.clone()))).collect();
        rows.sort_by(|left, right| left.0.cmp(&right.0));
        let links = trees.update(None, &rows).unwrap().0;
        let next_link = self.links.keys().last().map_or(1, |last| last + 1);
        Root { attributes, tree, totals, links, next_link }
    }

    /// Every path with what `diff` compares there: directories as `None`.
    fn flat(&self) -> BTreeMap<Components, Option<Entry>> {
        let mut flat = BTreeMap::new();
        for (path, entry) in &self.leaves {
            for depth in 1..path.len() {
                flat.insert(path[..depth].to_vec(), None);
            }
            let resolved = match entry.node {
                Node::HardLink(number) => &self.links[&number],
                _ => entry,
            };
            flat.insert(path.clone(), Some(resolved.clone()));
        }
        flat
    }
}

fn any_path() -> impl Strategy<Value = Components> {
    prop::collection::vec(0_u8..5, 1..4)
        .prop_map(|names| names.into_iter().map(|name| [b'a' + name][..].into()).collect())
}

fn any_model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![4 => (0_u64..3).prop_map(file), 1 => (1_u64..4).prop_map(hard_link)];
    let leaves = prop::collection::vec((any_path(), leaf), 0..40);
    let links = prop::collection::vec(0_u64..2, 3);
    (leaves, links).prop_map(|(leaves, contents)| {
        let links = (1..).zip(contents.into_iter().map(file)).collect();
        let mut model = Model { links, ..Model::default() };
        for (path, entry) in leaves {
            model.put(&path, Some(entry));
        }
        model
    })
}

fn differences(trees: &Trees, old: &Root, new: &Root) -> Vec<Difference> {
    let mut found = Vec::new();
    trees
        .diff(old, new, &mut |difference| {
            found.push(difference);
            Ok(())
        })
        .unwrap();
    found
}

/// What is reported, with directories as `None` within.
fn summary(difference: Difference) -> (std::path::PathBuf, [Option<Option<Entry>>; 2]) {
    let side = |entry: Option<Entry>| {
        entry.map(|entry| (!matches!(entry.node, Node::Directory { .. })).then_some(entry))
    };
    (difference.path, [side(difference.old), side(difference.new)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn differences_are_those_of_the_flat_listings(old in any_model(), new in any_model()) {
        let store = store();
        let trees = &store.trees;
        let (old_flat, new_flat) = (old.flat(), new.flat());
        let paths: std::collections::BTreeSet<_> = old_flat.keys().chain(new_flat.keys()).collect();
        let expected: Vec<_> = paths
            .into_iter()
            .filter(|path| old_flat.get(*path) != new_flat.get(*path))
            .map(|path| (joined(path), [old_flat.get(path).cloned(), new_flat.get(path).cloned()]))
            .collect();
        let found: Vec<_> =
            differences(trees, &old.root(trees), &new.root(trees)).into_iter().map(summary).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn replacing_gives_the_tree_built_anew(model in any_model(), path in any_path(), present in any::<bool>()) {
        let store = store();
        let trees = &store.trees;
        let root = model.root(trees);
        for (path, entry) in model.flat() {
            let found = trees.entry_at(&root, &relative(&path)).unwrap().unwrap();
            match entry {
                Some(entry) => prop_assert_eq!(found, entry),
                None => assert!(matches!(found.node, Node::Directory { .. })),
            }
        }
        let blocked = (1..path.len()).any(|depth| model.leaves.contains_key(&path[..depth]));
        let entry = present.then(|| file(9));
        let replaced = trees.replace_at(&root, &relative(&path), entry.clone());
        if blocked {
            assert!(matches!(replaced, Err(TreesError::NotFound { .. })));
            return Ok(());
        }
        let replaced = replaced.unwrap();
        let mut model = model;
        model.put(&path, entry.clone());
        prop_assert_eq!(trees.entry_at(&replaced, &relative(&path)).unwrap(), entry);
        // A directory that became empty stays, so the leaves alone are compared.
        let leaves: Vec<_> = differences(trees, &model.root(trees), &replaced)
            .into_iter()
            .filter(|one| !matches!(summary(one.clone()).1, [None, Some(None)]))
            .collect();
        prop_assert_eq!(leaves, vec![]);
        let empty_directories = replaced.totals.nodes - model.root(trees).totals.nodes;
        prop_assert!(empty_directories < path.len() as u64);
        prop_assert_eq!(replaced.totals.bytes, model.root(trees).totals.bytes);
        prop_assert_eq!(replaced.totals.hard_links, model.root(trees).totals.hard_links);
    }

    #[test]
    fn a_graft_is_what_was_taken(onto in any_model(), source in any_model(), from in any_path()) {
        let store = store();
        let trees = &store.trees;
        let (onto_root, source_root) = (onto.root(trees), source.root(trees));
        let to: RelativePath = "zone/inner".parse().unwrap();
        let grafted = trees.graft(&onto_root, &to, &source_root, &relative(&from));
        let Some(taken) = trees.entry_at(&source_root, &relative(&from)).unwrap() else {
            assert!(matches!(grafted, Err(TreesError::NotFound { .. })));
            return Ok(());
        };
        let grafted = grafted.unwrap();
        let found = trees.entry_at(&grafted, &to).unwrap().unwrap();
        if !matches!(taken.node, Node::Directory { .. }) {
            prop_assert_eq!(found, taken);
        } else {
            let alone = |root: &Root, path: &RelativePath| {
                let entry = trees.unresolved_at(root, path).unwrap().unwrap();
                let Node::Directory { tree, totals } = entry.node else { panic!("it is a directory") };
                Root { tree, totals, ..root.clone() }
            };
            let (left, right) = (alone(&source_root, &relative(&from)), alone(&grafted, &to));
            prop_assert_eq!(differences(trees, &left, &right), vec![]);
            prop_assert_eq!(left.totals, right.totals);
        }
        // The rest of the tree is as it was, and no number is used that could be given away again.
        let without = trees.replace_at(&grafted, &"zone".parse().unwrap(), None).unwrap();
        prop_assert_eq!(differences(trees, &onto_root, &without), vec![]);
        for row in trees.list(grafted.links, 0, usize::MAX).unwrap() {
            let number = u64::from_be_bytes((*row.key.name).try_into().unwrap());
            prop_assert!(number < grafted.next_link);
        }
    }
}

#[test]
fn equal_pages_are_not_read() {
    let store = store();
    let mut model = Model::default();
    for number in 0..20_000 {
        model.leaves.insert(components(&format!("large-{number}")), file(number));
    }
    for number in 0..500 {
        model.leaves.insert(components(&format!("other/{number}")), file(number));
    }
    let old = model.root(&store.trees);
    let changed: RelativePath = "large-500".parse().unwrap();
    let new = store.trees.replace_at(&old, &changed, Some(file(1))).unwrap();
    let cold = Trees::new(store.trees.objects.clone(), 64 << 20);
    let found = differences(&cold, &old, &new);
    assert_eq!(found, [Difference { path: "large-500".into(), old: Some(file(500)), new: Some(file(1)) }]);
    assert!(cold.cache.len() <= 8, "{} pages read", cold.cache.len());
}

#[test]
fn attributes_of_a_directory_are_reported_and_its_contents_are_not_its_own() {
    let store = store();
    let trees = &store.trees;
    let mut model = Model::default();
    model.put(&components("sites/all/a.txt"), Some(file(1)));
    let old = model.root(trees);
    let path: RelativePath = "sites/all".parse().unwrap();
    let mut directory = trees.entry_at(&old, &path).unwrap().unwrap();
    directory.attributes.mode = 0o2775;
    let new = trees.replace_at(&old, &path, Some(directory)).unwrap();
    let new = trees.replace_at(&new, &"sites/all/a.txt".parse().unwrap(), Some(file(2))).unwrap();
    let found: Vec<_> = differences(trees, &old, &new).into_iter().map(|one| one.path).collect();
    assert_eq!(found, [std::path::Path::new("sites/all"), std::path::Path::new("sites/all/a.txt")]);
}

#[test]
fn links_leave_with_their_last_name() {
    let store = store();
    let trees = &store.trees;
    let mut model = Model { links: [(1, file(1)), (2, file(2))].into(), ..Model::default() };
    for (path, number) in [("a", 1), ("d/b", 1), ("d/c", 2), ("e", 2)] {
        model.put(&components(path), Some(hard_link(number)));
    }
    let root = model.root(trees);
    assert_eq!(root.totals.hard_links, 4);
    let root = trees.replace_at(&root, &"e".parse().unwrap(), None).unwrap();
    assert_eq!(trees.list(root.links, 0, 9).unwrap().len(), 2);
    let root = trees.replace_at(&root, &"d".parse().unwrap(), None).unwrap();
    assert_eq!(trees.list(root.links, 0, 9).unwrap().len(), 1);
    let root = trees.replace_at(&root, &"a".parse().unwrap(), None).unwrap();
    assert_eq!((root.tree, root.links, root.next_link), (None, None, 3));
}

#[test]
fn a_missing_link_is_an_error() {
    let store = store();
    let mut model = Model::default();
    model.put(&components("a"), Some(hard_link(7)));
    let root = model.root(&store.trees);
    let error = store.trees.entry_at(&root, &"a".parse().unwrap()).unwrap_err();
    assert!(matches!(error, TreesError::LinkMissing { number: 7 }));
}
