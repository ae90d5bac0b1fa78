//! When a lane may show another generation.
//!
//! What a request has begun with must not change under its path. A lane that was left goes on showing the generation
//! that was live there, until the longest request has ended and what PHP remembers of paths is forgotten: after a
//! time that the administrator sets, and then until nothing of the generation is open any more, which is waited for
//! as long again, five times at most: a process may keep something open for ever.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Daemon;
use super::generations::{access, free_lane};
use crate::base::{PlatformName, SiteName, Timestamp};
use crate::control::{Events, Failure};
use crate::history::{Record, Transaction};
use crate::live::Access;
use crate::site::{Generation, GenerationName, GenerationState};

/// How often it is looked whether a lane is free.
const POLL: Duration = Duration::from_millis(50);

/// How many times the drain time open files are waited for, the first included.
const OPEN_TIMES_MAX: u32 = 6;

/// When a generation was live for the last time. The key is the generation's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Departure {
    at: Timestamp,
}

impl Record for Departure {
    const TABLE: &'static str = "departures";
    const VERSION: u8 = 1;
}

/// Writes down that a generation is no longer live.
pub(super) fn note_departure(
    transaction: &mut Transaction<'_>,
    name: &GenerationName,
    at: Timestamp,
) -> Result<(), Failure> {
    Ok(transaction.put(&name.key(), &Departure { at })?)
}

/// Forgets it with the generation.
pub(super) fn forget_departure(transaction: &mut Transaction<'_>, key: &str) -> Result<(), Failure> {
    transaction.remove::<Departure>(key)?;
    Ok(())
}

impl Daemon {
    /// Whether requests that began on a generation may still be running.
    pub(super) fn is_draining(&self, generation: &Generation) -> Result<bool, Failure> {
        let drain = self.options.drain;
        let was_live = matches!(generation.state, GenerationState::Previous | GenerationState::Abandoned);
        if !was_live || drain.is_zero() {
            return Ok(false);
        }
        let Some(departure) = self.store.catalog.get::<Departure>(&generation.name.key())? else {
            return Ok(false);
        };
        let since = Timestamp::now().seconds_since(departure.at);
        // One that cannot be shown has nothing open.
        let open = self.volume(generation.volume).is_ok_and(|volume| volume.open_files() > 0);
        let limit = drain.as_secs_f64() * if open { f64::from(OPEN_TIMES_MAX) } else { 1.0 };
        Ok(since < limit)
    }

    /// The generations that were left writable until their requests had drained, or were abandoned, and have. After a crash
    /// it may be their databases alone that are writable.
    fn drained_open(&self, site: &SiteName) -> Result<Vec<Generation>, Failure> {
        let mut drained = Vec::new();
        for generation in self.generations(site)? {
            if access(generation.state) == Access::Writable || self.is_draining(&generation)? {
                continue;
            }
            // One that the live generation has taken over stays open.
            let is_open = self.server_database(&generation.name)?.is_some_and(|database| !database.is_closed)
                && !self.is_database_shared(&generation.name)?;
            let is_abandoned = generation.state == GenerationState::Abandoned;
            if is_open || is_abandoned || self.volume(generation.volume)?.access() == Access::Writable {
                drained.push(generation);
            }
        }
        Ok(drained)
    }

    /// Makes them read-only, and discards those that were abandoned.
    pub(super) fn close_drained(&self, site: &SiteName) -> Result<(), Failure> {
        if self.drained_open(site)?.is_empty() {
            return Ok(());
        }
        let _lock = self.lock_site(site, "closing a generation that is no longer live")?;
        for generation in self.drained_open(site)? {
            if generation.state == GenerationState::Abandoned {
                self.discard_generation(&generation.name)?;
                continue;
            }
            if !self.is_database_shared(&generation.name)? {
                self.set_database_writable(&generation.name, false)?;
            }
            self.volume(generation.volume)?.set_access(Access::ReadOnly);
        }
        Ok(())
    }

    /// The generations of a site that are to be had, the oldest first: not those that an update was switched back from.
    pub(super) fn releases(&self, site: &SiteName) -> Result<Vec<Generation>, Failure> {
        let mut generations = self.generations(site)?;
        generations.retain(|generation| generation.state != GenerationState::Abandoned);
        Ok(generations)
    }

    /// The generation that was live before the one that is, of those that are to be gone back to.
    pub(super) fn last_live(&self, site: &SiteName) -> Result<Option<u64>, Failure> {
        let pointer = self.live_pointer(site)?;
        let mut last = None;
        for generation in self.generations(site)? {
            let number = generation.name.number;
            if !matches!(generation.state, GenerationState::Previous | GenerationState::Retired) {
                continue;
            }
            if pointer.previous == Some(number) {
                return Ok(Some(number));
            }
            if let Some(departure) = self.store.catalog.get::<Departure>(&generation.name.key())? {
                last = last.max(Some((departure.at, number)));
            }
        }
        Ok(last.map(|(_, number)| number))
    }

    /// Waits until the lane that the next generation of a site on a platform will get has drained. To be done before
    /// writes are held. A clock that was set back makes nobody wait longer.
    pub(super) fn wait_for_lane(
        &self,
        site: &SiteName,
        platform: &PlatformName,
        events: &dyn Events,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut told = false;
        while begun.elapsed() < self.options.drain * OPEN_TIMES_MAX {
            let generations = self.generations(site)?;
            let lane = free_lane(generations.iter(), platform);
            let in_the_way = generations
                .iter()
                .find(|other| other.is_shown() && &other.platform == platform && other.lane == lane);
            let Some(old) = in_the_way else { return Ok(()) };
            if !self.is_draining(old)? {
                if old.state == GenerationState::Abandoned {
                    self.discard_generation(&old.name)?;
                    continue;
                }
                return Ok(());
            }
            if events.cancelled() || self.is_stopping() {
                return Err(Failure::failed(format!(
                    "requests of generation {} may still be running",
                    old.name
                ))
                .because_of(format!("the next generation on {platform} needs the place where it is shown"))
                .hint("repeat the command in a minute"));
            }
            if !told {
                told = true;
                events.warn(format!(
                    "waiting until requests that began on generation {} have ended: up to {} s, or as long as something \
                     of it is open (drain_seconds in config.toml)",
                    old.name,
                    self.options.drain.as_secs()
                ));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}
