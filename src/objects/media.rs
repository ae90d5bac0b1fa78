//! Where packs are kept: a narrow door, so that tests can put a disk behind it that fails, tears and forgets.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::FileError;
use crate::base::files::{self, At};

/// A directory of packs.
pub(super) trait Media: Send + Sync {
    /// The numbers of all packs, in order.
    fn list(&self) -> Result<Vec<u32>, FileError>;
    /// Makes an empty pack. Its name is durable after [`Media::sync_names`].
    fn create(&self, number: u32) -> Result<Arc<dyn PackFile>, FileError>;
    /// Opens a pack for reading and writing.
    fn open(&self, number: u32) -> Result<Arc<dyn PackFile>, FileError>;
    /// Removes a pack. Durable after [`Media::sync_names`].
    fn remove(&self, number: u32) -> Result<(), FileError>;
    /// Makes the names of packs durable.
    fn sync_names(&self) -> Result<(), FileError>;
}

/// One pack.
pub(super) trait PackFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> Result<u64, FileError>;
    /// Writes all of `bytes` at `offset`. When it fails, any part of them may have been written.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), FileError>;
    /// Fills `buffer` from `offset`; the end of the pack is an error.
    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), FileError>;
    /// Has the bytes from `offset` read in the background, as far as there are any. Advice: nothing depends on it.
    fn fetch(&self, _offset: u64, _length: u64) {}
    /// Makes everything written so far durable. After a failure nothing is known about what was written since the
    /// last success, whatever a repetition says.
    fn sync(&self) -> Result<(), FileError>;
    /// Cuts the pack to `len` bytes.
    fn truncate(&self, len: u64) -> Result<(), FileError>;
    /// What to call the pack in messages.
    fn path(&self) -> PathBuf;
}

/// Packs as files `NNNNNNNN.pack` of one directory.
pub(super) struct Directory {
    path: PathBuf,
}

struct NativeFile {
    file: File,
    path: PathBuf,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Directory {
        Directory { path: path.to_owned() }
    }

    fn pack_path(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:08}.pack"))
    }
}

impl Media for Directory {
    fn list(&self) -> Result<Vec<u32>, FileError> {
        let mut numbers: Vec<u32> = files::list(&self.path)?
            .iter()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".pack")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn create(&self, number: u32) -> Result<Arc<dyn PackFile>, FileError> {
        let path = self.pack_path(number);
        Ok(Arc::new(NativeFile { file: files::create_new(&path)?, path }))
    }

    fn open(&self, number: u32) -> Result<Arc<dyn PackFile>, FileError> {
        let path = self.pack_path(number);
        Ok(Arc::new(NativeFile { file: files::open_read_write(&path)?, path }))
    }

    fn remove(&self, number: u32) -> Result<(), FileError> {
        files::remove_file(&self.pack_path(number))
    }

    fn sync_names(&self) -> Result<(), FileError> {
        files::sync_directory(&self.path)
    }
}

impl PackFile for NativeFile {
    fn len(&self) -> Result<u64, FileError> {
        Ok(self.file.metadata().at("look at", &self.path)?.len())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), FileError> {
        self.file.write_all_at(bytes, offset).at("write", &self.path)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), FileError> {
        self.file.read_exact_at(buffer, offset).at("read", &self.path)
    }

    fn fetch(&self, offset: u64, length: u64) {
        files::fetch(&self.file, offset, length);
    }

    fn sync(&self) -> Result<(), FileError> {
        self.file.sync_data().at("sync", &self.path)
    }

    fn truncate(&self, len: u64) -> Result<(), FileError> {
        self.file.set_len(len).at("truncate", &self.path)
    }

    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}
