//! The state of a site at one instant: files frozen while the database's writes are held.

use std::path::{Path, PathBuf};

use super::Daemon;
use super::holding::WriteHold;
use super::servers::BegunDump;
use super::store::TemporaryDirectory;
use crate::base::{RelativePath, files};
use crate::control::{Events, Failure};
use crate::database::worker::Worker;
use crate::database::{Database, DatabaseUrl, Engine};
use crate::history::{DatabaseSnapshot, PlatformBinding};
use crate::live::Volume;
use crate::site::{Generation, GenerationName, Site, layout, with_companions};
use crate::trees::Root;

/// A site at one instant.
#[derive(Clone)]
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

/// A state that is being taken: its instant has been, and its database may not be stored yet.
pub(super) struct Taking {
    /// All but the database.
    pub(super) captured: Captured,
    /// The dump of a database on a server, begun at that instant.
    pub(super) dump: Option<BegunDump>,
    /// Keeps writers waiting until the dump is stored, where that is needed.
    pub(super) own_hold: Option<WriteHold>,
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
        let taking = self.begin_taking(site, generation, hold, beside)?;
        self.finish_taking(site, taking, hold)
    }

    /// The part of [`Daemon::take`] during which writers wait whatever the database is.
    pub(super) fn begin_taking(
        &self,
        site: &Site,
        generation: &Generation,
        hold: Option<&WriteHold>,
        beside: impl FnOnce(),
    ) -> Result<Taking, Failure> {
        let is_held = hold.is_some_and(|hold| hold.generation() == &generation.name);
        let mut own_hold = if is_held { None } else { Some(self.hold_writes(generation)?) };
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
        if let Some(hold) = hold.filter(|_| is_held) {
            hold.check()?;
        }
        let platform = self.platform_binding(generation)?;
        Ok(Taking { captured: Captured { root, unstable, database: None, platform }, dump, own_hold })
    }

    /// The rest of [`Daemon::take`].
    pub(super) fn finish_taking(
        &self,
        site: &Site,
        taking: Taking,
        hold: Option<&WriteHold>,
    ) -> Result<Captured, Failure> {
        let Taking { captured, dump, own_hold } = taking;
        let database = match dump {
            Some(dump) => Some(self.store_dump(dump, false)?),
            None => self.unread_database(site, &captured.root)?,
        };
        match (own_hold, hold) {
            (Some(own), _) => own.release()?,
            (None, Some(hold)) => hold.check()?,
            (None, None) => {}
        }
        Ok(Captured { database, ..captured })
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

    /// That a tree has a database, which nobody has read.
    fn unread_database(&self, site: &Site, root: &Root) -> Result<Option<DatabaseSnapshot>, Failure> {
        let Some(file) = site.database_files().first() else { return Ok(None) };
        let entry = self.store.trees.entry_at(root, file)?;
        Ok(entry.map(|_| DatabaseSnapshot::unread(Engine::Sqlite.to_string(), Some(file.clone()))))
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
