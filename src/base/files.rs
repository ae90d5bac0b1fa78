//! The only door to files: every error says what was being done, and to which path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An I/O error with the path it happened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was being done: "open", "write", "rename".
    pub action: &'static str,
    /// The path it was done to.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Names the action and the path of a failed call.
pub trait At<T> {
    /// `file.write_all(..).at("write", path)?`
    fn at(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError { action, path: path.to_owned(), source: source.into() })
    }
}

/// How a file of the store is opened. What should be a file and is a named pipe is opened at once, without waiting for
/// whoever has its other end; of a file, this changes nothing.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    options
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, FileError> {
    options().read(true).open(path).at("open", path)
}

/// Opens an existing file for reading and writing.
pub fn open_read_write(path: &Path) -> Result<File, FileError> {
    options().read(true).write(true).open(path).at("open", path)
}

/// Opens a device for reading and writing: who reads waits for what comes.
pub fn open_device(path: &Path) -> Result<File, FileError> {
    OpenOptions::new().read(true).write(true).open(path).at("open", path)
}

/// Opens what somebody has named for reading, which may be a pipe: who reads waits for what comes.
pub fn open_input(path: &Path) -> Result<File, FileError> {
    File::open(path).at("open", path)
}

/// Has `length` bytes of a file from `offset` read in the background. Advice: nothing depends on it.
pub fn fetch(file: &File, offset: u64, length: u64) {
    if let Err(error) =
        rustix::fs::fadvise(file, offset, NonZeroU64::new(length), rustix::fs::Advice::WillNeed)
    {
        log::debug!("reading ahead: {error}");
    }
}

/// Creates a file for reading and writing, readable by its owner only; an existing file is an error.
pub fn create_new(path: &Path) -> Result<File, FileError> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).at("create", path)
}

/// Opens a file for reading and writing, creating it, readable by its owner only, where it is missing.
pub fn open_or_create(path: &Path) -> Result<File, FileError> {
    options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).at("open", path)
}

/// The whole content of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    regular(path).and_then(|mut file| file.read_to_end(&mut content)).at("read", path)?;
    Ok(content)
}

/// Opens a file to be read as a whole. Opening a pipe would wait for who writes to it.
fn regular(path: &Path) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() { File::open(path) } else { Err(io::Error::other("it is no file")) }
}

/// The whole content of a text file.
pub fn read_to_string(path: &Path) -> Result<String, FileError> {
    let mut content = String::new();
    regular(path).and_then(|mut file| file.read_to_string(&mut content)).at("read", path)?;
    Ok(content)
}

/// Reads from `offset` on until `buffer` is full or the file ends; how many bytes.
pub fn read_full_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Fills `buffer` with bytes that nobody can guess.
pub fn fill_random(buffer: &mut [u8]) -> Result<(), FileError> {
    let source = Path::new("/dev/urandom");
    open(source)?.read_exact(buffer).at("read", source)
}

/// Replaces `path` by `content` so that after a crash it holds the old content or the new, never a part: a
/// temporary file beside it is synced, renamed over it, and the directory is synced.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .at("create", &temporary)?;
    file.write_all(content).at("write", &temporary)?;
    file.sync_all().at("sync", &temporary)?;
    rename(&temporary, path)?;
    sync_parent(path)
}

/// Has the next read of a file come from the disk. After a failed write or sync the kernel goes on showing what it
/// could not write, and takes it for written.
pub fn forget_cached(path: &Path) -> Result<(), FileError> {
    let file = open_read_write(path)?;
    // What is still to be written would not be forgotten.
    file.sync_all().at("sync", path)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).at("forget what is cached of", path)
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), FileError> {
    open(path)?.sync_all().at("sync", path)
}

/// Makes the name of `path` durable: syncs the directory it is in.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

/// Renames, replacing what is there.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).at("rename", from)
}

/// The first path of the form `NAME.damaged-NUMBER` that is free: where what is damaged is set aside.
pub fn name_aside(path: &Path) -> Result<PathBuf, FileError> {
    let mut number = 1_u32;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        let name = PathBuf::from(name);
        if metadata(&name)?.is_none() {
            return Ok(name);
        }
        number += 1;
    }
}

/// Gives a file a second name.
pub fn hard_link(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::hard_link(from, to).at("link", to)
}

/// Sets the permission bits of what `path` leads to.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the permissions of", path)
}

/// Removes a file; a missing one is no error.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    missing_is_fine(fs::remove_file(path)).at("remove", path)
}

/// Removes an empty directory; a missing one is no error.
pub fn remove_directory(path: &Path) -> Result<(), FileError> {
    missing_is_fine(fs::remove_dir(path)).at("remove", path)
}

/// Removes a directory with all that is in it; a missing one is no error.
pub fn remove_directory_all(path: &Path) -> Result<(), FileError> {
    missing_is_fine(fs::remove_dir_all(path)).at("remove", path)
}

/// Creates one directory with `mode` (less the umask); an existing directory is an error.
pub fn create_directory(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::DirBuilder::new().mode(mode).create(path).at("create the directory", path)
}

/// Creates a directory and its missing parents, accessible by the owner only; existing ones are left as they are.
pub fn create_directories(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("create the directory", path)
}

/// Creates a directory and its missing parents so that everybody may pass through them.
pub fn create_public_directories(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).at("create the directory", path)
}

/// The entries of a directory, in no particular order.
pub fn list(path: &Path) -> Result<Vec<fs::DirEntry>, FileError> {
    fs::read_dir(path).and_then(Iterator::collect).at("list", path)
}

/// What is at `path`, a symbolic link not followed; `None` where nothing is, nor can be below a file.
pub fn metadata(path: &Path) -> Result<Option<fs::Metadata>, FileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).at("look at", path),
    }
}

/// The path with every symbolic link resolved.
pub fn canonical(path: &Path) -> Result<PathBuf, FileError> {
    fs::canonicalize(path).at("resolve", path)
}

/// The target of a symbolic link.
pub fn read_link(path: &Path) -> Result<PathBuf, FileError> {
    fs::read_link(path).at("read the link", path)
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_action_and_the_path() {
        let error = open(Path::new("/nonexistent/x")).unwrap_err();
        assert_eq!(error.to_string(), "cannot open /nonexistent/x: No such file or directory (os error 2)");
    }

    #[test]
    fn write_atomically_replaces_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(list(directory.path()).unwrap().len(), 1);
    }

    #[test]
    fn removing_what_is_missing_is_fine() {
        remove_file(Path::new("/nonexistent/x")).unwrap();
        assert!(metadata(Path::new("/nonexistent/x")).unwrap().is_none());
        assert!(metadata(Path::new("/proc/self/exe/x")).unwrap().is_none());
    }
}
