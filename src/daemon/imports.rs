//! The verb that takes a site in.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use super::Daemon;
use super::capture::{Captured, HELD_MAX};
use super::generations::{NewGeneration, volume_number};
use super::servers::{HOLD_WAIT, begin_dump};
use crate::base::files::{self, At};
use crate::base::{Lane, RelativePath, Timestamp};
use crate::control::response::{SiteImported, SkippedFile};
use crate::control::{Caller, Events, Failure, Unit, request};
use crate::database::worker::Worker;
use crate::database::{Database, DatabaseUrl, ServerHold, ServerUrl, ServerUrlError, UrlError};
use crate::history::{DatabaseSnapshot, PlatformBinding, VOLUME_COUNTER};
use crate::live::Access;
use crate::site::{DatabaseBinding, Platform, Recipe, Site, SiteKind, layout, with_companions};
use crate::trees::{Attributes, Entry, ImportEvent, ImportOptions, ImportReport, Node, Root};

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
        let on_server = find_server(request, recipe)?;
        let database = match &on_server {
            Some(source) => {
                Some(DatabaseBinding { engine: source.server.engine.to_string(), files: Vec::new() })
            }
            None => find_database(request, recipe, &directory)?,
        };
        let owner = files::metadata(&directory)?
            .ok_or_else(|| Failure::usage(format!("there is no directory {}", directory.display())))?;
        let (whole, report) = self.import_with_database(&directory, database.as_ref(), events)?;
        let dumped = match &on_server {
            Some(source) => Some((source, self.import_from_server(source, events)?)),
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
                database,
                uid: owner.uid(),
                gid: owner.gid(),
                read_only: false,
                settings: Default::default(),
            };
            tx.put(site.name.as_str(), &site)?;
            Ok::<_, Failure>(site)
        })?;
        let imported = Imported { whole: &whole, code: split.code, dumped, directory: &directory };
        let made = self.make_imported(caller, &site, &platform, imported);
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
    ) -> Result<crate::history::SnapshotId, Failure> {
        let Imported { whole, code, dumped, directory } = imported;
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
        let code = self.code_with_settings(site, &name, platform, code)?;
        let new = NewGeneration { name, code, platform, snapshot: None };
        let generation = self.make_generation(&new)?;
        let captured = Captured {
            root: whole.clone(),
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
        events: &dyn Events,
    ) -> Result<DatabaseSnapshot, Failure> {
        let without_transactions = source.examine()?.without_transactions;
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
    /// for as long as its write lock is held.
    fn import_with_database(
        &self,
        directory: &Path,
        database: Option<&DatabaseBinding>,
        events: &dyn Events,
    ) -> Result<(Root, ImportReport), Failure> {
        let database_files = database.map(|binding| binding.files.as_slice()).unwrap_or_default();
        let state: Vec<RelativePath> = database_files.iter().flat_map(with_companions).collect();
        let (mut root, report) = self.import(directory, &state, events)?;
        let urls: Vec<DatabaseUrl> = database_files.iter().cloned().map(DatabaseUrl::Sqlite).collect();
        let Some((main, additional)) = urls.split_first() else { return Ok((root, report)) };
        let owner = database_files.first().map(|file| files::metadata(&file.below(directory))).transpose()?;
        let mut worker = Worker::new()?;
        if let Some(Some(owner)) = owner {
            worker = worker.as_owner(owner.uid(), owner.gid());
        }
        let database = Database::new(main, directory, worker).with_additional(additional, directory);
        let hold = database.hold(HELD_MAX)?;
        for path in &state {
            if files::metadata(&path.below(directory))?.is_some() {
                let entry = self.import_file(&path.below(directory))?;
                root = self.store.trees.replace_at(&root, path, Some(entry))?;
            }
        }
        hold.release()?;
        Ok((root, report))
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

    fn recipe_for(
        &self,
        request: &request::SiteImport,
        platform: &Platform,
        directory: &Path,
    ) -> Result<&Recipe, Failure> {
        if let Some(name) = &request.app {
            return Ok(self.recipes.get(name)?);
        }
        let docroot = platform.docroot_in(Lane::A);
        let found = self.recipes.detect(Path::new(&platform.directory), &docroot, directory)?;
        found.ok_or_else(|| {
            let known = self.recipes.iter().map(|recipe| recipe.name.as_str()).collect::<Vec<_>>().join(", ");
            Failure::usage(format!("no recipe recognises {} on {}", directory.display(), platform.directory))
                .hint(format!("name one with --app ({known}), or write one: docs/recipes.md"))
        })
    }
}

/// What was taken in of a site.
struct Imported<'a> {
    /// Its files.
    whole: &'a Root,
    /// Those of them that are code.
    code: Root,
    /// Its database on a server, and what was in it.
    dumped: Option<(&'a ServerUrl, DatabaseSnapshot)>,
    /// Where they are from.
    directory: &'a Path,
}

/// The database on a server that is asked for, if one is. The recipe must tell the application which one is its own,
/// as each generation has another.
fn find_server(request: &request::SiteImport, recipe: &Recipe) -> Result<Option<ServerUrl>, Failure> {
    let Some(url) = request.database.as_ref().filter(|url| !url.starts_with("sqlite:")) else {
        return Ok(None);
    };
    let source: ServerUrl =
        url.parse().map_err(|error: ServerUrlError| Failure::usage("no such database").because(&error))?;
    if recipe.settings.as_ref().is_some_and(|settings| settings.names_database()) {
        return Ok(Some(source));
    }
    Err(Failure::refused(format!("the recipe {} does not tell the application its database", recipe.name))
        .because_of("each generation has a database and an account of its own on the server")
        .hint(
            "in a recipe of your own, let [settings] write a file with @DATABASE_NAME@, @DATABASE_USER@ and \
             @DATABASE_PASSWORD@ that the application's settings include: docs/recipes.md",
        ))
}

/// The files of the site's database: as asked for, or as the recipe says and the directory has them.
fn find_database(
    request: &request::SiteImport,
    recipe: &Recipe,
    directory: &Path,
) -> Result<Option<DatabaseBinding>, Failure> {
    let mut files = Vec::new();
    if let Some(url) = &request.database {
        let DatabaseUrl::Sqlite(path) =
            url.parse().map_err(|error: UrlError| Failure::usage("no such database").because(&error))?;
        if files::metadata(&path.below(directory))?.is_none() {
            return Err(Failure::usage(format!("there is no database {}", path.below(directory).display())));
        }
        files.push(path);
    } else if let Some(database) = &recipe.database {
        // A general name may fit the additional files too.
        let additional = additional_files(recipe, directory)?;
        files = matching(directory, &database.file)?;
        files.retain(|file| !additional.contains(file));
        if files.len() > 1 {
            let found = files.iter().map(RelativePath::as_str).collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!("which of these is the site's database? {found}"))
                .hint("say so: --database sqlite:PATH"));
        }
        if files.is_empty() {
            return Err(Failure::usage(format!(
                "the recipe {} expects a database {}, and there is none below {}",
                recipe.name,
                database.file,
                directory.display()
            ))
            .hint("say where it is: --database sqlite:PATH, relative to the site's directory"));
        }
    }
    for file in additional_files(recipe, directory)? {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    for file in &files {
        if let Some(data) = layout::data_directory_of(file, &recipe.data) {
            return Err(Failure::refused(format!(
                "the database {file} is in {data}, which all generations of the site would share"
            ))
            .because_of("a release binds code and database, so each generation has a database of its own")
            .hint(
                "move it to a directory of its own (database/) and tell the application, or name fewer data \
                 directories in a recipe of your own: docs/recipes.md",
            ));
        }
    }
    Ok((!files.is_empty()).then(|| DatabaseBinding { engine: "sqlite".to_owned(), files }))
}

/// The further database files of a recipe that a site's directory has.
fn additional_files(recipe: &Recipe, directory: &Path) -> Result<Vec<RelativePath>, Failure> {
    let patterns = recipe.database.iter().flat_map(|database| &database.additional);
    let found = patterns.map(|pattern| matching(directory, pattern)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.concat())
}

/// The files below `directory` whose name matches a pattern: at most one `*`, in the last component.
fn matching(directory: &Path, pattern: &RelativePath) -> Result<Vec<RelativePath>, Failure> {
    let Some((start, end)) = pattern.as_str().split_once('*') else {
        let exists = files::metadata(&pattern.below(directory))?.is_some();
        return Ok(exists.then(|| pattern.clone()).into_iter().collect());
    };
    let (parent, start) = start.rsplit_once('/').unwrap_or(("", start));
    let searched = directory.join(parent);
    if files::metadata(&searched)?.is_none() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in files::list(&searched)? {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let long_enough = name.len() >= start.len() + end.len();
        if long_enough && name.starts_with(start) && name.ends_with(end) {
            let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
            found.push(path.parse::<RelativePath>().map_err(|error| Failure::failed(error.to_string()))?);
        }
    }
    found.sort();
    Ok(found)
}
