//! The state of a site at one instant: files frozen while the database's writes are held.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Daemon;
use super::servers::{self, BegunDump, Drain, HOLD_WAIT};
use super::store::TemporaryDirectory;
use crate::base::{RelativePath, files};
use crate::control::{Events, Failure};
use crate::database::worker::Worker;
use crate::database::{Database, DatabaseError, DatabaseUrl, Engine, Hold, ServerDatabase, ServerHold};
use crate::history::{DatabaseSnapshot, PlatformBinding};
use crate::live::{Access, Volume};
use crate::site::{Generation, GenerationName, Site, layout, with_companions};
use crate::trees::Root;

/// How long a hold may last before it ends by itself: longer than any update.
pub(super) const HELD_MAX: Duration = Duration::from_secs(6 * 3600);

/// How long those who wait for a lock of a generation that is no longer live may take to give up; then its hold ends
/// regardless. Longer than applications wait for SQLite (60 s in PHP).
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// How often it is looked whether they have given up.
const DRAIN_POLL: Duration = Duration::from_millis(200);

/// How long after a web server has let a request through it may take until the application has connected to its database.
/// Before that nobody can see that the request is there.
const CONNECTING: Duration = Duration::from_millis(500);

/// How long requests that began before writes were refused may take to end.
const LAST_WRITERS_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether they have.
const LAST_WRITERS_POLL: Duration = Duration::from_millis(10);

/// The writes of a generation's databases, held: every write accepted before is committed, none is accepted until
/// this is dropped, and reading goes on. A generation without a database has nothing to hold.
pub(super) struct WriteHold {
    generation: GenerationName,
    volume: Arc<Volume>,
    hold: Option<Mutex<Held>>,
    /// Whether nobody is kept from writing, now and until the requests of the generation have drained.
    lets_write: bool,
}

/// What keeps others from writing.
enum Held {
    /// The locks of database files.
    Files(Hold),
    /// The locks of tables on a server.
    Server(ServerHold, Box<ServerDatabase>),
}

impl Held {
    fn check(&mut self) -> Result<(), DatabaseError> {
        match self {
            Held::Files(hold) => hold.check(),
            Held::Server(hold, _) => hold.check(),
        }
    }

    fn release(self) -> Result<(), DatabaseError> {
        match self {
            Held::Files(hold) => hold.release().map(drop),
            Held::Server(hold, _) => hold.release().map(drop),
        }
    }
}

impl WriteHold {
    /// Whether nobody is kept from writing.
    pub(super) fn lets_write(&self) -> bool {
        self.lets_write
    }

    /// The generation it is for.
    pub(super) fn generation(&self) -> &GenerationName {
        &self.generation
    }

    /// An error unless it has been in force without a gap since it began.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.hold {
            Some(hold) => Ok(hold.lock().check()?),
            None => Ok(()),
        }
    }

    /// Ends it.
    pub(super) fn release(self) -> Result<(), Failure> {
        if let Some(hold) = self.hold {
            hold.into_inner().release()?;
        }
        Ok(())
    }

    /// Ends it; where `refuse` says so, whoever waits for a lock on a server is refused first.
    pub(super) fn refuse_and_release(self, refuse: bool) -> Result<(), Failure> {
        if let (true, Some(hold)) = (refuse, &self.hold)
            && let Held::Server(_, database) = &*hold.lock()
        {
            database.refuse_waiting()?;
        }
        self.release()
    }

    /// How many files of the volume the hold itself has open: SQLite keeps a log and its index open beside the
    /// database, a rollback journal only while something is written.
    fn open_files(&self) -> usize {
        self.hold.as_ref().map_or(0, |hold| {
            let files = |journal_mode: &str| if journal_mode == "wal" { 3 } else { 1 };
            match &*hold.lock() {
                Held::Files(hold) => hold.descriptions().iter().map(|held| files(&held.journal_mode)).sum(),
                Held::Server(..) => 0,
            }
        })
    }

    /// Whether a write in a read-only volume fails whoever has what open: a rollback journal that is made anew for
    /// each transaction cannot be made there. A log, or a journal that is kept, may be open for writing already.
    fn needs_new_journals(&self) -> bool {
        self.hold.as_ref().is_none_or(|hold| match &*hold.lock() {
            Held::Files(hold) => hold.descriptions().iter().all(|held| held.journal_mode == "delete"),
            Held::Server(..) => false,
        })
    }
}

/// A site at one instant.
pub(super) struct Captured {
    /// The whole tree, data directories in their places.
    pub(super) root: Root,
    /// Files that a process kept writing meanwhile.
    pub(super) unstable: Vec<PathBuf>,
    /// The database: each table summarised from what was captured, or not read so far.
    pub(super) database: Option<DatabaseSnapshot>,
    /// The platform.
    pub(super) platform: PlatformBinding,
}

impl Captured {
    /// Tells whoever asked of the files that are not one state.
    pub(super) fn warn_of_unstable(&self, events: &dyn Events) {
        for path in &self.unstable {
            events.warn(format!(
                "{} was being written all the time: what was taken is not one state of it",
                path.display()
            ));
        }
    }
}

impl Daemon {
    /// Holds the writes of a generation's databases.
    pub(super) fn hold_writes(&self, generation: &Generation) -> Result<WriteHold, Failure> {
        let site = self.site(&generation.name.site)?;
        let volume = self.volume(generation.volume)?;
        // Nothing is written to a read-only generation, and the lock could not be had there. Whoever was in the middle
        // of a transaction when it became so leaves a journal that is captured too, and SQLite rolls back.
        let hold = match volume.access() {
            Access::ReadOnly => None,
            Access::Writable => match self.server_database(&generation.name)? {
                Some(database) => {
                    Some(Held::Server(database.at.hold(HOLD_WAIT, HELD_MAX)?, Box::new(database)))
                }
                None => match self.database(&site, generation)? {
                    Some(database) => Some(Held::Files(database.hold(HELD_MAX)?)),
                    None => None,
                },
            },
        };
        let hold = hold.map(Mutex::new);
        Ok(WriteHold { generation: generation.name.clone(), volume, hold, lets_write: false })
    }

    /// What stands for a hold of a generation whose database is locked by nothing. Who has a page to finish there may
    /// write until it is.
    pub(super) fn hold_nothing(&self, generation: &Generation) -> Result<WriteHold, Failure> {
        let volume = self.volume(generation.volume)?;
        Ok(WriteHold { generation: generation.name.clone(), volume, hold: None, lets_write: true })
    }

    /// Waits until whoever has something of a generation open for writing now, or uses its database, is done with it, so
    /// that requests which began before the application was told to refuse writes still get theirs; not longer than
    /// [`LAST_WRITERS_MAX`], and for a database on a server not shorter than [`CONNECTING`]. A connection that is only kept
    /// for the next request is not waited for: if it is used for a write after all, that waits for the hold, as any other
    /// does.
    pub(super) fn wait_for_last_writers(&self, generation: &Generation) -> Result<(), Failure> {
        let volume = self.volume(generation.volume)?;
        let before = volume.writers();
        let database = self.server_database(&generation.name)?;
        let sessions = || -> Result<BTreeSet<u64>, Failure> {
            let sessions = database.as_ref().map(ServerDatabase::busy_sessions).transpose()?;
            Ok(sessions.unwrap_or_default().into_iter().collect())
        };
        let begun = Instant::now();
        if database.is_some() {
            std::thread::sleep(CONNECTING);
        }
        let connected = sessions()?;
        while begun.elapsed() < LAST_WRITERS_MAX
            && !(before.is_disjoint(&volume.writers()) && connected.is_disjoint(&sessions()?))
        {
            std::thread::sleep(LAST_WRITERS_POLL);
        }
        Ok(())
    }

    /// The database of a generation, worked on as the owner of its file; `None` when the site has none.
    pub(super) fn database(&self, site: &Site, generation: &Generation) -> Result<Option<Database>, Failure> {
        let urls: Vec<DatabaseUrl> = site.database_files().iter().cloned().map(DatabaseUrl::Sqlite).collect();
        let (Some((main, additional)), Some(file)) = (urls.split_first(), site.database_files().first())
        else {
            return Ok(None);
        };
        let owner = self.volume(generation.volume)?.resolve(file)?;
        let worker = Worker::new()?.as_owner(owner.uid, owner.gid);
        let directory = self.generation_path(&generation.name);
        Ok(Some(Database::new(main, &directory, worker).with_additional(additional, &directory)))
    }

    /// Takes the state of a site as [`Daemon::take`] does, and proves its database restorable. Costs a reading of the
    /// whole database, after the writers were let go unless `hold` keeps them.
    pub(super) fn capture(
        &self,
        site: &Site,
        generation: &Generation,
        hold: Option<&WriteHold>,
    ) -> Result<Captured, Failure> {
        let taken = self.take(site, generation, hold, || ())?;
        let database = match taken.database {
            // What a dump holds is read while it is made.
            Some(dumped) if dumped.dump.is_some() => Some(dumped),
            _ => self.summarise_database(site, &taken.root)?,
        };
        Ok(Captured { database, ..taken })
    }

    /// Takes the state of a site: the database is in a committed state, and not read. Writers are kept waiting by
    /// `hold`, or else until the instant is taken, before anything is stored. Stores everything; registers nothing.
    /// Does `beside` while writers wait, when the dump of a database on a server has begun.
    pub(super) fn take(
        &self,
        site: &Site,
        generation: &Generation,
        hold: Option<&WriteHold>,
        beside: impl FnOnce(),
    ) -> Result<Captured, Failure> {
        let (root, unstable, database) = match hold {
            Some(hold) if hold.generation() == &generation.name => {
                let dump = self.begin_dump(generation)?;
                beside();
                let (root, unstable) = self.capture_files(site, generation, || ())?;
                let database = self.dumped_or_unread(site, &root, dump)?;
                hold.check()?;
                (root, unstable, database)
            }
            _ => {
                let mut own_hold = Some(self.hold_writes(generation)?);
                let dump = self.begin_dump(generation)?;
                beside();
                let must_stay = dump.as_ref().is_some_and(|dump| dump.needs_hold);
                let mut released = Ok(());
                let (root, unstable) = self.capture_files(site, generation, || {
                    if let Some(hold) = own_hold.take_if(|_| !must_stay) {
                        released = hold.release();
                    }
                })?;
                // An error when it had ended before the instant.
                released?;
                let database = self.dumped_or_unread(site, &root, dump)?;
                own_hold.map_or(Ok(()), WriteHold::release)?;
                (root, unstable, database)
            }
        };
        Ok(Captured { root, unstable, database, platform: self.platform_binding(generation)? })
    }

    /// Takes the state of a site without its database.
    pub(super) fn capture_without_database(
        &self,
        site: &Site,
        generation: &Generation,
    ) -> Result<Captured, Failure> {
        let (mut root, unstable) = self.capture_files(site, generation, || ())?;
        for path in site.state_paths() {
            root = self.store.trees.replace_at(&root, &path, None)?;
        }
        Ok(Captured { root, unstable, database: None, platform: self.platform_binding(generation)? })
    }

    /// Takes the state of a site's files, its database as it happens to be. Calls `taken` as soon as the instant is
    /// taken, with all the storing still to be done.
    fn capture_files(
        &self,
        site: &Site,
        generation: &Generation,
        taken: impl FnOnce(),
    ) -> Result<(Root, Vec<PathBuf>), Failure> {
        let code = self.volume(generation.volume)?;
        let data = self.volume(site.data_volume)?;
        let mut frozen = Volume::freeze_together_then(&[&code, &data], taken)?;
        let (Some(data), Some(code)) = (frozen.pop(), frozen.pop()) else {
            unreachable!("two volumes were frozen")
        };
        let joined = layout::join(&self.store.trees, &code.root, &data.root, &site.name, &site.data)?;
        for warning in joined.warnings {
            log::warn!("{}: {warning}", generation.name);
        }
        Ok((joined.root, code.unstable.into_iter().chain(data.unstable).collect()))
    }

    /// The database on a server, as it was when its dump was begun; or that a tree has one, which nobody has read.
    fn dumped_or_unread(
        &self,
        site: &Site,
        root: &Root,
        dump: Option<BegunDump>,
    ) -> Result<Option<DatabaseSnapshot>, Failure> {
        match dump {
            Some(dump) => Ok(Some(self.store_dump(dump, false)?)),
            None => self.unread_database(site, root),
        }
    }

    /// That a tree has a database, which nobody has read.
    fn unread_database(&self, site: &Site, root: &Root) -> Result<Option<DatabaseSnapshot>, Failure> {
        let Some(file) = site.database_files().first() else { return Ok(None) };
        let entry = self.store.trees.entry_at(root, file)?;
        Ok(entry.map(|_| DatabaseSnapshot::unread(Engine::Sqlite.to_string(), file.clone())))
    }

    /// What the database in a tree holds. It is restored to a file of its own, checked by its engine and read from
    /// end to end: what this returns has been proven restorable.
    pub(super) fn summarise_database(
        &self,
        site: &Site,
        root: &Root,
    ) -> Result<Option<DatabaseSnapshot>, Failure> {
        let Some(file) = site.database_files().first() else { return Ok(None) };
        let Some(copy) = self.extract_database(root, file)? else { return Ok(None) };
        let examination = copy.database()?.verify()?;
        if let Some(finding) = examination.findings.first() {
            return Err(Failure::failed(format!("the database {file} of {} is damaged", site.name))
                .because_of(finding.clone())
                .hint("repair it first (sqlite3 FILE .recover), or restore it from a snapshot"));
        }
        Ok(Some(examination.summary.into_snapshot(Engine::Sqlite, Some(file.clone()), None, true)))
    }

    /// Writes the database `file` of a tree, with what belongs to it, into a temporary directory; `None` when the
    /// tree has no such file.
    pub(super) fn extract_database(
        &self,
        root: &Root,
        file: &RelativePath,
    ) -> Result<Option<ExtractedDatabase>, Failure> {
        let directory = self.store.temporary_directory()?;
        let main = directory.path().join(EXTRACTED_NAME);
        if !self.extract_file(root, file, &main)? {
            return Ok(None);
        }
        for companion in with_companions(file) {
            let suffix = companion.as_str().strip_prefix(file.as_str()).unwrap_or_default();
            let target = directory.path().join(format!("{EXTRACTED_NAME}{suffix}"));
            if target != main {
                self.extract_file(root, &companion, &target)?;
            }
        }
        Ok(Some(ExtractedDatabase { directory }))
    }

    /// Writes one file of a tree to `target`; whether the tree has it.
    pub(super) fn extract_file(
        &self,
        root: &Root,
        path: &RelativePath,
        target: &Path,
    ) -> Result<bool, Failure> {
        let entry = self.store.trees.entry_at(root, path)?;
        let Some(crate::trees::Node::File(content)) = entry.map(|entry| entry.node) else {
            return Ok(false);
        };
        self.store.trees.objects.copy_to(&content, &files::create_new(target)?)?;
        Ok(true)
    }

    /// Ends the hold of a generation that is no longer live and therefore read-only. A process that came before the
    /// switch and waits for the lock must not be let in where its write would be accepted and nobody would read it:
    /// the hold lasts until all who had something open for writing are gone, unless their writes fail by themselves.
    /// It ends at once when the generation becomes live again.
    pub(super) fn release_when_drained(&self, hold: WriteHold) {
        let is_on_server = hold.hold.as_ref().is_some_and(|held| matches!(&*held.lock(), Held::Server(..)));
        if is_on_server {
            return self.release_on_server(hold);
        }
        if hold.needs_new_journals() {
            if let Err(failure) = hold.release() {
                log::warn!("the end of a hold of writes: {failure}");
            }
            return;
        }
        let stopping = Arc::clone(&self.stopping);
        let own = hold.open_files();
        let name = hold.generation.clone();
        let drain = move || {
            let mut waited = Duration::ZERO;
            while hold.volume.access() == Access::ReadOnly
                && hold.volume.writers().len() > own
                && waited < DRAIN_MAX
                && !stopping.load(Ordering::SeqCst)
            {
                std::thread::sleep(DRAIN_POLL);
                waited += DRAIN_POLL;
            }
            if waited >= DRAIN_MAX {
                log::warn!("{name}: some process still has its database open; its hold ends now");
            }
            if let Err(failure) = hold.release() {
                log::warn!("{name}: the end of the hold of writes: {failure}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("drain".to_owned()).spawn(drain) {
            log::warn!("no thread to wait for the last writers: {error}");
        }
    }

    /// As [`Daemon::release_when_drained`], for a database on a server.
    fn release_on_server(&self, hold: WriteHold) {
        let stopping = Arc::clone(&self.stopping);
        let WriteHold { generation, volume, hold, .. } = hold;
        let release = move || {
            let Some(Held::Server(held, database)) = hold.map(Mutex::into_inner) else { return };
            let state = |waited| {
                if volume.access() == Access::Writable {
                    Drain::NotNeeded
                } else if waited >= DRAIN_MAX || stopping.load(Ordering::SeqCst) {
                    Drain::End
                } else {
                    Drain::GoOn
                }
            };
            if let Err(error) = servers::drain(held, &database, DRAIN_POLL, &state) {
                log::warn!("{generation}: the end of the hold of writes: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("drain".to_owned()).spawn(release) {
            log::warn!("no thread to wait for the last writers: {error}");
        }
    }

    /// A generation's directory.
    pub(super) fn generation_path(&self, name: &GenerationName) -> PathBuf {
        self.root.join("generations").join(name.to_string())
    }

    fn platform_binding(&self, generation: &Generation) -> Result<PlatformBinding, Failure> {
        let platform = self.platform(&generation.platform)?;
        Ok(PlatformBinding { name: platform.name, code: platform.code })
    }
}

/// The name of a database's file where it is extracted to.
const EXTRACTED_NAME: &str = "database.sqlite";

/// A database in a temporary directory, which goes with this.
pub(super) struct ExtractedDatabase {
    directory: TemporaryDirectory,
}

impl ExtractedDatabase {
    /// The database.
    pub(super) fn database(&self) -> Result<Database, Failure> {
        self.beside(EXTRACTED_NAME)
    }

    /// A database of this name beside it.
    pub(super) fn beside(&self, name: &str) -> Result<Database, Failure> {
        let name = name.parse().expect("the names used here are relative paths");
        Ok(Database::new(&DatabaseUrl::Sqlite(name), self.directory.path(), Worker::new()?))
    }

    /// Its file.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join(EXTRACTED_NAME)
    }
}
