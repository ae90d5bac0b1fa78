//! Databases that were made of a dump before somebody asks for one, kept for whoever does next.
//!
//! - To prove that a dump can be restored, a database is made from it and compared. An update rehearses on a copy of that very
//!   dump, so the rehearsal takes over what the proof has made, with its account: reading a dump in is what takes longest, and
//!   it is done once instead of twice.
//! - Where large tables can be copied as files, that has to be done while writes are held and the dump begins
//!   ([`super::copying`]). The generation that is made of that state next takes over what they came to.
//!
//! `docs/decisions/databases-on-servers.md` has what copies cost.
//!
//! Invariants: a spare is of one site, whose lock the command that makes it has, and which drops it at its end; nobody but
//! sitefs knows its password, so it is what was compared; it is in the catalog under a key that no generation has until it is
//! taken over, in one transaction, so one that a crash leaves is dropped at the next start.

use std::time::Instant;

use super::Daemon;
use crate::base::SiteName;
use crate::control::Failure;
use crate::database::ServerDatabase;
use crate::history::{DatabaseSnapshot, SnapshotId};
use crate::objects::FileContent;
use crate::site::Site;
use crate::update::CopyForecast;

/// How much of the time that a table takes which is read from a dump and compared it takes when it comes as a file and is
/// compared (`docs/decisions/databases-on-servers.md`).
const AS_FILE_SHARE: f64 = 0.3;

/// A database that holds what was recorded of another.
#[derive(Debug)]
pub(super) struct Spare {
    /// Its key in the catalog.
    key: String,
    of: Origin,
}

/// What a spare holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// What is in a dump.
    Dump(FileContent),
    /// The database of a snapshot whose dump is not finished.
    Snapshot(SnapshotId),
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
    /// Proves that a dump can be restored, and keeps what was made of it for [`Daemon::make_database`]. Returns what
    /// another copy will cost of which a generation is made.
    pub(super) fn prove_and_keep(
        &self,
        site: &Site,
        recorded: &DatabaseSnapshot,
    ) -> Result<CopyForecast, Failure> {
        let begun = Instant::now();
        self.drop_spare(&site.name)?;
        let Some(dump) = recorded.dump else {
            return Ok(CopyForecast { seconds: 0.0, snapshot_share: 1.0 });
        };
        let (key, trial) = self.announce_trial(site)?;
        if let Err(failure) = self.fill_database(&trial, Some(recorded)) {
            self.drop_database(&key)?;
            return Err(failure);
        }
        self.keep_spare(&site.name, key, Origin::Dump(dump))?;
        let seconds = begun.elapsed().as_secs_f64();
        let share = trial.at.large_tables()?.map_or(0.0, |large| large.share());
        let seconds = seconds * (1.0 - share * (1.0 - AS_FILE_SHARE));
        Ok(CopyForecast { seconds, snapshot_share: 1.0 - share })
    }

    /// Keeps a database for the generation that is made of `of` next.
    pub(super) fn keep_spare(&self, site: &SiteName, key: String, of: Origin) -> Result<(), Failure> {
        self.drop_spare(site)?;
        self.spares.lock().insert(site.clone(), Spare { key, of });
        Ok(())
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
    /// `origin` with what `snapshot` of `origin` recorded: the spare that holds it, or else one made from its dump.
    pub(super) fn make_database(
        &self,
        key: &str,
        site: &SiteName,
        origin: &Site,
        snapshot: SnapshotId,
        recorded: Option<&DatabaseSnapshot>,
    ) -> Result<(), Failure> {
        let dump = recorded.and_then(|recorded| recorded.dump);
        if self.take_over_spare(key, &origin.name, Origin::Snapshot(snapshot))? {
            return Ok(());
        }
        if let Some(dump) = dump
            && self.take_over_spare(key, &origin.name, Origin::Dump(dump))?
        {
            return Ok(());
        }
        if recorded.is_some() && dump.is_none() {
            return Err(Failure::failed(format!("the database of {} is not dumped to its end", origin.name)));
        }
        let (server, creation) = self.server_of(origin)?;
        let made = self.announce_database(key, site, server, creation)?;
        self.fill_database(&made, recorded)
    }

    /// Whether there was one of this origin, which `key` has now.
    fn take_over_spare(&self, key: &str, site: &SiteName, of: Origin) -> Result<bool, Failure> {
        let spare = {
            let mut spares = self.spares.lock();
            if spares.get(site).is_none_or(|spare| spare.of != of) {
                return Ok(false);
            }
            spares.remove(site)
        };
        let Some(spare) = spare else { return Ok(false) };
        self.store.catalog.write(|tx| {
            let Some(database) = tx.get::<ServerDatabase>(&spare.key)? else { return Ok(false) };
            tx.remove::<ServerDatabase>(&spare.key)?;
            tx.put(key, &database)?;
            let same = match of {
                Origin::Dump(_) => "dump",
                Origin::Snapshot(_) => "moment",
            };
            log::info!("{key} takes over database {}, made of the same {same}", database.at.name);
            Ok::<_, Failure>(true)
        })
    }
}
