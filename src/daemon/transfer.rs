//! The verbs that take a snapshot to another store: send, receive.
//!
//! What is received becomes visible in one transaction, after the stream has come to its end and everything the snapshot
//! refers to was found in the store. Power cuts: before that transaction there are objects nobody refers to, and a
//! record of how many of the stream are durable; a later stream can leave those out. Whether they are still there then
//! is what the check at the end is for.

use std::collections::HashSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Daemon;
use crate::control::response::{Received, Sent};
use crate::control::{DataWriter, Events, Failure, InputReader, Unit, request};
use crate::history::{
    Record, Refs, Snapshot, SnapshotId, SnapshotRecord, StreamError, StreamHeader, StreamReader, StreamWriter,
};
use crate::live::Access;
use crate::objects::ObjectId;

/// After so many objects what has arrived is made durable and written down.
const DURABLE_OBJECTS: u64 = 16_384;

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
        let mut input = InputReader(events);
        let mut reader = StreamReader::new(&mut input).map_err(stream_failure)?;
        let header = reader.header.clone();
        let _lock = self.locks.take(&header.site, "receive")?;
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
        if let Err(error) = self.receive_objects(&mut reader, events) {
            let arrived = self.note_arrived(&header, reader.objects)?;
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
        self.store.catalog.write(|tx| tx.remove::<Arrived>(&key(&header)).map_err(Failure::from))?;
        self.show_volume(record.volume, &snapshot.root, Access::ReadOnly)?;
        self.publish()?;
        Ok(Received {
            snapshot: self.snapshot_summary(record.id)?,
            base: header.base.map(|base| base.to_string()),
            objects,
            stream_bytes,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn receive_objects(&self, reader: &mut StreamReader<'_>, events: &dyn Events) -> Result<(), StreamError> {
        let mut noted = reader.objects;
        while reader.next(&self.store.trees.objects)? {
            if reader.objects - noted >= DURABLE_OBJECTS {
                noted = reader.objects;
                if let Err(failure) = self.note_arrived(&reader.header, noted) {
                    log::warn!("a stream could not be continued from here: {}", failure.message);
                }
            }
            events.progress("receiving objects", reader.objects, None, Unit::Objects);
        }
        Ok(())
    }

    /// Makes what has arrived durable, and then writes down how much that is.
    fn note_arrived(&self, header: &StreamHeader, objects: u64) -> Result<u64, Failure> {
        self.store.trees.objects.flush()?;
        self.store.catalog.write(|tx| tx.put(&key(header), &Arrived { objects }).map_err(Failure::from))?;
        Ok(objects)
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
