//! Upper files: the whole content of a changed file as one plain file, `VOLUME/LAST-BYTE/NUMBER` in hexadecimal
//! below the directory of upper files. A number names one file for ever; rows of the overlay refer to it.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use parking_lot::Mutex;
use rustix::fs::{SeekFrom, Timespec, Timestamps};

use super::names::NewNames;
use super::{LiveError, VolumeNumber};
use crate::base::files::{self, At};
use crate::base::{FileError, Timestamp};

/// Buffer of a copy where the kernel can neither share nor copy by itself, in bytes.
const COPY_BUFFER_BYTES: usize = 1 << 18;

/// What statfs(2) calls ext4 (and ext3 and ext2, which the same driver serves).
const EXT4: u64 = 0xef53;

/// The directory of upper files.
pub(super) struct Uppers {
    directory: PathBuf,
    /// Whether a new file's name, and those of new directories above it, are durable when the file is synced. POSIX
    /// does not promise it; ext4 does: they are in the transaction of its journal that the file was made in, or in one
    /// before, and a sync of the file waits for that.
    names_go_with_files: bool,
    new_names: Mutex<NewNames>,
}

impl Uppers {
    /// Opens `directory`, creating it where it is missing.
    pub(super) fn open(directory: PathBuf) -> Result<Uppers, LiveError> {
        files::create_directories(&directory)?;
        let system = rustix::fs::statfs(&directory).at("look at the file system of", &directory)?;
        Ok(Uppers {
            directory,
            names_go_with_files: u64::try_from(system.f_type) == Ok(EXT4),
            new_names: Mutex::default(),
        })
    }

    pub(super) fn volume_path(&self, volume: VolumeNumber) -> PathBuf {
        self.directory.join(format!("{:06x}", volume.0))
    }

    pub(super) fn path(&self, volume: VolumeNumber, number: u64) -> PathBuf {
        self.volume_path(volume).join(format!("{:02x}", last_byte(number))).join(format!("{number:010x}"))
    }

    /// Creates the empty file `number`.
    pub(super) fn create(&self, volume: VolumeNumber, number: u64) -> Result<File, LiveError> {
        let path = self.path(volume, number);
        let file = match files::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().expect("an upper file has a directory");
                files::create_directories(parent)?;
                self.sync_names([self.volume_path(volume), self.directory.clone()])?;
                files::create_new(&path)?
            }
            other => other?,
        };
        self.new_names.lock().note(volume, last_byte(number));
        Ok(file)
    }

    /// Opens the file `number` for reading and writing.
    pub(super) fn open_file(&self, volume: VolumeNumber, number: u64) -> Result<File, LiveError> {
        Ok(files::open_read_write(&self.path(volume, number))?)
    }

    /// Size and time of the file `number`; `None` where it is missing.
    pub(super) fn look(&self, volume: VolumeNumber, number: u64) -> Result<Option<UpperFacts>, LiveError> {
        Ok(files::metadata(&self.path(volume, number))?.map(|metadata| UpperFacts::from(&metadata)))
    }

    /// Makes the name of the file `number` durable, which is synced.
    pub(super) fn sync_name(&self, volume: VolumeNumber, number: u64) -> Result<(), LiveError> {
        self.sync_names(self.path(volume, number).parent().map(Path::to_path_buf))
    }

    /// Makes the names in directories durable, of files that are synced; missing directories are passed by.
    fn sync_names(&self, directories: impl IntoIterator<Item = PathBuf>) -> Result<(), LiveError> {
        if self.names_go_with_files {
            return Ok(());
        }
        for directory in directories {
            match files::sync_directory(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    /// When the names of new files are to be made durable; `None` where there are none.
    pub(super) fn names_due(&self) -> Option<Instant> {
        self.new_names.lock().due()
    }

    #[cfg(test)]
    pub(super) fn age_new_names(&self) {
        self.new_names.lock().age();
    }

    pub(super) fn take_new_names(&self) -> NewNames {
        std::mem::take(&mut self.new_names.lock())
    }

    pub(super) fn restore_new_names(&self, names: NewNames) {
        self.new_names.lock().restore(names);
    }

    /// Makes the names of files that were made until now durable, those in `names` among them.
    pub(super) fn sync_new_names(&self, names: &NewNames) -> Result<(), LiveError> {
        if self.names_go_with_files {
            return self.sync_journal();
        }
        let directory = |(volume, part): &(VolumeNumber, u8)| {
            self.path(*volume, u64::from(*part)).parent().map(Path::to_path_buf)
        };
        self.sync_names(names.directories.iter().filter_map(directory))
    }

    /// Makes the names of all files durable.
    pub(super) fn sync_names_of_all(&self) -> Result<(), LiveError> {
        if self.names_go_with_files { self.sync_journal() } else { self.sync_everything() }
    }

    /// On ext4, transactions become durable in order: that of a change made now, and with it all names from before.
    fn sync_journal(&self) -> Result<(), LiveError> {
        let directory = files::open(&self.directory)?;
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        rustix::fs::futimens(&directory, &times).at("set the time of", &self.directory)?;
        Ok(directory.sync_all().at("sync", &self.directory)?)
    }

    /// Makes the contents and names of the given files durable; missing ones are passed by.
    pub(super) fn sync(&self, numbers: &[(VolumeNumber, u64)]) -> Result<(), LiveError> {
        /// From here on one flush of the whole file system costs less than one of each file.
        const SINGLE_SYNCS_MAX: usize = 64;
        if numbers.len() > SINGLE_SYNCS_MAX {
            return self.sync_everything();
        }
        let mut directories = BTreeSet::new();
        for (volume, number) in numbers {
            self.sync_file(*volume, *number)?;
            directories.extend(self.path(*volume, *number).parent().map(Path::to_path_buf));
        }
        self.sync_names(directories)
    }

    /// Makes the contents of files of a volume durable, and the names of those that are said to be new; missing ones
    /// are passed by.
    pub(super) fn sync_files(
        &self,
        volume: VolumeNumber,
        numbers: &HashMap<u64, bool>,
    ) -> Result<(), LiveError> {
        /// From here on the disk has so much to do for the files alone that what others wrote matters less: a flush
        /// of the whole file system is 5 to 14 times as fast as 1,000 of files (4 KiB each; without and with 400 MB
        /// of others' to be written).
        const FILES_MAX: usize = 512;
        if numbers.len() > FILES_MAX {
            return self.sync_everything();
        }
        let mut directories = BTreeSet::new();
        for (number, new) in numbers {
            self.sync_file(volume, *number)?;
            if *new {
                directories.extend(self.path(volume, *number).parent().map(Path::to_path_buf));
            }
        }
        self.sync_names(directories)
    }

    fn sync_file(&self, volume: VolumeNumber, number: u64) -> Result<(), LiveError> {
        let path = self.path(volume, number);
        match files::open(&path) {
            Ok(file) => Ok(file.sync_data().at("sync", &path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes all contents durable.
    pub(super) fn sync_everything(&self) -> Result<(), LiveError> {
        let directory = files::open(&self.directory)?;
        rustix::fs::syncfs(&directory).at("sync", &self.directory)?;
        Ok(())
    }

    /// Removes the file `number`. A failure leaks it until the next recovery.
    pub(super) fn remove(&self, volume: VolumeNumber, number: u64) {
        if let Err(error) = files::remove_file(&self.path(volume, number)) {
            log::warn!("an unused file stays behind: {error}");
        }
    }

    /// Removes every file of a volume.
    pub(super) fn remove_volume(&self, volume: VolumeNumber) -> Result<(), LiveError> {
        Ok(files::remove_directory_all(&self.volume_path(volume))?)
    }

    /// The volumes that have a directory of upper files.
    pub(super) fn volumes(&self) -> Result<Vec<VolumeNumber>, LiveError> {
        Ok(hexadecimal_names(&self.directory)?
            .into_iter()
            .filter_map(|number| u32::try_from(number).ok().map(VolumeNumber))
            .collect())
    }

    /// The numbers of all files of a volume.
    pub(super) fn numbers(&self, volume: VolumeNumber) -> Result<Vec<u64>, LiveError> {
        let path = self.volume_path(volume);
        let mut numbers = Vec::new();
        if files::metadata(&path)?.is_some() {
            for part in hexadecimal_names(&path)? {
                numbers.extend(hexadecimal_names(&path.join(format!("{part:02x}")))?);
            }
        }
        Ok(numbers)
    }
}

/// Which directory of its volume a file is in.
fn last_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

/// The names in a directory that are hexadecimal numbers. Others are no business of ours.
fn hexadecimal_names(path: &Path) -> Result<Vec<u64>, FileError> {
    let names = files::list(path)?;
    Ok(names.iter().filter_map(|entry| u64::from_str_radix(entry.file_name().to_str()?, 16).ok()).collect())
}

/// What the system says of an upper file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UpperFacts {
    /// Whether it is a file at all.
    pub(super) is_file: bool,
    /// In bytes.
    pub(super) size: u64,
    /// In units of 512 bytes.
    pub(super) blocks: u64,
    pub(super) modified: Timestamp,
    /// Moves on with every change, whatever times are set by hand.
    pub(super) changed: Timestamp,
}

impl From<&std::fs::Metadata> for UpperFacts {
    fn from(metadata: &std::fs::Metadata) -> UpperFacts {
        UpperFacts {
            is_file: metadata.is_file(),
            size: metadata.size(),
            blocks: metadata.blocks(),
            modified: Timestamp::from_parts(metadata.mtime(), metadata.mtime_nsec()),
            changed: Timestamp::from_parts(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Size and times of an open upper file.
pub(super) fn facts(file: &File) -> Result<UpperFacts, LiveError> {
    Ok(UpperFacts::from(&file.metadata().map_err(failed("look at"))?))
}

/// Sets the modification time of an open upper file. What is written next has a later one.
pub(super) fn set_modified(file: &File, modified: Timestamp) -> Result<(), LiveError> {
    let (tv_sec, nanoseconds) = modified.parts();
    let time = Timespec { tv_sec, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::futimens(file, &times).map_err(failed("set the time of"))?;
    // Only who has looked at it is shown a difference within a tick of the kernel's clock (multigrain timestamps).
    facts(file).map(|_| ())
}

/// An error of an operation on an open upper file, whose path is of no use to anyone: the file may have no name.
pub(super) fn failed<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> LiveError {
    move |error| FileError { action, path: "an upper file".into(), source: error.into() }.into()
}

/// Reads what is in a file, holes left out: whether it can be read.
pub(super) fn read_through(file: &File) -> Result<(), LiveError> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let mut offset = 0;
    loop {
        offset = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data,
            // There is nothing behind it.
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(failed("read")(error)),
        };
        match file.read_at(&mut buffer, offset).map_err(failed("read"))? {
            0 => return Ok(()),
            count => offset += count as u64,
        }
    }
}

/// Copies all of `from` into the empty file `to`: shared blocks where the file system can, else within the kernel.
pub(super) fn copy(from: &File, to: &File) -> Result<(), LiveError> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut offset_from = 0;
    let mut offset_to = 0;
    loop {
        match rustix::fs::copy_file_range(from, Some(&mut offset_from), to, Some(&mut offset_to), 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(
                rustix::io::Errno::INVAL
                | rustix::io::Errno::XDEV
                | rustix::io::Errno::OPNOTSUPP
                | rustix::io::Errno::NOSYS,
            ) => return copy_through_memory(from, to),
            Err(error) => return Err(failed("copy")(error)),
        }
    }
}

fn copy_through_memory(from: &File, to: &File) -> Result<(), LiveError> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let mut offset = 0;
    loop {
        match from.read_at(&mut buffer, offset).map_err(failed("read"))? {
            0 => return Ok(()),
            count => {
                to.write_all_at(&buffer[..count], offset).map_err(failed("write"))?;
                offset += count as u64;
            }
        }
    }
}
