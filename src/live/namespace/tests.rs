use super::*;

fn directory<const N: usize>(entries: [(&str, NamespaceEntry); N]) -> BTreeMap<String, NamespaceEntry> {
    entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect()
}

fn namespace(release: &str, extra: &[&str]) -> Namespace {
    let mut entries = directory([
        ("live", NamespaceEntry::Directory(directory([("x", NamespaceEntry::Symlink(release.to_owned()))]))),
        (
            "generations",
            NamespaceEntry::Directory(directory([("1", NamespaceEntry::Volume(VolumeNumber(7)))])),
        ),
    ]);
    for name in extra {
        entries.insert((*name).to_owned(), NamespaceEntry::FileMountPoint);
    }
    Namespace { entries }
}

fn number(description: &Namespace, before: Option<&NumberedNamespace>, now: i64) -> NumberedNamespace {
    NumberedNamespace::new(description, before, Timestamp(now))
}

#[test]
fn numbers_are_the_same_after_a_restart_and_others_for_something_else() {
    let first = number(&namespace("/a", &[]), None, 1);
    let again = number(&namespace("/a", &["new"]), None, 2);
    let switched = number(&namespace("/b", &[]), None, 3);
    let live = first.lookup(NodeId::ROOT, b"live").unwrap();
    assert_eq!(again.lookup(NodeId::ROOT, b"live").unwrap(), live);
    assert_eq!(again.lookup(live, b"x").unwrap(), first.lookup(live, b"x").unwrap());
    assert_ne!(switched.lookup(live, b"x").unwrap(), first.lookup(live, b"x").unwrap());
    let volume = first.lookup(first.lookup(NodeId::ROOT, b"generations").unwrap(), b"1").unwrap();
    assert_eq!(volume, NodeId::volume_root(VolumeNumber(7)));
    assert_eq!(first.parent(volume).unwrap(), first.lookup(NodeId::ROOT, b"generations").unwrap());
    assert_eq!(first.parent(live).unwrap(), NodeId::ROOT);
    assert_eq!(first.parent(NodeId::ROOT).unwrap(), NodeId::ROOT);
    assert!(first.parent(NodeId::volume_root(VolumeNumber(8))).is_err());
    assert!(matches!(first.lookup(NodeId::ROOT, b"liv"), Err(LiveError::NotFound)));
}

#[test]
fn signs_of_life_are_one_node_that_outlives_its_directories() {
    let view = || NamespaceEntry::Directory(directory([(".sitefs", NamespaceEntry::SignOfLife)]));
    let both = number(&Namespace { entries: directory([("a", view()), ("b", view())]) }, None, 1);
    let sign = |namespace: &NumberedNamespace, name: &[u8]| {
        namespace.lookup(namespace.lookup(NodeId::ROOT, name)?, b".sitefs")
    };
    assert_eq!(sign(&both, b"a").unwrap(), NodeId::SIGN_OF_LIFE);
    let edit = NamespaceEdit { path: vec!["a".to_owned()], entry: None };
    let (one, _) = both.with(&[edit], Timestamp(2));
    assert!(sign(&one, b"a").is_err());
    assert_eq!(one.attributes(sign(&one, b"b").unwrap()).unwrap().kind, FileKind::File);
}

#[test]
fn a_switched_link_and_an_added_name_are_forgotten_and_nothing_else() {
    let first = number(&namespace("/a", &["old"]), None, 1);
    let second = number(&namespace("/b", &["new"]), Some(&first), 2);
    let live = first.lookup(NodeId::ROOT, b"live").unwrap();
    let mut invalidations = second.invalidations_from(&first);
    invalidations.sort_by_key(|invalidation| format!("{invalidation:?}"));
    let entry = |parent, name: &[u8]| Invalidation::Entry { parent, name: name.into() };
    let mut expected = vec![
        entry(live, b"x"),
        Invalidation::Node(live),
        entry(NodeId::ROOT, b"old"),
        entry(NodeId::ROOT, b"new"),
        Invalidation::Node(NodeId::ROOT),
    ];
    expected.sort_by_key(|invalidation| format!("{invalidation:?}"));
    assert_eq!(invalidations, expected);
    assert!(second.invalidations_from(&second).is_empty());
}

#[test]
fn an_edited_namespace_is_the_one_that_is_described_anew() {
    let volumes = |numbers: &[u32]| {
        let volume = |number: &u32| (number.to_string(), NamespaceEntry::Volume(VolumeNumber(*number)));
        NamespaceEntry::Directory(numbers.iter().map(volume).collect())
    };
    let link = |target: &str| NamespaceEntry::Symlink(target.to_owned());
    let states = [
        [None, None],
        [Some(link("/a")), Some(volumes(&[7]))],
        [Some(link("/b")), Some(volumes(&[7, 8]))],
        [Some(link("/b")), Some(volumes(&[9]))],
        [None, Some(volumes(&[]))],
        [Some(volumes(&[7])), Some(link("/c"))],
    ];
    let describe = |state: &[Option<NamespaceEntry>; 2]| {
        let mut entries = directory([("other", NamespaceEntry::FileMountPoint)]);
        for (name, entry) in ["live", "snapshots"].into_iter().zip(state) {
            let below = entry.iter().map(|entry| ("x".to_owned(), entry.clone())).collect();
            entries.insert(name.to_owned(), NamespaceEntry::Directory(below));
        }
        Namespace { entries }
    };
    let sorted = |mut invalidations: Vec<Invalidation>| {
        invalidations.sort_by_key(|invalidation| format!("{invalidation:?}"));
        invalidations
    };
    let names = |namespace: &NumberedNamespace| {
        let mut nodes: Vec<_> = namespace.nodes.iter().map(|(local, node)| (*local, node.changed)).collect();
        nodes.sort_unstable();
        nodes
    };
    for (from, to) in states.iter().flat_map(|from| states.iter().map(move |to| (from, to))) {
        let first = number(&describe(from), None, 1);
        let whole = number(&describe(to), Some(&first), 2);
        let edits = ["live", "snapshots"].into_iter().zip(to).map(|(name, entry)| NamespaceEdit {
            path: vec![name.to_owned(), "x".to_owned()],
            entry: entry.clone(),
        });
        let (edited, invalidations) = first.with(&edits.collect::<Vec<_>>(), Timestamp(2));
        assert_eq!(names(&edited), names(&whole), "{from:?} to {to:?}");
        assert!(edited.nodes.iter().all(|(local, node)| node.content == whole.nodes[local].content));
        assert_eq!(sorted(invalidations), sorted(whole.invalidations_from(&first)), "{from:?} to {to:?}");
    }
    let nowhere = NamespaceEdit { path: vec!["no".to_owned(), "x".to_owned()], entry: Some(link("/a")) };
    let first = number(&describe(&states[1]), None, 1);
    assert!(first.with(&[nowhere], Timestamp(2)).1.is_empty());
}

#[test]
fn times_are_kept_by_what_stays_the_same() {
    let first = number(&namespace("/a", &[]), None, 1);
    let second = number(&namespace("/b", &[]), Some(&first), 2);
    let time = |name: &[u8]| second.attributes(second.lookup(NodeId::ROOT, name).unwrap()).unwrap().modified;
    assert_eq!((time(b"generations"), time(b"live")), (Timestamp(1), Timestamp(2)));
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let numbered = number(&namespace("/a", &["p", "q", "r"]), None, 1);
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let page = numbered.list(NodeId::ROOT, cookie, 2).unwrap();
        if page.is_empty() {
            break;
        }
        for listed in page {
            let Listed::Own(entry) = listed else { panic!("the root has no volumes") };
            cookie = entry.cookie;
            names.push(entry.name);
        }
    }
    names.sort();
    assert_eq!(names.len(), 5);
    names.dedup();
    assert_eq!(names.len(), 5);
}

#[test]
fn a_text_is_read_and_another_text_is_another_file() {
    let text = |text: &str| Namespace {
        entries: directory([
            ("text", NamespaceEntry::Text(text.to_owned())),
            ("flag", NamespaceEntry::FileMountPoint),
        ]),
    };
    let first = number(&text("/platforms/one/web"), None, 1);
    let (node, flag) =
        (first.lookup(NodeId::ROOT, b"text").unwrap(), first.lookup(NodeId::ROOT, b"flag").unwrap());
    assert!(first.check_open(node).is_ok());
    let found = first.attributes(node).unwrap();
    assert_eq!((found.kind, found.size, found.mode), (FileKind::File, 18, 0o444));
    let read = |node, offset, count: usize| {
        let mut buffer = vec![0; count];
        let read = first.read(node, offset, &mut buffer).unwrap();
        String::from_utf8(buffer[..read].to_vec()).unwrap()
    };
    assert_eq!((read(node, 0, 100), read(node, 11, 3)), ("/platforms/one/web".to_owned(), "one".to_owned()));
    for (node, offset) in [(node, 18), (node, u64::MAX), (flag, 0)] {
        assert_eq!(read(node, offset, 5), "");
    }
    // The kernel keeps what it has read of a node: what is read of another text must be another node's.
    let edit = NamespaceEdit {
        path: vec!["text".to_owned()],
        entry: Some(NamespaceEntry::Text("/platforms/two/web".to_owned())),
    };
    let (second, forgotten) = first.with(&[edit], Timestamp(2));
    assert_ne!(second.lookup(NodeId::ROOT, b"text").unwrap(), node);
    let name = Invalidation::Entry { parent: NodeId::ROOT, name: b"text".as_slice().into() };
    assert!(forgotten.contains(&name), "{forgotten:?}");
}
