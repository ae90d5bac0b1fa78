//! The operations and the journal of the site in memory.

use std::rc::Rc;

use super::super::*;
use super::model::{Database, Made, Model, new_made, platform, site, snapshot_id};
use crate::base::{Lane, PlatformName, SiteName, Timestamp};
use crate::history::SnapshotId;
use crate::site::{Facts, GenerationName, Place, Recipe, testing};

impl Operations for Model {
    fn now(&self) -> Timestamp {
        self.clock.set(self.clock.get() + 1_000_000_000);
        Timestamp(self.clock.get())
    }

    fn inspect(&self, site: &SiteName, _: &PlatformName) -> Result<Inspection, Failure> {
        self.point()?;
        let live = self.world.borrow().live[site];
        Ok(Inspection {
            live,
            platform: platform("one"),
            version: Some("1.0".to_owned()),
            target_version: Some("2.0".to_owned()),
            target_drift: None,
            recipe: Recipe::parse("model", &self.recipe, "the test").unwrap(),
            missing_from_target: Vec::new(),
            missing_programs: Vec::new(),
            read_only: self.read_only,
            free_bytes: 1 << 30,
            database_bytes: 1 << 20,
            database_on_server: self.on_server,
            database_objection: self.database_objection.clone(),
            database_as_files: None,
            tables_without_transactions: Vec::new(),
            pages_objection: None,
            pages_amiss: Vec::new(),
        })
    }

    fn snapshot(
        &self,
        of: &GenerationName,
        message: &str,
        _: &str,
        _: Reading,
    ) -> Result<SnapshotId, Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        let database = world.generations[of].database.borrow().clone();
        if message.starts_with("what generation") {
            world.left_behind.extend(&database.writes);
        }
        world.snapshots.push(database);
        let id = snapshot_id(world.snapshots.len() - 1);
        drop(world);
        self.point()?;
        Ok(id)
    }

    fn begin_snapshot(&self, of: &GenerationName, message: &str, author: &str) -> Result<Begun, Failure> {
        let snapshot = self.snapshot(of, message, author, Reading::Nothing)?;
        self.unfinished.set(self.on_server.then_some(snapshot));
        Ok(Begun { snapshot, is_finished: !self.on_server })
    }

    fn finish_snapshot(&self, begun: SnapshotId, made: &GenerationName) -> Result<SnapshotId, Failure> {
        self.point()?;
        assert!(self.world.borrow().live[&made.site] != made.number, "it was switched before all was kept");
        let unfinished = self.unfinished.take();
        self.point()?;
        unfinished.filter(|unfinished| *unfinished == begun).ok_or_else(|| "it is forgotten".into())
    }

    fn verify(&self, _: SnapshotId) -> Result<Verified, Failure> {
        self.point()?;
        let found = Verification { objects: 3, bytes: 4096, tables: 2 };
        Ok(Verified {
            found,
            copy: self.on_server.then_some(CopyForecast { seconds: 7.0, snapshot_share: 0.5 }),
        })
    }

    fn create_clone(
        &self,
        name: &SiteName,
        snapshot: SnapshotId,
        platform: &PlatformName,
    ) -> Result<GenerationName, Failure> {
        self.point()?;
        let generation = self.reserve_generation(name)?;
        let mut world = self.world.borrow_mut();
        let place = (0..world.snapshots.len()).find(|place| snapshot_id(*place) == snapshot).unwrap();
        assert!(world.clones.insert(name.clone()), "the clone is there already");
        let made = new_made(platform, world.snapshots[place].clone());
        world.generations.insert(generation.clone(), made);
        world.live.insert(name.clone(), generation.number);
        drop(world);
        self.point()?;
        self.world.borrow_mut().generations.get_mut(&generation).unwrap().complete = true;
        self.point()?;
        Ok(generation)
    }

    fn delete_clone(&self, name: &SiteName) -> Result<(), Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        assert!(*name != site(), "the live site would be deleted");
        world.clones.remove(name);
        world.generations.retain(|generation, _| generation.site != *name);
        drop(world);
        self.point()
    }

    fn reserve_generation(&self, site: &SiteName) -> Result<GenerationName, Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        let number = world.reserved.entry(site.clone()).or_default();
        *number += 1;
        Ok(GenerationName { site: site.clone(), number: *number })
    }

    fn prepare_generation(
        &self,
        name: &GenerationName,
        snapshot: SnapshotId,
        platform: &PlatformName,
        database: DatabaseSource<'_>,
    ) -> Result<(), Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        let place = (0..world.snapshots.len()).find(|place| snapshot_id(*place) == snapshot).unwrap();
        let mut made = new_made(platform, world.snapshots[place].clone());
        if let (DatabaseSource::Of(other), true) = (database, self.on_server) {
            made.database = Rc::clone(&world.generations[other].database);
        }
        // One that is there already stays: an earlier attempt made it.
        world.generations.entry(name.clone()).or_insert(made);
        drop(world);
        self.point()?;
        self.world.borrow_mut().generations.get_mut(name).unwrap().complete = true;
        self.point()
    }

    fn give_up_database(&self, generation: &GenerationName) -> Result<(), Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        assert!(
            world.live[&generation.site] != generation.number,
            "the live generation would lose its database"
        );
        if let (Some(made), true) = (world.generations.get_mut(generation), self.on_server) {
            made.database = Rc::default();
        }
        drop(world);
        self.point()
    }

    fn read_back(&self, _: SnapshotId) -> Result<u64, Failure> {
        self.point()?;
        Ok(4096)
    }

    fn discard_generation(&self, name: &GenerationName) -> Result<(), Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        assert!(world.live[&name.site] != name.number, "the live generation would be discarded");
        world.generations.remove(name);
        drop(world);
        self.point()
    }

    fn facts(&self, of: &GenerationName) -> Result<Facts, Failure> {
        let platform = testing::platform(self.world.borrow().generations[of].platform.as_str());
        Ok(Facts {
            generation: of.clone(),
            is_clone: of.site != site(),
            place: Place::new(&platform, Lane::A, &of.site),
            platform: platform.name,
            uri: format!("http://{}", of.site),
            run: String::new(),
            step: String::new(),
            php: "php".to_owned(),
        })
    }

    fn run_command(
        &self,
        request: &CommandRequest,
        output: &mut dyn FnMut(&str),
    ) -> Result<CommandEnd, Failure> {
        self.point()?;
        output(&format!("{} for {}", request.line, request.environment["SITEFS_STEP"]));
        let change = |change: &dyn Fn(&Made, &mut Database) -> bool| {
            let mut world = self.world.borrow_mut();
            let held = world.holds.values().any(|(held, locks)| *locks && *held == request.generation);
            let is_live = world.live[&request.generation.site] == request.generation.number;
            let failing = self.live_checks_fail.get() && is_live && request.generation.number > 1;
            let made = world.generations.get_mut(&request.generation).unwrap();
            let writes = request.line != "check" && request.line != "the given check";
            change(made, &mut made.database.borrow_mut())
                && made.complete
                && made.writable
                && !(writes && held)
                && !failing
        };
        let succeeded = match request.line.as_str() {
            "read-only on" | "read-only off" => change(&|_, database| {
                database.read_only_mode = request.line == "read-only on";
                true
            }),
            "close" | "open" => change(&|_, database| {
                database.closed = request.line == "close";
                true
            }),
            // Like many an application's update, it cannot go on from where it was cut off.
            "update" => {
                let began = change(&|_, database| {
                    let ready = !database.half_updated && !database.read_only_mode;
                    database.half_updated = true;
                    ready && database.schema == 1
                });
                self.point()?;
                began
                    && change(&|_, database| {
                        database.half_updated = false;
                        database.schema = 2;
                        true
                    })
            }
            "rebuild" => change(&|_, database| !database.read_only_mode),
            "check" | "the given check" => change(&|made, database| {
                let schema = if made.platform.as_str() == "two" { 2 } else { 1 };
                let shown = !database.closed || request.environment["SITEFS_STEP"] != "live-checks";
                database.schema == schema && !database.half_updated && shown
            }),
            other => panic!("no such command: {other}"),
        };
        self.point()?;
        Ok(CommandEnd::Status(i32::from(!succeeded)))
    }

    fn run_hooks(&self, request: &HookRequest, output: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let asked = (request.step, request.moment);
        output(&format!("hook {} {}", request.moment, request.environment["SITEFS_STEP"]));
        match self.failing_hook.get() {
            Some(failing) if failing == asked => Err("the hook failed".into()),
            _ => Ok(()),
        }
    }

    fn fetch_page(&self, request: &PageRequest) -> Result<Option<Page>, Failure> {
        self.point()?;
        let world = self.world.borrow();
        let of = &request.generation;
        let is_live = world.live[&of.site] == of.number && of.site == site();
        assert_eq!(request.by == Pages::WebServer, is_live, "a web server knows the live site alone");
        let asked = self.pages_asked.get();
        self.pages_asked.set(asked + 1);
        let status = if self.pages_that_fail.borrow().contains(&asked) { 500 } else { 200 };
        Ok(Some(Page { status, body: format!("{} says hello", world.generations[of].platform) }))
    }

    fn compare(&self, _: SnapshotId, _: &GenerationName) -> Result<Changes, Failure> {
        self.point()?;
        Ok(Changes::default())
    }

    fn wait_for_lane(&self, _: &SiteName, _: &PlatformName) -> Result<(), Failure> {
        self.point()
    }

    fn wait_for_last_writers(&self, _: &GenerationName) -> Result<(), Failure> {
        self.point()
    }

    fn hold_writes(&self, generation: &GenerationName) -> Result<HoldId, Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        world.holds_given += 1;
        let id = world.holds_given;
        world.holds.insert(id, (generation.clone(), true));
        drop(world);
        match self.point() {
            Ok(()) => Ok(HoldId(id)),
            Err(failure) => {
                self.world.borrow_mut().holds.remove(&id);
                Err(failure)
            }
        }
    }

    fn hold_requests(&self, generation: &GenerationName) -> Result<HoldId, Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        world.holds_given += 1;
        let id = world.holds_given;
        world.holds.insert(id, (generation.clone(), false));
        Ok(HoldId(id))
    }

    fn is_held(&self, hold: HoldId) -> bool {
        self.world.borrow().holds.contains_key(&hold.0)
    }

    fn release_writes(&self, hold: HoldId) -> Result<(), Failure> {
        self.point()?;
        let mut world = self.world.borrow_mut();
        if let Some((of, false)) = world.holds.remove(&hold.0)
            && world.live[&of.site] == of.number
        {
            let refuses = world.generations[&of].database.borrow().read_only_mode;
            self.let_through.borrow_mut().push(refuses);
        }
        drop(world);
        self.point()
    }

    fn live_generation(&self, site: &SiteName) -> Result<u64, Failure> {
        self.point()?;
        Ok(self.world.borrow().live[site])
    }

    fn switch_live(&self, switch: &Switch) -> Result<(), Failure> {
        self.point()?;
        let name = |number| GenerationName { site: switch.site.clone(), number };
        let set_writable = |number, writable| {
            self.world.borrow_mut().generations.get_mut(&name(number)).unwrap().writable = writable;
        };
        set_writable(switch.from, switch.drains_writable);
        let held = switch.hold.is_none_or(|hold| self.is_held(hold));
        if let (true, Ok(())) = (held, self.point()) {
            let mut world = self.world.borrow_mut();
            world.live.insert(switch.site.clone(), switch.to);
            world.visited.insert(switch.to);
            drop(world);
            set_writable(switch.to, true);
            // The transaction is durable, and yet the answer may be an error.
            return self.point();
        }
        set_writable(switch.from, true);
        Err("the pointer was not moved".into())
    }
}

impl Journal for Model {
    fn begin(&self, run: &Run) -> Result<(), UpdateError> {
        assert!(self.world.borrow().claim.is_none());
        self.save(run)
    }

    fn save(&self, run: &Run) -> Result<(), UpdateError> {
        self.point().map_err(|failure| UpdateError::Refused(failure.to_string()))?;
        let key = Run::key(&run.site, &run.id);
        let mut world = self.world.borrow_mut();
        world.runs.insert(key.clone(), run.clone());
        world.claim = (!run.state.is_final()).then_some(key);
        drop(world);
        // Here the daemon can be killed; an error would say that the transaction has not happened.
        let _ = self.point();
        Ok(())
    }

    fn save_output(&self, _: &Run, place: usize, output: &StepOutput) -> Result<(), UpdateError> {
        self.point().map_err(|failure| UpdateError::Refused(failure.to_string()))?;
        self.world.borrow_mut().outputs.insert(format!("{place:02}"), output.text.clone());
        Ok(())
    }

    fn unfinished(&self, _: &SiteName) -> Result<Option<Run>, UpdateError> {
        let world = self.world.borrow();
        Ok(world.claim.as_ref().map(|key| world.runs[key].clone()))
    }

    fn list(&self, _: &SiteName) -> Result<Vec<Run>, UpdateError> {
        let world = self.world.borrow();
        Ok(world.runs.values().cloned().collect())
    }
}
