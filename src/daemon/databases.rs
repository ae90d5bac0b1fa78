//! The verbs on databases alone: dump, restore, clone, verify.

use std::fs::File;
use std::io::{self, Seek};
use std::time::Instant;

use super::Daemon;
use super::capture::{Captured, ExtractedDatabase};
use super::differences::State;
use crate::base::files::{self, At};
use crate::control::request::{self, DatabaseSource};
use crate::control::response::{
    DatabaseCloned, DatabaseDumped, DatabaseRestored, DatabaseVerification, TableInfo,
};
use crate::control::{At as When, Caller, DataWriter, Events, Failure, InputReader, Revision};
use crate::database::{Database, Difference, Summary};
use crate::history::{DatabaseSnapshot, SnapshotId};
use crate::site::{Site, SiteKind};

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
        if Daemon::is_on_server(&site) {
            let (from, recorded) = match &request.from {
                DatabaseSource::Snapshot(revision) => {
                    self.state_on_server(revision)?.ok_or_else(|| no_database(&revision.to_string()))?
                }
                DatabaseSource::Input => {
                    ("dump".to_owned(), self.adopt_dump(&site, &mut InputReader(events))?)
                }
            };
            let summary = Summary::from(&recorded);
            let safety = self.replace_on_server(caller, &site, recorded, &from, events)?;
            return Ok(DatabaseRestored {
                site: site.name,
                from,
                tables: summary.tables.len() as u64,
                rows: summary.rows(),
                safety_snapshot: safety.to_string(),
                seconds: started.elapsed().as_secs_f64(),
            });
        }
        let directory = self.store.temporary_directory()?;
        let (from, dump) = match &request.from {
            DatabaseSource::Snapshot(revision) => {
                let (state, extracted) = self.extract_state(revision)?;
                (state.name, extracted.whole_file()?)
            }
            DatabaseSource::Input => {
                let path = directory.path().join("dump");
                let mut dump = files::create_new(&path)?;
                io::copy(&mut InputReader(events), &mut dump).at("receive", &path)?;
                dump.rewind().at("read", &path)?;
                ("dump".to_owned(), dump)
            }
        };
        let live = self.live_generation(&site.name)?;
        let target = self.live_database(&site)?;
        let captured = self.capture(&site, &live, None)?;
        let message = format!("before the database was restored from {from}");
        let safety = self.register(caller, &site, &live, captured, &message, None)?;
        let summary = target.restore(dump)?;
        Ok(DatabaseRestored {
            site: site.name,
            from,
            tables: summary.tables.len() as u64,
            rows: summary.rows(),
            safety_snapshot: safety.to_string(),
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
        if Daemon::is_on_server(&target) {
            let found = self.state_on_server(&request.from)?;
            let (from, recorded) = found.ok_or_else(|| no_database(&request.from.to_string()))?;
            let summary = Summary::from(&recorded);
            self.replace_on_server(caller, &target, recorded, &from, events)?;
            return Ok(DatabaseCloned {
                from,
                to: target.name,
                tables: summary.tables.len() as u64,
                rows: summary.rows(),
                seconds: started.elapsed().as_secs_f64(),
            });
        }
        let (state, extracted) = self.extract_state(&request.from)?;
        let summary = self.live_database(&target)?.restore(extracted.whole_file()?)?;
        Ok(DatabaseCloned {
            from: state.name,
            to: target.name,
            tables: summary.tables.len() as u64,
            rows: summary.rows(),
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

    /// Gives a site another database on its server: a new generation with the files as they are now becomes live, so
    /// nobody sees a part of it, and `rollback` undoes it. Returns the snapshot of the site as it was.
    fn replace_on_server(
        &self,
        caller: &Caller,
        site: &Site,
        recorded: DatabaseSnapshot,
        from: &str,
        events: &dyn Events,
    ) -> Result<SnapshotId, Failure> {
        let live = self.live_generation(&site.name)?;
        let platform = self.platform(&live.platform)?;
        let hold = self.hold_writes(&live)?;
        let captured = self.capture(site, &live, Some(&hold))?;
        captured.warn_of_unstable(events);
        let message = format!("before the database was restored from {from}");
        let restored = Captured {
            root: captured.root.clone(),
            unstable: Vec::new(),
            database: Some(recorded),
            platform: captured.platform.clone(),
        };
        let safety = self.register(caller, site, &live, captured, &message, None)?;
        let message = format!("with the database of {from}");
        let snapshot = self.register(caller, site, &live, restored, &message, None)?;
        let next = self.generation_from(site, snapshot, &platform)?;
        self.switch_held(site, &live, &next, hold, events)?;
        Ok(safety)
    }

    /// The database of the live generation of a site.
    fn live_database(&self, site: &Site) -> Result<Database, Failure> {
        let live = self.live_generation(&site.name)?;
        self.database(site, &live)?.ok_or_else(|| no_database(&site.name.to_string()))
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
