//! A site in memory, with visitors who try to write whenever something happens, and faults wherever they are asked
//! for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::super::*;
use crate::base::{PlatformName, SiteName};
use crate::history::SnapshotId;
use crate::objects::{Kind, ObjectId};
use crate::site::GenerationName;

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// An error is returned.
    Error,
    /// The daemon is killed.
    Kill,
    /// The process that holds writes dies.
    HoldEnds,
}

/// What the daemon's death unwinds with: no panic hook prints it.
struct Killed;

#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    pub(super) writes: BTreeSet<u64>,
    pub(super) schema: u32,
    pub(super) read_only_mode: bool,
    pub(super) half_updated: bool,
    /// The application's maintenance mode, in which updates work and visitors cannot write.
    pub(super) closed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) platform: PlatformName,
    /// On a server, several generations may have the same.
    pub(super) database: Rc<RefCell<Database>>,
    pub(super) complete: bool,
    /// Not durable: after a crash, what is live is writable, and what has never been.
    pub(super) writable: bool,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) generations: BTreeMap<GenerationName, Made>,
    pub(super) live: BTreeMap<SiteName, u64>,
    /// Generations of the site that requests may still have in hand.
    pub(super) visited: BTreeSet<u64>,
    pub(super) clones: BTreeSet<SiteName>,
    pub(super) reserved: BTreeMap<SiteName, u64>,
    pub(super) snapshots: Vec<Database>,
    /// What each is of, and whether it locks the database or is the web server's alone.
    pub(super) holds: BTreeMap<u64, (GenerationName, bool)>,
    /// What was kept in snapshots of generations that were switched back from.
    pub(super) left_behind: BTreeSet<u64>,
    pub(super) holds_given: u64,
    writes: u64,
    accepted: BTreeSet<u64>,
    pub(super) runs: BTreeMap<String, Run>,
    pub(super) claim: Option<String>,
    pub(super) outputs: BTreeMap<String, String>,
}

/// The site `example.com` on platform `one`, and platform `two` to update it to.
pub(super) struct Model {
    pub(super) world: RefCell<World>,
    pub(super) recipe: String,
    pub(super) request: UpdateRequest,
    /// Whether a database is something beside the generations, and not a part of each.
    pub(super) on_server: bool,
    pub(super) read_only: bool,
    pub(super) database_objection: Option<String>,
    faults: RefCell<BTreeMap<u64, Fault>>,
    points: Cell<u64>,
    /// Shell lines that fail whenever they are run for a live generation.
    pub(super) live_checks_fail: Cell<bool>,
    /// How many pages were asked for, and those that fail by their numbers.
    pub(super) pages_asked: Cell<u32>,
    /// Whether the application refused writes when the web server let go of those that waited for it.
    pub(super) let_through: RefCell<Vec<bool>>,
    pub(super) pages_that_fail: RefCell<BTreeSet<u32>>,
    /// The hook that fails.
    pub(super) failing_hook: Cell<Option<(StepKind, Moment)>>,
    /// The snapshot that was begun and not finished. Dies with the daemon.
    pub(super) unfinished: Cell<Option<SnapshotId>>,
    pub(super) events: RefCell<Vec<Event>>,
    pub(super) wish: Cell<Option<(u64, Wish)>>,
    pub(super) clock: Cell<i64>,
}

pub(super) fn site() -> SiteName {
    "example.com".parse().unwrap()
}

pub(super) fn platform(name: &str) -> PlatformName {
    name.parse().unwrap()
}

pub(super) fn request() -> UpdateRequest {
    UpdateRequest {
        site: site(),
        platform: platform("two"),
        strategy: Strategy::Switch,
        checks: vec!["the given check".to_owned()],
        keep_test: false,
        allow_downgrade: false,
        who: "root".to_owned(),
    }
}

impl Model {
    pub(super) fn new(recipe: &str) -> Model {
        let mut world = World::default();
        let database = Rc::new(RefCell::new(Database { schema: 1, ..Database::default() }));
        let made = Made { platform: platform("one"), database, complete: true, writable: true };
        world.generations.insert(GenerationName { site: site(), number: 1 }, made);
        world.live.insert(site(), 1);
        world.visited.insert(1);
        world.reserved.insert(site(), 1);
        Model {
            world: RefCell::new(world),
            recipe: recipe.to_owned(),
            request: request(),
            on_server: false,
            read_only: false,
            database_objection: None,
            faults: RefCell::default(),
            points: Cell::new(0),
            live_checks_fail: Cell::new(false),
            pages_asked: Cell::new(0),
            let_through: RefCell::default(),
            pages_that_fail: RefCell::default(),
            failing_hook: Cell::new(None),
            unfinished: Cell::default(),
            events: RefCell::default(),
            wish: Cell::new(None),
            clock: Cell::new(1_000_000_000),
        }
    }

    /// Puts the site into read-only mode as an administrator does.
    pub(super) fn set_read_only(&mut self) {
        self.read_only = true;
        for made in self.world.borrow().generations.values() {
            made.database.borrow_mut().read_only_mode = true;
        }
    }

    /// Plans faults at points to come, counted from now.
    pub(super) fn plan_faults(&self, faults: &[(u64, Fault)]) {
        let now = self.points.get();
        *self.faults.borrow_mut() = faults.iter().map(|(point, fault)| (now + point, *fault)).collect();
    }

    /// How many points there have been.
    pub(super) fn points(&self) -> u64 {
        self.points.get()
    }

    /// Does something with the engine; `None` when the daemon was killed meanwhile, and has been started again.
    pub(super) fn attempt<T>(&self, work: impl FnOnce(&Engine<'_>) -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(|| {
            work(&Engine {
                operations: self,
                journal: self,
                events: &|event| self.events.borrow_mut().push(event),
                wish: &|| match self.wish.get() {
                    Some((point, wish)) if self.points.get() >= point => wish,
                    _ => Wish::Continue,
                },
            })
        }));
        match result {
            Ok(value) => Some(value),
            Err(payload) if payload.is::<Killed>() => {
                self.restart();
                None
            }
            Err(payload) => resume_unwind(payload),
        }
    }

    fn restart(&self) {
        let mut world = self.world.borrow_mut();
        world.holds.clear();
        self.unfinished.take();
        let (live, visited) = (world.live.clone(), world.visited.clone());
        for (name, made) in &mut world.generations {
            let is_prepared = name.site == site() && !visited.contains(&name.number);
            made.writable = is_prepared || live.get(&name.site) == Some(&name.number);
        }
        if let Some(key) = world.claim.clone() {
            world.runs.get_mut(&key).unwrap().state = RunState::Interrupted;
        }
        drop(world);
        self.visitors_write();
    }

    /// A place where something may go wrong. Visitors are busy before it.
    pub(super) fn point(&self) -> Result<(), Failure> {
        self.visitors_write();
        let point = self.points.get();
        self.points.set(point + 1);
        match self.faults.borrow().get(&point) {
            None => Ok(()),
            Some(Fault::Error) => Err(format!("a fault at point {point}").into()),
            Some(Fault::Kill) => resume_unwind(Box::new(Killed)),
            Some(Fault::HoldEnds) => {
                self.world.borrow_mut().holds.clear();
                self.visitors_write();
                Ok(())
            }
        }
    }

    /// Somebody writes to each generation that is live or was: a request that began before a switch still has the
    /// old one.
    pub(super) fn visitors_write(&self) {
        let mut world = self.world.borrow_mut();
        let World { generations, visited, holds, writes, accepted, .. } = &mut *world;
        for (name, made) in generations.iter_mut().filter(|(name, _)| name.site == site()) {
            let held = holds.values().any(|(held, _)| held == name);
            let mut database = made.database.borrow_mut();
            let refuses = database.read_only_mode || database.closed;
            if visited.contains(&name.number) && made.writable && !held && !refuses {
                *writes += 1;
                accepted.insert(*writes);
                database.writes.insert(*writes);
            }
        }
    }

    /// Whether somebody's write is accepted now.
    pub(super) fn takes_writes(&self) -> bool {
        let before = self.world.borrow().accepted.len();
        self.visitors_write();
        self.world.borrow().accepted.len() > before
    }

    /// Whether the live site is one release, takes writes, and has none half updated.
    pub(super) fn is_sound(&self) -> bool {
        let world = self.world.borrow();
        let made = &world.generations[&GenerationName { site: site(), number: world.live[&site()] }];
        let database = made.database.borrow();
        let schema = if made.platform.as_str() == "two" { 2 } else { 1 };
        made.complete && made.writable && !database.half_updated && database.schema == schema
    }

    pub(super) fn live(&self) -> u64 {
        self.world.borrow().live[&site()]
    }

    pub(super) fn clones(&self) -> usize {
        self.world.borrow().clones.len()
    }

    pub(super) fn output(&self) -> String {
        self.world.borrow().outputs.values().cloned().collect()
    }

    /// Everything that must hold when a run has ended.
    pub(super) fn assert_ended_well(&self, run: &Run) {
        let context = format!("{:?}: {} / {}", run.state, run.reason, run.obstacle);
        assert!(run.state.is_final(), "{context}");
        let takes_writes = self.takes_writes();
        let world = self.world.borrow();
        let live = GenerationName { site: site(), number: world.live[&site()] };
        let made = &world.generations[&live];
        let database = made.database.borrow();
        let (name, schema) = if run.state == RunState::Done { ("two", 2) } else { ("one", 1) };
        assert_eq!((made.platform.as_str(), database.schema), (name, schema), "{context}");
        assert!(made.complete && made.writable && !database.half_updated && !database.closed, "{context}");
        assert_eq!(database.read_only_mode, self.read_only, "{context}");
        assert_eq!(takes_writes, !self.read_only, "{context}");
        assert!(world.holds.is_empty(), "{context}");
        assert!(world.claim.is_none(), "{context}");
        let kept = usize::from(run.keep_test && run.rehearsal.is_some());
        assert_eq!(world.clones.len(), kept, "{context}");
        let generations = world.generations.keys().filter(|name| name.site == site()).count();
        assert_eq!(generations, if run.state == RunState::Done { 2 } else { 1 }, "{context}");
        let mut kept = database.writes.clone();
        kept.extend(&world.left_behind);
        let lost: Vec<_> = world.accepted.difference(&kept).collect();
        assert!(lost.is_empty(), "{} accepted writes are lost: {context}", lost.len());
    }
}

pub(super) fn snapshot_id(place: usize) -> SnapshotId {
    SnapshotId(ObjectId::of(Kind::Snapshot, &place.to_be_bytes()))
}

pub(super) fn new_made(platform: &PlatformName, database: Database) -> Made {
    Made {
        platform: platform.clone(),
        database: Rc::new(RefCell::new(database)),
        complete: false,
        writable: true,
    }
}
