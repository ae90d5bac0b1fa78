//! Large tables of MariaDB, copied as files.
//!
//! InnoDB keeps a table and its indexes in a file, and takes in such a file that was written for another database
//! (<https://mariadb.com/kb/en/innodb-file-per-table-tablespaces/>, "transportable tablespaces"). Reading the rows of a large
//! table anew and making its indexes takes many times as long (`docs/decisions/databases-on-servers.md`). So a copy that
//! writers wait for is made in three steps:
//!
//! 1. [`ServerUrl::large_tables`] says which, and [`ServerDatabase::expect`] makes the database with their definitions alone;
//! 2. [`Tablespaces::fetch`] copies the files, at a moment at which the caller holds the writes of the source; reading
//!    goes on there;
//! 3. [`Tablespaces::load_and_compare`] has the server take them in, reads everything else as it was at that moment
//!    ([`Tablespaces::keep_moment`]), and proves that the copy is one. [`Tablespaces::load`] reads everything else from a
//!    dump of everything, and proves nothing: whoever uses it compares summaries, as for a copy that was read from a dump.
//!
//! Invariants:
//! - Files are touched by processes of the server's own user, so its directory cannot lead this program anywhere.
//! - The server's locks end with the connection that has them. What a crash leaves is part of a database that its caller
//!   knows of; `DROP DATABASE` takes away files that were not taken in yet.
//!
//! Absent: tables that the server does not take in from a file, or not as they were (other engines, partitions, full-text
//! and spatial indexes, generated columns, encryption), and servers that hand statements on to others, which would have the statement
//! and not the file (binary log, Galera). MySQL could do it and has not been tried.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use super::hold::MARGIN;
use super::load::connections;
use super::{STATEMENT_TIME_MAX, ServerDatabase, ServerDump, ServerUrl, mariadb};
use crate::base::accounts::User;
use crate::base::files;
use crate::base::process::{Command, Conversation};
use crate::database::{DatabaseError, Difference, Engine, Problem, Summary};

/// Tables with smaller files are read as rows: a file takes the server a few flushes whatever its length.
const FILE_BYTES_MIN: u64 = 4 << 20;

/// A database that was made with the definitions of large tables, whose rows are to come as files.
pub struct Tablespaces {
    copy: ServerDatabase,
    tables: LargeTables,
}

/// What is copied, at the moment at which the files are: for who compares the copy with it when the source has moved on.
pub struct SourceMoment {
    /// Everything but the rows of the large tables.
    rest: ServerDump,
    /// A connection for which that moment lasts, and which was asked for the checksums of the large tables.
    checksums: Conversation,
}

/// Tables that can be copied as files.
#[derive(Clone, Debug)]
pub struct LargeTables {
    /// Where they are.
    source: ServerUrl,
    /// The directory of the server's databases.
    directory: PathBuf,
    /// Who the server runs as.
    owner: User,
    /// Their names, the largest first.
    names: Vec<String>,
    /// What their files take, in bytes.
    bytes: u64,
    /// What the other tables take, as the server estimates it.
    other_bytes: u64,
}

/// How much of a database can be copied as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopiedAsFiles {
    /// So many tables, of so many bytes with their indexes. May be none.
    Tables {
        /// How many.
        count: usize,
        /// What their files take.
        bytes: u64,
    },
    /// Nothing: the reason, for people.
    Nothing(String),
}

impl LargeTables {
    /// How many there are, and what their files take, in bytes.
    pub fn extent(&self) -> (usize, u64) {
        (self.names.len(), self.bytes)
    }

    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How much of the database they are, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.bytes as f64 / (self.bytes + self.other_bytes).max(1) as f64
    }
}

impl ServerUrl {
    /// What of this database a copy would get as files.
    pub fn copied_as_files(&self) -> Result<CopiedAsFiles, DatabaseError> {
        Ok(match self.files()? {
            Ok(tables) => CopiedAsFiles::Tables { count: tables.names.len(), bytes: tables.bytes },
            Err(reason) => CopiedAsFiles::Nothing(reason),
        })
    }

    /// The tables that are worth it; `None` when there are none.
    pub fn large_tables(&self) -> Result<Option<LargeTables>, DatabaseError> {
        Ok(self.files()?.ok().filter(|tables| !tables.names.is_empty()))
    }

    /// The tables that are worth it, or why there can be none.
    fn files(&self) -> Result<Result<LargeTables, String>, DatabaseError> {
        if self.server.engine == Engine::PostgreSql {
            return Ok(Err("PostgreSQL has no such way".to_owned()));
        }
        if !self.server.column(None, mariadb::VERSION)?.concat().contains("MariaDB") {
            return Ok(Err("that is done with MariaDB alone".to_owned()));
        }
        let (mut settings, mut directory, mut names) = (Vec::new(), PathBuf::new(), Vec::new());
        let mut sizes = Vec::new();
        for mut row in self.server.query(None, &mariadb::tables_as_files(&self.name))? {
            match (row.pop(), row.pop().as_deref()) {
                (Some(setting), Some("against")) => settings.push(setting),
                (Some(path), Some("directory")) => directory = PathBuf::from(path),
                (Some(size), Some("size")) => sizes.push(size),
                (Some(name), _) => names.push(name),
                (None, _) => {}
            }
        }
        if !settings.is_empty() {
            return Ok(Err(format!("the server's settings are against it: {}", settings.join(", "))));
        }
        let of_database = directory.join(&self.name);
        let Some(found) = files::metadata(&of_database)?.filter(|_| self.server.socket.is_some()) else {
            return Ok(Err(format!(
                "the server's directory is not on this machine ({})",
                of_database.display()
            )));
        };
        let Ok(owner) = User::by_id(found.uid(), found.gid()) else {
            return Ok(Err(format!("nobody knows who {} belongs to", of_database.display())));
        };
        let mut large = Vec::new();
        for name in names {
            match files::metadata(&data_file(&of_database, &name))? {
                Some(found) if found.is_file() && found.len() >= FILE_BYTES_MIN => {
                    large.push((found.len(), name))
                }
                _ => {}
            }
        }
        large.sort_unstable_by(|one, other| other.cmp(one));
        let bytes = large.iter().map(|(bytes, _)| bytes).sum();
        let names: Vec<String> = large.into_iter().map(|(_, name)| name).collect();
        let others = sizes.iter().filter_map(|size| size.split_once(' '));
        let others = others.filter(|(_, name)| !names.iter().any(|large| large == name));
        let other_bytes = others.filter_map(|(bytes, _)| bytes.parse::<u64>().ok()).sum();
        Ok(Ok(LargeTables { source: self.clone(), directory, owner, names, bytes, other_bytes }))
    }
}

impl ServerDatabase {
    /// Makes this database for large tables of another one, on the same server. `None` where their server turns out to be
    /// another than the one whose directory is here.
    pub fn expect(&self, tables: LargeTables) -> Result<Option<Tablespaces>, DatabaseError> {
        let server = &self.at.server;
        self.create()?;
        // A server in a container may have a directory of the same name, but nothing of this name is in it then.
        if files::metadata(&tables.directory.join(&self.at.name))?.is_none() {
            return Ok(None);
        }
        let mut definitions = mariadb::dumper_of_definitions(&tables.source, &tables.names).stream()?;
        let loaded = self.load(&mut definitions);
        server.success(definitions.finish(STATEMENT_TIME_MAX)?)?;
        loaded?;
        server.query(Some(&self.at.name), &mariadb::without_files(&tables.names))?;
        Ok(Some(Tablespaces { copy: self.clone(), tables }))
    }
}

impl Tablespaces {
    /// Copies the files as they are now. Whoever writes to these tables waits meanwhile, whoever reads does not; locks of
    /// others are waited for at most `wait`. The copy is of one moment with a dump that was begun during the same hold.
    pub fn fetch(&self, wait: Duration) -> Result<(), DatabaseError> {
        let source = &self.tables.source;
        let mut conversation = source.server.client(Some(&source.name)).converse()?;
        conversation.send(&mariadb::export(&self.tables.names, wait.as_secs().max(1)))?;
        conversation.receive(wait + MARGIN)?;
        let from = self.tables.directory.join(&source.name);
        let names = self.tables.names.iter();
        let files = names.flat_map(|name| [data_file(&from, name), description_file(&from, name)]);
        let copied = self
            .command("cp")
            .arguments(["--no-dereference", "--reflink=auto", "--sparse=auto", "--"])
            .arguments(files)
            .argument(self.directory())
            .run();
        conversation.finish(MARGIN)?;
        copied?.success()?;
        Ok(())
    }

    /// Keeps the moment at which the files are copied. The caller holds the writes of the source, and may let go of them
    /// afterwards.
    pub fn keep_moment(&self) -> Result<SourceMoment, DatabaseError> {
        let source = &self.tables.source;
        let mut checksums = source.server.client(Some(&source.name)).converse()?;
        checksums.send(&mariadb::keep_moment())?;
        checksums.receive(MARGIN)?;
        checksums.send(&mariadb::checksums(&self.tables.names))?;
        Ok(SourceMoment { rest: source.dump_without_rows_of(&self.tables.names)?, checksums })
    }

    /// Takes the files in, reads everything else as it was at their moment, and compares all of it with the source, large
    /// tables by the server's own checksums (32 bits each). What is read goes through `spool`, an empty file.
    pub fn load_and_compare(&self, moment: SourceMoment, mut spool: File) -> Result<Summary, DatabaseError> {
        let SourceMoment { mut rest, mut checksums } = moment;
        let copy = &self.copy.at;
        // A server gives up on a dump that is not read for a minute, and files may take longer to be taken in.
        let (taken_in, read) = std::thread::scope(|scope| {
            let read = scope.spawn(|| io::copy(&mut rest, &mut spool));
            let taken_in = self.take_in();
            (taken_in, read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        taken_in?;
        read.and_then(|_| spool.rewind()).map_err(|error| rest.unreadable(&error))?;
        let rest = rest.finish()?;
        self.load_rest(&mut spool)?;
        let (copied, same) = std::thread::scope(|scope| {
            let query = mariadb::checksums(&self.tables.names);
            let copied = scope.spawn(move || copy.server.query(Some(&copy.name), &query));
            let same = copy.dump_without_rows_of(&self.tables.names).and_then(ServerDump::summarise);
            (copied.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), same)
        });
        let mut differences = Difference::between(&rest, &same?).lines();
        let copied = copied?;
        for (place, table) in self.tables.names.iter().enumerate() {
            let line = checksums.receive(STATEMENT_TIME_MAX)?;
            let source = line.rsplit('\t').next().filter(|sum| sum.parse::<u32>().is_ok());
            if source.is_none() || source != copied.get(place).and_then(|row| row.last()).map(String::as_str)
            {
                differences.push(format!("table {table}: another checksum"));
            }
        }
        checksums.finish(MARGIN)?;
        if differences.is_empty() {
            return Ok(rest);
        }
        Err(Problem::CopyDiffers { name: copy.name.clone(), difference: differences.join("; ") }.into())
    }

    /// Takes the files in, and reads what else is in a dump of the moment at which they were copied; says what that dump
    /// held.
    pub fn load(&self, dump: &mut dyn Read) -> Result<Summary, DatabaseError> {
        self.take_in()?;
        self.load_rest(dump)
    }

    fn load_rest(&self, dump: &mut dyn Read) -> Result<Summary, DatabaseError> {
        self.copy.load_without(dump, self.tables.names.iter().cloned().collect::<BTreeSet<_>>())
    }

    fn take_in(&self) -> Result<(), DatabaseError> {
        let left = Mutex::new(self.tables.names.iter().collect::<VecDeque<_>>());
        let database = &self.copy.at;
        let work = || -> Result<(), DatabaseError> {
            loop {
                let next = left.lock().pop_front();
                let Some(name) = next else { return Ok(()) };
                database.server.query(Some(&database.name), &mariadb::take_in_file(name))?;
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..connections()).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        let described = self.tables.names.iter().map(|name| description_file(&self.directory(), name));
        self.command("rm").arguments(["--force", "--"]).arguments(described).run()?.success()?;
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        self.tables.directory.join(&self.copy.at.name)
    }

    fn command(&self, program: &str) -> Command {
        Command::new(program).clear_env().user(&self.tables.owner).directory("/")
    }
}

fn data_file(directory: &Path, table: &str) -> PathBuf {
    directory.join(format!("{table}.ibd"))
}

/// What the server writes beside it for whoever takes it in.
fn description_file(directory: &Path, table: &str) -> PathBuf {
    directory.join(format!("{table}.cfg"))
}
