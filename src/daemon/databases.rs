//! The verbs on databases alone: dump, restore, clone, verify.

use std::fs::File;
use std::io::{self, Seek};
use std::time::Instant;

use super::Daemon;
use super::capture::{Captured, ExtractedDatabase};
use super::differences::State;
use crate::base::Timestamp;
use crate::base::files::{self, At};
use crate::control::request::{self, DatabaseSource};
use crate::control::response::{
    DatabaseCloned, DatabaseDumped, DatabaseRestored, DatabaseVerification, TableInfo,
};
use crate::control::{At as When, Caller, DataWriter, Events, Failure, InputReader, Revision};
use crate::database::{Difference, Engine, Summary};
use crate::history::{DatabaseSnapshot, SnapshotId};
use crate::site::{Site, SiteKind, with_companions};
use crate::trees::{Attributes, Entry, Node, Root};

impl Daemon {
    /// `database dump`.
    pub(super) fn database_dump(
        &self,
        request: &request::DatabaseDump,
        events: &dyn Events,
    ) -> Result<DatabaseDumped, Failure> {
        let started = Instant::now();
        if let Some((state, recorded)) = self.state_on_server(&request.of)? {
            let size_bytes = match &recorded.dump {
                Some(dump) => self.send_dump(dump, events)?,
                None => 0,
            };
            return Ok(DatabaseDumped {
                of: state,
                tables: recorded.tables.len() as u64,
                rows: Summary::from(&recorded).rows(),
                engine: recorded.engine,
                size_bytes,
                seconds: started.elapsed().as_secs_f64(),
            });
        }
        let (state, extracted) = self.extract_state(&request.of)?;
        let path = extracted.path().with_file_name("dump.sql");
        let mut dump = files::create_new(&path)?;
        let summary = extracted.database()?.dump(dump.try_clone().at("open", &path)?)?;
        dump.rewind().at("read", &path)?;
        let size_bytes = io::copy(&mut dump, &mut DataWriter(events)).at("send", &path)?;
        Ok(DatabaseDumped {
            of: state.name,
            engine: extracted.database()?.engine().to_string(),
            tables: summary.tables.len() as u64,
            rows: summary.rows(),
            size_bytes,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// `database restore`.
    pub(super) fn database_restore(
        &self,
        caller: &Caller,
        request: &request::DatabaseRestore,
        events: &dyn Events,
    ) -> Result<DatabaseRestored, Failure> {
        let started = Instant::now();
        let _lock = self.lock_site(&request.site, "database restore")?;
        let site = self.site(&request.site)?;
        let replaced = match &request.from {
            DatabaseSource::Snapshot(revision) => self.replace_by_state(caller, &site, revision, events)?,
            DatabaseSource::Input => {
                let content = if Daemon::is_on_server(&site) {
                    Content::Recorded(self.adopt_dump(&site, &mut InputReader(events))?)
                } else {
                    let directory = self.store.temporary_directory()?;
                    let path = directory.path().join("dump");
                    let mut dump = files::create_new(&path)?;
                    io::copy(&mut InputReader(events), &mut dump).at("receive", &path)?;
                    dump.rewind().at("read", &path)?;
                    Content::Dump(dump)
                };
                self.replace_database(caller, &site, content, "dump", events)?
            }
        };
        Ok(DatabaseRestored {
            site: site.name,
            tables: replaced.summary.tables.len() as u64,
            rows: replaced.summary.rows(),
            from: replaced.from,
            safety_snapshot: replaced.safety.to_string(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// `database clone`.
    pub(super) fn database_clone(
        &self,
        caller: &Caller,
        request: &request::DatabaseClone,
        events: &dyn Events,
    ) -> Result<DatabaseCloned, Failure> {
        let started = Instant::now();
        let _lock = self.lock_site(&request.to, "database clone")?;
        let target = self.site(&request.to)?;
        if target.kind == SiteKind::Live {
            return Err(Failure::refused(format!("{} is a live site, not a clone", target.name)).hint(
                format!(
                    "to replace a live site's database: sitefs database restore {} --from SITE@ID",
                    target.name
                ),
            ));
        }
        let replaced = self.replace_by_state(caller, &target, &request.from, events)?;
        Ok(DatabaseCloned {
            to: target.name,
            tables: replaced.summary.tables.len() as u64,
            rows: replaced.summary.rows(),
            from: replaced.from,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// `database verify`: restores the database of the state, checks its structure, and compares a snapshot's with
    /// what was recorded of it.
    pub(super) fn database_verify(
        &self,
        request: &request::DatabaseVerify,
    ) -> Result<DatabaseVerification, Failure> {
        let started = Instant::now();
        if let Some((state, recorded)) = self.state_on_server(&request.of)? {
            let proven = self.prove_dump(&self.site(&request.of.site)?, &recorded);
            let problem = |failure: Failure| {
                let cause = failure.causes.first().map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("{}{cause}", failure.message)
            };
            return Ok(DatabaseVerification {
                of: state,
                problems: proven.err().map(problem).into_iter().collect(),
                tables: super::snapshots::tables(&recorded),
                engine: recorded.engine,
                seconds: started.elapsed().as_secs_f64(),
            });
        }
        let (state, extracted) = self.extract_state(&request.of)?;
        let database = extracted.database()?;
        let examination = database.verify()?;
        let mut problems = examination.findings;
        let recorded = state.database.as_ref().filter(|database| database.is_read());
        if let (Some(recorded), true) = (recorded, request.of.at != When::Live) {
            problems.extend(Difference::between(&Summary::from(recorded), &examination.summary).lines());
        }
        let tables = examination.summary.tables.iter().map(|(table, summary)| TableInfo {
            table: table.clone(),
            rows: summary.rows,
            checksum: summary.checksum.to_string(),
        });
        Ok(DatabaseVerification {
            of: state.name,
            engine: database.engine().to_string(),
            problems,
            tables: tables.collect(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// The state of a site whose database is on a server, and the database; `None` for other sites.
    fn state_on_server(&self, revision: &Revision) -> Result<Option<(String, DatabaseSnapshot)>, Failure> {
        if !Daemon::is_on_server(&self.site(&revision.site)?) {
            return Ok(None);
        }
        let State { name, database, .. } = self.state(revision)?;
        let database = database.ok_or_else(|| no_database(&name))?;
        Ok(Some((name, database)))
    }

    /// Gives a site the database of a state, its own or another site's.
    fn replace_by_state(
        &self,
        caller: &Caller,
        site: &Site,
        revision: &Revision,
        events: &dyn Events,
    ) -> Result<Replaced, Failure> {
        let (from, content) = match self.state_on_server(revision)? {
            Some((from, recorded)) => {
                // Before anybody's writes are held for it.
                self.check_origin(&self.server_of(site)?.0, &recorded)?;
                (from, Content::Recorded(recorded))
            }
            None => {
                let (state, extracted) = self.extract_state(revision)?;
                (state.name, Content::Dump(extracted.whole_file()?))
            }
        };
        self.replace_database(caller, site, content, &from, events)
    }

    /// Gives a site another database: a new generation with the files as they are now becomes live, so nobody sees a
    /// part of it, and `rollback` undoes it. No write is accepted between the snapshot of the site as it was and the
    /// switch, so none is lost unseen.
    fn replace_database(
        &self,
        caller: &Caller,
        site: &Site,
        content: Content,
        from: &str,
        events: &dyn Events,
    ) -> Result<Replaced, Failure> {
        let live = self.live_generation(&site.name)?;
        let platform = self.platform(&live.platform)?;
        self.wait_for_lane(&site.name, &platform.name, events)?;
        let _waiting = self.let_writers_wait(&live)?;
        let hold = self.hold_writes(&live)?;
        let captured = self.capture(site, &live, Some(&hold))?;
        captured.warn_of_unstable(events);
        let (root, database) = match content {
            Content::Recorded(recorded) => (captured.root.clone(), recorded),
            Content::Dump(dump) => self.with_restored_file(site, &captured.root, dump)?,
        };
        let summary = Summary::from(&database);
        let restored = Captured {
            root,
            unstable: Vec::new(),
            database: Some(database),
            platform: captured.platform.clone(),
        };
        let message = format!("before the database was restored from {from}");
        let safety = self.register(caller, site, &live, captured, &message, None)?;
        let message = format!("with the database of {from}");
        let snapshot = self.register(caller, site, &live, restored, &message, None)?;
        let next = self.generation_from(site, snapshot, &platform)?;
        self.switch_held(site, &live, &next, hold, events)?;
        Ok(Replaced { from: from.to_owned(), safety, summary })
    }

    /// A tree of a site with its database file replaced by what a dump holds, in the layout the file has: its page
    /// size and kind of journal stay. Its owner and permissions do too.
    fn with_restored_file(
        &self,
        site: &Site,
        root: &Root,
        dump: File,
    ) -> Result<(Root, DatabaseSnapshot), Failure> {
        let trees = &self.store.trees;
        let none = || no_database(site.name.as_str());
        let file = site.database_files().first().ok_or_else(none)?;
        let entry = trees.entry_at(root, file)?.ok_or_else(none)?;
        let extracted = self.extract_database(root, file)?.ok_or_else(none)?;
        let summary = extracted.database()?.restore(dump)?;
        let content = trees.objects.put_file(&mut extracted.whole_file()?, u64::MAX)?;
        let attributes = Attributes { mtime: Timestamp::now(), ..entry.attributes };
        let mut root = root.clone();
        for companion in with_companions(file) {
            root = trees.replace_at(&root, &companion, None)?;
        }
        let root = trees.replace_at(&root, file, Some(Entry { attributes, node: Node::File(content) }))?;
        Ok((root, summary.into_snapshot(Engine::Sqlite, Some(file.clone()), None, true)))
    }

    /// A state of a site, and its database in a directory of its own.
    fn extract_state(&self, revision: &Revision) -> Result<(State, ExtractedDatabase), Failure> {
        let state = self.state(revision)?;
        let site = self.site(&revision.site)?;
        let recorded = state.database.as_ref().and_then(|database| database.file.clone());
        let file = recorded.or_else(|| site.database_files().first().cloned());
        let extracted = match file {
            Some(file) => self.extract_database(&state.root, &file)?,
            None => None,
        };
        let extracted = extracted.ok_or_else(|| no_database(&state.name))?;
        Ok((state, extracted))
    }
}

/// What a database is replaced by.
enum Content {
    /// The database of a snapshot, or a dump that was read, on a server.
    Recorded(DatabaseSnapshot),
    /// SQL or a raw database file, for a database in a file.
    Dump(File),
}

/// A database that was replaced.
struct Replaced {
    /// Where its content is from: `SITE@ID`, or `dump`.
    from: String,
    /// The site as it was before.
    safety: SnapshotId,
    /// What it holds now.
    summary: Summary,
}

impl ExtractedDatabase {
    /// The database as one file without a log beside it, open for reading.
    fn whole_file(&self) -> Result<File, Failure> {
        let copy = self.beside("whole.sqlite")?;
        self.database()?.clone_to(&copy)?;
        Ok(files::open(&self.path().with_file_name("whole.sqlite"))?)
    }
}

fn no_database(of: &str) -> Failure {
    Failure::usage(format!("{of} has no database"))
        .hint("see what a site has: sitefs site show SITE; a snapshot taken with --no-database has none")
}
