//! Databases that were made of a dump before somebody asks for one, kept for whoever does next.
//!
//! - To prove that a dump can be restored, a database is made from it and compared. An update rehearses on a copy of that very
//!   dump, so the rehearsal takes over what the proof has made, with its account: reading a dump in is what takes longest, and
//!   it is done once instead of twice.
//! - Where large tables can be copied as files, that has to be done while writes are held and the dump begins. The generation
//!   that is made of that dump next takes over what they came to.
//!
//! `docs/decisions/databases-on-servers.md` has what copies cost.
//!
//! Invariants: a spare is of one site, whose lock the command that makes it has, and which drops it at its end; nobody but
//! sitefs knows its password, so it is what was compared; it is in the catalog under a key that no generation has until it is
//! taken over, in one transaction, so one that a crash leaves is dropped at the next start.

use std::time::{Duration, Instant};

use super::Daemon;
use super::capture::{Captured, WriteHold};
use crate::base::SiteName;
use crate::control::{Events, Failure};
use crate::database::ServerDatabase;
use crate::history::DatabaseSnapshot;
use crate::objects::FileContent;
use crate::site::{Generation, Site};

/// How much of the time that a table takes which is read from a dump and compared it takes when it comes as a file and is
/// compared (`docs/decisions/databases-on-servers.md`).
const AS_FILE_SHARE: f64 = 0.15;

/// How long locks of others are waited for before files are copied. Whoever writes waits already, so there are hardly any.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// A database that holds what is in a dump.
#[derive(Debug)]
pub(super) struct Spare {
    /// Its key in the catalog.
    key: String,
    dump: FileContent,
}

/// A spare of a site lasts as long as this.
pub(super) struct SpareGuard<'a> {
    daemon: &'a Daemon,
    site: SiteName,
}

impl Drop for SpareGuard<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.daemon.drop_spare(&self.site) {
            log::warn!("a copy of the database of {} stays for now: {failure}", self.site);
        }
    }
}

impl Daemon {
    /// Proves that a dump can be restored, and keeps what was made of it for [`Daemon::make_database`]. Returns how long
    /// another copy will take of which a generation is made, in seconds.
    pub(super) fn prove_and_keep(&self, site: &Site, recorded: &DatabaseSnapshot) -> Result<f64, Failure> {
        let begun = Instant::now();
        self.drop_spare(&site.name)?;
        let Some(dump) = recorded.dump else { return Ok(0.0) };
        let (key, trial) = self.announce_trial(site)?;
        if let Err(failure) = self.fill_database(&trial, Some(recorded)) {
            self.drop_database(&key)?;
            return Err(failure);
        }
        self.spares.lock().insert(site.name.clone(), Spare { key, dump });
        let seconds = begun.elapsed().as_secs_f64();
        let share = trial.at.large_tables()?.map_or(0.0, |large| large.share());
        Ok(seconds * (1.0 - share * (1.0 - AS_FILE_SHARE)))
    }

    /// Takes the state of a site as [`Daemon::take`] does, of which a generation is going to be made. Where the large
    /// tables of its database can be copied as files, and have `files_bytes_max` bytes at most, that is done while writes are held, and the next copy of its dump
    /// takes over what was made; else that copy is read from the dump, as it is when anything goes wrong here.
    pub(super) fn take_and_copy(
        &self,
        site: &Site,
        generation: &Generation,
        hold: Option<&WriteHold>,
        files_bytes_max: u64,
        events: &dyn Events,
    ) -> Result<Captured, Failure> {
        let slower = |failure: Failure| {
            events.warn(format!("large tables are read from the dump, not copied as files: {failure}"));
        };
        let large = match self.server_database(&generation.name)? {
            Some(database) => database.at.large_tables().unwrap_or_else(|error| {
                slower(error.into());
                None
            }),
            None => None,
        };
        let Some(large) = large.filter(|large| large.extent().1 <= files_bytes_max) else {
            return self.take(site, generation, hold, || ());
        };
        let ((count, bytes), (key, trial)) = (large.extent(), self.announce_trial(site)?);
        let mut tables = trial.expect(large).unwrap_or_else(|error| {
            slower(error.into());
            None
        });
        let taken = self.take(site, generation, hold, || {
            if let Some(expected) = &tables
                && let Err(error) = expected.fetch(FETCH_WAIT)
            {
                slower(error.into());
                tables = None;
            }
        });
        let recorded = taken.as_ref().ok().and_then(|taken| taken.database.as_ref());
        if let (Some(tables), Some(recorded)) = (tables, recorded)
            && let Some(dump) = recorded.dump
        {
            match self.fill_beside_files(&trial, &tables, recorded) {
                Ok(()) => {
                    log::info!("database {} got {count} tables of {bytes} bytes as files", trial.at.name);
                    self.drop_spare(&site.name)?;
                    self.spares.lock().insert(site.name.clone(), Spare { key, dump });
                    return taken;
                }
                Err(failure) => slower(failure),
            }
        }
        self.drop_database(&key)?;
        taken
    }

    /// What drops, when it goes, the spare of a site that nobody has taken over.
    pub(super) fn spare_for(&self, site: &SiteName) -> SpareGuard<'_> {
        SpareGuard { daemon: self, site: site.clone() }
    }

    /// Whether a site has one.
    pub(super) fn has_spare(&self, site: &SiteName) -> bool {
        self.spares.lock().contains_key(site)
    }

    fn drop_spare(&self, site: &SiteName) -> Result<(), Failure> {
        let spare = self.spares.lock().remove(site);
        spare.map_or(Ok(()), |spare| self.drop_database(&spare.key))
    }

    /// Gives a generation that is going to be made, of `site` or of a clone named so, a database on the server of
    /// `origin` with what a snapshot of `origin` recorded: the spare of that dump, or else one made from it.
    pub(super) fn make_database(
        &self,
        key: &str,
        site: &SiteName,
        origin: &Site,
        recorded: Option<&DatabaseSnapshot>,
    ) -> Result<(), Failure> {
        let dump = recorded.and_then(|recorded| recorded.dump);
        if let Some(dump) = dump
            && self.take_over_spare(key, &origin.name, &dump)?
        {
            return Ok(());
        }
        let (server, creation) = self.server_of(origin)?;
        let made = self.announce_database(key, site, server, creation)?;
        self.fill_database(&made, recorded)
    }

    /// Whether there was one of this dump, which `key` has now.
    fn take_over_spare(&self, key: &str, site: &SiteName, dump: &FileContent) -> Result<bool, Failure> {
        let spare = {
            let mut spares = self.spares.lock();
            if spares.get(site).is_none_or(|spare| &spare.dump != dump) {
                return Ok(false);
            }
            spares.remove(site)
        };
        let Some(spare) = spare else { return Ok(false) };
        self.store.catalog.write(|tx| {
            let Some(database) = tx.get::<ServerDatabase>(&spare.key)? else { return Ok(false) };
            tx.remove::<ServerDatabase>(&spare.key)?;
            tx.put(key, &database)?;
            log::info!("{key} takes over database {}, made of the same dump", database.at.name);
            Ok::<_, Failure>(true)
        })
    }
}
