//! The verbs that change which generation is live: cutover, rollback, deploy.

use std::time::Instant;

use super::Daemon;
use super::generations::NewGeneration;
use crate::base::SiteName;
use crate::control::response::{Deployed, Switched};
use crate::control::{At, Caller, Events, Failure, Target, request};
use crate::history::SnapshotId;
use crate::site::{Generation, GenerationName, GenerationState, Platform, Site};
use crate::update::{CommandEnd, CommandRequest};

impl Daemon {
    /// `cutover`. To a platform alone: its newest generation of the site, or the first one, made of the site as it is
    /// now. To the site as it is now (`--to SITE@live`): a new generation in any case.
    pub(super) fn cutover(
        &self,
        caller: &Caller,
        request: &request::Cutover,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        let _lock = self.lock_site(&request.site, "cutover")?;
        let site = self.site(&request.site)?;
        let live = self.live_generation(&site.name)?;
        match (&request.to, &request.platform) {
            (None, None) => {
                let newest = self.generations(&site.name)?.pop().expect("the live generation is one of them");
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
                        self.move_to_platform(caller, &site, &live, &platform, events)
                    }
                    _ => self.switch_to_target(&site, &live, target, platform, events),
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
                let made = self.generations(&site.name)?;
                match made.iter().rev().find(|generation| generation.platform == platform.name) {
                    Some(newest) => self.switch_to(&site, &live, &newest.name, events),
                    None => self.move_to_platform(caller, &site, &live, &platform, events),
                }
            }
        }
    }

    /// `rollback`.
    pub(super) fn rollback(
        &self,
        request: &request::Rollback,
        events: &dyn Events,
    ) -> Result<Switched, Failure> {
        let _lock = self.lock_site(&request.site, "rollback")?;
        let site = self.site(&request.site)?;
        let live = self.live_generation(&site.name)?;
        if let Some(target) = &request.to {
            return self.switch_to_target(&site, &live, target, None, events);
        }
        let pointer = self.live_pointer(&site.name)?;
        let previous = pointer.previous.ok_or_else(|| {
            Failure::usage(format!("site {} has had no other generation to go back to", site.name)).hint(
                format!(
                    "go back to a snapshot: sitefs rollback {0} --to {0}@ID; sitefs log {0} lists them",
                    site.name
                ),
            )
        })?;
        self.switch_to(&site, &live, &GenerationName { site: site.name.clone(), number: previous }, events)
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
        let site = self.site(&request.site)?;
        let live = self.live_generation(&site.name)?;
        let platform = self.platform(&live.platform)?;
        let mut whole = self.import_code(&site, &request.directory, events)?;
        let hold = self.hold_writes(&live)?;
        let captured = self.take(&site, &live, Some(&hold))?;
        for path in site.state_paths() {
            let entry = self.store.trees.entry_at(&captured.root, &path)?;
            whole = self.store.trees.replace_at(&whole, &path, entry)?;
        }
        let message =
            request.message.clone().unwrap_or_else(|| format!("deploy of {}", request.directory.display()));
        let captured = super::capture::Captured { root: whole, ..captured };
        let snapshot = self.register(caller, &site, &live, captured, &message, None)?;
        let next = self.generation_from(&site, snapshot, &platform)?;
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
        let whole = self.load_snapshot(snapshot)?.root;
        let split = crate::site::layout::split(&self.store.trees, &whole, &site.name, &site.data)?;
        let code = self.code_with_settings(site, name, platform, split.code)?;
        self.make_generation(&NewGeneration { name: name.clone(), code, platform, snapshot: Some(snapshot) })
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
                self.switch_to(site, live, &name, events)
            }
            Target::Revision(revision) => {
                let snapshot = self.resolve_snapshot(revision)?;
                let platform = match platform {
                    Some(platform) => platform,
                    None => self.platform_of_snapshot(snapshot, live)?,
                };
                let next = self.generation_from(site, snapshot, &platform)?;
                self.switch_to(site, live, &next.name, events)
            }
        }
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
        let next = self.show_generation(to)?;
        let hold = self.hold_writes(live)?;
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
        let hold = self.hold_writes(live)?;
        let captured = self.take(site, live, Some(&hold))?;
        captured.warn_of_unstable(events);
        let message = format!("before the move from {} to {}", live.platform, platform.name);
        let snapshot = self.register(caller, site, live, captured, &message, None)?;
        let next = self.generation_from(site, snapshot, platform)?;
        let switch_seconds = self.switch_held(site, live, &next, hold, events)?;
        self.switched(&site.name, live, &next.name, started, switch_seconds)
    }

    fn switch_held(
        &self,
        site: &Site,
        live: &Generation,
        next: &Generation,
        hold: super::capture::WriteHold,
        events: &dyn Events,
    ) -> Result<f64, Failure> {
        let switched = self.switch_live(&site.name, live.name.number, next.name.number, &|| hold.check());
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
                hold.release()?;
                if next.state == GenerationState::Prepared {
                    self.discard_generation(&next.name)?;
                }
            }
        }
        switched
    }

    /// Takes a generation that has become live out of the mode that the application is in while writes are held. An
    /// update leaves the old generation in it, as that is read-only from then on; and so are snapshots of what is
    /// held.
    fn end_holding_mode(&self, site: &Site, of: &GenerationName) -> Result<(), Failure> {
        let recipe = self.recipe(site)?;
        let Some(mode) = recipe.holding_mode().filter(|_| !site.read_only) else { return Ok(()) };
        let generation = self.generation(of)?;
        let platform = self.platform(&generation.platform)?;
        let facts = self.facts_on(site, of, &platform, generation.lane)?;
        let request = CommandRequest {
            generation: of.clone(),
            line: mode.off.run.clone(),
            user: recipe.user.clone(),
            environment: facts.environment(&recipe.environment),
            timeout_seconds: recipe.timeout_seconds_of(&mode.off),
        };
        let mut printed = String::new();
        let end = self.run_command(&request, &mut |line| {
            printed.push_str(line);
            printed.push('\n');
        })?;
        match end {
            CommandEnd::Status(0) => Ok(()),
            _ => Err(Failure::failed(format!("`{}` failed", request.line)).because_of(printed)),
        }
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
