//! The verbs that change which generation is live: cutover, rollback, deploy.

use std::collections::VecDeque;
use std::time::Instant;

use super::Daemon;
use super::generations::NewGeneration;
use super::holding::WriteHold;
use crate::base::SiteName;
use crate::control::response::{Deployed, Switched};
use crate::control::{At, Caller, Events, Failure, Target, request};
use crate::history::{PlatformBinding, Refs, SnapshotId};
use crate::site::{Command, Generation, GenerationName, GenerationState, Platform, Site};
use crate::trees::Root;
use crate::update::{CommandEnd, CommandRequest};

/// How many of the last lines that a command printed are told when it fails.
const LINES_IN_FAILURE: usize = 10;

impl Daemon {
    /// `cutover`. To a platform alone: its newest generation of the site, with its database, or the first one, made of the
    /// site as it is now. To the site as it is now (`--to SITE@live`): a new generation in any case.
    pub(super) fn cutover(
        &self,
        caller: &Caller,
        request: &request::Cutover,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        let _lock = self.lock_site(&request.site, "cutover")?;
        let _spare = self.spare_for(&request.site);
        let site = self.site(&request.site)?;
        let live = self.live_generation(&site.name)?;
        match (&request.to, &request.platform) {
            (None, None) => {
                let newest = self.releases(&site.name)?.pop().expect("the live generation is one of them");
                if newest.name == live.name {
                    return Err(Failure::usage(format!("generation {} is the newest, and live", live.name))
                        .hint("say what to switch to: --platform P, or --to GENERATION or SITE@ID"));
                }
                self.switch_to(&site, &live, &newest.name, events)
            }
            (Some(target), platform) => {
                let platform = platform.as_ref().map(|name| self.platform(name)).transpose()?;
                match target {
                    Target::Revision(now) if now.at == At::Live && now.site == site.name => {
                        let platform = platform.map_or_else(|| self.platform(&live.platform), Ok)?;
                        if !request.allow_downgrade {
                            self.refuse_downgrade(&site, &live.platform, &platform)?;
                        }
                        self.move_to_platform(caller, &site, &live, &platform, events)
                    }
                    _ => {
                        if let (Target::Revision(revision), Some(platform), false) =
                            (target, &platform, request.allow_downgrade)
                        {
                            let of = self.load_snapshot(self.resolve_snapshot(revision)?)?.platform;
                            of.map_or(Ok(()), |of| self.refuse_downgrade(&site, &of.name, platform))?;
                        }
                        self.switch_to_target(&site, &live, target, platform, events)
                    }
                }
            }
            (None, Some(platform)) => {
                let platform = self.platform(platform)?;
                if platform.name == live.platform {
                    return Err(Failure::usage(format!(
                        "site {} is on platform {} already",
                        site.name, platform.name
                    ))
                    .hint("say which state to switch to: --to GENERATION or SITE@ID"));
                }
                let made = self.releases(&site.name)?;
                match made.iter().rev().find(|generation| generation.platform == platform.name) {
                    Some(newest) => {
                        let newest = Target::Generation(newest.name.number);
                        self.switch_to_target(&site, &live, &newest, None, events)
                    }
                    None => {
                        if !request.allow_downgrade {
                            self.refuse_downgrade(&site, &live.platform, &platform)?;
                        }
                        self.move_to_platform(caller, &site, &live, &platform, events)
                    }
                }
            }
        }
    }

    /// `rollback`.
    pub(super) fn rollback(
        &self,
        caller: &Caller,
        request: &request::Rollback,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        let _lock = self.lock_site(&request.site, "rollback")?;
        let _spare = self.spare_for(&request.site);
        let site = self.site(&request.site)?;
        let live = self.live_generation(&site.name)?;
        let target = match &request.to {
            Some(target) => target.clone(),
            None => Target::Generation(self.previous(&site)?),
        };
        if request.code_only {
            self.code_only(caller, &site, &live, &target, events)
        } else {
            self.switch_to_target(&site, &live, &target, None, events)
        }
    }

    /// The generation of a site that was live before. One that an update was switched back from is none.
    fn previous(&self, site: &Site) -> Result<u64, Failure> {
        self.last_live(&site.name)?.ok_or_else(|| {
            Failure::usage(format!("site {} has had no other generation to go back to", site.name)).hint(
                format!(
                    "go back to a snapshot: sitefs rollback {0} --to {0}@ID; sitefs log {0} lists them",
                    site.name
                ),
            )
        })
    }

    /// Makes a generation with the code of another state, and the database of the live one, and switches to it.
    fn code_only(
        &self,
        caller: &Caller,
        site: &Site,
        live: &Generation,
        target: &Target,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        let started = Instant::now();
        let (code, platform, of) = match target {
            Target::Generation(number) => {
                let generation =
                    self.generation(&GenerationName { site: site.name.clone(), number: *number })?;
                if generation.name == live.name {
                    return Err(Failure::usage(format!("generation {} is live already", live.name)));
                }
                let root = self.take(site, &generation, None, || ())?.root;
                (root, self.platform(&generation.platform)?, format!("generation {number}"))
            }
            Target::Revision(revision) => {
                let snapshot = self.resolve_snapshot(revision)?;
                let root = self.load_snapshot(snapshot)?.root;
                (root, self.platform_of_snapshot(snapshot, live)?, revision.to_string())
            }
        };
        self.wait_for_lane(&site.name, &platform.name, events)?;
        let _waiting = self.let_writers_wait(live)?;
        let hold = self.hold_writes(live)?;
        let captured = self.take_and_copy(site, live, Some(&hold), u64::MAX, events)?;
        let root = self.with_state_of(site, code, &captured.root)?;
        let binding = PlatformBinding { name: platform.name.clone(), code: platform.code };
        let captured = super::capture::Captured { root, platform: binding, ..captured };
        let message = format!("the code of {of} with the database of generation {}", live.name.number);
        let snapshot = self.register(caller, site, live, captured, &message, None)?;
        let next = self.generation_from(site, snapshot, &platform)?;
        let switch_seconds = self.switch_held(site, live, &next, hold, events)?;
        self.switched(&site.name, live, &next.name, started, switch_seconds)
    }

    /// The tree `whole` with the state (the database and what goes with it, the data directories) of another.
    fn with_state_of(&self, site: &Site, mut whole: Root, of: &Root) -> Result<Root, Failure> {
        let trees = &self.store.trees;
        for file in site.database_files() {
            whole = self.with_directory_for(&whole, file, of, file)?;
        }
        for path in site.state_paths() {
            whole = trees.replace_at(&whole, &path, trees.entry_at(of, &path)?)?;
        }
        // As those belong to the database, so they come with it.
        for path in self.recipe(site)?.moved.values() {
            if trees.entry_at(of, path)?.is_some() {
                whole = trees.graft(&whole, path, of, path)?;
            }
        }
        for path in &site.data {
            whole = match trees.entry_at(of, path)? {
                Some(_) => trees.graft(&whole, path, of, path)?,
                None => trees.replace_at(&whole, path, None)?,
            };
        }
        Ok(whole)
    }

    /// `deploy`: the directory's code with the live site's database and data.
    pub(super) fn deploy(
        &self,
        caller: &Caller,
        request: &request::Deploy,
        events: &dyn Events,
    ) -> Result<Deployed, Failure> {
        let started = Instant::now();
        let _lock = self.lock_site(&request.site, "deploy")?;
        let _spare = self.spare_for(&request.site);
        let site = self.site(&request.site)?;
        let live = self.live_generation(&site.name)?;
        let platform = self.platform(&live.platform)?;
        let whole = self.import_code(&site, &request.directory, events)?;
        self.wait_for_lane(&site.name, &platform.name, events)?;
        let _waiting = self.let_writers_wait(&live)?;
        let hold = self.hold_writes(&live)?;
        let captured = self.take_and_copy(&site, &live, Some(&hold), u64::MAX, events)?;
        let whole = self.with_state_of(&site, whole, &captured.root)?;
        let message =
            request.message.clone().unwrap_or_else(|| format!("deploy of {}", request.directory.display()));
        let name = self.reserve_generation(&site.name)?;
        let with_settings = self.with_settings(&site, &name, &platform, &whole)?;
        if let Some(reason) = with_settings.not_included {
            events.warn(format!("the deployed settings do not include those of sitefs: {reason}"));
        }
        let captured = super::capture::Captured { root: with_settings.root, ..captured };
        let snapshot = self.register(caller, &site, &live, captured, &message, None)?;
        let next = self.prepare_generation(&site, &name, snapshot, &platform)?;
        let switch_seconds = self.switch_held(&site, &live, &next, hold, events)?;
        Ok(Deployed {
            switched: self.switched(&site.name, &live, &next.name, started, switch_seconds)?,
            snapshot: self.snapshot_summary(snapshot)?,
        })
    }

    /// Makes a generation of a site from a snapshot, on a platform.
    pub(super) fn generation_from(
        &self,
        site: &Site,
        snapshot: SnapshotId,
        platform: &Platform,
    ) -> Result<Generation, Failure> {
        let name = self.reserve_generation(&site.name)?;
        self.prepare_generation(site, &name, snapshot, platform)
    }

    /// Makes the generation `name` of a site from a snapshot, on a platform; one that is there already stays.
    pub(super) fn prepare_generation(
        &self,
        site: &Site,
        name: &GenerationName,
        snapshot: SnapshotId,
        platform: &Platform,
    ) -> Result<Generation, Failure> {
        let recorded = self.load_snapshot(snapshot)?;
        let split = crate::site::layout::split(&self.store.trees, &recorded.root, &site.name, &site.data)?;
        let is_made = self.store.catalog.get::<Generation>(&name.key())?.is_some();
        let shares = self.is_database_shared(name)?;
        if Daemon::is_on_server(site) && !is_made && !shares {
            let made =
                self.make_database(&name.key(), &site.name, site, snapshot, recorded.database.as_ref());
            if let Err(failure) = made {
                self.drop_database(&name.key())?;
                return Err(failure);
            }
        }
        let code = self.with_settings(site, name, platform, &split.code)?.root;
        let refs = Refs::new(&self.store.catalog);
        let is_listed = refs.resolve(&recorded.site, &snapshot.to_string()).is_ok();
        let snapshot = Some(snapshot).filter(|_| is_listed);
        self.make_generation(&NewGeneration { name: name.clone(), code, platform, snapshot })
    }

    fn switch_to_target(
        &self,
        site: &Site,
        live: &Generation,
        target: &Target,
        platform: Option<Platform>,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        match target {
            Target::Generation(number) => {
                let name = GenerationName { site: site.name.clone(), number: *number };
                let generation = self.generation(&name)?;
                if let Some(platform) = platform.filter(|platform| platform.name != generation.platform) {
                    return Err(Failure::usage(format!(
                        "generation {name} is on platform {}, not {}",
                        generation.platform, platform.name
                    ))
                    .hint("leave --platform out, or name a snapshot with --to SITE@ID"));
                }
                if Daemon::is_on_server(site) && self.server_database(&name)?.is_none() {
                    let snapshot = self.snapshot_before_taking_over(live, &name)?;
                    return self.switch_to_snapshot(site, live, snapshot, None, events);
                }
                self.switch_to(site, live, &name, events)
            }
            Target::Revision(revision) => {
                let snapshot = self.resolve_snapshot(revision)?;
                self.switch_to_snapshot(site, live, snapshot, platform, events)
            }
        }
    }

    /// Makes a generation of a snapshot, on its own platform unless another is given, and switches to it.
    fn switch_to_snapshot(
        &self,
        site: &Site,
        live: &Generation,
        snapshot: SnapshotId,
        platform: Option<Platform>,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        let platform = match platform {
            Some(platform) => platform,
            None => self.platform_of_snapshot(snapshot, live)?,
        };
        self.wait_for_lane(&site.name, &platform.name, events)?;
        let next = self.generation_from(site, snapshot, &platform)?;
        self.switch_to(site, live, &next.name, events)
    }

    /// The snapshot of a generation whose database the live one has taken over in an update in place.
    fn snapshot_before_taking_over(
        &self,
        live: &Generation,
        of: &GenerationName,
    ) -> Result<SnapshotId, Failure> {
        let taken = live.snapshot.filter(|taken| {
            let snapshot = self.load_snapshot(*taken);
            snapshot.is_ok_and(|snapshot| snapshot.generation == Some(of.number))
        });
        taken.ok_or_else(|| {
            Failure::refused(format!("generation {of} has no database any more"))
                .because_of("an update in place has updated it for the generation that came next")
                .hint(format!(
                    "go back to a snapshot: sitefs rollback {0} --to {0}@ID; sitefs log {0} lists them",
                    of.site
                ))
        })
    }

    /// The platform a snapshot's site stood on, or the live one where that is no longer there.
    fn platform_of_snapshot(&self, snapshot: SnapshotId, live: &Generation) -> Result<Platform, Failure> {
        let binding = self.load_snapshot(snapshot)?.platform;
        let recorded = match binding {
            Some(binding) => self.store.catalog.get(binding.name.as_str())?,
            None => None,
        };
        recorded.map_or_else(|| self.platform(&live.platform), Ok)
    }

    /// Switches to an existing generation. The old generation's writes are held until it is read-only.
    fn switch_to(
        &self,
        site: &Site,
        live: &Generation,
        to: &GenerationName,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        let started = Instant::now();
        if &live.name == to {
            return Err(Failure::usage(format!("generation {to} is live already")));
        }
        let retired = self.generation(to)?;
        if retired.state == GenerationState::Abandoned {
            return Err(Failure::refused(format!(
                "generation {to} was switched back from, and is being discarded"
            ))
            .hint(format!("what it held is in a snapshot, if anything was: sitefs log {}", site.name)));
        }
        if !retired.is_shown() {
            self.wait_for_lane(&site.name, &retired.platform, events)?;
        }
        let next = self.show_generation(to)?;
        let _waiting = self.let_writers_wait(live)?;
        let hold = match self.recipe(site)?.locks_database() {
            true => self.hold_writes(live)?,
            false => self.hold_nothing(live)?,
        };
        let switch_seconds = self.switch_held(site, live, &next, hold, events)?;
        self.switched(&site.name, live, to, started, switch_seconds)
    }

    /// Moves a site as it is now to another platform.
    fn move_to_platform(
        &self,
        caller: &Caller,
        site: &Site,
        live: &Generation,
        platform: &Platform,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        let started = Instant::now();
        self.wait_for_lane(&site.name, &platform.name, events)?;
        let _waiting = self.let_writers_wait(live)?;
        let hold = self.hold_writes(live)?;
        let captured = self.take_and_copy(site, live, Some(&hold), u64::MAX, events)?;
        captured.warn_of_unstable(events);
        let message = format!("before the move from {} to {}", live.platform, platform.name);
        let snapshot = self.register(caller, site, live, captured, &message, None)?;
        let next = self.generation_from(site, snapshot, platform)?;
        let switch_seconds = self.switch_held(site, live, &next, hold, events)?;
        self.switched(&site.name, live, &next.name, started, switch_seconds)
    }

    /// Switches from a generation whose writes are held, and lets go of it. A failure takes back what was made for it.
    pub(super) fn switch_held(
        &self,
        site: &Site,
        live: &Generation,
        next: &Generation,
        hold: WriteHold,
        events: &dyn Events,
    ) -> Result<f64, Failure> {
        let switched =
            self.switch_live(&site.name, live.name.number, next.name.number, hold.lets_write(), &|| {
                hold.check()
            });
        match switched {
            Ok(_) => {
                self.release_when_drained(hold);
                if let Err(failure) = self.end_holding_mode(site, &next.name) {
                    let GenerationName { site, number } = &next.name;
                    events.warn(format!(
                        "generation {number} of {site} is live, but may be in read-only mode still: {failure}"
                    ));
                }
            }
            Err(_) => {
                // The reason that counts is the switch's own: a hold that ended too early is often just that.
                if let Err(failure) = hold.release() {
                    log::warn!("{}: the end of the hold of writes: {}", live.name, failure.message);
                }
                if next.state == GenerationState::Prepared {
                    self.discard_generation(&next.name)?;
                }
            }
        }
        switched
    }

    /// Takes a generation out of the mode that the application is in while writes are held. An update leaves the old
    /// generation in it, as that is read-only from then on; and so are snapshots of what is held.
    pub(super) fn end_holding_mode(&self, site: &Site, of: &GenerationName) -> Result<(), Failure> {
        let recipe = self.recipe(site)?;
        let Some(mode) = recipe.holding_mode().filter(|_| !site.read_only) else { return Ok(()) };
        self.run_recipe_command(site, of, &mode.off, "", &mut |_| ())
    }

    /// Runs one command of a site's recipe outside of a run; it must succeed.
    pub(super) fn run_recipe_command(
        &self,
        site: &Site,
        of: &GenerationName,
        command: &Command,
        step: &str,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let recipe = self.recipe(site)?;
        let generation = self.generation(of)?;
        let platform = self.platform(&generation.platform)?;
        let mut facts = self.facts_on(site, of, &platform, generation.lane)?;
        step.clone_into(&mut facts.step);
        let request = CommandRequest {
            generation: of.clone(),
            line: command.run.clone(),
            user: recipe.user.clone(),
            environment: facts.environment(&recipe.environment),
            timeout_seconds: recipe.timeout_seconds_of(command),
        };
        let mut printed = VecDeque::new();
        let end = self.run_command(&request, &mut |line| {
            output(line);
            printed.push_back(line.to_owned());
            if printed.len() > LINES_IN_FAILURE {
                printed.pop_front();
            }
        })?;
        let why = match end {
            CommandEnd::Status(0) => return Ok(()),
            CommandEnd::Status(status) => format!("ended with status {status}"),
            CommandEnd::Signal(signal) => format!("was ended by signal {signal}"),
            CommandEnd::TimedOut => format!("took longer than {} s and was killed", request.timeout_seconds),
        };
        let last = Vec::from(printed).join("\n");
        Err(Failure::failed(format!("`{}` {why}", request.line.trim())).because_of(if last.is_empty() {
            "it printed nothing".to_owned()
        } else {
            last
        }))
    }

    fn switched(
        &self,
        site: &SiteName,
        from: &Generation,
        to: &GenerationName,
        started: Instant,
        switch_seconds: f64,
    ) -> Result<Switched, Failure> {
        Ok(Switched {
            site: site.clone(),
            from: self.generation_ref(from)?,
            to: self.generation_ref(&self.generation(to)?)?,
            seconds: started.elapsed().as_secs_f64(),
            switch_seconds,
        })
    }
}
