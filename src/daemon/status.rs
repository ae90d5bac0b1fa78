//! The verbs on the daemon itself.

use std::sync::atomic::Ordering;

use super::Daemon;
use super::settling::SETTLING;
use crate::base::process::own_id;
use crate::base::{SiteName, Timestamp};
use crate::control::Failure;
use crate::control::response::{MountStatus, Space, StatusReport, Stopping};
use crate::site::{Generation, LivePointer, Platform, Site};
use crate::update::{Journal, RunState, newest_runs, unfinished_runs};

/// How many ended runs `status` tells of, beside those under way and interrupted.
const RUNS_ENDED_SHOWN_MAX: usize = 5;

impl Daemon {
    /// `status`.
    pub(super) fn status(&self) -> Result<StatusReport, Failure> {
        let platforms = self.store.catalog.list::<Platform>("")?;
        let sites = self.store.catalog.list::<Site>("")?;
        let mut mounts = vec![MountStatus {
            path: self.root.display().to_string(),
            shows: "namespace".to_owned(),
            mounted: self.is_mounted(),
        }];
        mounts.extend(platforms.iter().flat_map(|(_, platform)| self.platform_mounts(&platform.name)));
        let mut problems: Vec<String> = mounts
            .iter()
            .filter(|mount| !mount.mounted)
            .map(|mount| format!("{} ({}) is not mounted: restart the daemon", mount.path, mount.shows))
            .collect();
        let damaged = self.damaged_records()?;
        let mut runs = unfinished_runs(&self.store.catalog)?;
        for (_, site) in &sites {
            let newest = newest_runs(&self.store.catalog, &site.name, RUNS_ENDED_SHOWN_MAX)?;
            runs.extend(newest.into_iter().filter(|run| run.state.is_final()));
            if self.store.catalog.get::<LivePointer>(site.name.as_str())?.is_none()
                && !self.locks.held().contains_key(&site.name)
                && !damaged.iter().any(|damage| damage.site.as_ref() == Some(&site.name))
            {
                problems.push(format!(
                    "site {0} is what an interrupted import or clone left: sitefs site remove {0} --force",
                    site.name
                ));
            }
        }
        runs.sort_by_key(|run| std::cmp::Reverse(run.started));
        let held = self.locks.held();
        for run in runs.iter().filter(|run| !run.state.is_final()) {
            // Undoing that had begun is finished then, so that the run may count as running.
            let is_settling = held.get(&run.site).is_some_and(|what| what == SETTLING);
            if !is_settling && run.state == RunState::Running {
                continue;
            }
            problems.push(if is_settling {
                format!(
                    "the update of {} was interrupted; the site is being made to take writes again, which may run \
                     commands of its recipe",
                    run.site
                )
            } else {
                format!("the update of {0} was interrupted: sitefs update {0} --resume, or --abort", run.site)
            });
        }
        problems.extend(self.database_problems()?);
        problems.extend(damaged.iter().map(|damage| format!("{}: {}", damage.of, damage.reason)));
        problems.extend(
            self.store.catalog.copy_problem().map(|why| format!("the catalog has no copy now: {why}")),
        );
        problems.extend(self.store.trees.objects.index_problem().map(|problem| problem.to_string()));
        for (_, generation) in self.store.catalog.list::<Generation>("")? {
            if !self.is_shown(generation.volume) && !held.contains_key(&generation.name.site) {
                problems.push(format!(
                    "{} could not be shown when the daemon started: sitefs verify says what is damaged",
                    generation.name
                ));
            }
        }
        let mut notices = self.expiry_notices(Timestamp::now())?;
        notices.extend(self.store.set_aside()?.iter().map(|path| {
            format!(
                "{} is damaged and was set aside: remove it when nobody wants to look at it",
                path.display()
            )
        }));
        let mut ended = 0;
        runs.retain(|run| {
            ended += usize::from(run.state.is_final());
            !run.state.is_final() || ended <= RUNS_ENDED_SHOWN_MAX
        });
        let usage = self.store.trees.objects.usage();
        let space = self.filesystem.space()?;
        Ok(StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: own_id(),
            started: self.started.into(),
            store: self.store.directory().display().to_string(),
            root: self.root.display().to_string(),
            problems,
            notices,
            mounts,
            space: Space {
                objects: usage.objects,
                raw_bytes: usage.raw_bytes,
                stored_bytes: usage.stored_bytes,
                free_bytes: space.blocks_available * u64::from(space.block_size),
            },
            platforms: self.platform_list()?.platforms,
            sites: self.site_list()?.sites,
            runs: runs.iter().map(|run| self.run_summary(run)).collect(),
        })
    }

    /// `stop`.
    pub(super) fn stop(&self) -> Stopping {
        self.stopping.store(true, Ordering::SeqCst);
        Stopping { pid: own_id() }
    }

    /// Whether the namespace is mounted.
    pub(super) fn is_mounted(&self) -> bool {
        self.session.lock().as_ref().is_some_and(|session| !session.has_ended())
    }

    /// Whether the daemon is about to exit.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Takes the right to change a site; refused while a command or an unfinished run has it.
    pub(super) fn lock_site(&self, site: &SiteName, what: &str) -> Result<super::locks::SiteLock, Failure> {
        let lock = self.locks.take(site, what)?;
        self.refuse_damaged(site)?;
        self.store.catalog.refuse_if_busy(site)?;
        Ok(lock)
    }
}
