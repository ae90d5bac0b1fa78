//! Windows in which a site is read and not written, what load balancers are told, and where writes wait.
//!
//! A window is open while a site is read-only (`readonly`), while an update holds its writes, and for the moment in
//! which another command leaves its live generation. Web servers see it as
//! a file below `windows/SITE/`: `hold` or `refuse`, and `divert` where visitors are to be sent elsewhere. That of
//! `readonly` is a record, so a crash leaves it open; that of an update ends with the daemon, as its hold does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Daemon;
use crate::base::{SiteName, Span};
use crate::control::response::ReadonlyState;
use crate::control::{Failure, request};
use crate::live::Access;
use crate::site::{Generation, LivePointer, Site};
use crate::web::{Answer, Answers};

/// The settings of a site in which `readonly` keeps what it was told. Nobody else sets them.
const HOLD_SETTING: &str = "readonly-hold";
const DIVERT_SETTING: &str = "readonly-divert";

/// The setting that says what becomes of writes during an update: how long they wait, or [`REFUSE`].
pub(super) const WRITES_SETTING: &str = "writes";

/// Refused at once.
const REFUSE: &str = "refuse";

/// How long a write waits during an update unless told otherwise: what visitors and proxies wait for a page.
pub(super) const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// A window for writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// How long a write waits before it is refused; `None`: it is refused at once.
    wait: Option<Duration>,
    /// Whether load balancers are told that the site is in maintenance.
    divert: bool,
}

impl Window {
    /// The files that web servers look for.
    pub(super) fn flags(self) -> impl Iterator<Item = &'static str> {
        let writes = if self.wait.is_some() { "hold" } else { "refuse" };
        std::iter::once(writes).chain(self.divert.then_some("divert"))
    }
}

/// The windows that are open because an update or another command holds writes, and who waits for the end of one.
#[derive(Default)]
pub(super) struct Windows {
    held: Mutex<BTreeSet<SiteName>>,
    /// Told whenever a window may have changed; goes with `version`.
    changed: Condvar,
    version: Mutex<u64>,
}

impl Windows {
    fn tell(&self) {
        *self.version.lock() += 1;
        self.changed.notify_all();
    }
}

/// Writers who wait while a command leaves a generation; they go on, to the one that is live then, when this is
/// dropped, unless an update holds them by then.
pub(super) struct WaitingWriters<'a> {
    daemon: &'a Daemon,
    site: SiteName,
}

impl Drop for WaitingWriters<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.daemon.close_window_unless_held(&self.site) {
            log::error!("{}: the window for writers cannot be closed: {}", self.site, failure.message);
        }
    }
}

/// Refuses what `site set SITE writes` cannot mean.
pub(super) fn check_writes_setting(value: &str) -> Result<(), Failure> {
    if value == REFUSE {
        return Ok(());
    }
    value.parse::<Span>().map(|_| ()).map_err(|error| {
        Failure::usage(error.to_string()).hint(format!("say how long writes wait, or {REFUSE:?}"))
    })
}

impl Daemon {
    /// `readonly`. When this returns, what it says holds for every request that begins.
    pub(super) fn readonly(&self, request: &request::Readonly) -> Result<ReadonlyState, Failure> {
        let _lock = self.lock_site(&request.site, "readonly")?;
        let mut site = self.site(&request.site)?;
        if request.on {
            let before = site.clone();
            set(&mut site, HOLD_SETTING, request.hold.map(|hold| format!("{}s", hold.seconds())));
            set(&mut site, DIVERT_SETTING, request.divert.then(|| "yes".to_owned()));
            site.read_only = true;
            // The web server first: what it lets through from here on only reads.
            self.save_window(&site)?;
            if let Err(failure) = self.close_to_writes(&site) {
                self.open_to_writes(&before)?;
                self.save_window(&before)?;
                return Err(failure);
            }
        } else {
            self.open_to_writes(&site)?;
            site.read_only = false;
            set(&mut site, HOLD_SETTING, None);
            set(&mut site, DIVERT_SETTING, None);
            self.save_window(&site)?;
        }
        let window = self.window_of(&site);
        Ok(ReadonlyState {
            site: site.name,
            read_only: site.read_only,
            hold_seconds: window.and_then(|window| window.wait).map(|wait| wait.as_secs()),
            divert: window.is_some_and(|window| window.divert),
        })
    }

    fn save_window(&self, site: &Site) -> Result<(), Failure> {
        self.store.catalog.write(|tx| tx.put(site.name.as_str(), site).map_err(Failure::from))?;
        self.publish_site(&site.name)?;
        self.windows.tell();
        Ok(())
    }

    /// The application, then the file system: the live generation's code and database. Its data directories stay
    /// writable, because applications put there what they make of what is read: styles, thumbnails, templates.
    fn close_to_writes(&self, site: &Site) -> Result<(), Failure> {
        let live = self.live_generation(&site.name)?;
        let volume = self.volume(live.volume)?;
        if volume.access() == Access::ReadOnly {
            return Ok(());
        }
        let recipe = self.recipe(site)?;
        self.wait_for_last_writers(&live)?;
        if let Some(mode) = &recipe.readonly {
            self.run_recipe_command(site, &live.name, &mode.on, "", &mut |_| ())?;
        }
        if !recipe.locks_database() {
            return self.wait_for_last_writers(&live);
        }
        // Nobody is in the middle of a transaction when the volume changes. A server's database takes no writes from
        // connections made from here on; those from before stay under the hold until they end.
        let hold = self.hold_writes(&live)?;
        self.set_database_writable(&live.name, false)?;
        volume.set_access(Access::ReadOnly);
        self.release_when_drained(hold);
        Ok(())
    }

    fn open_to_writes(&self, site: &Site) -> Result<(), Failure> {
        if !self.site(&site.name)?.read_only {
            return Ok(());
        }
        let live = self.live_generation(&site.name)?;
        // A server may not answer: then nothing has changed.
        self.set_database_writable(&live.name, true)?;
        self.volume(live.volume)?.set_access(Access::Writable);
        match &self.recipe(site)?.readonly {
            Some(mode) => self.run_recipe_command(site, &live.name, &mode.off, "", &mut |_| ()),
            None => Ok(()),
        }
    }

    /// The access that the live generation of a site has. An application that writes to show a page could not be read
    /// if it were read-only.
    pub(super) fn live_access(&self, site: &Site) -> Access {
        let is_locked = || self.recipe(site).is_ok_and(|recipe| recipe.locks_database());
        if site.read_only && is_locked() { Access::ReadOnly } else { Access::Writable }
    }

    /// Opens or closes the window of an update that holds the writes of a site.
    pub(super) fn set_window(&self, site: &SiteName, open: bool) -> Result<(), Failure> {
        let changed = {
            let mut held = self.windows.held.lock();
            if open { held.insert(site.clone()) } else { held.remove(site) }
        };
        if changed {
            self.publish_site(site)?;
            self.windows.tell();
        }
        Ok(())
    }

    /// Closes the window of an update, unless another generation of the site is held still.
    pub(super) fn close_window_unless_held(&self, site: &SiteName) -> Result<(), Failure> {
        let is_held = self.holds.lock().values().any(|hold| &hold.generation().site == site);
        if is_held { Ok(()) } else { self.set_window(site, false) }
    }

    /// Lets new writes to a site wait in its web server, and waits itself for those that began before, as the live
    /// generation is about to be left: what they save is in there, and nobody is refused in the middle.
    pub(super) fn let_writers_wait(&self, live: &Generation) -> Result<WaitingWriters<'_>, Failure> {
        let site = live.name.site.clone();
        self.set_window(&site, true)?;
        let waiting = WaitingWriters { daemon: self, site };
        self.wait_for_last_writers(live)?;
        Ok(waiting)
    }

    /// The window of a site, if it is open.
    pub(super) fn open_window(&self, site: &SiteName) -> Result<Option<Window>, Failure> {
        let site = self.store.catalog.get::<Site>(site.as_str())?;
        Ok(site.and_then(|site| self.window_of(&site)))
    }

    /// Every window that is open.
    pub(super) fn open_windows(&self) -> Result<BTreeMap<SiteName, Window>, Failure> {
        let sites = self.store.catalog.list::<Site>("")?;
        let open =
            sites.into_iter().filter_map(|(_, site)| Some((site.name.clone(), self.window_of(&site)?)));
        Ok(open.collect())
    }

    fn window_of(&self, site: &Site) -> Option<Window> {
        let seconds = |key: &str| site.settings.get(key).and_then(|text| text.parse::<Span>().ok());
        if site.read_only {
            let divert = site.settings.contains_key(DIVERT_SETTING);
            return Some(Window { wait: seconds(HOLD_SETTING).map(Duration::from), divert });
        }
        self.windows.held.lock().contains(&site.name).then(|| {
            let refuses = site.settings.get(WRITES_SETTING).is_some_and(|text| text == REFUSE);
            let wait = seconds(WRITES_SETTING).map_or(WAIT_DEFAULT, Duration::from);
            // An application that can do no more than close altogether has no readers either.
            let recipe = self.recipe(site).ok();
            let divert =
                recipe.is_some_and(|recipe| recipe.readonly.is_none() && recipe.maintenance.is_some());
            Window { wait: (!refuses).then_some(wait), divert }
        })
    }

    /// `/health/SITE`: 200 while visitors can be sent here, for writing too if the query is `write`.
    fn health(&self, site: &str, query: &str) -> Answer {
        let answer = |status, text: &str| Answer { status, text: text.to_owned() };
        if self.is_stopping() || !self.is_mounted() {
            return answer(503, "down");
        }
        let found = self.store.catalog.get::<Site>(site);
        let live = self.store.catalog.get::<LivePointer>(site);
        let (Ok(Some(site)), Ok(Some(_))) = (found, live) else { return answer(404, "no such site") };
        match self.window_of(&site) {
            None => answer(200, "up"),
            Some(window) if window.divert => answer(503, "maintenance"),
            Some(_) if query == "write" => answer(503, "read-only"),
            Some(_) => answer(200, "read-only"),
        }
    }

    /// `/hold/SITE`: answers when the site takes writes (204), or when a write has waited long enough (403).
    fn wait_for_window(&self, site: &str) -> Answer {
        let begun = Instant::now();
        let answer = |status, text: &str| Answer { status, text: text.to_owned() };
        loop {
            let seen = *self.windows.version.lock();
            let window = match self.store.catalog.get::<Site>(site) {
                Ok(Some(site)) => self.window_of(&site),
                Ok(None) => return answer(404, "no such site"),
                Err(_) => return answer(403, "the store cannot be read"),
            };
            let Some(window) = window else { return answer(204, "go on") };
            let end = begun + window.wait.unwrap_or_default();
            let mut timed_out = Instant::now() >= end;
            let mut version = self.windows.version.lock();
            while *version == seen && !timed_out && !self.is_stopping() {
                timed_out = self.windows.changed.wait_until(&mut version, end).timed_out();
            }
            if timed_out || self.is_stopping() {
                return answer(403, "writes are still refused");
            }
        }
    }
}

fn set(site: &mut Site, key: &str, value: Option<String>) {
    match value {
        Some(value) => site.settings.insert(key.to_owned(), value),
        None => site.settings.remove(key),
    };
}

impl Answers for Daemon {
    fn answer(&self, path: &str) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match (path.strip_prefix("/health/"), path.strip_prefix("/hold/")) {
            (Some(site), _) => self.health(site, query),
            (_, Some(site)) => self.wait_for_window(site),
            _ => Answer { status: 404, text: "there are /health/SITE and /hold/SITE".to_owned() },
        }
    }
}
