use super::*;

#[test]
fn a_dropped_transaction_changes_nothing_and_a_prefix_is_a_range() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tables");
    {
        let tables = Tables::open(&path, 1 << 20).unwrap();
        let mut writer = tables.write().unwrap();
        let rows: [&[u8]; 5] = [b"a", b"b", b"b\xff", b"b\xff\xff", b"c"];
        writer.put_many("t", rows.map(|key| (key, b"1"))).unwrap();
        writer.commit().unwrap();
        let mut dropped = tables.write().unwrap();
        dropped.put("t", b"z", b"2").unwrap();
    }
    let tables = Tables::open(&path, 1 << 20).unwrap();
    let reader = tables.read().unwrap();
    assert_eq!(reader.get("t", b"z").unwrap(), None);
    assert_eq!(reader.get("missing", b"z").unwrap(), None);
    for (prefix, expected) in [(&b"b"[..], 3), (b"b\xff", 2), (b"", 5), (b"\xff", 0)] {
        let mut count = 0;
        reader
            .scan("t", Prefix::new(prefix), |_, _| {
                count += 1;
                true
            })
            .unwrap();
        assert_eq!(count, expected, "{prefix:?}");
    }
    let mut writer = tables.write().unwrap();
    writer.remove_range("t", Prefix::new(b"b")).unwrap();
    assert!(writer.remove("t", b"a").unwrap());
    writer.commit().unwrap();
    let mut rest = Vec::new();
    tables
        .read()
        .unwrap()
        .scan("t", .., |key, _| {
            rest.push(key.to_vec());
            true
        })
        .unwrap();
    assert_eq!(rest, [b"c".to_vec()]);
}

#[test]
fn a_full_disk_refuses_changes_and_nothing_else() {
    let Some(disk) = crate::base::testing::SmallDisk::mount(8 << 20) else { return };
    let tables = Tables::open(&disk.path().join("tables"), 1 << 20).unwrap();
    let put = |key: u32, length: usize| {
        let mut writer = tables.write()?;
        writer.put("t", &key.to_be_bytes(), &vec![7; length])?;
        writer.commit()
    };
    let filler = disk.path().join("filler");
    for round in 1..4 {
        put(round, 100).unwrap();
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        let error = put(100 + round, 3_000_000).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert!(put(100 + round, 3_000_000).is_err());
        let reader = tables.read().unwrap();
        assert_eq!(reader.get("t", &round.to_be_bytes()).unwrap(), Some(vec![7; 100]));
        assert_eq!(reader.get("t", &(100 + round).to_be_bytes()).unwrap(), None);
        std::fs::remove_file(&filler).unwrap();
    }
    put(100, 1_000_000).unwrap();
}

#[test]
fn damaged_pages_are_errors() {
    // In memory where there is such a place: hundreds of files are written and flushed.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
    let path = directory.path().join("tables");
    let key = |number: u32| number.to_be_bytes();
    {
        let tables = Tables::open(&path, 1 << 20).unwrap();
        for round in 0..4 {
            let mut writer = tables.write().unwrap();
            let rows = (0..60_u32).map(|number| (key(number * 4 + round), vec![7; 60]));
            writer.put_many("t", rows).unwrap();
            writer.commit().unwrap();
        }
    }
    let whole = std::fs::read(&path).unwrap();
    let (mut errors, mut pages) = (0, 0);
    for page in whole.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
        for garbage in [0x55, 0xff] {
            let mut bytes = whole.clone();
            bytes[page.0 * 4096..][..4096].fill(garbage);
            std::fs::write(&path, bytes).unwrap();
            let used = || {
                let tables = Tables::open(&path, 1 << 20)?;
                let mut count = 0;
                let read = tables.read()?.scan("t", .., |_, _| {
                    count += 1;
                    true
                });
                let changed = tables.write().and_then(|mut writer| {
                    writer.get("t", &key(5))?;
                    writer.remove_range("t", Prefix::new(&[0, 0, 1]))?;
                    writer.put("t", &key(77), &[1; 3000])?;
                    writer.commit()
                });
                read.and(changed)
            };
            pages += 1;
            if let Err(error) = used() {
                assert!(error.is_damaged(), "{error}");
                errors += 1;
            }
        }
    }
    assert!(errors > pages / 4, "{errors} of {pages} are errors");
}

#[test]
#[should_panic(expected = "mine")]
fn a_panic_of_the_caller_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let tables = Tables::open(&directory.path().join("tables"), 1 << 20).unwrap();
    let mut writer = tables.write().unwrap();
    writer.put("t", b"key", b"value").unwrap();
    let _ = writer.scan("t", .., |_, _| panic!("mine"));
}

#[test]
fn a_file_that_vanished_is_not_replaced_by_an_empty_one() {
    let Some(disk) = crate::base::testing::SmallDisk::mount(8 << 20) else { return };
    let path = disk.path().join("tables");
    let tables = Tables::open(&path, 1 << 20).unwrap();
    let put = |length: usize| {
        let mut writer = tables.write()?;
        writer.put("t", b"key", &vec![7; length])?;
        writer.commit()
    };
    put(100).unwrap();
    assert!(put(20_000_000).is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(put(100).is_err());
    assert!(tables.read().is_err());
    assert!(!path.exists());
}

#[test]
fn after_a_crash_a_checked_file_is_as_its_newest_whole_commit_left_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tables");
    let tables = Tables::open_checked(&path, 1 << 20).unwrap();
    let commit = |key: &[u8]| {
        let mut writer = tables.write().unwrap();
        writer.put("t", key, b"1").unwrap();
        writer.commit().unwrap();
        std::fs::read(&path).unwrap()
    };
    let first = commit(b"a");
    let second = commit(b"b");
    // One flush covers the pages of a commit and the header that refers to them: the power may spare the header alone.
    let header = 4096;
    let torn = [&second[..header], &first[header..]].concat();
    assert!(torn != first && torn != second);
    for (name, bytes, expected) in [("whole", &second, true), ("torn", &torn, false)] {
        let copy = directory.path().join(name);
        std::fs::write(&copy, bytes).unwrap();
        let reopened = Tables::open_checked(&copy, 1 << 20).unwrap();
        let reader = reopened.read().unwrap();
        assert_eq!(reader.get("t", b"a").unwrap(), Some(b"1".to_vec()), "{name}");
        assert_eq!(reader.get("t", b"b").unwrap().is_some(), expected, "{name}");
    }
}

#[test]
fn a_check_beside_readers_finds_what_a_check_finds_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tables.redb");
    let tables = Tables::open(&path, 1 << 20).unwrap();
    for round in 0..5_u64 {
        let mut writer = tables.write().unwrap();
        for number in 0..2000_u64 {
            writer.put("numbers", &number.to_be_bytes(), &(number + round).to_be_bytes()).unwrap();
        }
        writer.commit().unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    let reader = tables.read().unwrap();
    tables.check_beside_readers().unwrap();
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(reader.get("numbers", &7_u64.to_be_bytes()).unwrap(), Some(11_u64.to_be_bytes().to_vec()));
    drop(reader);
    let (mut found, mut both) = (0, 0);
    for page in 1..before.len() / 4096 {
        let mut bytes = before.clone();
        bytes[page * 4096 + 100] ^= 8;
        std::fs::write(&path, &bytes).unwrap();
        let beside = tables.check_beside_readers();
        assert!(std::fs::read(&path).unwrap() == bytes);
        drop(tables.read());
        let alone = tables.check();
        found += usize::from(alone.is_err());
        both += usize::from(beside.is_err() && alone.is_err());
        std::fs::write(&path, &before).unwrap();
        drop(tables.read());
    }
    assert!(found > 0 && both == found, "{found} found, {both} beside readers");
}

/// The engine ends a program when it closes some of these by itself.
#[test]
fn a_file_that_is_given_up_is_closed_whatever_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tables");
    let tables = Tables::open(&path, 1 << 20).unwrap();
    for round in 0..40_u32 {
        let mut writer = tables.write().unwrap();
        writer.put("t", &(round % 7).to_be_bytes(), &[7; 300]).unwrap();
        writer.commit().unwrap();
    }
    drop(tables);
    let sound = std::fs::read(&path).unwrap();
    let mut opened = 0;
    for page in (4096..sound.len()).step_by(4096) {
        for at in page + 40..page + 64 {
            let mut flipped = sound.clone();
            flipped[at] ^= 0x80;
            std::fs::write(&path, flipped).unwrap();
            if let Ok(tables) = Tables::open(&path, 1 << 20) {
                tables.give_up();
                opened += 1;
            }
        }
    }
    assert!(opened > 100, "{opened}");
}
