//! The verbs on snapshots: snapshot, log, show, tag.

use std::time::Instant;

use super::Daemon;
use super::capture::Captured;
use crate::base::limits::MESSAGE_BYTES_MAX;
use crate::base::{SiteName, TagName, Timestamp};
use crate::control::response::{
    DatabaseCapture, SnapshotDetails, SnapshotLog, SnapshotSummary, SnapshotTaken, TableInfo, Tagged,
};
use crate::control::{At, Caller, Events, Failure, Revision, request};
use crate::history::{DatabaseSnapshot, Refs, Snapshot, SnapshotId, SnapshotRecord};
use crate::site::{Generation, Site};

impl Daemon {
    /// `snapshot`.
    pub(super) fn snapshot_take(
        &self,
        caller: &Caller,
        request: &request::SnapshotTake,
        events: &dyn Events,
    ) -> Result<SnapshotTaken, Failure> {
        let started = Instant::now();
        let message = request.message.clone().unwrap_or_default();
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::usage(format!("the message is longer than {MESSAGE_BYTES_MAX} bytes")));
        }
        let _lock = self.lock_site(&request.site, "snapshot")?;
        let site = self.site(&request.site)?;
        let generation = self.live_generation(&site.name)?;
        let captured = if request.database {
            self.capture(&site, &generation, None)?
        } else {
            self.capture_without_database(&site, &generation)?
        };
        captured.warn_of_unstable(events);
        let unstable = captured.unstable.iter().map(|path| path.display().to_string()).collect();
        let id = self.register(caller, &site, &generation, captured, &message, request.tag.as_ref())?;
        Ok(SnapshotTaken {
            snapshot: self.snapshot_summary(id)?,
            unstable,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// `log`.
    pub(super) fn snapshot_log(
        &self,
        request: &request::Log,
        events: &dyn Events,
    ) -> Result<SnapshotLog, Failure> {
        self.known_site(&request.site)?;
        let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let records = self.snapshot_records(&request.site)?;
        let mut tags = Refs::new(&self.store.catalog).tags_by_snapshot(&request.site)?;
        let mut snapshots: Vec<SnapshotSummary> = records
            .iter()
            .take(limit)
            .map(|record| self.listed_summary(record, tags.remove(&record.id).unwrap_or_default()))
            .collect();
        let mut space = None;
        if request.space {
            let (site, alone) = self.site_space(&request.site, &records, events)?;
            space = Some(site);
            for (snapshot, bytes) in snapshots.iter_mut().zip(alone) {
                snapshot.alone_bytes = Some(bytes);
            }
        }
        Ok(SnapshotLog { site: request.site.clone(), snapshots, space })
    }

    /// `show`.
    pub(super) fn snapshot_show(&self, revision: &Revision) -> Result<SnapshotDetails, Failure> {
        let id = self.resolve_snapshot(revision)?;
        let snapshot = self.load_snapshot(id)?;
        let path = self.root.join("snapshots").join(snapshot.site.as_str()).join(id.short());
        Ok(SnapshotDetails {
            snapshot: self.snapshot_summary(id)?,
            parent: snapshot.parent.map(|parent| parent.to_string()),
            platform_code: snapshot.platform.map(|platform| platform.code.to_string()),
            path: path.display().to_string(),
            data: snapshot.data,
            tables: snapshot.database.as_ref().map(tables).unwrap_or_default(),
        })
    }

    /// `tag`.
    pub(super) fn tag(&self, request: &request::Tag) -> Result<Tagged, Failure> {
        let id = self.resolve_snapshot(&request.snapshot)?;
        let site = &request.snapshot.site;
        Refs::new(&self.store.catalog).tag(site, &request.tag, id)?;
        Ok(Tagged { site: site.clone(), snapshot: id.to_string(), tag: request.tag.clone() })
    }

    /// Makes a snapshot of what was captured: durable, with its tag, and browsable when this returns.
    pub(super) fn register(
        &self,
        caller: &Caller,
        site: &Site,
        generation: &Generation,
        captured: Captured,
        message: &str,
        tag: Option<&TagName>,
    ) -> Result<SnapshotId, Failure> {
        let snapshot = self.describe(caller, site, generation, captured, message)?;
        let record = Refs::new(&self.store.catalog).register(&self.store.trees.objects, &snapshot, tag)?;
        self.show_snapshot(&record);
        self.publish_snapshot(&record);
        Ok(record.id)
    }

    /// Stores what was captured as a snapshot that no log lists and nobody browses: what a clone is made of. Durable
    /// after a flush of the objects, which whoever refers to it in a record does first.
    pub(super) fn store_unlisted(
        &self,
        caller: &Caller,
        site: &Site,
        generation: &Generation,
        captured: Captured,
        message: &str,
    ) -> Result<SnapshotId, Failure> {
        let objects = &self.store.trees.objects;
        Ok(self.describe(caller, site, generation, captured, message)?.store(objects)?)
    }

    fn describe(
        &self,
        caller: &Caller,
        site: &Site,
        generation: &Generation,
        captured: Captured,
        message: &str,
    ) -> Result<Snapshot, Failure> {
        let refs = Refs::new(&self.store.catalog);
        let stored_before = refs.stored_bytes_at_last_snapshot()?;
        let stored_now = self.store.trees.objects.usage().stored_bytes;
        Ok(Snapshot {
            site: site.name.clone(),
            created: Timestamp::now(),
            author: caller.user.clone(),
            message: message.to_owned(),
            parent: refs.newest(&site.name)?.map(|record| record.id),
            root: captured.root,
            data: site.data.clone(),
            database: captured.database,
            platform: Some(captured.platform),
            generation: Some(generation.name.number),
            added_bytes: stored_now.saturating_sub(stored_before),
        })
    }

    /// An error unless there is a site of this name here, or a snapshot of one that was received from elsewhere.
    fn known_site(&self, site: &SiteName) -> Result<(), Failure> {
        match Refs::new(&self.store.catalog).newest(site)? {
            Some(_) => Ok(()),
            None => self.site(site).map(|_| ()),
        }
    }

    /// The snapshots of a site, newest first.
    pub(super) fn snapshot_records(&self, site: &SiteName) -> Result<Vec<SnapshotRecord>, Failure> {
        Ok(Refs::new(&self.store.catalog).list(site)?)
    }

    /// The snapshot with this id.
    pub(super) fn load_snapshot(&self, id: SnapshotId) -> Result<Snapshot, Failure> {
        Ok(Snapshot::load(&self.store.trees.objects, id)?)
    }

    /// The snapshot that a revision names; one that names the live state is an error.
    pub(super) fn resolve_snapshot(&self, revision: &Revision) -> Result<SnapshotId, Failure> {
        self.known_site(&revision.site)?;
        let refs = Refs::new(&self.store.catalog);
        match &revision.at {
            At::Named(name) => Ok(refs.resolve(&revision.site, name.as_str())?),
            At::Ago(span) => Ok(refs.at(&revision.site, Timestamp::now().before(*span))?),
            At::Time(time) => Ok(refs.at(&revision.site, *time)?),
            At::Live => Err(Failure::usage(format!("{} names no snapshot", revision.site))
                .hint(format!("take one: sitefs snapshot {}", revision.site))),
        }
    }

    /// A snapshot as a log shows it: one that is damaged does not hide the others.
    fn listed_summary(&self, record: &SnapshotRecord, tags: Vec<TagName>) -> SnapshotSummary {
        let failure = match self.load_snapshot(record.id) {
            Ok(snapshot) => return summary(record.id, snapshot, tags),
            Err(failure) => failure,
        };
        SnapshotSummary {
            id: record.id.to_string(),
            created: record.created.into(),
            author: record.author.clone(),
            message: record.message.clone(),
            tags,
            site: record.site.clone(),
            platform: None,
            generation: None,
            nodes: 0,
            size_bytes: 0,
            added_bytes: 0,
            database: None,
            alone_bytes: None,
            damaged: Some(failure.message),
        }
    }

    /// A snapshot as lists show it.
    pub(super) fn snapshot_summary(&self, id: SnapshotId) -> Result<SnapshotSummary, Failure> {
        let snapshot = self.load_snapshot(id)?;
        let tags = Refs::new(&self.store.catalog).tags_of(&snapshot.site, id)?;
        Ok(summary(id, snapshot, tags))
    }
}

fn summary(id: SnapshotId, snapshot: Snapshot, tags: Vec<TagName>) -> SnapshotSummary {
    SnapshotSummary {
        id: id.to_string(),
        created: snapshot.created.into(),
        author: snapshot.author,
        message: snapshot.message,
        tags,
        site: snapshot.site,
        platform: snapshot.platform.map(|platform| platform.name),
        generation: snapshot.generation,
        nodes: snapshot.root.totals.nodes,
        size_bytes: snapshot.root.totals.bytes,
        added_bytes: snapshot.added_bytes,
        database: snapshot.database.as_ref().map(|database| DatabaseCapture {
            engine: database.engine.clone(),
            tables: database.tables.len() as u64,
            rows: database.tables.values().map(|table| table.rows).sum(),
            verified: database.verified,
        }),
        alone_bytes: None,
        damaged: None,
    }
}

/// The tables of a database's state as answers show them.
pub(super) fn tables(database: &DatabaseSnapshot) -> Vec<TableInfo> {
    database
        .tables
        .iter()
        .map(|(name, table)| TableInfo {
            table: name.clone(),
            rows: table.rows,
            checksum: table.checksum.to_string(),
        })
        .collect()
}
