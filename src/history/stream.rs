//! Snapshots on their way to another store: the stream (`docs/format.md`, "Streams").
//!
//! A stream describes itself: which snapshot, on which base, from which object on. Every object in it is checked against
//! its name by who stores it, and the end says how many there were and what all bytes before it hash to. The order of
//! objects depends on the snapshot and the base alone, so a stream that broke off can be continued by another that
//! leaves out what has arrived.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::SnapshotId;
use crate::base::SiteName;
use crate::base::encoding::{EncodingError, decode, encode};
use crate::base::files::At;
use crate::objects::{Kind, ObjectId, Objects, ObjectsError, Packed};

const MAGIC: [u8; 8] = *b"sitefsST";
const VERSION: u8 = 1;

/// Longest header, in bytes: it has two names and a site's.
const HEADER_BYTES_MAX: usize = 4096;

const OBJECT: u8 = 1;
const PLAIN: u8 = 2;
const END: u8 = 3;

/// What a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHeader {
    /// The site the snapshot is of.
    pub site: SiteName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What this one has is left out.
    pub base: Option<SnapshotId>,
    /// So many objects at the beginning are left out: they have arrived.
    pub skipped: u64,
}

/// What can be wrong with a stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It cannot be read or written.
    #[error("the stream ended before its end, or cannot be read or written: {0}")]
    Broken(io::Error),
    /// It is none.
    #[error("this is no stream of sitefs")]
    Foreign,
    /// Its header cannot be read.
    #[error("the header of the stream cannot be read: {0}")]
    Header(EncodingError),
    /// Something in it is not as it was sent.
    #[error("the stream is damaged after {objects} objects")]
    Damaged {
        /// How many were whole.
        objects: u64,
    },
    /// The store.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// An object that is to be sent is not there.
    #[error("object {id} is not in the store: run `sitefs verify`")]
    Missing {
        /// The object.
        id: ObjectId,
    },
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> StreamError {
        StreamError::Broken(error)
    }
}

/// Writes a stream.
pub struct StreamWriter<'a> {
    out: &'a mut dyn Write,
    hasher: blake3::Hasher,
    bytes: u64,
    /// Objects of the whole stream, those left out counted.
    objects: u64,
    skipped: u64,
}

impl<'a> StreamWriter<'a> {
    /// Begins a stream.
    pub fn new(out: &'a mut dyn Write, header: &StreamHeader) -> Result<StreamWriter<'a>, StreamError> {
        let mut writer = StreamWriter {
            out,
            hasher: blake3::Hasher::new(),
            bytes: 0,
            objects: 0,
            skipped: header.skipped,
        };
        let record = encode(VERSION, header);
        writer.write(&MAGIC)?;
        writer.write(&(record.len() as u32).to_le_bytes())?;
        writer.write(&record)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes an object, unless it is among those left out.
    pub fn object(&mut self, objects: &Objects, id: ObjectId) -> Result<(), StreamError> {
        self.objects += 1;
        if self.objects <= self.skipped {
            return Ok(());
        }
        if let Some(packed) = objects.get_packed(id)? {
            let bytes = packed.encode();
            self.write(&[OBJECT])?;
            self.write(&(bytes.len() as u32).to_le_bytes())?;
            return self.write(&bytes);
        }
        let Some(mut plain) = objects.open_plain_by_name(id)? else {
            return Err(StreamError::Missing { id });
        };
        self.write(&[PLAIN])?;
        self.write(id.as_bytes())?;
        self.write(&plain.size.to_le_bytes())?;
        let mut name = ObjectId::hasher(Kind::Plain);
        let mut left = plain.size;
        let mut piece = vec![0; 1 << 18];
        while left > 0 {
            let length = left.min(piece.len() as u64) as usize;
            plain
                .file
                .read_exact(&mut piece[..length])
                .at("read", &plain.path)
                .map_err(ObjectsError::from)?;
            name.update(&piece[..length]);
            self.write(&piece[..length])?;
            left -= length as u64;
        }
        if ObjectId::from(&name) != id {
            // The stream has no end then, so nobody takes it for a whole one.
            return Err(ObjectsError::Damaged { id, place: plain.path.display().to_string() }.into());
        }
        Ok(())
    }

    /// Ends the stream; returns how many objects and bytes were written.
    pub fn finish(mut self) -> Result<(u64, u64), StreamError> {
        let objects = self.objects;
        self.write(&[END])?;
        self.write(&objects.to_le_bytes())?;
        let sum = *self.hasher.finalize().as_bytes();
        self.write(&sum)?;
        self.out.flush()?;
        Ok((objects.saturating_sub(self.skipped), self.bytes))
    }
}

/// Reads a stream.
pub struct StreamReader<'a> {
    input: &'a mut dyn Read,
    hasher: blake3::Hasher,
    bytes: u64,
    /// What the stream is.
    pub header: StreamHeader,
    /// How many objects of the whole stream have been seen, those left out counted.
    pub objects: u64,
}

/// A reader that hashes what it reads.
struct Hashing<'a, 'b> {
    input: &'a mut dyn Read,
    hasher: &'b mut blake3::Hasher,
    bytes: &'b mut u64,
}

impl Read for Hashing<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        *self.bytes += length as u64;
        Ok(length)
    }
}

fn take<const N: usize>(input: &mut dyn Read) -> Result<[u8; N], StreamError> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl<'a> StreamReader<'a> {
    /// Reads the header.
    pub fn new(input: &'a mut dyn Read) -> Result<StreamReader<'a>, StreamError> {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        let mut hashing = Hashing { input: &mut *input, hasher: &mut hasher, bytes: &mut bytes };
        if take::<8>(&mut hashing)? != MAGIC {
            return Err(StreamError::Foreign);
        }
        let length = u32::from_le_bytes(take(&mut hashing)?) as usize;
        if length > HEADER_BYTES_MAX {
            return Err(StreamError::Foreign);
        }
        let mut record = vec![0; length];
        hashing.read_exact(&mut record)?;
        let header: StreamHeader = decode(VERSION, &record).map_err(StreamError::Header)?;
        Ok(StreamReader { input, hasher, bytes, objects: header.skipped, header })
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stores the next object, checked against its name, which is returned. At the end (`None`), the whole stream has been
    /// checked.
    pub fn next(&mut self, objects: &Objects) -> Result<Option<ObjectId>, StreamError> {
        let damaged = StreamError::Damaged { objects: self.objects };
        let before_end = self.hasher.clone();
        let mut hashing =
            Hashing { input: &mut *self.input, hasher: &mut self.hasher, bytes: &mut self.bytes };
        match take::<1>(&mut hashing)?[0] {
            OBJECT => {
                let length = u32::from_le_bytes(take(&mut hashing)?) as usize;
                if length > Packed::LENGTH_MAX {
                    return Err(damaged);
                }
                let mut bytes = vec![0; length];
                hashing.read_exact(&mut bytes)?;
                let packed = Packed::decode(&bytes);
                let stored = packed.map(|packed| objects.put_packed(packed)).transpose()?.flatten();
                let id = stored.ok_or(damaged)?;
                self.objects += 1;
                Ok(Some(id))
            }
            PLAIN => {
                let id = ObjectId::from_bytes(take(&mut hashing)?);
                let size = u64::from_le_bytes(take(&mut hashing)?);
                let stored = objects.put_plain(&mut (&mut hashing).take(size))?;
                if stored != id {
                    return Err(damaged);
                }
                self.objects += 1;
                Ok(Some(id))
            }
            END => {
                let count = u64::from_le_bytes(take(&mut hashing)?);
                let mut expected = before_end;
                expected.update(&[END]);
                expected.update(&count.to_le_bytes());
                let sum: [u8; 32] = take(&mut hashing)?;
                let is_whole = count == self.objects && *expected.finalize().as_bytes() == sum;
                if is_whole { Ok(None) } else { Err(damaged) }
            }
            _ => Err(damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::FileContent;

    fn store() -> (tempfile::TempDir, Objects) {
        let directory = tempfile::tempdir().unwrap();
        Objects::create(directory.path()).unwrap();
        let objects = Objects::open(directory.path()).unwrap();
        (directory, objects)
    }

    fn header(skipped: u64) -> StreamHeader {
        let snapshot = SnapshotId(ObjectId::of(Kind::Snapshot, b"one"));
        StreamHeader { site: "shop".parse().unwrap(), snapshot, base: None, skipped }
    }

    /// Some objects of every sort, and a stream with all but the first `skipped` of them.
    fn sent(skipped: u64) -> (Vec<ObjectId>, Vec<u8>) {
        let (_directory, objects) = store();
        let mut ids: Vec<ObjectId> = (0..20_u32)
            .map(|n| objects.put(Kind::Chunk, &n.to_le_bytes().repeat(n as usize * 50)).unwrap())
            .collect();
        ids.push(objects.put(Kind::TreePage, b"a page").unwrap());
        let mut noise = vec![0; 2 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let plain = objects.put_file(&mut &noise[..], noise.len() as u64).unwrap();
        let FileContent::Plain { id, .. } = plain else { panic!("not kept plain") };
        ids.push(id);
        objects.flush().unwrap();
        let mut stream = Vec::new();
        let mut writer = StreamWriter::new(&mut stream, &header(skipped)).unwrap();
        ids.iter().for_each(|id| writer.object(&objects, *id).unwrap());
        let (count, bytes) = writer.finish().unwrap();
        assert_eq!((count, bytes), (22 - skipped, stream.len() as u64));
        (ids, stream)
    }

    fn receive(objects: &Objects, mut stream: &[u8]) -> Result<u64, (u64, StreamError)> {
        let mut reader = StreamReader::new(&mut stream).map_err(|error| (0, error))?;
        loop {
            match reader.next(objects) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(reader.objects),
                Err(error) => return Err((reader.objects, error)),
            }
        }
    }

    #[test]
    fn what_is_sent_arrives_also_in_two_parts() {
        let (ids, stream) = sent(0);
        let (_directory, objects) = store();
        assert_eq!(receive(&objects, &stream).unwrap(), 22);
        assert!(ids.iter().all(|id| objects.contains(*id).unwrap()));
        objects.flush().unwrap();
        assert_eq!(objects.verify(&mut |_| ()).unwrap().damages, []);

        let (_directory, objects) = store();
        let (arrived, _) = receive(&objects, &stream[..stream.len() - 1_000_000]).unwrap_err();
        assert_eq!(arrived, 21);
        let (_, rest) = sent(arrived);
        assert_eq!(receive(&objects, &rest).unwrap(), 22);
        assert!(ids.iter().all(|id| objects.contains(*id).unwrap()));
    }

    #[test]
    fn a_damaged_plain_file_is_not_sent() {
        let (directory, objects) = store();
        let mut noise = vec![0; 2 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let FileContent::Plain { id, .. } = objects.put_file(&mut &noise[..], 0).unwrap() else {
            panic!("not kept plain")
        };
        objects.flush().unwrap();
        let name = id.to_string();
        let path = directory.path().join("plain").join(&name[..2]).join(&name);
        noise[70_000] ^= 1;
        for damaged in [&noise[..], &noise[..5000]] {
            std::fs::write(&path, damaged).unwrap();
            let mut stream = Vec::new();
            let mut writer = StreamWriter::new(&mut stream, &header(0)).unwrap();
            let error = writer.object(&objects, id).unwrap_err();
            assert!(
                matches!(&error, StreamError::Objects(ObjectsError::Damaged { id: found, .. }) if *found == id)
            );
        }
    }

    #[test]
    fn no_flipped_byte_and_no_cut_passes() {
        let (_, stream) = sent(0);
        let end = stream.len() - 41;
        let places =
            (0..120).step_by(3).chain((200..end).step_by(400_001)).chain((end..stream.len()).step_by(5));
        let mut reused = store();
        for (count, place) in places.enumerate() {
            // A store that has most objects already checks them less; the end of the stream then tells.
            if count.is_multiple_of(8) {
                reused = store();
            }
            let objects = &reused.1;
            let mut damaged = stream.clone();
            damaged[place] ^= 1;
            assert!(receive(objects, &damaged).is_err(), "a flipped byte at {place} was not noticed");
            assert!(receive(objects, &stream[..place]).is_err(), "a cut at {place} was not noticed");
            objects.flush().unwrap();
            assert_eq!(objects.verify(&mut |_| ()).unwrap().damages, []);
        }
        let objects = &reused.1;
        assert!(matches!(receive(objects, b"-- MariaDB dump 10").unwrap_err().1, StreamError::Foreign));
    }
}
