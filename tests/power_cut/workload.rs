//! What sites and administrators do, in random order, and what of it was acknowledged.

mod administration;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::check;
use crate::ledger::Ledger;
use crate::numbers::Numbers;
use crate::place::{Place, Synchronous, sqlite_with};

/// How many different names files are saved under.
const NAMES: u64 = 12;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Save,
    MakeDirectory,
    WriteLoosely,
    Rename,
    Remove,
    Insert,
    Snapshot,
    CloneOrRemove,
    Deploy,
    SwitchBack,
    Update,
    UpdateInPlace,
    Prune,
    Collect,
    ReadOnly,
    Restore,
    Platform,
    Send,
    Receive,
    Rest,
}

impl Step {
    /// What visitors and applications do, with how often: what comes first of all that is done.
    const OF_THE_SITE: &'static [(Step, u64)] = Step::OFTEN.split_at(6).0;

    /// All that is done, with how often.
    pub(crate) const OFTEN: [(Step, u64); 20] = [
        (Step::Save, 28),
        (Step::MakeDirectory, 14),
        (Step::WriteLoosely, 10),
        (Step::Rename, 7),
        (Step::Remove, 5),
        (Step::Insert, 10),
        (Step::Snapshot, 6),
        (Step::CloneOrRemove, 3),
        (Step::Deploy, 3),
        (Step::SwitchBack, 2),
        (Step::Update, 2),
        (Step::UpdateInPlace, 2),
        (Step::Prune, 3),
        (Step::Collect, 4),
        (Step::ReadOnly, 2),
        (Step::Restore, 2),
        (Step::Platform, 2),
        (Step::Send, 2),
        (Step::Receive, 2),
        (Step::Rest, 3),
    ];
}

/// What is done to a place.
pub(crate) struct Workload<'a> {
    place: &'a Place,
    /// How far it is; what was acknowledged at a position is there after any cut behind it.
    position: Box<dyn Fn() -> u64 + 'a>,
    numbers: Numbers,
    pub(crate) ledger: Ledger,
    count: u64,
    /// Snapshots that were sent, with the saved files in them; the streams are in the place.
    sent: Vec<(String, BTreeMap<String, String>)>,
    /// How transactions are committed.
    pub(crate) synchronous: Synchronous,
}

type Done = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The content of a file: it says which one it is, and how long.
fn content(name: &str, count: u64, length: usize) -> String {
    let head = format!("{name} {count} {length} ");
    let mut content = head.clone();
    while content.len() < length {
        content.push_str(&head);
    }
    content.truncate(length.max(head.len()));
    content
}

fn sync_directory(path: &Path) -> Done {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(text)
}

impl<'a> Workload<'a> {
    /// Sets the place up. Positions count what was asked and acknowledged.
    pub(crate) fn begin(place: &'a Place, seed: u64) -> Workload<'a> {
        let count = Cell::new(0);
        let next = move || {
            count.set(count.get() + 1);
            count.get()
        };
        Workload::begin_at(place, Box::new(next), seed)
    }

    /// Sets the place up. Positions are whatever `position` says and never goes back.
    pub(crate) fn begin_at(place: &'a Place, position: Box<dyn Fn() -> u64 + 'a>, seed: u64) -> Workload<'a> {
        let mut workload = Workload {
            place,
            position,
            numbers: Numbers::new(seed),
            ledger: Ledger::default(),
            count: 0,
            sent: Vec::new(),
            synchronous: Synchronous::Extra,
        };
        workload.set_up().unwrap();
        workload
    }

    /// A stopped place with a file of each kind in its store: it was set up, had `steps` steps and a snapshot. What was
    /// acknowledged.
    pub(crate) fn history(place: &'a Place, seed: u64, steps: usize) -> Ledger {
        let mut workload = Workload::begin(place, seed);
        fs::write(place.site("files/picture"), Numbers::new(seed).bytes(1_300_000)).unwrap();
        for _ in 0..steps {
            workload.step().unwrap();
        }
        place.done(&["snapshot", "shop"]);
        place.stop().unwrap();
        workload.end()
    }

    fn at(&self) -> u64 {
        (self.position)()
    }

    /// What was asked and acknowledged until the end.
    pub(crate) fn end(self) -> Ledger {
        self.ledger
    }

    /// What is wrong with all that was done until now.
    pub(crate) fn faults(&self, numbers: &mut Numbers) -> Vec<String> {
        check::check(self.place, &self.ledger, self.at(), numbers).0
    }

    /// Something of each kind is there, so that there is no step without anything to do.
    pub(crate) fn begin_with_everything(&mut self) {
        for step in [Step::Save, Step::Save, Step::Save, Step::Insert, Step::Snapshot, Step::Send] {
            self.take(step).unwrap();
        }
    }

    /// What of it cannot be read, or is not what it must be.
    pub(crate) fn unreadable(&self) -> Vec<String> {
        check::readable(self.place, &self.ledger, self.at()).0
    }

    /// Whatever was begun and not acknowledged is what is found now.
    pub(crate) fn settle(&mut self) {
        let position = self.at();
        check::settle(self.place, &mut self.ledger, position);
    }

    /// Makes the store, starts the daemon, adds platforms and imports the site.
    fn set_up(&mut self) -> Done {
        self.ledger.begin("store", Some("made".to_owned()), self.at());
        self.place.done(&["init"]);
        self.ledger.acknowledge("store", self.at());
        self.place.serve()?;
        for name in ["one", "two"] {
            let directory = self.place.path("platforms").join(name);
            self.place.done(&["platform", "add", name, directory.to_str().unwrap()]);
        }
        for (name, value) in [("site", "shop"), ("live", "1"), ("rows", "")] {
            self.ledger.begin(name, Some(value.to_owned()), self.at());
        }
        let original = self.place.path("original");
        self.place.done(&["site", "import", "shop", original.to_str().unwrap(), "--platform", "one"]);
        for name in ["site", "live", "rows"] {
            self.ledger.acknowledge(name, self.at());
        }
        for name in ["sequence", "loose"] {
            fs::create_dir(self.place.site("files").join(name)).map_err(text)?;
        }
        sync_directory(&self.place.site("files"))?;
        self.ledger.begin("ready", Some(String::new()), 0);
        self.ledger.acknowledge("ready", self.at());
        Ok(())
    }

    /// Does one thing. An error is what an application or the caller of a command was told.
    pub(crate) fn step(&mut self) -> Done {
        let step = self.any_of(&Step::OFTEN);
        self.take(step)
    }

    /// Chooses a step, each as often as its weight says.
    fn any_of(&mut self, weights: &[(Step, u64)]) -> Step {
        let mut rest = self.numbers.below(weights.iter().map(|(_, weight)| weight).sum());
        let chosen = weights.iter().find(|(_, weight)| {
            let is_chosen = rest < *weight;
            rest = rest.saturating_sub(*weight);
            is_chosen
        });
        chosen.expect("the number is below the sum of the weights").0
    }

    /// Does this.
    pub(crate) fn take(&mut self, step: Step) -> Done {
        self.count += 1;
        match step {
            Step::Save => self.save(),
            Step::MakeDirectory => self.make_directory(),
            Step::WriteLoosely => self.write_loosely(),
            Step::Rename => self.rename(),
            Step::Remove => self.remove(),
            Step::Insert => self.insert(),
            Step::Snapshot => self.snapshot(),
            Step::CloneOrRemove => self.clone_or_remove(),
            Step::Deploy => self.switch(&["deploy", "shop", self.place.path("built").to_str().unwrap()]),
            Step::SwitchBack if self.ledger.current("live") != Some("1".to_owned()) => {
                self.switch(&["rollback", "shop"])
            }
            Step::SwitchBack => self.switch(&["cutover", "shop", "--to", "shop@live"]),
            Step::Update => self.update("switch"),
            Step::UpdateInPlace => self.update("in-place"),
            Step::Prune => self.prune(),
            Step::Collect => self.collect(),
            Step::ReadOnly => self.read_only(),
            Step::Restore => self.restore(),
            Step::Platform => self.add_or_remove_platform(),
            Step::Send => self.send(),
            Step::Receive => self.receive(),
            Step::Rest => {
                std::thread::sleep(Duration::from_millis(self.numbers.below(1200)));
                Ok(())
            }
        }
    }

    /// Replaces a file as careful programs do.
    fn save(&mut self) -> Done {
        let name = format!("file{}", self.numbers.below(NAMES));
        let directory = self.place.site("files");
        let length = match self.numbers.below(10) {
            0 => 200_000,
            1 => 70_000,
            _ => self.numbers.below(9000) as usize,
        };
        let content = content(&name, self.count, length);
        let new = directory.join(format!("new{}", self.count));
        self.ledger.begin(&format!("file:{name}"), Some(content.clone()), self.at());
        let mut file = File::create(&new).map_err(text)?;
        file.write_all(content.as_bytes()).map_err(text)?;
        file.sync_all().map_err(text)?;
        fs::rename(&new, directory.join(&name)).map_err(text)?;
        sync_directory(&directory)?;
        self.acknowledge(&format!("file:{name}"));
        Ok(())
    }

    /// Makes everything durable that was done among the uploads.
    pub(crate) fn sync(&mut self) -> Done {
        sync_directory(&self.place.site("files"))?;
        self.ledger.synced(self.at());
        Ok(())
    }

    /// A sync in the data volume covers all that came before in it.
    fn acknowledge(&mut self, name: &str) {
        let position = self.at();
        self.ledger.acknowledge(name, position);
        self.ledger.synced(position);
    }

    /// Makes the next directory of a sequence, unsynced.
    fn make_directory(&mut self) -> Done {
        let number = self.ledger.next_in_sequence(self.at());
        fs::create_dir(self.place.site("files/sequence").join(format!("{number:06}"))).map_err(text)
    }

    /// Writes a file that nobody syncs; sometimes one that is kept plain.
    fn write_loosely(&mut self) -> Done {
        let path = self.place.site("files/loose").join(self.count.to_string());
        if self.numbers.below(4) == 0 {
            let bytes = Numbers::new(self.count).bytes(1_100_000);
            return fs::write(path.with_extension("noise"), bytes).map_err(text);
        }
        let length = self.numbers.below(100_000) as usize;
        fs::write(path, content("loose", self.count, length)).map_err(text)
    }

    fn any_saved(&mut self) -> Option<String> {
        let names: Vec<String> = self.ledger.present("file:").into_keys().collect();
        let at = self.numbers.below(names.len() as u64) as usize;
        names.get(at).cloned()
    }

    fn rename(&mut self) -> Done {
        let Some(from) = self.any_saved() else { return Ok(()) };
        let to = format!("file{}", self.numbers.below(NAMES));
        if from == to {
            return Ok(());
        }
        let directory = self.place.site("files");
        let content = self.ledger.current(&format!("file:{from}"));
        let (from_key, to_key) = (format!("file:{from}"), format!("file:{to}"));
        self.ledger.begin(&to_key, content, self.at());
        self.ledger.begin(&from_key, None, self.at());
        fs::rename(directory.join(&from), directory.join(&to)).map_err(text)?;
        sync_directory(&directory)?;
        self.acknowledge(&to_key);
        self.acknowledge(&from_key);
        Ok(())
    }

    fn remove(&mut self) -> Done {
        let Some(name) = self.any_saved() else { return Ok(()) };
        let key = format!("file:{name}");
        let directory = self.place.site("files");
        self.ledger.begin(&key, None, self.at());
        fs::remove_file(directory.join(&name)).map_err(text)?;
        sync_directory(&directory)?;
        self.acknowledge(&key);
        Ok(())
    }

    /// Commits a transaction.
    fn insert(&mut self) -> Done {
        let old = self.ledger.current("rows").unwrap_or_default();
        let row = self.count.to_string();
        let rows = if old.is_empty() { row.clone() } else { format!("{old},{row}") };
        self.ledger.begin("rows", Some(rows), self.at());
        let database = self.place.site("database/site.sqlite");
        sqlite_with(self.synchronous, &database, &format!("insert into note values ('{row}')"))?;
        self.ledger.acknowledge("rows", self.at());
        Ok(())
    }
}

/// The number of the live generation.
pub(crate) fn live(place: &Place) -> Result<String, String> {
    let link = fs::read_link(place.path("root/sites/shop")).map_err(text)?;
    Ok(link.file_name().unwrap().to_string_lossy().into_owned())
}

/// Whether `found` is the beginning of a file that was written by [`Workload`] without a sync.
pub(crate) fn is_loose(name: &str, found: &[u8]) -> bool {
    match name.strip_suffix(".noise") {
        Some(count) => Numbers::new(count.parse().unwrap()).bytes(1_100_000).starts_with(found),
        None => {
            // Its own beginning says how long it was to be.
            let words =
                String::from_utf8_lossy(found).split(' ').take(3).map(str::to_owned).collect::<Vec<_>>();
            let length = words.get(2).and_then(|word| word.parse().ok()).unwrap_or(0);
            let expected = content("loose", name.parse().unwrap(), length);
            expected.as_bytes().starts_with(found) || found.len() < 30
        }
    }
}
