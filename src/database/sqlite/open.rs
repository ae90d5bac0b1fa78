//! Opening SQLite databases, and saying what went wrong.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use crate::base::accounts::User;
use crate::base::files::{self, At};
use crate::base::process;
use crate::database::Problem;

/// Less than this is no room for a journal, in bytes.
const ROOM_MIN: u64 = 1 << 20;

/// Whether the disk being full is why a database cannot be opened for writing, or its journal not be made: SQLite falls
/// back to reading, or says that it cannot open, and keeps the reason to itself.
fn is_full(path: &Path) -> bool {
    let refused = files::open_read_write(path).is_err_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    });
    let directory = path.parent().unwrap_or(path);
    refused
        || rustix::fs::statvfs(directory)
            .is_ok_and(|space| space.f_bavail.saturating_mul(space.f_frsize) < ROOM_MIN)
}

/// How a database file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Others may be using it.
    Live,
    /// Nothing changes it or its journals: a snapshot. Its directory may be read-only.
    Frozen,
}

/// The longest wait for a lock: what SQLite can count in milliseconds is not much more.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The first bytes of every SQLite database (<https://www.sqlite.org/fileformat2.html>).
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A database file with its path and how long its locks are waited for: what errors are told with.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) wait: Duration,
}

impl Place {
    pub(super) fn new(path: &Path, wait: Duration) -> Place {
        Place { path: path.to_owned(), wait: wait.min(WAIT_MAX) }
    }

    /// Opens an existing database that others may be using, for reading and writing where that is allowed.
    pub(super) fn open(&self) -> Result<Connection, Problem> {
        if files::metadata(&self.path)?.is_none() {
            return Err(Problem::Missing { path: self.path.clone() });
        }
        self.open_at(&self.path)
    }

    /// Opens an existing database at another path than the one that messages name.
    pub(super) fn open_at(&self, path: &Path) -> Result<Connection, Problem> {
        self.connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
    }

    /// Opens a database for reading that nothing changes. What is in a write-ahead log beside it is seen; a journal
    /// that wants to be rolled back is. Neither changes a file beside it.
    pub(super) fn open_frozen(&self) -> Result<(Connection, Option<Scratch>), Problem> {
        if files::metadata(&self.path)?.is_none() {
            return Err(Problem::Missing { path: self.path.clone() });
        }
        let has_log = files::metadata(&beside(&self.path, "-wal"))?.is_some_and(|found| found.len() > 0);
        if has_log || is_hot(&beside(&self.path, "-journal"))? {
            // Recovery writes; so it works on copies.
            let scratch = Scratch::new()?;
            let copy = scratch.file("database");
            for suffix in ["", "-wal", "-journal"] {
                let from = beside(&self.path, suffix);
                if files::metadata(&from)?.is_some() {
                    copy_file(&from, &beside(&copy, suffix))?;
                }
            }
            return Ok((self.open_at(&copy)?, Some(scratch)));
        }
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = self.connect(&immutable_uri(&self.path), flags)?;
        Ok((connection, None))
    }

    /// Opens a database as it stands.
    pub(super) fn open_as(&self, state: State) -> Result<(Connection, Option<Scratch>), Problem> {
        match state {
            State::Live => Ok((self.open()?, None)),
            State::Frozen => self.open_frozen(),
        }
    }

    fn connect(&self, name: &Path, flags: OpenFlags) -> Result<Connection, Problem> {
        let connection = Connection::open_with_flags(name, flags).map_err(|e| self.problem("open", e))?;
        prepare(&connection, self.wait).map_err(|e| self.problem("open", e))?;
        // Reads the schema: whatever makes the file unusable shows here.
        connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            .map_err(|e| self.problem("open", e))?;
        Ok(connection)
    }

    /// The problem that an error of SQLite while doing `action` stands for.
    pub(super) fn problem(&self, action: &str, error: Error) -> Problem {
        let path = self.path.clone();
        let (code, extended, message) = match &error {
            Error::SqliteFailure(failure, message) => {
                let text = message.clone().unwrap_or_else(|| failure.to_string());
                (failure.code, failure.extended_code, text)
            }
            Error::SqlInputError { error: failure, msg, .. } => {
                (failure.code, failure.extended_code, msg.clone())
            }
            other => (ErrorCode::Unknown, 0, other.to_string()),
        };
        match code {
            ErrorCode::NotADatabase => {
                Problem::NotADatabase { looks_encrypted: looks_encrypted(&path), path }
            }
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Problem::Locked {
                processes: super::locks::holders(&path),
                waited_ms: u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX),
                path,
            },
            ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly if is_full(&path) => {
                Problem::DiskFull { path, temporary: temporary_directory() }
            }
            ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly => Problem::Refused {
                path,
                action: if code == ErrorCode::ReadOnly { "write" } else { "open" }.to_owned(),
                user: User::current().map_or_else(|error| error.to_string(), |user| user.name),
                message,
            },
            ErrorCode::DiskFull => Problem::DiskFull { path, temporary: temporary_directory() },
            ErrorCode::DatabaseCorrupt => Problem::Damaged { path, findings: vec![message] },
            _ => Problem::Sqlite { path, action: action.to_owned(), message, code: extended },
        }
    }
}

/// Settings of every connection.
pub(super) fn prepare(connection: &Connection, wait: Duration) -> Result<(), Error> {
    connection.busy_timeout(wait)?;
    // What a schema contains is not ours: it may not call functions with side effects.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    // Drupal declares its text columns with this collation and registers it on each of its own connections. Its
    // indexes cannot be checked, nor built, without it (Drupal\Component\Utility\Unicode::strcasecmp).
    connection.create_collation("NOCASE_UTF8", |left: &str, right: &str| {
        left.to_uppercase().as_bytes().cmp(right.to_uppercase().as_bytes())
    })
}

/// `path` with something appended to its last component.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The URI of a database that SQLite may read without locks.
fn immutable_uri(path: &Path) -> PathBuf {
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(*byte),
            other => uri.extend_from_slice(format!("%{other:02X}").as_bytes()),
        }
    }
    uri.extend_from_slice(b"?mode=ro&immutable=1");
    PathBuf::from(String::from_utf8(uri).expect("every other byte was escaped"))
}

/// Whether the beginning of a file has no text in it, as that of an encrypted database. Called when no connection
/// of this process has the file open: closing a file drops all locks that the process has on it.
fn looks_encrypted(path: &Path) -> bool {
    let mut start = [0; 16];
    let read = files::open(path).ok().and_then(|mut file| file.read_exact(&mut start).ok());
    let printable = start.iter().filter(|byte| byte.is_ascii_graphic() || **byte == b' ').count();
    read.is_some() && start != *MAGIC && printable < 12 && !start.starts_with(&[0; 4])
}

/// Where temporary files go; SQLite's own too.
pub(super) fn temporary_directory() -> PathBuf {
    let set = ["SQLITE_TMPDIR", "TMPDIR"].iter().find_map(std::env::var_os);
    set.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Whether a rollback journal has content: one that was finished is missing, empty, or begins with a zero byte.
fn is_hot(journal: &Path) -> Result<bool, Problem> {
    if files::metadata(journal)?.is_none() {
        return Ok(false);
    }
    let mut first = [0];
    let count = files::open(journal)?.read(&mut first).at("read", journal)?;
    Ok(count > 0 && first[0] != 0)
}

fn copy_file(from: &Path, to: &Path) -> Result<(), Problem> {
    let mut source = files::open(from)?;
    let mut target = files::create_new(to)?;
    std::io::copy(&mut source, &mut target).at("copy", from)?;
    Ok(())
}

/// A directory of this process alone, removed with everything in it in the end. One that a killed process leaves
/// in `/var/tmp` is removed by the system's own cleaning.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> Result<Scratch, Problem> {
        let base = temporary_directory();
        let stamp = crate::base::Timestamp::now().0;
        for attempt in 0..1000 {
            let directory = base.join(format!("sitefs-{}-{stamp}-{attempt}", process::own_id()));
            match files::create_directory(&directory, 0o700) {
                Ok(()) => return Ok(Scratch { directory }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::File {
            message: format!("cannot find a free name for a directory in {}", base.display()),
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody is left to tell; the system's own cleaning takes what remains.
        let _ = files::remove_directory_all(&self.directory);
    }
}
