//! Interrupted updates at the daemon's start: sites whose writes were held take them again, and undoing that had begun
//! is finished. A run that was going forward waits for a person.
//!
//! That runs commands of recipes, which may hang: so commands are answered meanwhile, and `status` says what goes on.
//! A site has its lock from before the first command is answered until it is settled.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Daemon;
use super::locks::SiteLock;
use super::operations::RunOperations;
use crate::base::SiteName;
use crate::base::process::kill_by_environment;
use crate::control::{Caller, Event, Events, Failure, Gone};
use crate::site::Site;
use crate::update::{self, Engine, Run, Wish, unfinished_runs};

/// What a site's lock is taken for.
pub(super) const SETTLING: &str = "settling of the interrupted update";

/// How often it is looked whether a site is settled.
const POLL: Duration = Duration::from_millis(20);

/// How long a command may take to end when the daemon stops; then it is killed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The work, and what ends it.
pub(super) struct Settling {
    runs: Vec<Run>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Takes the locks of all sites with an interrupted run; to be done before commands are answered.
    pub(super) fn sites_to_settle(&self) -> Result<Vec<(Run, SiteLock)>, Failure> {
        let mut found = Vec::new();
        for run in unfinished_runs(&self.store.catalog)? {
            // One without a site was removed by force, or has its record damaged.
            if self.store.catalog.get::<Site>(run.site.as_str())?.is_none() {
                continue;
            }
            if run.is_half_updated() {
                // What is written to such a database is not there any more when it was restored.
                self.set_window(&run.site, true)?;
            }
            let lock = self.locks.take(&run.site, SETTLING)?;
            found.push((run, lock));
        }
        Ok(found)
    }

    /// Settles sites in a thread of its own.
    pub(super) fn settle(self: &Arc<Self>, sites: Vec<(Run, SiteLock)>) -> Settling {
        let runs = sites.iter().map(|(run, _)| run.clone()).collect();
        if sites.is_empty() {
            return Settling { runs, thread: None };
        }
        let daemon = Arc::clone(self);
        let work = move || sites.into_iter().for_each(|(run, lock)| daemon.settle_site(&run.site, lock));
        match std::thread::Builder::new().name("settle".to_owned()).spawn(work) {
            Ok(thread) => Settling { runs, thread: Some(thread) },
            Err(error) => {
                log::error!("interrupted updates are not settled: {error}");
                Settling { runs, thread: None }
            }
        }
    }

    fn settle_site(&self, site: &SiteName, _lock: SiteLock) {
        let caller = Caller { uid: 0, user: "sitefs".to_owned() };
        let operations = RunOperations::new(self, &caller, &Unwatched);
        let log = |event: update::Event| log::info!("{event:?}");
        let wish = || if self.is_stopping() { Wish::Suspend } else { Wish::Continue };
        let engine =
            Engine { operations: &operations, journal: &self.store.catalog, events: &log, wish: &wish };
        if self.is_stopping() {
            return;
        }
        let _referring = self.store.trees.objects.referring();
        match engine.settle(site) {
            Ok(run) => {
                if !run.obstacle.is_empty() {
                    log::warn!("the interrupted update of {site}: {}", run.obstacle);
                }
                if let Err(failure) = self.close_window_unless_held(site) {
                    log::error!("the interrupted update of {site}: {}", failure.message);
                }
            }
            Err(error) => log::error!("the interrupted update of {site}: {error}"),
        }
    }

    /// The right to go on with the interrupted run of a site, once the site is settled.
    pub(super) fn take_when_settled(
        &self,
        site: &SiteName,
        events: &dyn Events,
    ) -> Result<SiteLock, Failure> {
        let mut told = false;
        loop {
            let refusal = match self.locks.take(site, "update") {
                Ok(lock) => return Ok(lock),
                Err(refusal) => refusal,
            };
            let is_settling = self.locks.held().get(site).is_some_and(|what| what == SETTLING);
            if !is_settling || events.cancelled() || self.is_stopping() {
                return Err(refusal);
            }
            if !told {
                events.warn(format!("waiting for the {SETTLING} of {site}"));
                told = true;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Settling {
    /// Waits for the end, the daemon being about to stop: a command that takes long is killed, and its site is settled
    /// at the next start.
    pub(super) fn stop(self) {
        let Some(thread) = self.thread else { return };
        let begun = Instant::now();
        let mut killed = false;
        while !thread.is_finished() && begun.elapsed() < 2 * STOP_GRACE {
            if begun.elapsed() > STOP_GRACE && !killed {
                killed = true;
                for run in &self.runs {
                    kill_by_environment("SITEFS_RUN", run.id.as_str());
                }
            }
            std::thread::sleep(POLL);
        }
        if thread.is_finished() {
            if thread.join().is_err() {
                log::error!("the thread that settled interrupted updates panicked");
            }
        } else {
            log::warn!("an interrupted update could not be settled in time");
        }
    }
}

/// Events of work that nobody asked for just now.
pub(super) struct Unwatched;

impl Events for Unwatched {
    fn send(&self, event: Event) {
        match event {
            Event::Progress { .. } => {}
            event => log::info!("{event:?}"),
        }
    }

    fn data(&self, _bytes: &[u8]) -> Result<(), Gone> {
        Err(Gone)
    }

    fn input(&self, _buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(0)
    }

    fn cancelled(&self) -> bool {
        false
    }
}
