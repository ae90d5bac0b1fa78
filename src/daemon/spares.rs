//! Databases that have proved a backup, kept for the copy that is made of it next.
//!
//! To prove that a dump can be restored, a database is made from it and compared. An update rehearses on a copy of that
//! very dump, so the rehearsal takes over what the proof has made, with its account: reading a dump in is what takes
//! longest, and it is done once instead of twice. No server copies anything for that, so it holds for each of them
//! (`docs/decisions/databases-on-servers.md` has what copies cost).
//!
//! Invariants: a spare is of one site, whose lock the run that makes it has; nobody but sitefs knows its password, so it is
//! what was compared; it is in the catalog under a key that no generation has until it is taken over, in one
//! transaction, so one that a crash leaves is dropped at the next start.

use super::Daemon;
use crate::base::SiteName;
use crate::control::Failure;
use crate::database::ServerDatabase;
use crate::history::DatabaseSnapshot;
use crate::objects::FileContent;
use crate::site::Site;

/// A database that holds what is in a dump.
#[derive(Debug)]
pub(super) struct Spare {
    /// Its key in the catalog.
    key: String,
    dump: FileContent,
}

impl Daemon {
    /// Proves that a dump can be restored, and keeps what was made of it for [`Daemon::make_database`].
    pub(super) fn prove_and_keep(&self, site: &Site, recorded: &DatabaseSnapshot) -> Result<(), Failure> {
        self.drop_spare(&site.name)?;
        let Some(dump) = recorded.dump else { return Ok(()) };
        let (key, trial) = self.announce_trial(site)?;
        if let Err(failure) = self.fill_database(&trial, Some(recorded)) {
            self.drop_database(&key)?;
            return Err(failure);
        }
        self.spares.lock().insert(site.name.clone(), Spare { key, dump });
        Ok(())
    }

    /// Drops what nobody has taken over.
    pub(super) fn drop_spare(&self, site: &SiteName) -> Result<(), Failure> {
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
            log::info!("{key} takes over database {}, which proved the backup", database.at.name);
            Ok::<_, Failure>(true)
        })
    }
}
