//! An index that goes bad under an open store is made anew from the packs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::super::index::{damage_mark, new_name};
use super::super::media;
use super::super::packs::{Found, Sizes};
use super::*;

const PAGE: usize = 4096;

/// A store with many small packs, an index of many pages, and a plain file.
struct Place {
    directory: tempfile::TempDir,
    objects: Vec<(ObjectId, Vec<u8>)>,
    plain: FileContent,
}

impl Place {
    fn new() -> Place {
        let directory = directory();
        Objects::create(directory.path()).unwrap();
        let mut place = Place { directory, objects: Vec::new(), plain: FileContent::Empty };
        let store = place.open();
        for number in 0..600_u64 {
            let content = text(number, 100);
            place.objects.push((store.put(Kind::TreePage, &content).unwrap(), content));
        }
        place.plain = store.put_file(&mut &noise(1, 1 << 20)[..], 0).unwrap();
        place
    }

    /// With packs and batches that are small enough for some of each.
    fn open(&self) -> Objects {
        let sizes = Sizes { pack_bytes: 16 << 10, batch_objects: 64, ..Sizes::default() };
        let media = media::Directory::new(&self.directory.path().join("packs"));
        Objects::open_on(self.directory.path(), std::sync::Arc::new(media), sizes).unwrap()
    }

    fn index(&self) -> PathBuf {
        self.directory.path().join("index.redb")
    }

    /// The packs and the index of the closed store.
    fn state(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let packs = std::fs::read_dir(self.directory.path().join("packs")).unwrap();
        let paths = packs.map(|entry| entry.unwrap().path()).chain([self.index()]);
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// Makes the closed store what it was.
    fn restore(&self, state: &[(PathBuf, Vec<u8>)]) {
        self.state().iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
        state.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    }

    /// The pages of the index that hold something.
    fn pages(&self) -> Vec<usize> {
        let bytes = std::fs::read(self.index()).unwrap();
        let pages = bytes.chunks(PAGE).enumerate();
        pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)).map(|(number, _)| number).collect()
    }

    /// The pages of the index that hold these bytes, or held them before.
    fn pages_with(&self, bytes: &[u8]) -> Vec<usize> {
        let index = std::fs::read(self.index()).unwrap();
        let pages = index.chunks(PAGE).enumerate();
        let found = pages.filter(|(_, page)| page.windows(bytes.len()).any(|part| part == bytes));
        found.map(|(number, _)| number).collect()
    }

    /// Changes bytes of the index in place, as a disk does: whoever has it open goes on with the same file.
    fn damage(&self, offset: usize, change: impl FnOnce(&mut [u8])) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(self.index()).unwrap();
        let mut page = [0; PAGE];
        file.read_exact_at(&mut page, offset as u64).unwrap();
        change(&mut page);
        file.write_all_at(&page, offset as u64).unwrap();
    }

    /// Has each entry of some objects lead elsewhere. No page looks damaged to who only reads it.
    fn mislead(&self, objects: &[(ObjectId, Vec<u8>)]) {
        let mut bytes = std::fs::read(self.index()).unwrap();
        let names: BTreeSet<&[u8]> = objects.iter().map(|(id, _)| &id.as_bytes()[..]).collect();
        for at in 0..bytes.len() - 32 {
            // Copies of the page from before are changed too.
            if names.contains(&bytes[at..at + 32]) {
                bytes[at + 31] ^= 1;
            }
        }
        for (number, page) in bytes.chunks(PAGE).enumerate() {
            self.damage(number * PAGE, |old| old.copy_from_slice(page));
        }
    }

    fn assert_all_there(&self, store: &Objects, context: &str) {
        for (id, content) in &self.objects {
            let found = store.get(Kind::TreePage, *id).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(found[..], content[..], "{context}");
        }
        assert!(read_all(store, &self.plain) == noise(1, 1 << 20), "{context}");
    }
}

fn damages(store: &Objects) -> Vec<Damage> {
    store.verify(&mut |_| ()).unwrap().damages
}

#[test]
fn a_damaged_page_of_the_index_is_noticed_by_nobody_but_the_log() {
    let place = Place::new();
    let usage = place.open().usage();
    let state = place.state();
    let of_object = |number: usize| place.pages_with(place.objects[number].0.as_bytes());
    for pages in [of_object(7), of_object(300), of_object(599)] {
        let context = format!("pages {pages:?}");
        // Where the entries begin in the page: nothing that the engine looks at when it opens the file.
        pages.iter().for_each(|page| place.damage(page * PAGE, |page| page[4..24].fill(0xff)));
        let store = place.open();
        assert_eq!(store.packs.index.renewals(), 0, "{context}");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| place.assert_all_there(&store, &context));
            // More than a batch, so it goes to the index at once.
            for number in 1000..1100 {
                store.put(Kind::TreePage, &text(number, 100)).unwrap();
            }
            store.flush().unwrap();
            reader.join().unwrap();
        });
        place.assert_all_there(&store, &context);
        assert!(store.packs.index.renewals() > 0, "{context}");
        assert_eq!(damages(&store), [], "{context}");
        assert_eq!(store.usage().objects, usage.objects + 100, "{context}");
        drop(store);
        assert!(!damage_mark(&place.index()).exists() && !new_name(&place.index()).exists(), "{context}");
        place.assert_all_there(&place.open(), &context);
        place.restore(&state);
    }
}

#[test]
fn verify_finds_what_no_reader_can_see_and_mends_it() {
    let place = Place::new();
    let store = place.open();
    let mut found = 0;
    for round in 0..16 {
        let bit = noise(round, 4);
        let pages = place.pages();
        let page = pages[usize::from(bit[2]) % pages.len()];
        // The engine rewrites its first page, where it has state of its own, when the file is closed.
        let at = if page == 0 { 64 } else { usize::from(bit[0]) * 16 };
        place.damage(page * PAGE, |page| page[at] ^= 1 << (bit[1] % 8));
        let before = store.packs.index.renewals();
        let damages = damages(&store);
        assert!(
            damages.iter().all(|damage| matches!(damage, Damage::Index { .. })),
            "bit {} of byte {at} in page {page}: {damages:?}",
            bit[1] % 8
        );
        assert_eq!(store.packs.index.renewals() - before, damages.len() as u64);
        found += damages.len();
        place.assert_all_there(&store, &format!("page {page}"));
        assert_eq!(store.verify(&mut |_| ()).unwrap().damages_count, 0);
    }
    assert!(found > 0);
    drop(store);
    place.assert_all_there(&place.open(), "opened again");
}

#[test]
fn a_collection_takes_nothing_away_because_the_index_is_wrong() {
    let place = Place::new();
    let store = place.open();
    let (kept, garbage) = place.objects.split_at(300);
    place.mislead(kept);
    let collection = store.prepare_collection().unwrap();
    assert_eq!(store.packs.index.renewals(), 1);
    collection.begin(Duration::from_secs(1), || ()).unwrap();
    kept.iter().for_each(|(id, _)| assert!(collection.reach(*id)));
    let FileContent::Plain { id, .. } = place.plain else { panic!("noise is kept plain") };
    collection.reach(id);
    let swept = collection.sweep(&mut |_| ()).unwrap();
    assert_eq!(swept.removed.objects, garbage.len() as u64);
    collection.compact(&swept, &mut |_| ()).unwrap();
    drop(collection);
    let left = Place { objects: kept.to_vec(), ..place };
    left.assert_all_there(&store, "after the collection");
    assert_eq!(damages(&store), []);
    assert!(!store.contains(garbage[0].0).unwrap());
}

#[test]
fn a_pack_whose_reclaimed_records_came_back_stays_until_they_are_copied() {
    let place = Place::new();
    let store = place.open();
    let (id, content) = &place.objects[0];
    let Found::Indexed(location) = store.packs.find(*id).unwrap() else { panic!("it is in the index") };
    // Reclaimed, and its pack about to be removed.
    store.packs.forget(&[(*id, location)]).unwrap();
    let seen = store.packs.index.renewals();
    store.empty_pack(location.pack).unwrap().unwrap();
    place.mislead(&place.objects[100..101]);
    assert!(store.packs.index.mend().unwrap().is_some());
    assert!(!store.packs.remove_pack(location.pack, seen).unwrap());
    // Who stores it now finds it: it must not go.
    assert_eq!(store.put(Kind::TreePage, content).unwrap(), *id);
    let seen = store.packs.index.renewals();
    store.empty_pack(location.pack).unwrap().unwrap();
    assert!(store.packs.remove_pack(location.pack, seen).unwrap());
    place.assert_all_there(&store, "after the removal");
    assert!(!store.packs.index.packs().iter().any(|(pack, _)| *pack == location.pack));
}

#[test]
fn an_index_that_cannot_be_made_anew_is_an_error_with_a_way_out_until_it_can() {
    let place = Place::new();
    let pages = place.pages();
    // Nothing can be made where a directory is.
    let obstacle = new_name(&place.index());
    let store = place.open();
    std::fs::create_dir(&obstacle).unwrap();
    for page in &pages[1..] {
        place.damage(page * PAGE, |page| page.fill(0x55));
    }
    let error = store.verify(&mut |_| ()).unwrap_err();
    assert!(matches!(error, ObjectsError::IndexDamaged { .. }), "{error}");
    let told = store.get(Kind::TreePage, place.objects[0].0).unwrap_err();
    assert!(told.to_string().contains("verify --repair"), "{told}");
    assert!(store.index_problem().is_some());
    assert!(damage_mark(&place.index()).exists());
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(damages(&store).len(), 1);
    assert!(store.index_problem().is_none() && !damage_mark(&place.index()).exists());
    place.assert_all_there(&store, "when it can be made");
}

#[test]
fn a_renewal_that_stops_anywhere_leaves_the_mark_or_a_good_index() {
    let place = Place::new();
    let good = std::fs::read(place.index()).unwrap();
    let mut bad = good.clone();
    bad[PAGE..].fill(0x55);
    let half = good[..good.len() / 2].to_vec();
    // The mark; the index; the new one.
    let stops = [
        (true, &bad, None),
        (true, &bad, Some(&half)),
        (true, &bad, Some(&good)),
        (true, &good, None),
        (false, &good, None),
    ];
    for (number, (mark, index, new)) in stops.into_iter().enumerate() {
        std::fs::write(place.index(), index).unwrap();
        if mark {
            std::fs::write(damage_mark(&place.index()), "").unwrap();
        }
        if let Some(new) = new {
            std::fs::write(new_name(&place.index()), new).unwrap();
        }
        let store = place.open();
        place.assert_all_there(&store, &format!("stop {number}"));
        assert_eq!(damages(&store), [], "stop {number}");
        drop(store);
        assert!(!damage_mark(&place.index()).exists() && !new_name(&place.index()).exists());
    }
}
