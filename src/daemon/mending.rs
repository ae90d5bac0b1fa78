//! Records of the catalog that cannot be read: what is made anew from elsewhere, who is told of the rest, and how it is
//! forgotten.
//!
//! Such a record was taken out of its table when the catalog was opened ([`Catalog::damaged`]). What it was about is not
//! served: a site without its record is shown nowhere, whatever else there is of it. What it may have referred to is kept
//! until somebody has it forgotten: no space is reclaimed meanwhile, and no overlay discarded.

use std::collections::BTreeSet;

use super::Daemon;
use super::draining::forget_departure;
use super::generations::volume_number;
use super::overlays::{OverlaysMark, set_known_mark};
use crate::base::{SiteName, Timestamp};
use crate::control::Failure;
use crate::database::ServerDatabase;
use crate::history::{
    Catalog, DamagedRecord, NUMBERS_SKIPPED, Record, Refs, Snapshot, SnapshotId, SnapshotRecord, Tag,
    VOLUME_COUNTER,
};
use crate::objects::{Kind, Objects};
use crate::site::{Generation, GenerationName, GenerationState, LivePointer, Platform, Site, SiteKind};

/// What counters are called in front of a site's name.
const GENERATIONS: &str = "generation/";

/// Makes the records anew that follow from others. To be done before anything is shown.
pub(super) fn mend(catalog: &Catalog, objects: &Objects) -> Result<(), Failure> {
    for record in catalog.damaged()? {
        let is_mended = match record.table.as_str() {
            SnapshotRecord::TABLE => mend_snapshot(catalog, objects, &record.key)?,
            LivePointer::TABLE => mend_pointer(catalog, &record.key)?,
            "counters" => mend_counter(catalog, &record.key)?,
            // What they say is only ever of use for a while.
            "store-size" | "collections" | "departures" => true,
            OverlaysMark::TABLE => {
                set_known_mark(catalog, None)?;
                true
            }
            _ => false,
        };
        if is_mended {
            catalog.write(|tx| tx.forget_damaged(&record).map_err(Failure::from))?;
            log::warn!("the record {}/{} was made anew", record.table, record.key);
        } else {
            log::error!("the record {}/{} cannot be read", record.table, record.key);
        }
    }
    Ok(())
}

/// A snapshot says itself what its record says, but for the number of a volume that nothing was changed in.
fn mend_snapshot(catalog: &Catalog, objects: &Objects, key: &str) -> Result<bool, Failure> {
    let Some(id) = key.rsplit_once('/').and_then(|(_, id)| id.parse::<SnapshotId>().ok()) else {
        return Ok(false);
    };
    let Ok(snapshot) = Snapshot::load(objects, id) else { return Ok(false) };
    Refs::new(catalog).register(objects, &snapshot, None)?;
    Ok(true)
}

/// The live generation has its state from the transaction that switched to it.
fn mend_pointer(catalog: &Catalog, site: &str) -> Result<bool, Failure> {
    let generations = catalog.list::<Generation>(&format!("{site}/"))?;
    let newest = |state: GenerationState| {
        let found = generations.iter().rev().find(|(_, generation)| generation.state == state);
        found.map(|(_, generation)| generation.name.number)
    };
    let Some(generation) = newest(GenerationState::Live) else { return Ok(false) };
    let previous = newest(GenerationState::Previous);
    let pointer = LivePointer { generation, previous, switched: Timestamp::now() };
    catalog.write(|tx| tx.put(site, &pointer).map_err(Failure::from))?;
    Ok(true)
}

/// The greatest number that is known may not be the last that was given out: what had the newest may be gone.
fn mend_counter(catalog: &Catalog, counter: &str) -> Result<bool, Failure> {
    let generations = catalog.list::<Generation>("")?;
    let last = if counter == VOLUME_COUNTER {
        let sites = catalog.list::<Site>("")?;
        let snapshots = catalog.list::<SnapshotRecord>("")?;
        let volumes = sites.iter().map(|(_, site)| site.data_volume);
        let volumes = volumes.chain(generations.iter().map(|(_, generation)| generation.volume));
        volumes.chain(snapshots.iter().map(|(_, snapshot)| snapshot.volume)).max().map(u64::from)
    } else if let Some(site) = counter.strip_prefix(GENERATIONS) {
        let of_site = generations.iter().filter(|(_, generation)| generation.name.site.as_str() == site);
        of_site.map(|(_, generation)| generation.name.number).max()
    } else {
        // The others count databases on servers and holds: a name that is taken there is refused, and the next one tried.
        Some(0)
    };
    let last = last.unwrap_or(0) + NUMBERS_SKIPPED;
    volume_number(last)?;
    catalog.write(|tx| tx.skip_to(counter, last).map_err(Failure::from))?;
    Ok(true)
}

/// What became of the snapshots among the objects.
pub(super) struct Registered {
    pub(super) listed: u64,
    pub(super) unreadable: u64,
}

/// Lists the snapshots among the objects that were taken after `newest`, the oldest first, but for those that something was
/// made from: it may be all that they were taken for.
pub(super) fn register_snapshots(
    catalog: &Catalog,
    objects: &Objects,
    newest: Option<Timestamp>,
) -> Result<Registered, Failure> {
    let mut ids = Vec::new();
    objects.each_of(Kind::Snapshot, &mut |id| {
        ids.push(SnapshotId(id));
        Ok(())
    })?;
    let mut snapshots = Vec::new();
    for id in &ids {
        match Snapshot::load(objects, *id) {
            Ok(snapshot) => snapshots.push((*id, snapshot)),
            Err(error) => log::warn!("{error}"),
        }
    }
    let unreadable = (ids.len() - snapshots.len()) as u64;
    let mut used: BTreeSet<SnapshotId> = catalog
        .list::<Generation>("")?
        .into_iter()
        .filter_map(|(_, generation)| generation.snapshot)
        .collect();
    used.extend(catalog.list::<Site>("")?.into_iter().filter_map(|(_, site)| match site.kind {
        SiteKind::Clone { snapshot, .. } => Some(snapshot),
        SiteKind::Live => None,
    }));
    snapshots
        .retain(|(id, snapshot)| !used.contains(id) && newest.is_none_or(|newest| snapshot.created > newest));
    snapshots.sort_by_key(|(_, snapshot)| snapshot.created);
    for (_, snapshot) in &snapshots {
        Refs::new(catalog).register(objects, snapshot, None)?;
    }
    Ok(Registered { listed: snapshots.len() as u64, unreadable })
}

/// The site that a record is about, if it is about one.
fn site_of(record: &DamagedRecord) -> Option<SiteName> {
    let names_site = [
        Site::TABLE,
        LivePointer::TABLE,
        Generation::TABLE,
        SnapshotRecord::TABLE,
        Tag::TABLE,
        ServerDatabase::TABLE,
        "runs",
        "run-claims",
        "run-outputs",
    ];
    let name = record.key.split('/').next()?;
    names_site.contains(&record.table.as_str()).then(|| name.parse().ok()).flatten()
}

/// A damaged record as people are told of it.
pub(super) struct DamageToRecord {
    pub(super) site: Option<SiteName>,
    /// What it is the record of: `tag shop/v1`.
    pub(super) of: String,
    /// What follows.
    pub(super) reason: String,
}

fn describe(record: &DamagedRecord) -> DamageToRecord {
    let (what, reason) = match record.table.as_str() {
        Site::TABLE | LivePointer::TABLE => ("site", "the site is not served"),
        Generation::TABLE => ("generation", "it is not served"),
        SnapshotRecord::TABLE => ("snapshot", "neither the record nor the snapshot can be read"),
        Tag::TABLE => ("tag", "which snapshot has it is not known"),
        Platform::TABLE => ("platform", "it is not shown, nor are the sites on it"),
        ServerDatabase::TABLE => ("database of", "its name and password are not known"),
        "runs" | "run-claims" => ("update run", "where it was is not known"),
        table => (table, "it is not known"),
    };
    DamageToRecord {
        site: site_of(record),
        of: format!("{what} {}", record.key),
        reason: format!("its record in the catalog cannot be read: {reason}"),
    }
}

impl Daemon {
    /// The records that cannot be read, for people.
    pub(super) fn damaged_records(&self) -> Result<Vec<DamageToRecord>, Failure> {
        Ok(self.store.catalog.damaged()?.iter().map(describe).collect())
    }

    /// An error while it is not known what records that cannot be read refer to: of that nothing may be taken away.
    pub(super) fn refuse_while_records_are_damaged(&self) -> Result<(), Failure> {
        match self.store.catalog.damaged()?.first() {
            None => Ok(()),
            Some(record) => Err(Failure::refused(format!(
                "the record of {} cannot be read, so what it refers to is not known",
                describe(record).of
            ))
            .hint("sitefs verify names all such records; sitefs verify --repair forgets them")),
        }
    }

    /// An error when the record of a site is there and cannot be read.
    pub(super) fn refuse_damaged(&self, site: &SiteName) -> Result<(), Failure> {
        let damaged = self.store.catalog.damaged()?;
        if !damaged.iter().any(|record| record.table == Site::TABLE && record.key == site.as_str()) {
            return Ok(());
        }
        Err(Failure::failed(format!("the record of site {site} cannot be read")).hint(format!(
            "forget what is left of it: sitefs verify --repair; then make it anew: sitefs send {site}@latest | sitefs \
             receive --site {site} --platform PLATFORM"
        )))
    }

    /// Forgets the records that cannot be read; of a site, its generations, too, but no snapshot. How many there were.
    pub(super) fn forget_damaged_records(&self) -> Result<u64, Failure> {
        let damaged = self.store.catalog.damaged()?;
        for record in &damaged {
            self.store.catalog.write(|tx| {
                if let (Site::TABLE, Some(site)) = (record.table.as_str(), site_of(record)) {
                    tx.remove::<LivePointer>(site.as_str())?;
                    for (key, _) in tx.list::<Generation>(&GenerationName::prefix(&site))? {
                        tx.remove::<Generation>(&key)?;
                        forget_departure(tx, &key)?;
                    }
                }
                tx.forget_damaged(record).map_err(Failure::from)
            })?;
            log::warn!("the record {}/{} is forgotten", record.table, record.key);
        }
        if !damaged.is_empty() {
            self.publish()?;
        }
        Ok(damaged.len() as u64)
    }
}
