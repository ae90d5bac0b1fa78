//! The names of snapshots: ids, beginnings of ids, tags, points of time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Catalog, HistoryError, Record, Snapshot, SnapshotId, Transaction};
use crate::base::{SiteName, TagName, Timestamp};
use crate::objects::Objects;

/// The counter that volumes get their numbers from; [`Transaction::next_number`] takes it.
pub const VOLUME_COUNTER: &str = "volume";

/// Greatest volume number: node ids have 24 bits for it.
const VOLUME_MAX: u64 = (1 << 24) - 1;

/// Fewest digits that name a snapshot: fewer are more often a mistyped tag.
const PREFIX_DIGITS_MIN: usize = 4;

/// The name of a site's newest snapshot.
const LATEST: &str = "latest";

/// Names that are never tags.
const RESERVED: [&str; 2] = ["live", LATEST];

/// That a snapshot exists, and what lists need of it. The key is `SITE/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The site.
    pub site: SiteName,
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was taken.
    pub created: Timestamp,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub message: String,
    /// The number of the volume that shows it for browsing.
    pub volume: u32,
}

impl Record for SnapshotRecord {
    const TABLE: &'static str = "snapshots";
    const VERSION: u8 = 1;
}

/// A name that somebody gave a snapshot. It never moves. The key is `SITE/TAG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was given.
    pub created: Timestamp,
}

impl Record for Tag {
    const TABLE: &'static str = "tags";
    const VERSION: u8 = 1;
}

/// How large the store was when the last snapshot of any site was registered. The key is [`LATEST`].
#[derive(Serialize, Deserialize)]
struct StoreSize {
    stored_bytes: u64,
}

impl Record for StoreSize {
    const TABLE: &'static str = "store-size";
    const VERSION: u8 = 1;
}

fn key(site: &SiteName, name: impl std::fmt::Display) -> String {
    format!("{site}/{name}")
}

/// The names of snapshots in a catalog.
#[derive(Clone, Copy)]
pub struct Refs<'a> {
    catalog: &'a Catalog,
}

impl<'a> Refs<'a> {
    /// The names in this catalog.
    pub fn new(catalog: &'a Catalog) -> Refs<'a> {
        Refs { catalog }
    }

    /// Stores a snapshot, makes it and all it refers to durable, and then gives it a record, a volume number and the
    /// tag, in one transaction. A snapshot that has its record keeps it.
    pub fn register(
        &self,
        objects: &Objects,
        snapshot: &Snapshot,
        tag: Option<&TagName>,
    ) -> Result<SnapshotRecord, HistoryError> {
        let id = snapshot.store(objects)?;
        // First the objects, then the record: a crash between the two leaves objects nobody refers to.
        objects.flush()?;
        let stored_bytes = objects.usage().stored_bytes;
        self.catalog.write(|transaction| {
            let key = key(&snapshot.site, id);
            let record = match transaction.get(&key)? {
                Some(record) => record,
                None => {
                    let record = SnapshotRecord {
                        site: snapshot.site.clone(),
                        id,
                        created: snapshot.created,
                        author: snapshot.author.clone(),
                        message: snapshot.message.clone(),
                        volume: next_volume(transaction)?,
                    };
                    transaction.put(&key, &record)?;
                    record
                }
            };
            transaction.put(LATEST, &StoreSize { stored_bytes })?;
            if let Some(tag) = tag {
                set_tag(transaction, &snapshot.site, tag, id)?;
            }
            Ok(record)
        })
    }

    /// How large the store was when the last snapshot of any site was registered, in bytes on disk; 0 before the
    /// first.
    pub fn stored_bytes_at_last_snapshot(&self) -> Result<u64, HistoryError> {
        Ok(self.catalog.get::<StoreSize>(LATEST)?.map_or(0, |size| size.stored_bytes))
    }

    /// The snapshots of a site, newest first.
    pub fn list(&self, site: &SiteName) -> Result<Vec<SnapshotRecord>, HistoryError> {
        let records = self.catalog.list(&key(site, ""))?;
        let mut records: Vec<SnapshotRecord> = records.into_iter().map(|(_, record)| record).collect();
        records.sort_by_key(|record| Reverse((record.created, record.id)));
        Ok(records)
    }

    /// The newest snapshot of a site.
    pub fn newest(&self, site: &SiteName) -> Result<Option<SnapshotRecord>, HistoryError> {
        Ok(self.list(site)?.into_iter().next())
    }

    /// The newest snapshot of a site that was taken at `time` or before.
    pub fn at(&self, site: &SiteName, time: Timestamp) -> Result<SnapshotId, HistoryError> {
        let found = self.list(site)?.into_iter().find(|record| record.created <= time);
        found.map(|record| record.id).ok_or_else(|| HistoryError::NoneThen { site: site.clone(), time })
    }

    /// The snapshot of a site with this tag; else the one whose id starts so (four digits or more); `latest` is the
    /// newest.
    pub fn resolve(&self, site: &SiteName, name: &str) -> Result<SnapshotId, HistoryError> {
        let unknown = || HistoryError::Unknown { site: site.clone(), name: name.to_owned() };
        if name == LATEST {
            return Ok(self.newest(site)?.ok_or_else(unknown)?.id);
        }
        if let Some(tag) = self.catalog.get::<Tag>(&key(site, name))? {
            return Ok(tag.id);
        }
        let prefix = name.to_ascii_lowercase();
        if prefix.len() < PREFIX_DIGITS_MIN || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let found = self.catalog.list::<SnapshotRecord>(&key(site, &prefix))?;
        match &found[..] {
            [] => Err(unknown()),
            [(_, record)] => Ok(record.id),
            several => Err(HistoryError::Ambiguous {
                name: name.to_owned(),
                candidates: several.iter().map(|(_, record)| record.id).collect(),
            }),
        }
    }

    /// Gives a snapshot of the site a tag. One that it has already is no error; one that another has is.
    pub fn tag(&self, site: &SiteName, tag: &TagName, id: SnapshotId) -> Result<(), HistoryError> {
        self.catalog.write(|transaction| {
            if transaction.get::<SnapshotRecord>(&key(site, id))?.is_none() {
                return Err(HistoryError::Unknown { site: site.clone(), name: id.to_string() });
            }
            set_tag(transaction, site, tag, id)
        })
    }

    /// Takes the records of snapshots of a site away, but of those that have a tag by now; returns what it took.
    pub fn remove(
        &self,
        site: &SiteName,
        ids: &BTreeSet<SnapshotId>,
    ) -> Result<Vec<SnapshotRecord>, HistoryError> {
        self.catalog.write(|transaction| {
            let tags = transaction.list::<Tag>(&key(site, ""))?;
            let tagged: BTreeSet<SnapshotId> = tags.iter().map(|(_, tag)| tag.id).collect();
            let mut removed = Vec::new();
            for id in ids.difference(&tagged) {
                let key = key(site, id);
                removed.extend(transaction.get::<SnapshotRecord>(&key)?);
                transaction.remove::<SnapshotRecord>(&key)?;
            }
            Ok(removed)
        })
    }

    /// Takes a tag away; whether it was there.
    pub fn remove_tag(&self, site: &SiteName, tag: &TagName) -> Result<bool, HistoryError> {
        self.catalog.write(|transaction| Ok(transaction.remove::<Tag>(&key(site, tag))?))
    }

    /// The tags of a site with their snapshots, in the order of their names.
    pub fn tags(&self, site: &SiteName) -> Result<Vec<(TagName, SnapshotId)>, HistoryError> {
        let prefix = key(site, "");
        let tags = self.catalog.list::<Tag>(&prefix)?;
        let named = |(key, tag): (String, Tag)| Some((key[prefix.len()..].parse().ok()?, tag.id));
        Ok(tags.into_iter().filter_map(named).collect())
    }

    /// The same by snapshot.
    pub fn tags_by_snapshot(
        &self,
        site: &SiteName,
    ) -> Result<BTreeMap<SnapshotId, Vec<TagName>>, HistoryError> {
        let mut tags: BTreeMap<SnapshotId, Vec<TagName>> = BTreeMap::new();
        for (tag, id) in self.tags(site)? {
            tags.entry(id).or_default().push(tag);
        }
        Ok(tags)
    }

    /// The tags of one snapshot.
    pub fn tags_of(&self, site: &SiteName, id: SnapshotId) -> Result<Vec<TagName>, HistoryError> {
        Ok(self.tags_by_snapshot(site)?.remove(&id).unwrap_or_default())
    }
}

fn next_volume(transaction: &mut Transaction<'_>) -> Result<u32, HistoryError> {
    let number = transaction.next_number(VOLUME_COUNTER)?;
    match u32::try_from(number) {
        Ok(volume) if number <= VOLUME_MAX => Ok(volume),
        _ => Err(HistoryError::NoVolumes),
    }
}

fn set_tag(
    transaction: &mut Transaction<'_>,
    site: &SiteName,
    tag: &TagName,
    id: SnapshotId,
) -> Result<(), HistoryError> {
    if RESERVED.contains(&tag.as_str()) {
        return Err(HistoryError::TagReserved { tag: tag.clone() });
    }
    match transaction.get::<Tag>(&key(site, tag))? {
        Some(there) if there.id == id => Ok(()),
        Some(there) => Err(HistoryError::TagExists { site: site.clone(), tag: tag.clone(), id: there.id }),
        None => Ok(transaction.put(&key(site, tag), &Tag { id, created: Timestamp::now() })?),
    }
}

#[cfg(test)]
mod tests;
