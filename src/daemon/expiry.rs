//! Clones that were made for a limited time are removed when it is over.
//!
//! Never while somebody uses one: a command or a run that has the site, an unfinished update whose rehearsal it is, a
//! process that has one of its files open for writing. Then it is looked at again later.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Daemon;
use crate::base::{SiteName, Timestamp};
use crate::control::Failure;
use crate::site::{Generation, GenerationName, Site, SiteKind};
use crate::update::{Journal, unfinished_runs};

/// How often it is looked for expired clones.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked whether the daemon stops.
const STOP_POLL: Duration = Duration::from_millis(50);

/// Why a clone whose time is over is still there.
pub(super) enum Use {
    /// A command or a run has it.
    Busy,
    /// So many of its files are open for writing.
    Open(usize),
}

impl Daemon {
    /// Looks for expired clones until the daemon stops.
    pub(super) fn watch_expiry(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let daemon = Arc::clone(self);
        let watch = move || {
            let mut looked = Instant::now();
            while !daemon.is_stopping() {
                if looked.elapsed() >= INTERVAL {
                    if let Err(failure) = daemon.remove_expired(Timestamp::now()) {
                        log::error!("expired clones cannot be removed: {}", failure.message);
                    }
                    looked = Instant::now();
                }
                std::thread::sleep(STOP_POLL);
            }
        };
        match std::thread::Builder::new().name("expiry".to_owned()).spawn(watch) {
            Ok(thread) => Some(thread),
            Err(error) => {
                log::error!("expired clones are not removed: {error}");
                None
            }
        }
    }

    fn remove_expired(&self, now: Timestamp) -> Result<(), Failure> {
        for (_, listed) in self.store.catalog.list::<Site>("")? {
            if expires(&listed).is_none_or(|time| time > now) {
                continue;
            }
            let Ok(_lock) = self.lock_site(&listed.name, "removal of the expired clone") else { continue };
            // Another site may have got the name before it was locked.
            let Some(site) = self.store.catalog.get::<Site>(listed.name.as_str())? else { continue };
            if site != listed || self.use_of(&site)?.is_some() {
                continue;
            }
            log::info!("the clone {} has expired and is removed", site.name);
            // One that cannot be removed keeps no other from being so.
            if let Err(failure) = self.remove_site(&site) {
                log::error!("the expired clone {}: {}", site.name, failure.message);
            }
        }
        Ok(())
    }

    /// What keeps a clone from being removed, but for the lock of its site.
    fn use_of(&self, site: &Site) -> Result<Option<Use>, Failure> {
        if self.is_rehearsal(&site.name)? {
            return Ok(Some(Use::Busy));
        }
        let generations = self.store.catalog.list::<Generation>(&GenerationName::prefix(&site.name))?;
        let volumes = generations.iter().map(|(_, generation)| generation.volume).chain([site.data_volume]);
        let open: usize =
            volumes.filter_map(|number| self.volume(number).ok()).map(|v| v.writers().len()).sum();
        Ok(if open > 0 { Some(Use::Open(open)) } else { None })
    }

    /// Whether an unfinished update rehearses on this clone.
    fn is_rehearsal(&self, name: &SiteName) -> Result<bool, Failure> {
        Ok(unfinished_runs(&self.store.catalog)?.iter().any(|run| run.clone == *name))
    }

    /// What is to be said about clones whose time is over and that are still there, one sentence each.
    pub(super) fn expiry_notices(&self, now: Timestamp) -> Result<Vec<String>, Failure> {
        let mut notices = Vec::new();
        for (_, site) in self.store.catalog.list::<Site>("")? {
            if expires(&site).is_none_or(|time| time > now) {
                continue;
            }
            let name = &site.name;
            let busy =
                self.locks.held().contains_key(name) || self.store.catalog.refuse_if_busy(name).is_err();
            let when = match if busy { Some(Use::Busy) } else { self.use_of(&site)? } {
                Some(Use::Busy) => "when the work on it has ended".to_owned(),
                Some(Use::Open(files)) => {
                    format!("when nobody writes to it any more; files open for writing: {files}")
                }
                None => "in a moment".to_owned(),
            };
            notices.push(format!("the clone {name} has expired and is removed {when}"));
        }
        Ok(notices)
    }
}

fn expires(site: &Site) -> Option<Timestamp> {
    match &site.kind {
        SiteKind::Clone { expires, .. } => *expires,
        SiteKind::Live => None,
    }
}
