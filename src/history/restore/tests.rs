//! Catalogs that lose their file, their copy, or bits of either.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::restore;
use crate::base::files;
use crate::history::{Catalog, CatalogError, Record};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note(String);

impl Record for Note {
    const TABLE: &'static str = "notes";
    const VERSION: u8 = 1;
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self) -> Result<Catalog, CatalogError> {
        Catalog::open_kept(&self.path("catalog.redb"), &self.path("catalog.copy"))
    }

    /// Makes a new catalog of what is left and puts it in place; whether that could be.
    fn restore(&self) -> Option<super::Restored> {
        let (path, new) = (self.path("catalog.redb"), self.path("new"));
        let restored = restore(&path, &self.path("catalog.copy"), &new, false).unwrap()?;
        files::rename(&new, &path).unwrap();
        Some(restored)
    }

    /// A catalog with twenty notes, one of them changed and one removed.
    fn with_notes() -> Place {
        let place = Place::new();
        let catalog = place.open().unwrap();
        for number in 0..20 {
            put(&catalog, number, "first");
        }
        put(&catalog, 3, "second");
        catalog.write::<_, CatalogError>(|tx| tx.remove::<Note>(&key(4))).unwrap();
        drop(catalog);
        place
    }
}

fn key(number: u64) -> String {
    format!("note/{number:02}")
}

fn text(number: u64, text: &str) -> String {
    format!("{text} text of note {number:02}")
}

fn put(catalog: &Catalog, number: u64, what: &str) {
    catalog
        .write::<_, CatalogError>(|tx| {
            tx.next_number("counter")?;
            tx.put(&key(number), &Note(text(number, what)))
        })
        .unwrap();
}

fn notes(catalog: &Catalog) -> Vec<(String, Note)> {
    catalog.list::<Note>("").unwrap()
}

fn expected() -> Vec<(String, Note)> {
    let all = (0..20).filter(|number| *number != 4);
    all.map(|number| (key(number), Note(text(number, if number == 3 { "second" } else { "first" }))))
        .collect()
}

/// Flips a bit of what is in the file at the last place that reads so.
fn flip(path: &Path, what: &str) {
    let mut bytes = files::read(path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - what.len()).filter(|at| bytes[*at..].starts_with(what.as_bytes())).collect();
    for at in places {
        bytes[at] ^= 1;
    }
    files::write_atomically(path, &bytes).unwrap();
}

#[test]
fn a_catalog_that_is_gone_is_as_its_copy() {
    let place = Place::with_notes();
    files::remove_file(&place.path("catalog.redb")).unwrap();
    let restored = place.restore().unwrap();
    assert!(!restored.is_partial && !restored.may_lack_newest);
    let catalog = place.open().unwrap();
    assert_eq!(notes(&catalog), expected());
    // As after a kill: the end of the copy is not that of the catalog.
    let copy = files::read(&place.path("catalog.copy")).unwrap();
    drop(catalog);
    files::write_atomically(&place.path("catalog.copy"), &copy).unwrap();
    files::remove_file(&place.path("catalog.redb")).unwrap();
    assert!(place.restore().unwrap().may_lack_newest);
    let catalog = place.open().unwrap();
    assert_eq!(notes(&catalog), expected());
    // Numbers that may have been given out since are not given out again.
    let next = catalog.write::<_, CatalogError>(|tx| tx.next_number("counter")).unwrap();
    assert!(next > 22 + 999, "{next}");
    assert!(catalog.is_copy_sound().unwrap());
}

#[test]
fn a_catalog_that_has_lost_what_was_committed_is_told_from_its_copy() {
    let place = Place::with_notes();
    let catalog = Catalog::open(&place.path("other")).unwrap();
    drop(catalog);
    files::rename(&place.path("other"), &place.path("catalog.redb")).unwrap();
    let error = place.open().err().unwrap();
    assert!(error.is_damaged() && matches!(error, CatalogError::Behind { .. }), "{error}");
    place.restore().unwrap();
    assert_eq!(notes(&place.open().unwrap()), expected());
}

#[test]
fn a_flipped_bit_in_a_page_is_put_right_from_the_copy() {
    let place = Place::with_notes();
    flip(&place.path("catalog.redb"), &text(7, "first"));
    assert!(place.open().err().unwrap().is_damaged());
    let restored = place.restore().unwrap();
    // The number of the newest transaction could be read, and the copy has it.
    assert!(!restored.may_lack_newest && !restored.is_partial);
    let catalog = place.open().unwrap();
    assert_eq!(notes(&catalog), expected());
    assert_eq!(catalog.damaged().unwrap(), []);
}

#[test]
fn without_a_copy_one_damaged_record_is_named_and_the_others_are_there() {
    let place = Place::with_notes();
    flip(&place.path("catalog.redb"), &text(7, "first"));
    files::remove_file(&place.path("catalog.copy")).unwrap();
    assert!(place.open().err().unwrap().is_damaged());
    assert!(!place.restore().unwrap().is_partial);
    let catalog = place.open().unwrap();
    let mut others = expected();
    others.retain(|(name, _)| *name != key(7));
    assert_eq!(notes(&catalog), others);
    let damaged = catalog.damaged().unwrap();
    assert_eq!(damaged.len(), 1);
    assert_eq!((damaged[0].table.as_str(), damaged[0].key.as_str()), ("notes", "note/07"));
    // It is named again after a restart, and no more once it is forgotten.
    drop(catalog);
    let catalog = place.open().unwrap();
    assert_eq!(catalog.damaged().unwrap(), damaged);
    assert!(catalog.write::<_, CatalogError>(|tx| tx.forget_damaged(&damaged[0])).unwrap());
    assert_eq!(catalog.damaged().unwrap(), []);
}

#[test]
fn a_record_that_is_damaged_in_both_files_is_named() {
    let place = Place::with_notes();
    flip(&place.path("catalog.redb"), &text(7, "first"));
    flip(&place.path("catalog.copy"), &text(7, "first"));
    assert!(place.open().err().unwrap().is_damaged());
    place.restore().unwrap();
    let catalog = place.open().unwrap();
    assert_eq!(notes(&catalog).len(), expected().len() - 1);
    assert_eq!(catalog.damaged().unwrap()[0].key, "note/07");
    // And one that is damaged in the catalog alone is in the copy, which was written anew.
    assert!(catalog.is_copy_sound().unwrap());
}

#[test]
fn no_flipped_bit_of_the_copy_is_believed_and_each_is_put_right() {
    let place = Place::with_notes();
    let sound = files::read(&place.path("catalog.copy")).unwrap();
    let catalog = files::read(&place.path("catalog.redb")).unwrap();
    let mut refused = 0;
    for at in (0..sound.len()).step_by(29) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        files::write_atomically(&place.path("catalog.copy"), &bytes).unwrap();
        // Alone, it gives a state that was, or nothing.
        let (gone, new) = (place.path("gone"), place.path("new"));
        files::remove_file(&new).unwrap();
        match restore(&gone, &place.path("catalog.copy"), &new, false).unwrap() {
            None => refused += 1,
            Some(restored) => {
                assert!(!restored.is_partial);
                for (name, note) in notes(&Catalog::open(&new).unwrap()) {
                    let number: u64 = name[5..].parse().unwrap();
                    let is_known = ["first", "second"].iter().any(|what| note.0 == text(number, what));
                    assert!(is_known, "{name}: {note:?}");
                }
            }
        }
        // Beside its catalog, it is written anew.
        files::write_atomically(&place.path("catalog.redb"), &catalog).unwrap();
        let opened = place.open().unwrap();
        assert_eq!(notes(&opened), expected());
        assert!(opened.is_copy_sound().unwrap());
    }
    assert!(refused > 0);
}

#[test]
fn a_copy_that_ends_anywhere_is_a_state_that_was() {
    let place = Place::with_notes();
    let sound = files::read(&place.path("catalog.copy")).unwrap();
    files::remove_file(&place.path("catalog.redb")).unwrap();
    let mut counts = Vec::new();
    for length in (0..=sound.len()).step_by(37).chain([sound.len()]) {
        files::write_atomically(&place.path("catalog.copy"), &sound[..length]).unwrap();
        let new = place.path("new");
        files::remove_file(&new).unwrap();
        let restored =
            restore(&place.path("catalog.redb"), &place.path("catalog.copy"), &new, false).unwrap();
        counts.push(restored.map_or(0, |_| notes(&Catalog::open(&new).unwrap()).len()));
    }
    // Twenty were added one by one, and then one was removed.
    assert_eq!(*counts.last().unwrap(), 19);
    assert!(counts[..counts.len() - 3].is_sorted(), "{counts:?}");
}

#[test]
fn the_copy_does_not_grow_for_ever_and_is_kept_through_it() {
    let place = Place::new();
    let catalog = place.open().unwrap();
    let long = "long ".repeat(20_000);
    for round in 0..60 {
        catalog.write::<_, CatalogError>(|tx| tx.put("note", &Note(format!("{round} {long}")))).unwrap();
    }
    drop(catalog);
    let length = files::metadata(&place.path("catalog.copy")).unwrap().unwrap().len();
    assert!(length < 3_000_000, "{length}");
    files::remove_file(&place.path("catalog.redb")).unwrap();
    place.restore().unwrap();
    let catalog = place.open().unwrap();
    assert!(catalog.get::<Note>("note").unwrap().unwrap().0.starts_with("59 "));
}
