//! The verbs that take a snapshot to another store: send, receive.
//!
//! What is received becomes visible in one transaction, after the stream has come to its end and everything the snapshot
//! refers to was found in the store. Power cuts: before that transaction there are objects that no snapshot refers to, and
//! a record of how many of the stream are durable; a later stream can leave those out. Their names are in the store
//! too, so that a collection spares them for some time ([`KEPT_SECONDS`]); should they be gone all the same, the check
//! at the end tells.

use std::collections::HashSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Daemon;
use crate::base::Timestamp;
use crate::control::response::{Received, Sent};
use crate::control::{DataWriter, Events, Failure, InputReader, Unit, request};
use crate::history::{
    Record, Refs, Snapshot, SnapshotId, SnapshotRecord, StreamError, StreamHeader, StreamReader, StreamWriter,
};
use crate::objects::{FileContent, ObjectId};

/// After so many objects what has arrived is made durable and written down.
const DURABLE_OBJECTS: u64 = 16_384;

/// How long what has arrived of a stream that broke off is spared, in seconds: two weeks. Who wants the snapshot has come
/// back by then.
const KEPT_SECONDS: f64 = 14.0 * 86_400.0;

/// Which objects of a stream have arrived. The key is that of [`Arrived`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ArrivedNames {
    /// Their names, 32 bytes each.
    pub(super) lists: Vec<FileContent>,
    /// When the last of them arrived.
    last: Timestamp,
}

impl Record for ArrivedNames {
    const TABLE: &'static str = "received-names";
    const VERSION: u8 = 1;
}

impl ArrivedNames {
    /// Whether a collection is to spare them.
    fn is_wanted(&self) -> bool {
        Timestamp::now().seconds_since(self.last) < KEPT_SECONDS
    }
}

/// Names of what has arrived that are not written down.
struct NewNames {
    bytes: Vec<u8>,
    /// Whether they come after those that are; otherwise the stream began anew.
    continues: bool,
}

/// How much of a stream has arrived. The key is `SITE/SNAPSHOT/BASE`, the base empty without one.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Arrived {
    objects: u64,
}

impl Record for Arrived {
    const TABLE: &'static str = "received";
    const VERSION: u8 = 1;
}

fn key(header: &StreamHeader) -> String {
    let base = header.base.map(|base| base.to_string()).unwrap_or_default();
    format!("{}/{}/{base}", header.site, header.snapshot)
}

impl Daemon {
    /// `send`.
    pub(super) fn send(&self, request: &request::Send, events: &dyn Events) -> Result<Sent, Failure> {
        let started = Instant::now();
        let site = &request.snapshot.site;
        let snapshot = self.resolve_snapshot(&request.snapshot)?;
        let base = request.base.as_ref().map(|base| self.resolve_snapshot(base)).transpose()?;
        let mut left_out = HashSet::new();
        if let Some(base) = base {
            self.reach_snapshot(base, &mut |id| left_out.insert(id))?;
        }
        let header = StreamHeader { site: site.clone(), snapshot, base, skipped: request.skip };
        let mut out = DataWriter(events);
        let mut writer = StreamWriter::new(&mut out, &header).map_err(stream_failure)?;
        let objects = &self.store.trees.objects;
        let (mut failed, mut count) = (None, 0_u64);
        self.reach_snapshot(snapshot, &mut |id| {
            let is_new = failed.is_none() && left_out.insert(id);
            if is_new {
                failed = writer.object(objects, id).err();
                count += 1;
                events.progress("sending objects", count, None, Unit::Objects);
            }
            is_new
        })?;
        if let Some(error) = failed {
            return Err(stream_failure(error));
        }
        let (objects, stream_bytes) = writer.finish().map_err(stream_failure)?;
        Ok(Sent {
            site: site.clone(),
            snapshot: snapshot.to_string(),
            base: base.map(|base| base.to_string()),
            skipped: request.skip,
            objects,
            stream_bytes,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// `receive`.
    pub(super) fn receive(
        &self,
        request: &request::Receive,
        events: &dyn Events,
    ) -> Result<Received, Failure> {
        let started = Instant::now();
        // What can be refused is refused before anything has come.
        let new = request.site.as_ref().map(|site| self.plan_site(site)).transpose()?;
        let mut input = InputReader(events);
        let mut reader = StreamReader::new(&mut input).map_err(stream_failure)?;
        let header = reader.header.clone();
        let _lock = self.locks.take(&header.site, "receive")?;
        let other = request.site.as_ref().map(|site| &site.name).filter(|name| **name != header.site);
        let _other_lock = other.map(|name| self.lock_site(name, "receive")).transpose()?;
        for name in request.site.iter().map(|site| &site.name) {
            self.refuse_damaged(name)?;
        }
        let is_there = |id: SnapshotId| {
            let key = format!("{}/{id}", header.site);
            Ok::<_, Failure>(self.store.catalog.get::<SnapshotRecord>(&key)?.is_some())
        };
        if let Some(base) = header.base
            && !is_there(base)?
        {
            return Err(Failure::refused(format!("this store has no {}@{}", header.site, base.short()))
                .because_of("the stream leaves out what that snapshot has")
                .hint("send that one first, or send without --base"));
        }
        let arrived = self.store.catalog.get::<Arrived>(&key(&header))?.map_or(0, |arrived| arrived.objects);
        if header.skipped > arrived {
            return Err(Failure::refused(format!(
                "the stream leaves out its first {} objects, and {arrived} have arrived here",
                header.skipped
            ))
            .hint(format!("send again with --skip {arrived}")));
        }
        let mut names = NewNames { bytes: Vec::new(), continues: header.skipped > 0 };
        if let Err(error) = self.receive_objects(&mut reader, &mut names, events) {
            let arrived = self.note_arrived(&header, reader.objects, &mut names)?;
            let base = header.base.map(|base| format!(" --base {}", base.short())).unwrap_or_default();
            return Err(stream_failure(error).hint(format!(
                "nothing of it is visible; go on with: sitefs send {}@{}{base} --skip {arrived}",
                header.site,
                header.snapshot.short()
            )));
        }
        let (objects, stream_bytes) = (reader.objects - header.skipped, reader.bytes());
        let snapshot = self.check_received(&header)?;
        let tag = request.tag.as_ref();
        let record = Refs::new(&self.store.catalog).register(&self.store.trees.objects, &snapshot, tag)?;
        self.store.catalog.write(|tx| {
            tx.remove::<ArrivedNames>(&key(&header))?;
            tx.remove::<Arrived>(&key(&header)).map_err(Failure::from)
        })?;
        self.show_snapshot(&record);
        self.publish_site(&header.site)?;
        let site = new.as_ref().map(|new| self.make_site(new, record.id)).transpose().map_err(|failure| {
            let id = record.id.short();
            let hint = format!(
                "the snapshot {site}@{id} is here; repeat it with little to send: sitefs send {site}@{id} --base {site}@{id}",
                site = header.site
            );
            if failure.hint.is_some() { failure } else { failure.hint(hint) }
        })?;
        let site = site.map(|made| self.site_summary(&self.site(&made.name.site)?)).transpose()?;
        Ok(Received {
            snapshot: self.snapshot_summary(record.id)?,
            site,
            base: header.base.map(|base| base.to_string()),
            objects,
            stream_bytes,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Stores what comes. The names of what has come since it was last written down are in `names`.
    fn receive_objects(
        &self,
        reader: &mut StreamReader<'_>,
        names: &mut NewNames,
        events: &dyn Events,
    ) -> Result<(), StreamError> {
        let mut noted = reader.objects;
        while let Some(id) = reader.next(&self.store.trees.objects)? {
            names.bytes.extend_from_slice(id.as_bytes());
            if reader.objects - noted >= DURABLE_OBJECTS {
                noted = reader.objects;
                if let Err(failure) = self.note_arrived(&reader.header, noted, names) {
                    log::warn!("a stream could not be continued from here: {}", failure.message);
                }
            }
            events.progress("receiving objects", reader.objects, None, Unit::Objects);
        }
        Ok(())
    }

    /// Makes what has arrived durable, and then writes down how much that is, and what.
    fn note_arrived(
        &self,
        header: &StreamHeader,
        objects: u64,
        names: &mut NewNames,
    ) -> Result<u64, Failure> {
        let key = key(header);
        let list = self.store.trees.objects.put_file(&mut &names.bytes[..], names.bytes.len() as u64)?;
        self.store.trees.objects.flush()?;
        self.store.catalog.write(|tx| {
            let mut lists = match tx.get::<ArrivedNames>(&key)? {
                Some(known) if names.continues => known.lists,
                _ => Vec::new(),
            };
            lists.extend((list != FileContent::Empty).then_some(list));
            tx.put(&key, &ArrivedNames { lists, last: Timestamp::now() })?;
            tx.put(&key, &Arrived { objects }).map_err(Failure::from)
        })?;
        *names = NewNames { bytes: Vec::new(), continues: true };
        Ok(objects)
    }

    /// Forgets streams that broke off long ago: what has arrived of them is garbage from now on.
    pub(super) fn forget_old_arrivals(&self) -> Result<(), Failure> {
        let known = self.store.catalog.list::<ArrivedNames>("")?;
        let old: Vec<String> =
            known.into_iter().filter(|(_, arrived)| !arrived.is_wanted()).map(|(key, _)| key).collect();
        if old.is_empty() {
            return Ok(());
        }
        self.store.catalog.write(|tx| {
            for key in &old {
                tx.remove::<ArrivedNames>(key)?;
                tx.remove::<Arrived>(key)?;
            }
            Ok(())
        })
    }

    /// Calls `each` with the names of what has arrived of streams that broke off.
    pub(super) fn each_arrived(
        &self,
        arrived: &ArrivedNames,
        each: &mut dyn FnMut(ObjectId),
    ) -> Result<(), Failure> {
        let mut bytes = vec![0; 32 * 1024];
        for list in &arrived.lists {
            let mut offset = 0;
            loop {
                let read = self.store.trees.objects.read_at(list, offset, &mut bytes)?;
                let names = bytes[..read].chunks_exact(32).filter_map(|name| <[u8; 32]>::try_from(name).ok());
                names.for_each(|name| each(ObjectId::from_bytes(name)));
                offset += read as u64;
                if read < bytes.len() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The snapshot, once everything it refers to has been found: pages and lists are read, of all else it is looked
    /// that it is there; what came with the stream was checked when it came.
    fn check_received(&self, header: &StreamHeader) -> Result<Snapshot, Failure> {
        let incomplete = |id: ObjectId| {
            Failure::failed(format!("object {id} of {}@{} is missing", header.site, header.snapshot.short()))
                .hint("nothing of it is visible; send it again without --base and --skip")
        };
        let objects = &self.store.trees.objects;
        let (mut seen, mut missing) = (HashSet::new(), None);
        self.reach_snapshot(header.snapshot, &mut |id| {
            let is_first = missing.is_none() && seen.insert(id);
            if is_first && !objects.contains(id).unwrap_or(false) {
                missing = Some(id);
            }
            is_first && missing.is_none()
        })
        .map_err(|failure| {
            failure.hint("nothing of it is visible; send it again without --base and --skip")
        })?;
        if let Some(id) = missing {
            return Err(incomplete(id));
        }
        let snapshot = Snapshot::load(objects, header.snapshot)?;
        if snapshot.site != header.site {
            return Err(Failure::failed(format!(
                "the stream says it is of {} and has a snapshot of {}",
                header.site, snapshot.site
            )));
        }
        Ok(snapshot)
    }
}

fn stream_failure(error: StreamError) -> Failure {
    Failure::failed(error.to_string())
}
