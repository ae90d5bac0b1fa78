//! A flush that fails. A device whose flush is an error stands for the one that has failed.

use super::*;
use crate::objects::media::Directory;

const CONTENT: &[u8] = &[7; 3 * PIECE_BYTES / 2];

/// Files with one that is not durable, whose next flush fails.
fn failing() -> (tempfile::TempDir, Plain, Index, ObjectId) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plain");
    Plain::create(&path).unwrap();
    let index = Index::open(&directory.path().join("index.redb"), Arc::new(Directory::new(directory.path())))
        .unwrap();
    let plain = Plain::open(&path, &index).unwrap();
    let (id, _) = plain.put(&mut &CONTENT[..], &index, &|_| ()).unwrap();
    let device = File::open("/dev/null").unwrap();
    device.sync_all().unwrap_err();
    plain.state.lock().waiting.get_mut(&id).unwrap().file = Arc::new(device);
    (directory, plain, index, id)
}

#[test]
fn what_a_failed_flush_may_have_lost_is_written_anew() {
    let (_directory, plain, index, id) = failing();
    plain.flush().unwrap();
    let (file, path) = plain.open_file(id).unwrap().unwrap();
    assert_eq!(hash(&file, &path).unwrap(), (id, CONTENT.len() as u64));
    assert!(plain.state.lock().waiting.is_empty());
    assert!(files::list(&plain.directory.join("new")).unwrap().is_empty());
    plain.put(&mut &b"more"[..], &index, &|_| ()).unwrap();
    plain.flush().unwrap();
    assert_eq!(plain.totals().objects, 2);
}

#[test]
fn what_a_failed_flush_has_lost_is_told_and_nothing_more_is_taken() {
    let (_directory, plain, index, id) = failing();
    let path = plain.state.lock().waiting[&id].path.clone();
    std::fs::write(&path, &CONTENT[1..]).unwrap();
    assert!(matches!(plain.flush(), Err(ObjectsError::Failed { .. })));
    assert!(matches!(plain.put(&mut &b"more"[..], &index, &|_| ()), Err(ObjectsError::Failed { .. })));
    assert!(!plain.contains(id).unwrap());
}
