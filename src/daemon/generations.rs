//! Generations: making them, switching between them, taking them away.

use std::time::Instant;

use super::Daemon;
use super::draining::{forget_departure, note_departure};
use crate::base::{Lane, PlatformName, SiteName, Timestamp};
use crate::control::Failure;
use crate::control::response::GenerationRef;
use crate::database::ServerDatabase;
use crate::history::{SnapshotId, Transaction, VOLUME_COUNTER};
use crate::live::{Access, Volume, VolumeNumber};
use crate::site::{Generation, GenerationName, GenerationState, LivePointer, Place, Platform, Site};
use crate::trees::Root;

/// What a new generation is made of.
pub(super) struct NewGeneration<'a> {
    /// Its name, reserved before.
    pub(super) name: GenerationName,
    /// What its code volume stands on.
    pub(super) code: Root,
    /// Where it is to be seen.
    pub(super) platform: &'a Platform,
    /// The snapshot it is made from.
    pub(super) snapshot: Option<SnapshotId>,
}

impl Daemon {
    /// Sets the next generation number of a site aside. Durable.
    pub(super) fn reserve_generation(&self, site: &SiteName) -> Result<GenerationName, Failure> {
        let counter = GenerationName::counter(site);
        let number = self.store.catalog.write(|tx| tx.next_number(&counter).map_err(Failure::from))?;
        Ok(GenerationName { site: site.clone(), number })
    }

    /// Makes a generation in the state `Prepared`, reachable at its platform when this returns. One with this name
    /// that is there already is left as it is: an earlier attempt made it.
    pub(super) fn make_generation(&self, new: &NewGeneration<'_>) -> Result<Generation, Failure> {
        let key = new.name.key();
        // What a record refers to is durable before the record is.
        self.store.trees.objects.flush()?;
        let (generation, gone) = self.store.catalog.write(|tx| {
            if let Some(made) = tx.get::<Generation>(&key)? {
                return Ok::<_, Failure>((made, Vec::new()));
            }
            // It may have been removed since it was looked up: platforms have no lock.
            if tx.get::<Platform>(new.platform.name.as_str())?.is_none() {
                return Err(Failure::refused(format!("platform {} is being removed", new.platform.name)));
            }
            let others = tx.list::<Generation>(&GenerationName::prefix(&new.name.site))?;
            let lane = free_lane(others.iter().map(|(_, other)| other), &new.platform.name);
            let gone = make_room(tx, others, &new.platform.name, lane)?;
            let generation = Generation {
                name: new.name.clone(),
                volume: volume_number(tx.next_number(VOLUME_COUNTER)?)?,
                base: new.code.clone(),
                platform: new.platform.name.clone(),
                lane,
                created: Timestamp::now(),
                state: GenerationState::Prepared,
                snapshot: new.snapshot,
                platform_code: new.platform.code,
            };
            tx.put(&key, &generation)?;
            Ok((generation, gone))
        })?;
        self.show_volume(generation.volume, &generation.base, Access::Writable)?;
        self.publish_site(&new.name.site)?;
        self.take_away(gone)?;
        Ok(generation)
    }

    /// Takes a generation away that is not live; one that was, when the requests that began on it have ended. No error when
    /// it is not there.
    pub(super) fn discard_generation(&self, name: &GenerationName) -> Result<(), Failure> {
        let key = name.key();
        let found = self.store.catalog.get::<Generation>(&key)?;
        let is_draining = found.map_or(Ok(false), |generation| self.is_draining(&generation))?;
        let removed = self.store.catalog.write(|tx| {
            let pointer = tx.get::<LivePointer>(name.site.as_str())?;
            if pointer.is_some_and(|pointer| pointer.generation == name.number) {
                return Err(Failure::refused(format!("generation {name} is live")));
            }
            let generation = tx.get::<Generation>(&key)?;
            if is_draining && let Some(mut generation) = generation {
                generation.state = GenerationState::Abandoned;
                tx.put(&key, &generation)?;
                return Ok(None);
            }
            tx.remove::<Generation>(&key)?;
            forget_departure(tx, &key)?;
            Ok(generation)
        })?;
        if is_draining {
            return Ok(());
        }
        if let Some(generation) = removed {
            self.publish_site(&name.site)?;
            return self.take_away(vec![generation]);
        }
        self.drop_database(&key)
    }

    /// Takes away what generations had that have no record any more. A crash before leaves it to the next start.
    fn take_away(&self, gone: Vec<Generation>) -> Result<(), Failure> {
        for generation in gone {
            self.discard_volume(generation.volume)?;
            self.drop_database(&generation.name.key())?;
        }
        Ok(())
    }

    /// Moves the live pointer from one generation to another of the same site: durable when this returns, and
    /// every path leads to the new one. Returns how long the switch itself took, in seconds.
    ///
    /// The old generation is made read-only first, so that a write which waits for a lock is refused afterwards
    /// and never accepted where nobody will read it; `still_held` is asked after that, and an error takes
    /// everything back. With `drains_writable` that comes later, when its requests have ended.
    pub(super) fn switch_live(
        &self,
        site: &SiteName,
        from: u64,
        to: u64,
        drains_writable: bool,
        still_held: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        let (old_name, new_name) = (name(site, from), name(site, to));
        let (old, new) = (self.generation(&old_name)?, self.generation(&new_name)?);
        if self.live_pointer(site)?.generation == to {
            return Ok(0.0);
        }
        let live_access = self.live_access(&self.site(site)?);
        let old_volume = self.volume(old.volume)?;
        let new_volume = self.volume(new.volume)?;
        let closed = self.set_database_writable(&new_name, live_access == Access::Writable);
        // One that both have is not closed: it is what the new generation writes to.
        let (old_database, new_database) =
            (self.server_database(&old_name)?, self.server_database(&new_name)?);
        let is_same = |old: &ServerDatabase| new_database.as_ref().is_some_and(|new| new.at == old.at);
        if !drains_writable {
            old_volume.set_access(Access::ReadOnly);
        }
        let closed = match drains_writable || old_database.as_ref().is_some_and(is_same) {
            true => closed,
            false => closed.and_then(|()| self.set_database_writable(&old_name, false)),
        };
        if let Err(failure) = closed.and_then(|()| still_held()) {
            self.reopen(&old_name, &old_volume, live_access);
            return Err(failure);
        }
        new_volume.set_access(live_access);
        let started = Instant::now();
        let switched = self.store.catalog.write(|tx| {
            let pointer = tx.get::<LivePointer>(site.as_str())?;
            if pointer.is_none_or(|pointer| pointer.generation != from) {
                return Err(Failure::failed(format!("{old_name} is not live any more")));
            }
            let states = [(&old_name, GenerationState::Previous), (&new_name, GenerationState::Live)];
            for (name, state) in states {
                let generation: Option<Generation> = tx.get(&name.key())?;
                let mut generation = generation.ok_or_else(|| no_generation(name))?;
                generation.state = state;
                tx.put(&name.key(), &generation)?;
            }
            let now = Timestamp::now();
            let pointer = LivePointer { generation: to, previous: Some(from), switched: now };
            tx.put(site.as_str(), &pointer)?;
            note_departure(tx, &old_name, now)
        });
        if let Err(failure) = switched {
            new_volume.set_access(access(new.state));
            self.reopen(&old_name, &old_volume, live_access);
            return Err(failure);
        }
        self.publish_site(site)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Gives a generation that stays live the access it had.
    fn reopen(&self, name: &GenerationName, volume: &Volume, access: Access) {
        volume.set_access(access);
        if let Err(failure) = self.set_database_writable(name, access == Access::Writable) {
            log::error!("{name} stays live, but its database takes no writes: {}", failure.message);
        }
    }

    /// Shows a generation again that a newer one has pushed out of view, in a lane that is not the live one's.
    pub(super) fn show_generation(&self, name: &GenerationName) -> Result<Generation, Failure> {
        let (generation, gone) = self.store.catalog.write(|tx| {
            let mut generation: Generation = tx.get(&name.key())?.ok_or_else(|| no_generation(name))?;
            if generation.is_shown() {
                return Ok::<_, Failure>((generation, Vec::new()));
            }
            let others = tx.list::<Generation>(&GenerationName::prefix(&name.site))?;
            generation.lane = free_lane(others.iter().map(|(_, other)| other), &generation.platform);
            let gone = make_room(tx, others, &generation.platform, generation.lane)?;
            generation.state = GenerationState::Previous;
            tx.put(&name.key(), &generation)?;
            Ok((generation, gone))
        })?;
        self.publish_site(&name.site)?;
        self.take_away(gone)?;
        Ok(generation)
    }

    /// The record of a generation.
    pub(super) fn generation(&self, name: &GenerationName) -> Result<Generation, Failure> {
        self.store.catalog.get(&name.key())?.ok_or_else(|| no_generation(name))
    }

    /// All generations of a site, oldest first.
    pub(super) fn generations(&self, site: &SiteName) -> Result<Vec<Generation>, Failure> {
        let listed = self.store.catalog.list::<Generation>(&GenerationName::prefix(site))?;
        Ok(listed.into_iter().map(|(_, generation)| generation).collect())
    }

    /// The live pointer of a site.
    pub(super) fn live_pointer(&self, site: &SiteName) -> Result<LivePointer, Failure> {
        self.store.catalog.get(site.as_str())?.ok_or_else(|| {
            Failure::failed(format!("site {site} has no live generation"))
                .because_of("its import or clone was interrupted")
                .hint(format!("remove what is left of it: sitefs site remove {site} --force"))
        })
    }

    /// The live generation of a site.
    pub(super) fn live_generation(&self, site: &SiteName) -> Result<Generation, Failure> {
        let pointer = self.live_pointer(site)?;
        self.generation(&name(site, pointer.generation))
    }

    /// A generation as answers name it.
    pub(super) fn generation_ref(&self, generation: &Generation) -> Result<GenerationRef, Failure> {
        let platform = self.platform(&generation.platform)?;
        Ok(GenerationRef {
            generation: generation.name.number,
            platform: generation.platform.clone(),
            document_root: platform.docroot_in(generation.lane).display().to_string(),
        })
    }

    /// Where a generation is found.
    pub(super) fn place(&self, generation: &Generation) -> Result<Place, Failure> {
        let platform = self.platform(&generation.platform)?;
        Ok(Place::new(&platform, generation.lane, &generation.name.site))
    }

    /// The record of a site.
    pub(super) fn site(&self, name: &SiteName) -> Result<Site, Failure> {
        self.store.catalog.get(name.as_str())?.ok_or_else(|| {
            Failure::usage(format!("there is no site {name}")).hint("see the sites: sitefs site list")
        })
    }

    /// The record of a platform.
    pub(super) fn platform(&self, name: &PlatformName) -> Result<Platform, Failure> {
        self.store.catalog.get(name.as_str())?.ok_or_else(|| {
            Failure::usage(format!("there is no platform {name}")).hint(format!(
                "see the platforms: sitefs platform list; add one: sitefs platform add {name} DIR"
            ))
        })
    }
}

/// Takes what a lane shows of a site out of view, for a newcomer. Returns what was to be discarded anyway: its records are gone.
fn make_room(
    transaction: &mut Transaction<'_>,
    others: Vec<(String, Generation)>,
    platform: &PlatformName,
    lane: Lane,
) -> Result<Vec<Generation>, Failure> {
    let mut gone = Vec::new();
    for (key, mut other) in others {
        if &other.platform != platform || other.lane != lane || !other.is_shown() {
            continue;
        }
        if other.state == GenerationState::Abandoned {
            transaction.remove::<Generation>(&key)?;
            forget_departure(transaction, &key)?;
            gone.push(other);
        } else {
            other.state = GenerationState::Retired;
            transaction.put(&key, &other)?;
        }
    }
    Ok(gone)
}

/// Which access the volume of a generation in this state has.
pub(super) fn access(state: GenerationState) -> Access {
    match state {
        GenerationState::Prepared | GenerationState::Live => Access::Writable,
        GenerationState::Previous | GenerationState::Retired | GenerationState::Abandoned => Access::ReadOnly,
    }
}

/// A volume number from the counter.
pub(super) fn volume_number(number: u64) -> Result<u32, Failure> {
    u32::try_from(number).ok().filter(|number| VolumeNumber::is_valid(*number)).ok_or_else(|| {
        Failure::failed("the store has given out all its volume numbers")
            .hint("move the sites to a new store: sitefs init, then sitefs site import")
    })
}

/// The lane of a platform that does not show the site's live generation. When neither does: the one that is unused, the
/// first before the second; else the one that shows the older generation, as requests of the younger may be running.
pub(super) fn free_lane<'a>(others: impl Iterator<Item = &'a Generation>, platform: &PlatformName) -> Lane {
    let shown: Vec<&Generation> =
        others.filter(|other| &other.platform == platform && other.is_shown()).collect();
    let used = |lane: Lane| shown.iter().any(|other| other.lane == lane);
    let live = shown.iter().find(|other| other.state == GenerationState::Live);
    let oldest = shown.iter().min_by_key(|other| other.name.number);
    match (live, oldest) {
        (Some(live), _) => live.lane.other(),
        (None, Some(oldest)) if used(Lane::A) && used(Lane::B) => oldest.lane,
        (None, _) if used(Lane::A) => Lane::B,
        (None, _) => Lane::A,
    }
}

fn name(site: &SiteName, number: u64) -> GenerationName {
    GenerationName { site: site.clone(), number }
}

fn no_generation(name: &GenerationName) -> Failure {
    Failure::usage(format!("there is no generation {name}"))
        .hint(format!("see the generations: sitefs site show {}", name.site))
}
