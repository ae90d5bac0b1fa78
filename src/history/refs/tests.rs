use super::*;
use crate::objects::{Kind, ObjectId};
use crate::trees::{Attributes, Root, Totals};

struct Store {
    _directory: tempfile::TempDir,
    objects: Objects,
    catalog: Catalog,
}

fn store() -> Store {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects");
    std::fs::create_dir(&path).unwrap();
    Objects::create(&path).unwrap();
    let objects = Objects::open(&path).unwrap();
    let catalog = Catalog::open(&directory.path().join("catalog.redb")).unwrap();
    Store { _directory: directory, objects, catalog }
}

fn site(name: &str) -> SiteName {
    name.parse().unwrap()
}

fn tag(name: &str) -> TagName {
    name.parse().unwrap()
}

fn snapshot(site_name: &str, created: i64, message: &str) -> Snapshot {
    Snapshot {
        site: site(site_name),
        created: Timestamp(created),
        author: "root".to_owned(),
        message: message.to_owned(),
        parent: None,
        root: Root {
            attributes: Attributes::default(),
            tree: None,
            totals: Totals::default(),
            links: None,
            next_link: 1,
        },
        data: vec!["files".parse().unwrap()],
        database: None,
        platform: None,
        generation: Some(3),
        added_bytes: 17,
    }
}

impl Store {
    fn refs(&self) -> Refs<'_> {
        Refs::new(&self.catalog)
    }

    fn register(&self, snapshot: &Snapshot) -> SnapshotRecord {
        self.refs().register(&self.objects, snapshot, None).unwrap()
    }
}

#[test]
fn a_registered_snapshot_is_listed_and_loaded() {
    let store = store();
    let refs = store.refs();
    assert_eq!(refs.newest(&site("a")).unwrap(), None);
    assert_eq!(refs.stored_bytes_at_last_snapshot().unwrap(), 0);
    let records = [20, 10, 30].map(|created| store.register(&snapshot("a", created, "nightly")));
    let other = store.register(&snapshot("a.b", 40, "another site"));
    assert_eq!(
        records.iter().chain([&other]).map(|record| record.volume).collect::<Vec<_>>(),
        [1, 2, 3, 4],
        "each has a volume of its own"
    );
    let newest_first = [2, 0, 1].map(|place| records[place].clone());
    assert_eq!(refs.list(&site("a")).unwrap(), newest_first);
    assert_eq!(refs.newest(&site("a.b")).unwrap(), Some(other));
    assert_eq!(Snapshot::load(&store.objects, records[1].id).unwrap(), snapshot("a", 10, "nightly"));
    assert_eq!(refs.stored_bytes_at_last_snapshot().unwrap(), store.objects.usage().stored_bytes);
    assert_eq!(
        store.register(&snapshot("a", 10, "nightly")),
        records[1],
        "registering again changes nothing"
    );
    assert_eq!(refs.list(&site("a")).unwrap().len(), 3);
}

#[test]
fn names_lead_to_snapshots() {
    let store = store();
    let refs = store.refs();
    let records = [10, 20, 30].map(|created| store.register(&snapshot("a", created, "")));
    store.register(&snapshot("b", 40, ""));
    for record in &records {
        for name in [record.id.to_string(), record.id.short(), record.id.short().to_uppercase()] {
            assert_eq!(refs.resolve(&site("a"), &name).unwrap(), record.id);
        }
        let error = refs.resolve(&site("b"), &record.id.short()).unwrap_err();
        assert!(matches!(error, HistoryError::Unknown { .. }), "{error}");
    }
    assert_eq!(refs.resolve(&site("a"), "latest").unwrap(), records[2].id);
    for name in ["", "abc", "gibberish", "zzzz", &"f".repeat(65)] {
        let error = refs.resolve(&site("a"), name).unwrap_err();
        assert!(matches!(error, HistoryError::Unknown { .. }), "{name}: {error}");
    }
    for (time, expected) in [(10, 0), (19, 0), (20, 1), (i64::MAX, 2)] {
        assert_eq!(refs.at(&site("a"), Timestamp(time)).unwrap(), records[expected].id);
    }
    assert!(matches!(refs.at(&site("a"), Timestamp(9)), Err(HistoryError::NoneThen { .. })));
}

#[test]
fn an_ambiguous_beginning_names_the_candidates() {
    let store = store();
    // Names are hashes: among these some pair shares its first four digits (chance of none: one in 10^13).
    let records: Vec<SnapshotRecord> = (0..2000_i64)
        .map(|created| SnapshotRecord {
            site: site("a"),
            id: SnapshotId(ObjectId::of(Kind::Snapshot, &created.to_le_bytes())),
            created: Timestamp(created),
            author: String::new(),
            message: String::new(),
            volume: 1,
        })
        .collect();
    store
        .catalog
        .write::<_, HistoryError>(|transaction| {
            for record in &records {
                transaction.put(&key(&record.site, record.id), record)?;
            }
            Ok(())
        })
        .unwrap();
    let beginning = |record: &SnapshotRecord| record.id.to_string()[..4].to_owned();
    let mut beginnings: Vec<String> = records.iter().map(beginning).collect();
    beginnings.sort_unstable();
    let shared = beginnings.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].clone();
    let expected = records.iter().filter(|record| beginning(record) == shared).count();
    match store.refs().resolve(&site("a"), &shared) {
        Err(error @ HistoryError::Ambiguous { .. }) => {
            let message = error.to_string();
            let named = records.iter().filter(|record| message.contains(&record.id.short())).count();
            assert_eq!(named, expected, "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tags_never_move() {
    let store = store();
    let refs = store.refs();
    let [one, two] = [10, 20].map(|created| store.register(&snapshot("a", created, "")));
    refs.tag(&site("a"), &tag("v1"), one.id).unwrap();
    refs.tag(&site("a"), &tag("v1"), one.id).unwrap();
    let error = refs.tag(&site("a"), &tag("v1"), two.id).unwrap_err();
    assert!(matches!(error, HistoryError::TagExists { id, .. } if id == one.id), "{error}");
    assert_eq!(refs.resolve(&site("a"), "v1").unwrap(), one.id);
    assert!(refs.resolve(&site("b"), "v1").is_err());

    let taken = refs.register(&store.objects, &snapshot("a", 30, ""), Some(&tag("v1")));
    assert!(matches!(taken, Err(HistoryError::TagExists { .. })));
    assert_eq!(refs.list(&site("a")).unwrap().len(), 2, "nothing of the transaction remains");
    for reserved in ["live", "latest"] {
        assert!(matches!(
            refs.tag(&site("a"), &tag(reserved), one.id),
            Err(HistoryError::TagReserved { .. })
        ));
    }
    let unknown = refs.tag(&site("b"), &tag("v1"), one.id);
    assert!(matches!(unknown, Err(HistoryError::Unknown { .. })));

    let three = refs.register(&store.objects, &snapshot("a", 30, ""), Some(&tag("v3"))).unwrap();
    assert_eq!(refs.tags_of(&site("a"), three.id).unwrap(), [tag("v3")]);
    assert_eq!(refs.tags(&site("a")).unwrap(), [(tag("v1"), one.id), (tag("v3"), three.id)]);
    assert!(refs.remove_tag(&site("a"), &tag("v1")).unwrap());
    assert!(!refs.remove_tag(&site("a"), &tag("v1")).unwrap());
    refs.tag(&site("a"), &tag("v1"), two.id).unwrap();
}
