//! `database`: the databases of sites.
//!
//! One contract over engines that differ in where a database is:
//!
//! | | a file of the site ([`Database`], SQLite) | on a server ([`ServerDatabase`]: MariaDB, PostgreSQL) |
//! |---|---|---|
//! | capture | the site's files, frozen under a [`Hold`] | a dump ([`ServerUrl::dump`]) begun under a [`ServerHold`] |
//! | clone | a clone of the files | [`ServerDatabase::create`] and [`ServerDatabase::load`] of a dump |
//! | dump, restore | [`Database::dump`], [`Database::restore`] | the same two |
//! | what is in it | [`Database::summary`] | [`ServerUrl::summary`], or what a dump says at its end |
//! | hold writes | [`Database::hold`] | [`ServerUrl::hold`], then [`ServerDatabase::set_writable`] |
//! | size, obstacles | [`Database::describe`], [`Database::capabilities`] | [`ServerUrl::examine`] |
//!
//! Whatever is done is done by child processes: with files a `sitefs` of its own ([`worker`]) that runs as the
//! owner of the database, with servers the servers' own programs. So the daemon never waits for a lock or for its own
//! mount from one of its own threads, and a database file is never touched with more rights than its application has.
//!
//! Invariants:
//! - What a hold lets be captured is a committed state.
//! - Restoring and cloning change a database file as one: it has its old content or the new, also after a crash. A
//!   database on a server is only ever filled before anybody uses it.
//! - A [`Summary`] depends on what is stored, not on the order, the page or the file it is stored in; the database, a
//!   capture of it, a clone and a restored dump have the same.
//! - No password is in an argument, a message or the debug form of anything.
//!
//! Absent: sites, generations, who may do what.

mod hold;
mod problem;
mod server;
mod sqlite;
mod summary;
mod url;
pub mod worker;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::files;
use worker::{Answer, Work, Worker};

pub use hold::Hold;
pub use problem::{DatabaseError, Problem};
pub use server::{
    CopiedAsFiles, LargeTables, Secret, ServerAddress, ServerDatabase, ServerDump, ServerExamination,
    ServerHold, ServerUrl, ServerUrlError, SourceMoment, Tablespaces,
};
pub use summary::{Difference, Summary, TableDifference};
pub use url::{DatabaseUrl, Engine, UrlError};

/// How long locks of other processes are waited for unless [`Database::wait`] says otherwise.
const WAIT: Duration = Duration::from_secs(30);

/// What an engine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The database is files of the site: who freezes the site's files under a [`Hold`] has captured it, and a clone
    /// of the files is a clone of the database. Otherwise it is captured by a dump.
    pub in_site_files: bool,
    /// Writes can be held while reading goes on.
    pub holds_writes: bool,
    /// A dump is of one moment without keeping writers waiting.
    pub dumps_without_blocking: bool,
    /// Restoring replaces the content in one transaction; otherwise whoever reads meanwhile sees parts.
    pub restores_atomically: bool,
}

/// What kind of database it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// For SQLite: the file.
    pub path: PathBuf,
    /// For SQLite: `wal` with a write-ahead log, else a kind of rollback journal.
    pub journal_mode: String,
    /// The size of its content, in bytes: what a copy takes, and about what a dump takes.
    pub size_bytes: u64,
}

/// What was found in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// What is in it.
    pub summary: Summary,
    /// What is wrong with its structure; empty when it is sound, or was not checked.
    pub findings: Vec<String>,
}

/// A database of a site.
#[derive(Clone, Debug)]
pub struct Database {
    worker: Worker,
    place: Place,
    wait: Duration,
}

/// Where it is.
#[derive(Clone, Debug)]
enum Place {
    Sqlite { file: PathBuf, additional: Vec<PathBuf>, frozen: bool },
}

impl Database {
    /// The database that `url` names in the directory of a site, worked on by `worker`. Nothing is opened yet.
    pub fn new(url: &DatabaseUrl, directory: &Path, worker: Worker) -> Database {
        let place = match url {
            DatabaseUrl::Sqlite(path) => {
                Place::Sqlite { file: path.below(directory), additional: Vec::new(), frozen: false }
            }
        };
        Database { worker, place, wait: WAIT }
    }

    /// Further databases whose writes are held together with it; those that do not exist are passed over.
    pub fn with_additional(mut self, urls: &[DatabaseUrl], directory: &Path) -> Database {
        match &mut self.place {
            Place::Sqlite { additional, .. } => additional.extend(urls.iter().map(|url| match url {
                DatabaseUrl::Sqlite(path) => path.below(directory),
            })),
        }
        self
    }

    /// Says that nothing changes the database: it is in a snapshot. Then no lock is taken, and its directory may be
    /// read-only. It cannot be held or replaced.
    pub fn frozen(mut self) -> Database {
        match &mut self.place {
            Place::Sqlite { frozen, .. } => *frozen = true,
        }
        self
    }

    /// Sets how long other processes' locks are waited for.
    pub fn wait(mut self, wait: Duration) -> Database {
        self.wait = wait;
        self
    }

    /// The engine.
    pub fn engine(&self) -> Engine {
        match self.place {
            Place::Sqlite { .. } => Engine::Sqlite,
        }
    }

    /// What can be done with it.
    pub fn capabilities(&self) -> Capabilities {
        match self.place {
            // A dump blocks writers of a live database without a write-ahead log; that of a snapshot blocks nobody.
            Place::Sqlite { frozen, .. } => Capabilities {
                in_site_files: true,
                holds_writes: !frozen,
                dumps_without_blocking: frozen,
                restores_atomically: true,
            },
        }
    }

    /// What kind of database it is, and how large.
    pub fn describe(&self) -> Result<Description, DatabaseError> {
        match self.worker.ask(Work::Describe { file: self.file() })? {
            Answer::Description(description) => Ok(description),
            other => Err(other.unexpected()),
        }
    }

    /// Holds writes until the result is released or dropped, but not longer than `held_max`. When this returns, what
    /// was committed before is in the files, and nothing changes them but what changes nothing. Reading goes on.
    pub fn hold(&self, held_max: Duration) -> Result<Hold, DatabaseError> {
        match &self.place {
            Place::Sqlite { file, additional, .. } => {
                Hold::acquire(&self.worker, file.clone(), additional.clone(), self.wait, held_max)
            }
        }
    }

    /// What is in it at one moment.
    pub fn summary(&self) -> Result<Summary, DatabaseError> {
        Ok(self.examine(false)?.summary)
    }

    /// What is in it and what is wrong with its structure, at one moment.
    pub fn verify(&self) -> Result<Examination, DatabaseError> {
        self.examine(true)
    }

    fn examine(&self, check: bool) -> Result<Examination, DatabaseError> {
        match self.worker.ask(Work::Examine { file: self.file(), check })? {
            Answer::Examination(examination) => Ok(examination),
            other => Err(other.unexpected()),
        }
    }

    /// Writes it to `output` as SQL, and says what was written.
    pub fn dump(&self, output: File) -> Result<Summary, DatabaseError> {
        self.worker.ask_for_dump(self.file(), output)?.summary()
    }

    /// Replaces its content by that of a dump (SQL, or for SQLite a raw database file), which is restored to a
    /// private place and checked first. Says what it holds now. A missing database is made.
    pub fn restore(&self, dump: File) -> Result<Summary, DatabaseError> {
        self.worker.ask_with_input(Work::Restore { file: Some(self.file()) }, dump)?.summary()
    }

    /// Replaces the content of `target`, which is made where it is missing, by this one's at one moment, after a
    /// check of its structure. Says what that is. Both must be of one owner, or the owner of `target`, who does the
    /// work, be allowed to read this one.
    pub fn clone_to(&self, target: &Database) -> Result<Summary, DatabaseError> {
        let work = Work::Clone { source: self.file(), target: target.file() };
        target.worker.ask(work)?.summary()
    }

    fn file(&self) -> worker::FileRequest {
        match &self.place {
            Place::Sqlite { file, frozen, .. } => worker::FileRequest {
                path: file.clone(),
                frozen: *frozen,
                wait_ms: worker::milliseconds(self.wait),
            },
        }
    }
}

/// Restores a dump to a private place, checks it, and says what it holds: the proof that a backup can be restored.
pub fn try_dump(dump: File, worker: &Worker) -> Result<Summary, DatabaseError> {
    worker.ask_with_input(Work::Restore { file: None }, dump)?.summary()
}

/// Opens a dump that a person names. A raw SQLite file whose journal lies beside it is refused: without it, the file
/// alone is not whole.
pub fn open_dump(path: &Path) -> Result<File, DatabaseError> {
    for suffix in ["-wal", "-journal"] {
        let mut journal = path.as_os_str().to_owned();
        journal.push(suffix);
        let journal = PathBuf::from(journal);
        if files::metadata(&journal)?.is_some_and(|found| found.len() > 0) {
            return Err(Problem::JournalBeside { path: path.to_owned(), journal }.into());
        }
    }
    Ok(files::open(path)?)
}
