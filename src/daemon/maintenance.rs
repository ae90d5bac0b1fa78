//! What is done without anybody asking: snapshots on a schedule, retention, garbage collection.
//!
//! One thread, which does one thing after the other, each as the command of the same name: so it is subject to the same
//! locks and refusals. What fails is tried again later, and said in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Daemon;
use super::settling::Unwatched;
use crate::base::{SiteName, Span, Timestamp};
use crate::control::request::{Gc, Keep, Prune, SnapshotTake};
use crate::control::{Caller, Failure, Handler, Request};
use crate::history::{Record, Refs};
use crate::site::{LivePointer, Site, SiteKind};

/// How often it is looked whether something is due.
const ROUND: Duration = Duration::from_secs(30);

/// How often it is looked meanwhile whether the daemon is to stop.
const POLL: Duration = Duration::from_millis(100);

/// How long after a failure the same is tried again.
const RETRY: Duration = Duration::from_secs(15 * 60);

/// What is done without anybody asking. What is not set is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// How old the newest snapshot of a site that is no clone may become before one is taken.
    pub snapshots: Option<Span>,
    /// Which snapshots of a site are kept when one was taken on schedule; without a number all are.
    pub keep: Keep,
    /// How often space is reclaimed.
    pub collect: Option<Span>,
}

/// When space was last reclaimed. The key is `latest`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LastCollection {
    ended: Timestamp,
}

impl Record for LastCollection {
    const TABLE: &'static str = "collections";
    const VERSION: u8 = 1;
}

const LATEST: &str = "latest";

/// When what failed is tried again.
#[derive(Default)]
struct Retries(BTreeMap<String, Timestamp>);

impl Retries {
    /// Does `work`, called `what`, unless it failed a short time ago.
    fn attempt(&mut self, what: String, work: impl FnOnce() -> Result<(), Failure>) {
        let now = Timestamp::now();
        if self.0.get(&what).is_some_and(|failed| now.seconds_since(*failed) < RETRY.as_secs_f64()) {
            return;
        }
        match work() {
            Ok(()) => {
                self.0.remove(&what);
            }
            Err(failure) => {
                log::warn!("{what}, on schedule: {}: {}", failure.message, failure.causes.join(": "));
                self.0.insert(what, now);
            }
        }
    }
}

/// Whether `span` has passed since `last`; at once when there was no last time.
fn is_due(span: Span, last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_none_or(|last| now.seconds_since(last) >= span.seconds() as f64)
}

impl Daemon {
    /// Starts the thread. It ends soon after the daemon is to stop.
    pub(super) fn maintain(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let daemon = Arc::clone(self);
        let work = move || {
            let mut retries = Retries::default();
            loop {
                let mut waited = Duration::ZERO;
                while waited < ROUND {
                    if daemon.is_stopping() {
                        return;
                    }
                    std::thread::sleep(POLL);
                    waited += POLL;
                }
                daemon.do_what_is_due(&mut retries, Timestamp::now());
            }
        };
        match std::thread::Builder::new().name("maintenance".to_owned()).spawn(work) {
            Ok(thread) => Some(thread),
            Err(error) => {
                log::error!("nothing is done on schedule: {error}");
                None
            }
        }
    }

    fn do_what_is_due(&self, retries: &mut Retries, now: Timestamp) {
        let sites = match self.store.catalog.list::<Site>("") {
            Ok(sites) => sites,
            Err(error) => return log::error!("nothing is done on schedule: {error}"),
        };
        for (_, site) in sites {
            if self.is_stopping() {
                return;
            }
            let name = &site.name;
            // A site that somebody is changing has its turn in the next round.
            if self.locks.held().contains_key(name) {
                continue;
            }
            retries.attempt(format!("closing what is no longer live of {name}"), || self.close_drained(name));
            if site.kind == SiteKind::Live {
                let snapshot = || self.scheduled_snapshot(name, now);
                retries.attempt(format!("the snapshot of {name}"), snapshot);
            }
        }
        if let Some(span) = self.options.schedule.collect {
            retries.attempt("reclaiming space".to_owned(), || self.scheduled_collection(span, now));
        }
    }

    /// A snapshot of a site when one is due, and then what retention says of the others.
    fn scheduled_snapshot(&self, site: &SiteName, now: Timestamp) -> Result<(), Failure> {
        let Some(span) = self.options.schedule.snapshots else { return Ok(()) };
        let newest = Refs::new(&self.store.catalog).newest(site)?.map(|record| record.created);
        let is_there = self.store.catalog.get::<LivePointer>(site.as_str())?.is_some();
        if !is_there || !is_due(span, newest, now) {
            return Ok(());
        }
        let message = Some("on schedule".to_owned());
        self.ask(SnapshotTake { site: site.clone(), message, tag: None, database: true })?;
        if self.options.schedule.keep != Keep::default() {
            self.ask(Prune { site: site.clone(), keep: None, dry_run: false })?;
        }
        Ok(())
    }

    fn scheduled_collection(&self, span: Span, now: Timestamp) -> Result<(), Failure> {
        let last = self.store.catalog.get::<LastCollection>(LATEST)?.map(|last| last.ended);
        if !is_due(span, last, now) {
            return Ok(());
        }
        self.ask(Gc {})?;
        let record = LastCollection { ended: Timestamp::now() };
        self.store.catalog.write(|tx| Ok(tx.put(LATEST, &record)?))
    }

    fn ask(&self, request: impl Into<Request>) -> Result<(), Failure> {
        let caller = Caller { uid: 0, user: "sitefs".to_owned() };
        self.handle(&caller, request.into(), &Unwatched).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_done_and_what_fails_waits() {
        let now = Timestamp::from_parts(1_000_000, 0);
        let hour: Span = "1h".parse().unwrap();
        assert!(is_due(hour, None, now));
        assert!(is_due(hour, Some(Timestamp::from_parts(1_000_000 - 3_600, 0)), now));
        assert!(!is_due(hour, Some(Timestamp::from_parts(1_000_000 - 3_599, 0)), now));
        let mut retries = Retries::default();
        let mut count = 0;
        for fails in [false, false, true, false] {
            retries.attempt("it".to_owned(), || {
                count += 1;
                if fails { Err(Failure::failed("no")) } else { Ok(()) }
            });
        }
        assert_eq!(count, 3, "what failed just now is not tried again at once");
    }
}
