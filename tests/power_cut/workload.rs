//! What sites and administrators do, in random order, and what of it was acknowledged.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::check;
use crate::ledger::{Ledger, Snapshot};
use crate::numbers::Numbers;
use crate::place::{Place, Synchronous, sqlite_with};

/// How many different names files are saved under.
const NAMES: u64 = 12;

/// How many things are done while space is reclaimed.
const STEPS_BESIDE_GC: usize = 4;

/// What is done to a place.
pub(crate) struct Workload<'a> {
    place: &'a Place,
    /// How far it is; what was acknowledged at a position is there after any cut behind it.
    position: Box<dyn Fn() -> u64 + 'a>,
    numbers: Numbers,
    pub(crate) ledger: Ledger,
    count: u64,
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
        self.count += 1;
        match self.numbers.below(100) {
            below @ 0..74 => self.step_of_the_site(below),
            74..80 => self.snapshot(),
            80..83 => self.clone_or_remove(),
            83..86 => self.switch(&["deploy", "shop", self.place.path("built").to_str().unwrap()]),
            86..88 if self.ledger.current("live") != Some("1".to_owned()) => {
                self.switch(&["rollback", "shop"])
            }
            86..88 => self.switch(&["cutover", "shop", "--to", "shop@live"]),
            88..90 => self.update(),
            90..93 => self.prune(),
            93..97 => self.collect(),
            _ => {
                std::thread::sleep(Duration::from_millis(self.numbers.below(1200)));
                Ok(())
            }
        }
    }

    /// Does one of the things that visitors and applications do; `number` is below 74.
    fn step_of_the_site(&mut self, number: u64) -> Done {
        match number {
            0..28 => self.save(),
            28..42 => self.make_directory(),
            42..52 => self.write_loosely(),
            52..59 => self.rename(),
            59..64 => self.remove(),
            _ => self.insert(),
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

    fn snapshot(&mut self) -> Done {
        let tag = (self.numbers.below(4) == 0).then(|| format!("tag{}", self.count));
        let mut arguments = vec!["snapshot", "shop"];
        arguments.extend(tag.iter().flat_map(|tag| ["--tag", tag]));
        let taken = self.place.sitefs(&arguments).answer()?;
        let id = taken["snapshot"]["id"].as_str().unwrap().to_owned();
        let files = self.ledger.present("file:");
        self.ledger.snapshots.push(Snapshot {
            id,
            acknowledged: self.at(),
            files,
            is_tagged: tag.is_some(),
            removal_begun: None,
            removed: None,
        });
        Ok(())
    }

    /// Removes all snapshots but the newest and those with a tag.
    fn prune(&mut self) -> Done {
        self.ledger.begin_removal(self.at());
        let pruned = self.place.sitefs(&["prune", "shop", "--keep-hourly", "1"]).answer()?;
        let kept = pruned["snapshots"].as_array().unwrap().iter();
        let kept = kept.filter(|snapshot| !snapshot["kept_as"].as_array().unwrap().is_empty());
        let kept = kept.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect();
        self.ledger.removed_but(&kept, self.at());
        Ok(())
    }

    /// Reclaims space while the site goes on.
    fn collect(&mut self) -> Done {
        let collecting = self.place.begin(&["gc"]);
        let mut done = Ok(());
        for _ in 0..STEPS_BESIDE_GC {
            self.count += 1;
            let number = self.numbers.below(74);
            done = done.and_then(|()| self.step_of_the_site(number));
        }
        let collected = Place::end(collecting).answer();
        done.and(collected.map(|_| ()))
    }

    fn clone_or_remove(&mut self) -> Done {
        let name = format!("test{}", self.numbers.below(2));
        let key = format!("clone:{name}");
        let is_there = self.ledger.current(&key).is_some();
        self.ledger.begin(&key, (!is_there).then(|| "clone".to_owned()), self.at());
        if is_there {
            self.place.sitefs(&["site", "remove", &name]).answer()?;
        } else {
            self.place.sitefs(&["clone", "shop", &name]).answer()?;
        }
        self.ledger.acknowledge(&key, self.at());
        Ok(())
    }

    fn update(&mut self) -> Done {
        let target = fs::read_link(self.place.path("root/live/shop")).map_err(text)?;
        let other = if target.to_string_lossy().contains("/platforms/one") { "two" } else { "one" };
        self.switch(&["update", "shop", "--platform", other])
    }

    /// Runs a command that makes another generation live.
    fn switch(&mut self, arguments: &[&str]) -> Done {
        let begun = self.at();
        // Where it leads to is only known afterwards; a cut in between may come before or after the switch.
        for name in ["live", "rows"] {
            self.ledger.begin(name, Some("unknown".to_owned()), begun);
        }
        self.place.sitefs(arguments).answer()?;
        let position = self.at();
        for (name, value) in [("live", live(self.place)?), ("rows", self.place.rows()?)] {
            self.ledger.begin(name, Some(value), begun);
            self.ledger.acknowledge(name, position);
        }
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
