//! Collections beside writers: generated interleavings, crashes at any point of them, and threads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::super::collection::Referring;
use super::crash::{Rig, check_has, check_sound, object};
use super::disk::{Faults, Numbers};
use super::*;

/// How many different objects there are.
const OBJECTS: u64 = 120;

/// A command under way: what it has put or taken out of a record, for the record it is going to write.
struct Command<'a> {
    _referring: Referring<'a>,
    names: BTreeSet<u64>,
}

/// Commands beside a collection; `records` says what is referred to.
struct Model<'a> {
    rig: &'a Rig,
    objects: &'a Objects,
    numbers: Numbers,
    records: Vec<BTreeSet<u64>>,
    commands: Vec<Command<'a>>,
    crashes: u64,
}

fn id_of(number: u64) -> ObjectId {
    ObjectId::of(Kind::Chunk, &object(number))
}

impl Model<'_> {
    fn referred(&self) -> Vec<u64> {
        self.records.iter().flatten().copied().collect::<BTreeSet<u64>>().into_iter().collect()
    }

    /// One step of some command.
    fn step(&mut self, may_begin: bool) {
        let chosen = self.numbers.below(self.commands.len().max(1) as u64) as usize;
        match self.numbers.below(12) {
            0 | 1 if may_begin && self.commands.len() < 3 => {
                let command = Command { _referring: self.objects.referring(), names: BTreeSet::new() };
                self.commands.push(command);
            }
            2..=5 => {
                let number = self.numbers.below(OBJECTS);
                if let Some(command) = self.commands.get_mut(chosen) {
                    assert_eq!(self.objects.put(Kind::Chunk, &object(number)).unwrap(), id_of(number));
                    command.names.insert(number);
                }
            }
            // Takes a name out of a record, as a clone does: nothing is put.
            6 if !self.records.is_empty() => {
                let record = self.numbers.below(self.records.len() as u64) as usize;
                let name = self.records[record].first().copied();
                if let Some(command) = self.commands.get_mut(chosen) {
                    command.names.extend(name);
                }
            }
            7 | 8 if !self.commands.is_empty() => {
                let command = self.commands.remove(chosen);
                self.objects.flush().unwrap();
                self.records.push(command.names);
            }
            9 if !self.commands.is_empty() => drop(self.commands.remove(chosen)),
            10 if !self.records.is_empty() => {
                let record = self.numbers.below(self.records.len() as u64) as usize;
                self.records.remove(record);
            }
            _ => {}
        }
        check_has(self.objects, &self.referred(), "beside the collection");
        for command in &self.commands {
            let names: Vec<u64> = command.names.iter().copied().collect();
            check_has(self.objects, &names, "of a command");
        }
        if self.numbers.below(40) == 0 {
            self.crash();
        }
    }

    /// What would be there had the machine stopped now.
    fn crash(&mut self) {
        self.crashes += 1;
        let seed = self.numbers.below(1 << 40);
        let disk = &self.rig.disk;
        let disk = if seed.is_multiple_of(3) { disk.after_kill() } else { disk.after_power_cut(seed) };
        let after = self.rig.crashed(disk, !seed.is_multiple_of(4));
        let reopened = after.open().unwrap();
        check_has(&reopened, &self.referred(), "after a crash");
        check_sound(&reopened, "after a crash");
        after.disk.set_faults(Faults { steps: Some(0), ..Faults::default() });
    }

    fn collect(&mut self) {
        let collection = self.objects.prepare_collection().unwrap();
        self.step(true);
        let mut roots = None;
        while roots.is_none() {
            // The test is one thread: it cannot wait for itself.
            if self.commands.is_empty() {
                roots = collection.begin(Duration::ZERO, || self.referred());
            } else {
                assert!(collection.begin(Duration::ZERO, || ()).is_none(), "a command is under way");
                self.step(false);
            }
        }
        for number in roots.unwrap() {
            collection.reach(id_of(number));
            self.step(true);
        }
        let swept = collection.sweep(&mut |_| (0..3).for_each(|_| self.step(true))).unwrap();
        collection.compact(&swept, &mut |_| (0..3).for_each(|_| self.step(true))).unwrap();
    }
}

#[test]
fn whatever_happens_beside_a_collection_nothing_that_is_referred_to_is_lost() {
    let next = AtomicU64::new(0);
    let crashes = AtomicU64::new(0);
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < 12) {
            crashes.fetch_add(collect_beside_commands(seed), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let crashes = crashes.into_inner();
    assert!(crashes > 50, "{crashes} crashes are too few");
}

/// Collects four times while commands go on, and once when none does; how often a crash was looked at.
fn collect_beside_commands(seed: u64) -> u64 {
    let rig = Rig::new();
    let objects = rig.open().unwrap();
    let mut model = Model {
        rig: &rig,
        objects: &objects,
        numbers: Numbers::new(seed << 32),
        records: Vec::new(),
        commands: Vec::new(),
        crashes: 0,
    };
    for _ in 0..4 {
        (0..40).for_each(|_| model.step(true));
        model.collect();
    }
    model.commands.clear();
    // Nobody is there any more: what is left is what is referred to, and little of the packs is unused.
    let collection = objects.prepare_collection().unwrap();
    let referred = collection.begin(Duration::ZERO, || model.referred()).unwrap();
    referred.iter().for_each(|number| assert!(collection.reach(id_of(*number))));
    let swept = collection.sweep(&mut |_| ()).unwrap();
    collection.compact(&swept, &mut |_| ()).unwrap();
    drop(collection);
    assert_eq!(objects.usage().objects, referred.len() as u64, "seed {seed}");
    check_has(&objects, &referred, "at the end");
    check_sound(&objects, "at the end");
    let on_disk: u64 = rig.disk.lengths().iter().sum();
    assert!(on_disk <= objects.usage().stored_bytes * 4 / 3 + 1000, "seed {seed}: {on_disk} bytes");
    model.crashes
}

#[test]
fn a_compaction_that_stops_anywhere_loses_nothing() {
    let kept: Vec<u64> = (0..OBJECTS).filter(|number| number % 3 == 0).collect();
    let mut stop = 0;
    loop {
        let rig = Rig::new();
        let objects = rig.open().unwrap();
        (0..OBJECTS).for_each(|number| {
            objects.put(Kind::Chunk, &object(number)).unwrap();
        });
        objects.flush().unwrap();
        let collection = objects.prepare_collection().unwrap();
        collection.begin(Duration::ZERO, || ()).unwrap();
        kept.iter().for_each(|number| assert!(collection.reach(id_of(*number))));
        let swept = collection.sweep(&mut |_| ()).unwrap();
        rig.disk.set_faults(Faults { steps: Some(stop), ..Faults::default() });
        let compacted = collection.compact(&swept, &mut |_| ());
        let finished = !rig.disk.stopped();
        assert!(finished == compacted.is_ok() || stop == 0 || !finished, "{:?}", compacted.err());
        for (cut, with_index) in [(None, true), (Some(stop), true), (Some(stop + 500), false)] {
            let context = format!("stopped after {stop} steps, cut {cut:?}, index {with_index}");
            let disk = cut.map_or_else(|| rig.disk.after_kill(), |seed| rig.disk.after_power_cut(seed));
            let after = rig.crashed(disk, with_index);
            let reopened = after.open().unwrap_or_else(|error| panic!("{context}: {error}"));
            check_has(&reopened, &kept, &context);
            check_sound(&reopened, &context);
        }
        drop(collection);
        rig.disk.set_faults(Faults { steps: Some(0), ..Faults::default() });
        if finished {
            assert!(stop > 10 && compacted.unwrap().packs > 2, "there was nothing to compact");
            break;
        }
        stop += 1;
    }
}

#[test]
fn plain_files_go_and_come_back() {
    let (directory, objects) = new_store();
    let (used, unused) = (noise(1, 3 << 20), noise(2, 2 << 20));
    let put = |bytes: &[u8]| objects.put_file(&mut &*bytes, bytes.len() as u64).unwrap();
    let (used_content, unused_content) = (put(&used), put(&unused));
    objects.flush().unwrap();
    let FileContent::Plain { id, .. } = used_content else { panic!("not kept plain") };
    let collect = |reach: &[ObjectId]| {
        let collection = objects.prepare_collection().unwrap();
        collection.begin(Duration::ZERO, || ()).unwrap();
        reach.iter().for_each(|id| assert!(collection.reach(*id)));
        collection.sweep(&mut |_| ()).unwrap().removed
    };
    assert_eq!(collect(&[id]).stored_bytes, 2 << 20);
    assert_eq!(read_all(&objects, &used_content), used);
    assert!(objects.open_plain(&unused_content).is_err());
    assert_eq!(put(&unused), unused_content);
    assert_eq!(read_all(&objects, &unused_content), unused);
    let usage = objects.usage();
    drop(objects);
    let objects = Objects::open(directory.path()).unwrap();
    assert_eq!(objects.usage(), usage);
    assert_eq!(objects.verify(&mut |_| ()).unwrap().damages, []);
}

#[test]
fn threads_put_and_refer_while_collections_follow_each_other() {
    let (_directory, objects) = new_store();
    let records: Mutex<BTreeSet<u64>> = Mutex::default();
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let objects = Arc::new(objects);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (objects, records, stop) = (&objects, &records, &stop);
            scope.spawn(move || {
                let mut numbers = Numbers::new(thread << 40);
                while !stop.load(Ordering::SeqCst) {
                    let _referring = objects.referring();
                    let names: Vec<u64> = (0..5).map(|_| numbers.below(OBJECTS)).collect();
                    for number in &names {
                        objects.put(Kind::Chunk, &object(*number)).unwrap();
                    }
                    objects.flush().unwrap();
                    records.lock().extend(&names);
                    check_has(objects, &names, "just referred to");
                    let mut records = records.lock();
                    while records.len() > 40 {
                        records.pop_first();
                    }
                }
            });
        }
        while rounds.fetch_add(1, Ordering::SeqCst) < 30 {
            let collection = objects.prepare_collection().unwrap();
            let roots = collection.begin(Duration::from_secs(60), || records.lock().clone()).unwrap();
            roots.iter().for_each(|number| {
                collection.reach(id_of(*number));
            });
            let swept = collection.sweep(&mut |_| ()).unwrap();
            collection.compact(&swept, &mut |_| ()).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    let records: Vec<u64> = records.into_inner().into_iter().collect();
    check_has(&objects, &records, "at the end");
    check_sound(&objects, "at the end");
}
