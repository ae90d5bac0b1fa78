//! The verb that clones a site.

use std::time::Instant;

use super::Daemon;
use super::generations::{NewGeneration, volume_number};
use super::runs::Proof;
use crate::base::{SiteName, Timestamp};
use crate::control::response::SiteCloned;
use crate::control::{At, Caller, Event, Events, Failure, request};
use crate::history::{Refs, SnapshotId, VOLUME_COUNTER};
use crate::live::Access;
use crate::site::{
    Command, Generation, GenerationName, GenerationState, LivePointer, Platform, Recipe, Site, SiteKind,
    WithSettings, layout,
};
use crate::trees::Root;
use crate::update::Journal;

/// What a clone is made of.
pub(super) struct NewClone<'a> {
    /// Its name.
    pub(super) name: &'a SiteName,
    /// The snapshot it shows.
    pub(super) snapshot: SnapshotId,
    /// Where it is to be seen.
    pub(super) platform: &'a Platform,
    /// When it may be deleted.
    pub(super) expires: Option<Timestamp>,
    /// Whether it keeps its database.
    pub(super) database: bool,
}

/// The most that is copied of a live database as files, in bytes: writers of the origin wait for it, for three seconds where this
/// was measured.
const FILES_BYTES_MAX: u64 = 1 << 30;

/// What sanitize commands are told to be a step of.
const SANITIZE: &str = "sanitize";

impl Daemon {
    /// `clone`.
    pub(super) fn site_clone(
        &self,
        caller: &Caller,
        request: &request::SiteClone,
        events: &dyn Events,
    ) -> Result<SiteCloned, Failure> {
        let started = Instant::now();
        let _lock = self.lock_site(&request.new, "clone")?;
        if self.store.catalog.get::<Site>(request.new.as_str())?.is_some() {
            return Err(Failure::refused(format!("there is a site {} already", request.new))
                .hint("choose another name, or remove it: sitefs site remove"));
        }
        let origin = self.site(&request.from.site)?;
        if request.sanitize {
            sanitize_commands(&self.recipe(&origin)?)?;
        }
        let live = self.live_generation(&origin.name)?;
        let of = match request.from.at {
            At::Live => None,
            _ => Some(self.resolve_snapshot(&request.from)?),
        };
        let used_with = match of.map(|snapshot| self.load_snapshot(snapshot)).transpose()? {
            Some(snapshot) => snapshot.platform.map(|binding| binding.name),
            None => None,
        };
        let used_with = used_with.unwrap_or_else(|| live.platform.clone());
        let platform = self.platform(request.platform.as_ref().unwrap_or(&used_with))?;
        if request.database && !request.allow_downgrade {
            self.refuse_downgrade(&origin, &used_with, &platform)?;
        }
        let mut spare = None;
        let snapshot = match of {
            None => {
                let origin_lock = self.lock_site(&origin.name, "clone")?;
                let captured = match (request.database, request.verify) {
                    (true, false) => self.take_and_copy(&origin, &live, None, FILES_BYTES_MAX, events)?,
                    (true, true) => self.capture(&origin, &live, None)?,
                    (false, _) => self.capture_without_database(&origin, &live)?,
                };
                captured.warn_of_unstable(events);
                let message = format!("cloned as {}", request.new);
                let snapshot = self.store_unlisted(caller, &origin, &live, captured, &message)?;
                // Reading a dump takes long, and needs nothing of the origin.
                spare = self.has_spare(&origin.name).then(|| (self.spare_for(&origin.name), origin_lock));
                snapshot
            }
            Some(snapshot) => {
                if request.verify {
                    self.verify_snapshot(snapshot, Proof::Dropped)?;
                }
                snapshot
            }
        };
        let now = Timestamp::now();
        let expires = request.expires.map(|span| now.after(span));
        let prepared = self.prepare_clone(&NewClone {
            name: &request.new,
            snapshot,
            platform: &platform,
            expires,
            database: request.database,
        })?;
        drop(spare);
        let site = self.site(&request.new)?;
        if let Err(failure) = self.finish_clone(&site, &prepared, snapshot, request.sanitize, events) {
            self.remove_site(&site)?;
            return Err(failure);
        }
        let generation = self.make_first_live(&prepared)?;
        Ok(SiteCloned {
            site: self.site_summary(&site)?,
            snapshot: (request.from.at != At::Live).then(|| snapshot.to_string()),
            path: self.place(&generation)?.site.display().to_string(),
            database: self.database_info(&site, &generation)?,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// What a clone needs before it is handed out. Until then no link leads to it, and what a crash leaves of it is
    /// not a site.
    fn finish_clone(
        &self,
        site: &Site,
        prepared: &Generation,
        snapshot: SnapshotId,
        sanitize: bool,
        events: &dyn Events,
    ) -> Result<(), Failure> {
        if self.was_held(site, snapshot)? {
            self.end_holding_mode(site, &prepared.name)?;
        }
        if sanitize {
            self.sanitize(site, prepared, events)?;
        }
        Ok(())
    }

    /// Whether a snapshot is of a state in which an update held writes, so that the application refuses them there.
    fn was_held(&self, clone: &Site, snapshot: SnapshotId) -> Result<bool, Failure> {
        let SiteKind::Clone { of, .. } = &clone.kind else { return Ok(false) };
        let runs = Journal::list(&self.store.catalog, of)?;
        Ok(runs.iter().any(|run| run.frozen == Some(snapshot) || run.left_behind == Some(snapshot)))
    }

    /// Runs the recipe's commands that take out of a copy what it must not have.
    fn sanitize(&self, site: &Site, generation: &Generation, events: &dyn Events) -> Result<(), Failure> {
        let recipe = self.recipe(site)?;
        for command in sanitize_commands(&recipe)? {
            self.run_recipe_command(site, &generation.name, command, SANITIZE, &mut |line| {
                events.send(Event::Output { line: line.to_owned() });
            })?;
        }
        Ok(())
    }

    /// Makes a clone, or finishes the one of this name that a crash left. Costs the same whatever the site's size.
    pub(super) fn make_clone(&self, new: &NewClone<'_>) -> Result<Generation, Failure> {
        let prepared = self.prepare_clone(new)?;
        self.make_first_live(&prepared)
    }

    fn prepare_clone(&self, new: &NewClone<'_>) -> Result<Generation, Failure> {
        if let Some(left) = self.store.catalog.get::<Site>(new.name.as_str())? {
            // Nothing of a clone is worth keeping before it was handed out.
            self.remove_site(&left)?;
        }
        let snapshot = self.load_snapshot(new.snapshot)?;
        let refs = Refs::new(&self.store.catalog);
        let is_listed = refs.resolve(&snapshot.site, &new.snapshot.to_string()).is_ok();
        let origin = self.site(&snapshot.site)?;
        let mut whole = snapshot.root.clone();
        let database = origin.database.clone().filter(|_| new.database && snapshot.database.is_some());
        if database.is_none() {
            for path in origin.state_paths() {
                whole = self.store.trees.replace_at(&whole, &path, None)?;
            }
        }
        let split = layout::split(&self.store.trees, &whole, new.name, &snapshot.data)?;
        // What a record refers to is durable before the record is.
        self.store.trees.objects.flush()?;
        let (site, name) = self.store.catalog.write(|tx| {
            let number = tx.next_number(&GenerationName::counter(new.name))?;
            let site = Site {
                name: new.name.clone(),
                kind: SiteKind::Clone {
                    of: snapshot.site.clone(),
                    snapshot: new.snapshot,
                    expires: new.expires,
                },
                created: Timestamp::now(),
                data: split.directories.clone(),
                data_volume: volume_number(tx.next_number(VOLUME_COUNTER)?)?,
                data_base: split.data.clone(),
                database,
                read_only: false,
                settings: Default::default(),
                ..origin.clone()
            };
            tx.put(new.name.as_str(), &site)?;
            Ok::<_, Failure>((site, GenerationName { site: new.name.clone(), number }))
        })?;
        self.show_volume(site.data_volume, &site.data_base, Access::Writable)?;
        if Daemon::is_on_server(&site) {
            let recorded = snapshot.database.as_ref();
            if let Err(failure) = self.make_database(&name.key(), &site.name, &origin, new.snapshot, recorded)
            {
                self.remove_site(&site)?;
                return Err(failure);
            }
        }
        let code = self.with_settings(&site, &name, new.platform, &split.code)?.root;
        self.make_generation(&NewGeneration {
            name: name.clone(),
            code,
            platform: new.platform,
            snapshot: Some(new.snapshot).filter(|_| is_listed),
        })
    }

    /// Makes a site's first generation the live one.
    pub(super) fn make_first_live(&self, made: &Generation) -> Result<Generation, Failure> {
        let generation = self.store.catalog.write(|tx| {
            let generation = Generation { state: GenerationState::Live, ..made.clone() };
            tx.put(&made.name.key(), &generation)?;
            let pointer =
                LivePointer { generation: made.name.number, previous: None, switched: Timestamp::now() };
            tx.put(made.name.site.as_str(), &pointer)?;
            Ok::<_, Failure>(generation)
        })?;
        self.publish_site(&made.name.site)?;
        Ok(generation)
    }

    /// The tree of a generation, whole or its code alone, with the recipe's settings file for it. Nothing changes in
    /// a tree that has it.
    pub(super) fn with_settings(
        &self,
        site: &Site,
        name: &GenerationName,
        platform: &Platform,
        root: &Root,
    ) -> Result<WithSettings, Failure> {
        let recipe = self.recipe(site)?;
        let Some(settings) = &recipe.settings else {
            return Ok(WithSettings { root: root.clone(), not_included: None });
        };
        let facts = self.facts_on(site, name, platform, crate::base::Lane::A)?;
        let database = self.database_facts(name)?;
        let text = settings.render(&facts, site.database_files().first(), database.as_ref());
        let written = settings.write(&self.store.trees, root, &text, Timestamp::now())?;
        if let Some(reason) = &written.not_included {
            log::warn!("{name}: {} is not included by the site's own settings: {reason}", settings.file);
        }
        Ok(written)
    }
}

/// The commands that take out of a copy what it must not have; an error where the recipe has none.
fn sanitize_commands(recipe: &Recipe) -> Result<&[Command], Failure> {
    recipe.sanitize.as_ref().map(|sanitize| sanitize.commands.as_slice()).ok_or_else(|| {
        Failure::refused(format!("the recipe {} has no [sanitize] commands", recipe.name)).hint(
            "write them in a recipe of your own, as docs/recipes.md shows; or clone without --sanitize, with all that \
             is in the site's database",
        )
    })
}
