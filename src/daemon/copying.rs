//! Taking the state of a site of which a generation is made next.
//!
//! Where the large tables of its database can be copied as files ([`crate::database::Tablespaces`]), that is done while writes
//! are held. The copy is there long before the dump is, and who waits for the copy need not wait for the dump: a thread of its own
//! puts it into the store. Until it has, a snapshot that no log lists stands for the state.
//!
//! Invariants:
//! - The copy is compared with its source before anything is made of it, and the dump with the copy before the snapshot is in
//!   a log, as far as rows came by way of a dump.
//! - The thread ends with whoever holds the [`Dumping`]: what it stores is garbage unless a snapshot refers to it, and no
//!   collection begins before the command is over.
//! - A crash leaves nothing but a database that the next start drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Daemon;
use super::capture::{Captured, Taking};
use super::holding::WriteHold;
use super::servers::BegunDump;
use super::spares::Origin;
use crate::base::files;
use crate::control::{Caller, Events, Failure};
use crate::database::{LargeTables, ServerDatabase, SourceMoment, Summary, Tablespaces};
use crate::history::{DatabaseSnapshot, SnapshotId};
use crate::objects::Objects;
use crate::site::{Generation, GenerationName, Site};

/// How long locks of others are waited for before files are copied. Whoever writes waits already, so there are hardly any.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// A dump that a thread puts into the store. Given up when this is dropped.
pub(super) struct Dumping {
    thread: Option<JoinHandle<Result<DatabaseSnapshot, Failure>>>,
    given_up: Arc<AtomicBool>,
}

impl Dumping {
    fn begin(begun: BegunDump, objects: &Arc<Objects>) -> Result<Dumping, Failure> {
        let given_up = Arc::new(AtomicBool::new(false));
        let (objects, is_over) = (Arc::clone(objects), Arc::clone(&given_up));
        let work = move || begun.store_until(&objects, false, &is_over);
        let thread = std::thread::Builder::new().name("dump".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Failure::failed("no thread for the dump").because(&error))?;
        Ok(Dumping { thread: Some(thread), given_up })
    }

    /// Waits for its end.
    fn finish(mut self) -> Result<DatabaseSnapshot, Failure> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Err(Failure::failed("the dump was given up")),
        }
    }
}

impl Drop for Dumping {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of a dump has panicked");
        }
    }
}

/// A state that was taken, of which a copy of the database is ready to be made a generation's.
pub(super) enum Copied {
    /// All of it is stored.
    Whole(Captured),
    /// Its dump is not finished.
    Unfinished(Unfinished),
}

/// A state whose dump is being made.
pub(super) struct Unfinished {
    captured: Captured,
    dumping: Dumping,
    /// The copy's key in the catalog.
    key: String,
    /// What came into the copy by way of another dump: everything but the rows of the tables that came as files.
    rest: Summary,
    as_files: Vec<String>,
}

impl Unfinished {
    /// Waits for the dump.
    fn finish(self) -> Result<Captured, Failure> {
        let Unfinished { captured, dumping, rest, as_files, .. } = self;
        let database = dumping.finish()?;
        let is_other = |table: &String| {
            !as_files.contains(table) && database.tables.get(table) != rest.tables.get(table)
        };
        if let Some(table) = rest.tables.keys().chain(database.tables.keys()).find(|table| is_other(table)) {
            return Err(Failure::failed("the copy of the database and its dump are of different moments")
                .because_of(format!("table {table} differs"))
                .hint("whatever wrote to it did so past the locks of its tables; try again"));
        }
        Ok(Captured { database: Some(database), ..captured })
    }
}

/// A snapshot that is not in a log yet.
pub(super) struct UnfinishedSnapshot {
    state: Unfinished,
    /// What it is known by until then.
    pub(super) stands_for: SnapshotId,
    of: Generation,
    caller: Caller,
    message: String,
}

impl Daemon {
    /// Takes the state of a site as [`Daemon::take`] does, of which a generation is going to be made. Where the large
    /// tables of its database can be copied as files, and have `files_bytes_max` bytes at most, that is done while writes
    /// are held, and that generation takes over what was made; else its database is read from the dump, as it is when
    /// anything goes wrong here.
    pub(super) fn take_and_copy(
        &self,
        site: &Site,
        generation: &Generation,
        hold: Option<&WriteHold>,
        files_bytes_max: u64,
        events: &dyn Events,
    ) -> Result<Captured, Failure> {
        match self.copy(site, generation, hold, files_bytes_max, events)? {
            Copied::Whole(captured) => Ok(captured),
            Copied::Unfinished(mut unfinished) => {
                let key = std::mem::take(&mut unfinished.key);
                let captured = unfinished.finish().inspect_err(|_| self.drop_copy(&key))?;
                self.keep_copy(site, key, &captured)?;
                Ok(captured)
            }
        }
    }

    /// As [`Daemon::take_and_copy`], and does not wait for the dump where files were copied.
    fn copy(
        &self,
        site: &Site,
        generation: &Generation,
        hold: Option<&WriteHold>,
        files_bytes_max: u64,
        events: &dyn Events,
    ) -> Result<Copied, Failure> {
        let slower = |failure: Failure| {
            events.warn(format!("large tables are read from the dump, not copied as files: {failure}"));
        };
        let large = self.large_tables(generation).unwrap_or_else(|failure| {
            slower(failure);
            None
        });
        let Some(large) = large.filter(|large| large.extent().1 <= files_bytes_max) else {
            return self.take(site, generation, hold, || ()).map(Copied::Whole);
        };
        let (as_files, bytes) = (large.names().to_vec(), large.extent().1);
        let (key, trial) = self.announce_trial(site)?;
        let expected = trial.expect(large).map_err(Failure::from).unwrap_or_else(|failure| {
            slower(failure);
            None
        });
        let mut fetched = None;
        let taking = self.begin_taking(site, generation, hold, || {
            let fetch = |tables: &Tablespaces| -> Result<SourceMoment, Failure> {
                let moment = tables.keep_moment()?;
                tables.fetch(FETCH_WAIT)?;
                Ok(moment)
            };
            fetched = expected.as_ref().and_then(|tables| fetch(tables).map_err(slower).ok());
        });
        let Taking { captured, dump, own_hold } = taking.inspect_err(|_| self.drop_copy(&key))?;
        let Some(dump) = dump else {
            self.drop_copy(&key);
            let taking = Taking { captured, dump, own_hold };
            return self.finish_taking(site, taking, hold).map(Copied::Whole);
        };
        let dumping =
            Dumping::begin(dump, &self.store.trees.objects).inspect_err(|_| self.drop_copy(&key))?;
        let compared = match (&expected, fetched) {
            (Some(tables), Some(moment)) => self.load_and_compare(tables, moment).map_err(slower).ok(),
            _ => None,
        };
        let Some(rest) = compared else {
            self.drop_copy(&key);
            let database = Some(dumping.finish()?);
            own_hold.map_or(Ok(()), WriteHold::release)?;
            return Ok(Copied::Whole(Captured { database, ..captured }));
        };
        log::info!("database {} got {} tables of {bytes} bytes as files", trial.at.name, as_files.len());
        let unfinished = Unfinished { captured, dumping, key: key.clone(), rest, as_files };
        let Some(own_hold) = own_hold else { return Ok(Copied::Unfinished(unfinished)) };
        let captured = unfinished.finish().inspect_err(|_| self.drop_copy(&key))?;
        own_hold.release()?;
        self.keep_copy(site, key, &captured)?;
        Ok(Copied::Whole(captured))
    }

    /// What of the database of a generation can be copied as files.
    fn large_tables(&self, generation: &Generation) -> Result<Option<LargeTables>, Failure> {
        match self.server_database(&generation.name)? {
            Some(ServerDatabase { at, .. }) => Ok(at.large_tables()?),
            None => Ok(None),
        }
    }

    fn load_and_compare(&self, tables: &Tablespaces, moment: SourceMoment) -> Result<Summary, Failure> {
        let directory = self.store.temporary_directory()?;
        let spool = files::create_new(&directory.path().join("dump"))?;
        Ok(tables.load_and_compare(moment, spool)?)
    }

    /// Keeps a copy for the generation that is made of a state whose dump is stored.
    fn keep_copy(&self, site: &Site, key: String, captured: &Captured) -> Result<(), Failure> {
        match captured.database.as_ref().and_then(|database| database.dump) {
            Some(dump) => self.keep_spare(&site.name, key, Origin::Dump(dump)),
            None => {
                self.drop_copy(&key);
                Ok(())
            }
        }
    }

    fn drop_copy(&self, key: &str) {
        if let Err(failure) = self.drop_database(key) {
            log::warn!("a copy of a database stays for now: {failure}");
        }
    }

    /// Begins a snapshot of which a generation is made: in the log when this returns, or else with the second part of the
    /// answer to be given to [`Daemon::finish_snapshot`], and known by an id of its own until then.
    pub(super) fn begin_snapshot(
        &self,
        caller: &Caller,
        of: &Generation,
        hold: Option<&WriteHold>,
        message: &str,
        events: &dyn Events,
    ) -> Result<(SnapshotId, Option<UnfinishedSnapshot>), Failure> {
        let site = self.site(&of.name.site)?;
        let state = match self.copy(&site, of, hold, u64::MAX, events)? {
            Copied::Whole(captured) => {
                captured.warn_of_unstable(events);
                return Ok((self.register(caller, &site, of, captured, message, None)?, None));
            }
            Copied::Unfinished(unfinished) => unfinished,
        };
        state.captured.warn_of_unstable(events);
        let engine = self.server_of(&site)?.0.engine.to_string();
        let database = Some(DatabaseSnapshot::unread(engine, None));
        let standing = Captured { database, ..state.captured.clone() };
        let stands_for = self.store_unlisted(caller, &site, of, standing, message)?;
        self.keep_spare(&site.name, state.key.clone(), Origin::Snapshot(stands_for))?;
        let (of, caller, message) = (of.clone(), caller.clone(), message.to_owned());
        Ok((stands_for, Some(UnfinishedSnapshot { state, stands_for, of, caller, message })))
    }

    /// Waits for the dump of a snapshot, and puts it into the log, as the one that the generation `made` was made of.
    pub(super) fn finish_snapshot(
        &self,
        unfinished: UnfinishedSnapshot,
        made: &GenerationName,
    ) -> Result<SnapshotId, Failure> {
        let UnfinishedSnapshot { state, of, caller, message, .. } = unfinished;
        let site = self.site(&of.name.site)?;
        let snapshot = self.register(&caller, &site, &of, state.finish()?, &message, None)?;
        let generation = Generation { snapshot: Some(snapshot), ..self.generation(made)? };
        self.store.catalog.write(|tx| tx.put(&made.key(), &generation).map_err(Failure::from))?;
        Ok(snapshot)
    }
}
