//! The verb that takes a site in.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use super::Daemon;
use super::capture::Captured;
use super::generations::{NewGeneration, volume_number};
use super::holding::HELD_MAX;
use super::servers::{HOLD_WAIT, begin_dump};
use crate::base::files::{self, At};
use crate::base::{Lane, RelativePath, Timestamp};
use crate::control::response::{MovedFile, SiteImported, SkippedFile};
use crate::control::{Caller, Events, Failure, Unit, request};
use crate::database::worker::Worker;
use crate::database::{
    Database, DatabaseUrl, ServerExamination, ServerHold, ServerUrl, ServerUrlError, UrlError,
};
use crate::history::{DatabaseSnapshot, PlatformBinding, VOLUME_COUNTER};
use crate::live::Access;
use crate::site::{
    DatabaseBinding, DatabaseFile, DatabaseFilesError, Platform, Recipe, Site, SiteKind, layout,
    with_companions,
};
use crate::trees::{Attributes, Entry, ImportEvent, ImportOptions, ImportReport, Node, Root, Totals};

impl Daemon {
    /// `site import`.
    pub(super) fn site_import(
        &self,
        caller: &Caller,
        request: &request::SiteImport,
        events: &dyn Events,
    ) -> Result<SiteImported, Failure> {
        let started = Instant::now();
        let _lock = self.lock_site(&request.site, "site import")?;
        if self.store.catalog.get::<Site>(request.site.as_str())?.is_some() {
            return Err(Failure::refused(format!("there is a site {} already", request.site))
                .hint("choose another name, or remove it: sitefs site remove"));
        }
        let platform = self.platform(&request.platform)?;
        let directory = files::canonical(&request.directory)?;
        if directory.starts_with(&self.root) {
            return Err(Failure::refused(format!("{} is shown by sitefs itself", directory.display()))
                .hint("to copy a site that sitefs has already: sitefs clone SITE NEW"));
        }
        let recipe = self.recipe_for(request, &platform, &directory)?;
        let on_server = find_server(request.database.as_ref(), &recipe)?;
        // A wrong address is found before the files are read.
        let examined = on_server.as_ref().map(ServerUrl::examine).transpose()?;
        let database = match &on_server {
            Some(_) => Vec::new(),
            None => find_database(request, &recipe, &directory)?,
        };
        let owner = files::metadata(&directory)?
            .ok_or_else(|| Failure::usage(format!("there is no directory {}", directory.display())))?;
        let directories = recipe.place_directories(&directory).map_err(advise)?;
        let (mut whole, report) = self.import_with_database(&directory, &database, events)?;
        for (found, kept) in &directories {
            whole = self.store.trees.graft(&whole, kept, &whole, found)?;
            whole = self.store.trees.replace_at(&whole, found, None)?;
        }
        let dumped = match on_server.as_ref().zip(examined) {
            Some((source, examined)) => Some((source, self.import_from_server(source, &examined, events)?)),
            None => None,
        };
        let split = layout::split(&self.store.trees, &whole, &request.site, &recipe.data)?;
        for warning in split.warnings {
            events.warn(warning);
        }
        // What a record refers to is durable before the record is.
        self.store.trees.objects.flush()?;
        let site = self.store.catalog.write(|tx| {
            let site = Site {
                name: request.site.clone(),
                kind: SiteKind::Live,
                recipe: recipe.name.clone(),
                created: Timestamp::now(),
                data: split.directories.clone(),
                data_volume: volume_number(tx.next_number(VOLUME_COUNTER)?)?,
                data_base: split.data.clone(),
                database: binding(on_server.as_ref(), &database),
                uid: owner.uid(),
                gid: owner.gid(),
                read_only: false,
                settings: Default::default(),
            };
            tx.put(site.name.as_str(), &site)?;
            Ok::<_, Failure>(site)
        })?;
        let imported = Imported { whole: &whole, dumped, directory: &directory };
        let made = self.make_imported(caller, &site, &platform, imported, events);
        let snapshot = made.inspect_err(|_| {
            if let Err(left) = self.remove_site(&site) {
                log::warn!("what is left of the import of {}: {}", site.name, left.message);
            }
        })?;
        Ok(SiteImported {
            site: self.site_summary(&site)?,
            snapshot: self.snapshot_summary(snapshot)?,
            live_link: self.live_link(&site.name),
            path: platform.sites_in(Lane::A).join(site.name.as_str()).display().to_string(),
            nodes: report.nodes,
            size_bytes: report.bytes,
            moved: database
                .iter()
                .filter(|file| file.is_moved())
                .map(|file| (file.found.clone(), file.kept.clone()))
                .chain(directories)
                .map(|(from, to)| MovedFile { from, to })
                .collect(),
            skipped: report
                .skipped
                .iter()
                .map(|skipped| SkippedFile {
                    path: skipped.path.display().to_string(),
                    reason: skipped.reason.clone(),
                })
                .collect(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn make_imported(
        &self,
        caller: &Caller,
        site: &Site,
        platform: &Platform,
        imported: Imported<'_>,
        events: &dyn Events,
    ) -> Result<crate::history::SnapshotId, Failure> {
        let Imported { whole, dumped, directory } = imported;
        self.show_volume(site.data_volume, &site.data_base, Access::Writable)?;
        let name = self.reserve_generation(&site.name)?;
        let database = match dumped {
            Some((source, dumped)) => {
                let (server, creation) = (source.server.clone(), source.creation()?);
                let own = self.announce_database(&name.key(), &site.name, server, creation)?;
                self.fill_database(&own, Some(&dumped))?;
                Some(DatabaseSnapshot { verified: true, ..dumped })
            }
            None => self.summarise_database(site, whole)?,
        };
        // The first snapshot has the settings too, so that it is as whole as all that follow.
        let with_settings = self.with_settings(site, &name, platform, whole)?;
        if let Some(reason) = with_settings.not_included {
            events.warn(format!(
                "the site's own settings do not include what sitefs has to tell them ({reason}), so a clone may use \
                 the database of {}: see `include` in docs/recipes.md",
                site.name
            ));
        }
        let whole = with_settings.root;
        let code = layout::split(&self.store.trees, &whole, &site.name, &site.data)?.code;
        let new = NewGeneration { name, code, platform, snapshot: None };
        let generation = self.make_generation(&new)?;
        let captured = Captured {
            root: whole,
            unstable: Vec::new(),
            database,
            platform: PlatformBinding { name: platform.name.clone(), code: platform.code },
        };
        let message = format!("import of {}", directory.display());
        let snapshot = self.register(caller, site, &generation, captured, &message, None)?;
        self.make_first_live(&generation)?;
        Ok(snapshot)
    }

    /// Dumps the database that a site has so far; it is only read. Tables without transactions are read while writes
    /// are held.
    fn import_from_server(
        &self,
        source: &ServerUrl,
        examined: &ServerExamination,
        events: &dyn Events,
    ) -> Result<DatabaseSnapshot, Failure> {
        let without_transactions = &examined.without_transactions;
        let hold = match without_transactions.is_empty() {
            true => None,
            false => {
                events.warn(format!(
                    "tables {} have no transactions: writes are held while the database is read",
                    without_transactions.join(", ")
                ));
                Some(source.hold(HOLD_WAIT, HELD_MAX)?)
            }
        };
        let dumped = self.store_dump(begin_dump(source)?, false)?;
        hold.map(ServerHold::release).transpose()?;
        Ok(dumped)
    }

    /// Takes a directory in: first everything but the database, while the site goes on writing; then the database,
    /// for as long as its write lock is held. Its files go to where they are kept.
    fn import_with_database(
        &self,
        directory: &Path,
        database: &[DatabaseFile],
        events: &dyn Events,
    ) -> Result<(Root, ImportReport), Failure> {
        let companions = |file: &DatabaseFile| {
            let (found, kept) = (with_companions(&file.found), with_companions(&file.kept));
            found.into_iter().zip(kept).collect::<Vec<_>>()
        };
        let state: Vec<(RelativePath, RelativePath)> = database.iter().flat_map(companions).collect();
        let mut left_out: Vec<RelativePath> = state.iter().map(|(found, _)| found.clone()).collect();
        left_out.extend(database.iter().map(|file| shared_memory(&file.found)));
        let (mut root, report) = self.import(directory, &left_out, events)?;
        for file in database.iter().filter(|file| file.is_moved()) {
            root = self.with_directory_for(&root, &file.kept, &root, &file.found)?;
        }
        let urls: Vec<DatabaseUrl> =
            database.iter().map(|file| DatabaseUrl::Sqlite(file.found.clone())).collect();
        let Some((main, additional)) = urls.split_first() else { return Ok((root, report)) };
        let owner = database.first().map(|file| files::metadata(&file.found.below(directory))).transpose()?;
        let mut worker = Worker::new()?;
        if let Some(Some(owner)) = owner {
            worker = worker.as_owner(owner.uid(), owner.gid());
        }
        let hold =
            Database::new(main, directory, worker).with_additional(additional, directory).hold(HELD_MAX)?;
        for (found, kept) in &state {
            if files::metadata(&found.below(directory))?.is_some() {
                let entry = self.import_file(&found.below(directory))?;
                root = self.store.trees.replace_at(&root, kept, Some(entry))?;
            }
        }
        hold.release()?;
        Ok((root, report))
    }

    /// `root` with the directory that the database `kept` is in; a missing one is made like the one of `was` in
    /// `model`: whoever could make journals beside it there still can.
    pub(super) fn with_directory_for(
        &self,
        root: &Root,
        kept: &RelativePath,
        model: &Root,
        was: &RelativePath,
    ) -> Result<Root, Failure> {
        let Some(directory) = parent(kept) else { return Ok(root.clone()) };
        match self.store.trees.entry_at(root, &directory)? {
            Some(Entry { node: Node::Directory { .. }, .. }) => Ok(root.clone()),
            Some(_) => Err(Failure::refused(format!(
                "the database is to be kept in {directory}, and that is not a directory of the site's own"
            ))
            .hint("name another one in a recipe of your own: `directory` in [database], docs/recipes.md")),
            None => {
                let was_in = match parent(was) {
                    Some(directory) => self.store.trees.entry_at(model, &directory)?,
                    None => None,
                };
                let attributes = was_in.map_or_else(|| model.attributes.clone(), |entry| entry.attributes);
                let node = Node::Directory { tree: None, totals: Totals::default() };
                Ok(self.store.trees.replace_at(root, &directory, Some(Entry { attributes, node }))?)
            }
        }
    }

    /// Takes the code of a site in from a directory: what is neither data nor database.
    pub(super) fn import_code(
        &self,
        site: &Site,
        directory: &Path,
        events: &dyn Events,
    ) -> Result<Root, Failure> {
        let left_out: Vec<RelativePath> = site.state_paths().into_iter().chain(site.data.clone()).collect();
        Ok(self.import(&files::canonical(directory)?, &left_out, events)?.0)
    }

    fn import(
        &self,
        directory: &Path,
        left_out: &[RelativePath],
        events: &dyn Events,
    ) -> Result<(Root, ImportReport), Failure> {
        let progress =
            |event: ImportEvent| events.progress("importing files", event.nodes, None, Unit::Files);
        let options = ImportOptions { exclude: left_out.to_vec() };
        Ok(self.store.trees.import(directory, &options, &progress)?)
    }

    /// One file as an entry of a tree. A database's file has no extended attributes that matter to it.
    fn import_file(&self, path: &Path) -> Result<Entry, Failure> {
        let mut file = files::open(path)?;
        let metadata = file.metadata().at("look at", path)?;
        let content = self.store.trees.objects.put_file(&mut file, metadata.len())?;
        let attributes = Attributes {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: Timestamp::from_parts(metadata.mtime(), metadata.mtime_nsec()),
            ..Attributes::default()
        };
        Ok(Entry { attributes, node: Node::File(content) })
    }
}

/// What was taken in of a site.
struct Imported<'a> {
    /// Its files.
    whole: &'a Root,
    /// Its database on a server, and what was in it.
    dumped: Option<(&'a ServerUrl, DatabaseSnapshot)>,
    /// Where they are from.
    directory: &'a Path,
}

/// The database on a server that is asked for, if one is. The recipe must tell the application which one is its own,
/// as each generation has another.
pub(super) fn find_server(database: Option<&String>, recipe: &Recipe) -> Result<Option<ServerUrl>, Failure> {
    let Some(url) = database.filter(|url| !url.starts_with("sqlite:")) else {
        return Ok(None);
    };
    let source: ServerUrl =
        url.parse().map_err(|error: ServerUrlError| Failure::usage("no such database").because(&error))?;
    if recipe.settings.as_ref().is_some_and(|settings| settings.names_server()) {
        return Ok(Some(source));
    }
    Err(Failure::refused(format!("the recipe {} does not tell the application its database", recipe.name))
        .because_of("each generation has a database and an account of its own on the server")
        .hint(
            "in a recipe of your own, let [settings] write a file with @DATABASE_NAME@, @DATABASE_USER@ and \
             @DATABASE_PASSWORD@ that the application's settings include: docs/recipes.md",
        ))
}

/// The files of the site's database, the main one first: as asked for, or as the recipe says and the directory has
/// them.
fn find_database(
    request: &request::SiteImport,
    recipe: &Recipe,
    directory: &Path,
) -> Result<Vec<DatabaseFile>, Failure> {
    let asked_for = match &request.database {
        None => None,
        Some(url) => {
            let DatabaseUrl::Sqlite(path) =
                url.parse().map_err(|error: UrlError| Failure::usage("no such database").because(&error))?;
            if files::metadata(&path.below(directory))?.is_none() {
                return Err(Failure::usage(format!(
                    "there is no database {}",
                    path.below(directory).display()
                ))
                .hint("say where it is: --database sqlite:PATH, relative to the site's directory"));
            }
            Some(path)
        }
    };
    let found = match &recipe.database {
        None => asked_for.into_iter().collect(),
        Some(database) => {
            let found = database.files_in(directory, asked_for.as_ref()).map_err(advise)?;
            if found.is_empty() {
                return Err(Failure::usage(format!(
                    "the recipe {} expects a database {}, and there is none below {}",
                    recipe.name,
                    database.places(),
                    directory.display()
                ))
                .hint(match recipe.settings.as_ref().is_some_and(|settings| settings.names_server()) {
                    true => {
                        "say where it is: --database sqlite:PATH, relative to the site's directory; or, on a server, \
                         --database mariadb:///NAME or postgresql:///NAME"
                    }
                    false => "say where it is: --database sqlite:PATH, relative to the site's directory",
                }));
            }
            found
        }
    };
    recipe.place_database(directory, found).map_err(advise)
}

/// What a person is told who has a database that cannot be taken in as it is.
fn advise(error: DatabaseFilesError) -> Failure {
    let message = error.to_string();
    match error {
        DatabaseFilesError::File(error) => error.into(),
        DatabaseFilesError::Ambiguous { .. } => {
            Failure::usage(message).hint("say so: --database sqlite:PATH, relative to the site's directory")
        }
        DatabaseFilesError::Shared { .. } => Failure::refused(message)
            .because_of("a release binds code and database, so each generation has a database of its own")
            .hint(
                "let sitefs move it at the import: write a recipe with [settings] whose text tells the application \
                 where it is (@DATABASE@); or move it to a directory of its own yourself: docs/recipes.md",
            ),
        DatabaseFilesError::AmbiguousDirectory { .. } => Failure::refused(message)
            .hint("take those that are not in use out of the site's directory, or import a copy without them"),
        DatabaseFilesError::Unquotable { .. } => {
            Failure::refused(message).hint("rename it, and tell the application so, before the import")
        }
        DatabaseFilesError::Occupied { .. } => Failure::refused(message)
            .hint("say which one is in use (--database sqlite:PATH), and move the other out of the site's directory"),
    }
}

/// What the site's record says of its database.
fn binding(on_server: Option<&ServerUrl>, database: &[DatabaseFile]) -> Option<DatabaseBinding> {
    if let Some(source) = on_server {
        return Some(DatabaseBinding { engine: source.server.engine.to_string(), files: Vec::new() });
    }
    let files: Vec<RelativePath> = database.iter().map(|file| file.kept.clone()).collect();
    (!files.is_empty()).then(|| DatabaseBinding { engine: "sqlite".to_owned(), files })
}

/// The index of a write-ahead log: made anew by whoever opens the database first.
fn shared_memory(file: &RelativePath) -> RelativePath {
    format!("{file}-shm").parse().expect("a suffix without a slash keeps a path relative")
}

/// The directory that a path is in; `None` when that is the site's.
fn parent(path: &RelativePath) -> Option<RelativePath> {
    let (parent, _) = path.as_str().rsplit_once('/')?;
    Some(parent.parse().expect("the parent of a relative path is one"))
}
