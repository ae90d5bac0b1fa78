//! Holding the writes of a generation: nobody writes to its databases, and whoever tries waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Daemon;
use super::servers::{self, Drain, HOLD_WAIT};
use crate::control::Failure;
use crate::database::{DatabaseError, Hold, ServerDatabase, ServerHold};
use crate::live::{Access, Volume};
use crate::site::{Generation, GenerationName};

/// How long a hold may last before it ends by itself: longer than any update.
pub(super) const HELD_MAX: Duration = Duration::from_secs(6 * 3600);

/// How long those who wait for a lock of a generation that is no longer live may take to give up; then its hold ends
/// regardless. Longer than applications wait for SQLite (60 s in PHP).
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// How often it is looked whether they have given up.
const DRAIN_POLL: Duration = Duration::from_millis(200);

/// How long after a web server has let a request through it may take until the application has connected to its database.
/// Before that nobody can see that the request is there.
const CONNECTING: Duration = Duration::from_millis(500);

/// How long requests that began before writes were refused may take to end.
const LAST_WRITERS_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether they have.
const LAST_WRITERS_POLL: Duration = Duration::from_millis(10);

/// The writes of a generation's databases, held: every write accepted before is committed, none is accepted until
/// this is dropped, and reading goes on. A generation without a database has nothing to hold.
pub(super) struct WriteHold {
    generation: GenerationName,
    volume: Arc<Volume>,
    hold: Option<Mutex<Held>>,
    /// Whether nobody is kept from writing, now and until the requests of the generation have drained.
    lets_write: bool,
}

/// What keeps others from writing.
enum Held {
    /// The locks of database files.
    Files(Hold),
    /// The locks of tables on a server.
    Server(ServerHold, Box<ServerDatabase>),
}

impl Held {
    fn check(&mut self) -> Result<(), DatabaseError> {
        match self {
            Held::Files(hold) => hold.check(),
            Held::Server(hold, _) => hold.check(),
        }
    }

    fn release(self) -> Result<(), DatabaseError> {
        match self {
            Held::Files(hold) => hold.release().map(drop),
            Held::Server(hold, _) => hold.release().map(drop),
        }
    }
}

impl WriteHold {
    /// Whether nobody is kept from writing.
    pub(super) fn lets_write(&self) -> bool {
        self.lets_write
    }

    /// The generation it is for.
    pub(super) fn generation(&self) -> &GenerationName {
        &self.generation
    }

    /// An error unless it has been in force without a gap since it began.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.hold {
            Some(hold) => Ok(hold.lock().check()?),
            None => Ok(()),
        }
    }

    /// Ends it.
    pub(super) fn release(self) -> Result<(), Failure> {
        if let Some(hold) = self.hold {
            hold.into_inner().release()?;
        }
        Ok(())
    }

    /// Ends it; where `refuse` says so, whoever waits for a lock on a server is refused first.
    pub(super) fn refuse_and_release(self, refuse: bool) -> Result<(), Failure> {
        if let (true, Some(hold)) = (refuse, &self.hold)
            && let Held::Server(_, database) = &*hold.lock()
        {
            database.refuse_waiting()?;
        }
        self.release()
    }

    /// How many files of the volume the hold itself has open: SQLite keeps a log and its index open beside the
    /// database, a rollback journal only while something is written.
    fn open_files(&self) -> usize {
        self.hold.as_ref().map_or(0, |hold| {
            let files = |journal_mode: &str| if journal_mode == "wal" { 3 } else { 1 };
            match &*hold.lock() {
                Held::Files(hold) => hold.descriptions().iter().map(|held| files(&held.journal_mode)).sum(),
                Held::Server(..) => 0,
            }
        })
    }

    /// Whether a write in a read-only volume fails whoever has what open: a rollback journal that is made anew for
    /// each transaction cannot be made there. A log, or a journal that is kept, may be open for writing already.
    fn needs_new_journals(&self) -> bool {
        self.hold.as_ref().is_none_or(|hold| match &*hold.lock() {
            Held::Files(hold) => hold.descriptions().iter().all(|held| held.journal_mode == "delete"),
            Held::Server(..) => false,
        })
    }
}

impl Daemon {
    /// Holds the writes of a generation's databases.
    pub(super) fn hold_writes(&self, generation: &Generation) -> Result<WriteHold, Failure> {
        let site = self.site(&generation.name.site)?;
        let volume = self.volume(generation.volume)?;
        // Nothing is written to a read-only generation, and the lock could not be had there. Whoever was in the middle
        // of a transaction when it became so leaves a journal that is captured too, and SQLite rolls back.
        let hold = match volume.access() {
            Access::ReadOnly => None,
            Access::Writable => match self.server_database(&generation.name)? {
                Some(database) => {
                    Some(Held::Server(database.at.hold(HOLD_WAIT, HELD_MAX)?, Box::new(database)))
                }
                None => match self.database(&site, generation)? {
                    Some(database) => Some(Held::Files(database.hold(HELD_MAX)?)),
                    None => None,
                },
            },
        };
        let hold = hold.map(Mutex::new);
        Ok(WriteHold { generation: generation.name.clone(), volume, hold, lets_write: false })
    }

    /// What stands for a hold of a generation whose database is locked by nothing. Who has a page to finish there may
    /// write until it is.
    pub(super) fn hold_nothing(&self, generation: &Generation) -> Result<WriteHold, Failure> {
        let volume = self.volume(generation.volume)?;
        Ok(WriteHold { generation: generation.name.clone(), volume, hold: None, lets_write: true })
    }

    /// Waits until whoever has something of a generation open for writing now, or uses its database, is done with it, so
    /// that requests which began before the application was told to refuse writes still get theirs; not longer than
    /// [`LAST_WRITERS_MAX`], and for a database on a server not shorter than [`CONNECTING`]. A connection that is only kept
    /// for the next request is not waited for: if it is used for a write after all, that waits for the hold, as any other
    /// does.
    pub(super) fn wait_for_last_writers(&self, generation: &Generation) -> Result<(), Failure> {
        let volume = self.volume(generation.volume)?;
        let before = volume.writers();
        let database = self.server_database(&generation.name)?;
        let sessions = || -> Result<BTreeSet<u64>, Failure> {
            let sessions = database.as_ref().map(ServerDatabase::busy_sessions).transpose()?;
            Ok(sessions.unwrap_or_default().into_iter().collect())
        };
        let begun = Instant::now();
        if database.is_some() {
            std::thread::sleep(CONNECTING);
        }
        let connected = sessions()?;
        while begun.elapsed() < LAST_WRITERS_MAX
            && !(before.is_disjoint(&volume.writers()) && connected.is_disjoint(&sessions()?))
        {
            std::thread::sleep(LAST_WRITERS_POLL);
        }
        Ok(())
    }
    /// Ends the hold of a generation that is no longer live and therefore read-only. A process that came before the
    /// switch and waits for the lock must not be let in where its write would be accepted and nobody would read it:
    /// the hold lasts until all who had something open for writing are gone, unless their writes fail by themselves.
    /// It ends at once when the generation becomes live again.
    pub(super) fn release_when_drained(&self, hold: WriteHold) {
        let is_on_server = hold.hold.as_ref().is_some_and(|held| matches!(&*held.lock(), Held::Server(..)));
        if is_on_server {
            return self.release_on_server(hold);
        }
        if hold.needs_new_journals() {
            if let Err(failure) = hold.release() {
                log::warn!("the end of a hold of writes: {failure}");
            }
            return;
        }
        let stopping = Arc::clone(&self.stopping);
        let own = hold.open_files();
        let name = hold.generation.clone();
        let drain = move || {
            let mut waited = Duration::ZERO;
            while hold.volume.access() == Access::ReadOnly
                && hold.volume.writers().len() > own
                && waited < DRAIN_MAX
                && !stopping.load(Ordering::SeqCst)
            {
                std::thread::sleep(DRAIN_POLL);
                waited += DRAIN_POLL;
            }
            if waited >= DRAIN_MAX {
                log::warn!("{name}: some process still has its database open; its hold ends now");
            }
            if let Err(failure) = hold.release() {
                log::warn!("{name}: the end of the hold of writes: {failure}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("drain".to_owned()).spawn(drain) {
            log::warn!("no thread to wait for the last writers: {error}");
        }
    }

    /// As [`Daemon::release_when_drained`], for a database on a server.
    fn release_on_server(&self, hold: WriteHold) {
        let stopping = Arc::clone(&self.stopping);
        let WriteHold { generation, volume, hold, .. } = hold;
        let release = move || {
            let Some(Held::Server(held, database)) = hold.map(Mutex::into_inner) else { return };
            let state = |waited| {
                if volume.access() == Access::Writable {
                    Drain::NotNeeded
                } else if waited >= DRAIN_MAX || stopping.load(Ordering::SeqCst) {
                    Drain::End
                } else {
                    Drain::GoOn
                }
            };
            if let Err(error) = servers::drain(held, &database, DRAIN_POLL, &state) {
                log::warn!("{generation}: the end of the hold of writes: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("drain".to_owned()).spawn(release) {
            log::warn!("no thread to wait for the last writers: {error}");
        }
    }
}
