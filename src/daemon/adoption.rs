//! A site made from a snapshot that was received.
//!
//! Power fails here: the site's record is committed before anything is shown of it, and the live pointer last; a site
//! without one is served nowhere, and `status` says how it is removed. The snapshot stays in either case.

use super::Daemon;
use super::generations::{NewGeneration, volume_number};
use super::imports::find_server;
use crate::base::{Lane, SiteName, Timestamp};
use crate::control::{Failure, request};
use crate::database::ServerUrl;
use crate::history::{Snapshot, SnapshotId, VOLUME_COUNTER};
use crate::live::Access;
use crate::site::{DatabaseBinding, Generation, GenerationName, Platform, Recipe, Site, SiteKind, layout};

/// A site that is to be made from a snapshot.
pub(super) struct NewSite {
    name: SiteName,
    platform: Platform,
    recipe: Recipe,
    /// A database on the server on which the site is to have its own.
    server: Option<ServerUrl>,
}

impl Daemon {
    /// What is known of the site before its snapshot is here; an error where it could not be made.
    pub(super) fn plan_site(&self, request: &request::ReceiveSite) -> Result<NewSite, Failure> {
        if self.store.catalog.get::<Site>(request.name.as_str())?.is_some() {
            return Err(Failure::refused(format!("there is a site {} already", request.name)).hint(
                "receive without --site, and go to the snapshot with sitefs cutover SITE --to SITE@ID; or choose another \
                 name",
            ));
        }
        let platform = self.platform(&request.platform)?;
        let recipe = match &request.app {
            Some(name) => self.recipe_named(name)?,
            None => {
                let directory = std::path::Path::new(&platform.directory);
                let recipes = self.recipes()?;
                let found = recipes.detect_platform(directory, &platform.docroot_in(Lane::A))?.cloned();
                found.ok_or_else(|| {
                    Failure::usage(format!("no recipe recognises the platform {}", platform.name))
                        .hint("name the one of the site: --app RECIPE")
                })?
            }
        };
        let server = find_server(request.database.as_ref(), &recipe)?;
        Ok(NewSite { name: request.name.clone(), platform, recipe, server })
    }

    /// Makes a site with the files, the data directories and the database of a snapshot, and shows it.
    pub(super) fn make_site(&self, new: &NewSite, id: SnapshotId) -> Result<Generation, Failure> {
        let snapshot = self.load_snapshot(id)?;
        let database = self.database_of(new, &snapshot)?;
        let split = layout::split(&self.store.trees, &snapshot.root, &new.name, &snapshot.data)?;
        // What a record refers to is durable before the record is.
        self.store.trees.objects.flush()?;
        let (site, name) = self.store.catalog.write(|tx| {
            let number = tx.next_number(&GenerationName::counter(&new.name))?;
            let owner = &snapshot.root.attributes;
            let site = Site {
                name: new.name.clone(),
                kind: SiteKind::Live,
                recipe: new.recipe.name.clone(),
                created: Timestamp::now(),
                data: split.directories.clone(),
                data_volume: volume_number(tx.next_number(VOLUME_COUNTER)?)?,
                data_base: split.data.clone(),
                database,
                uid: owner.uid,
                gid: owner.gid,
                read_only: false,
                settings: Default::default(),
            };
            tx.put(new.name.as_str(), &site)?;
            Ok::<_, Failure>((site, GenerationName { site: new.name.clone(), number }))
        })?;
        self.fill_site(new, &site, name, id, &snapshot).inspect_err(|_| {
            if let Err(left) = self.remove_site_but_snapshots(&site) {
                log::warn!("what is left of the site {}: {}", site.name, left.message);
            }
        })
    }

    fn fill_site(
        &self,
        new: &NewSite,
        site: &Site,
        name: GenerationName,
        id: SnapshotId,
        snapshot: &Snapshot,
    ) -> Result<Generation, Failure> {
        self.show_volume(site.data_volume, &site.data_base, Access::Writable)?;
        if let Some(server) = &new.server {
            let made =
                self.announce_database(&name.key(), &site.name, server.server.clone(), server.creation()?)?;
            self.fill_database(&made, snapshot.database.as_ref())?;
        }
        let code = layout::split(&self.store.trees, &snapshot.root, &site.name, &site.data)?.code;
        let code = self.with_settings(site, &name, &new.platform, &code)?.root;
        let made =
            self.make_generation(&NewGeneration { name, code, platform: &new.platform, snapshot: Some(id) })?;
        self.make_first_live(&made)
    }

    /// What the record of the site says of its database.
    fn database_of(&self, new: &NewSite, snapshot: &Snapshot) -> Result<Option<DatabaseBinding>, Failure> {
        let on_server = new.server.as_ref().map(|server| server.server.engine.to_string());
        let Some(database) = &snapshot.database else {
            return match on_server {
                None => Ok(None),
                Some(_) => Err(Failure::usage("the snapshot has no database: leave --database out")),
            };
        };
        match (&database.file, on_server) {
            (Some(main), None) => {
                let files = match &new.recipe.database {
                    Some(recipe) => recipe.files_in_tree(&self.store.trees, &snapshot.root, main)?,
                    None => vec![main.clone()],
                };
                Ok(Some(DatabaseBinding { engine: database.engine.clone(), files }))
            }
            (None, Some(engine)) if engine == database.engine => {
                Ok(Some(DatabaseBinding { engine, files: Vec::new() }))
            }
            (Some(_), Some(_)) => {
                Err(Failure::usage("the snapshot has its database among its files: leave --database out"))
            }
            (None, _) => Err(Failure::usage(format!("the snapshot has a dump of {}", database.engine)).hint(
                "say on which server it is to become a database: --database URL, of one that new ones are to be like",
            )),
        }
    }
}
