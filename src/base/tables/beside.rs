//! Checking a file of tables while it is being read.
//!
//! The engine checks only what nobody else uses. So a second one is given the same file: what it writes (it counts free space
//! anew) stays in memory, and the file is only read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use parking_lot::Mutex;

use super::{Tables, TablesError};
use crate::base::files;

/// Pages that are kept in memory meanwhile, in bytes: each is read once.
const CACHE_BYTES: usize = 4 << 20;

/// What is kept together of what is written, in bytes.
const BLOCK: usize = 4096;

/// A file, and in memory what would have been written to it.
#[derive(Debug)]
struct Beside {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    length: u64,
    /// Whole blocks, by number.
    written: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl Beside {
    fn open(file: File) -> io::Result<Beside> {
        let length = file.metadata()?.len();
        Ok(Beside { file, state: Mutex::new(State { length, written: BTreeMap::new() }) })
    }

    /// Fills `out` from the file; behind its end are zeros.
    fn read_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let count = files::read_full_at(&self.file, offset, out)?;
        out[count..].fill(0);
        Ok(())
    }
}

/// The parts of `length` bytes at `offset`, block by block: the block, where in it, where in the bytes.
fn blocks(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = (at % BLOCK as u64) as usize;
        let count = (BLOCK - start).min(length - done);
        done += count;
        (count > 0).then_some((at / BLOCK as u64, start..start + count, done - count))
    })
}

impl redb::StorageBackend for Beside {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset + out.len() as u64 > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(offset, out)?;
        for (number, part, at) in blocks(offset, out.len()) {
            if let Some(block) = state.written.get(&number) {
                out[at..at + part.len()].copy_from_slice(&block[part]);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.state.lock().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        for (number, part, at) in blocks(offset, data.len()) {
            let bytes = &data[at..at + part.len()];
            if let Some(block) = state.written.get_mut(&number) {
                block[part].copy_from_slice(bytes);
                continue;
            }
            let mut block = Box::new([0; BLOCK]);
            if part.len() < BLOCK {
                self.read_file(number * BLOCK as u64, &mut block[..])?;
            }
            block[part].copy_from_slice(bytes);
            state.written.insert(number, block);
        }
        Ok(())
    }
}

impl Tables {
    /// As [`Tables::check`], while others read. Nobody may commit anything meanwhile: what is found then means nothing.
    pub fn check_beside_readers(&self) -> Result<(), TablesError> {
        drop(self.opened()?);
        self.guarded(|_| {
            let file = files::open(&self.path).map_err(|error| redb::Error::Io(error.source))?;
            let beside = Beside::open(file).map_err(redb::Error::Io)?;
            let mut second =
                redb::Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(beside)?;
            second.check_integrity()?;
            Ok(())
        })
    }
}
