//! The verbs on platforms.

use std::path::Path;
use std::time::Instant;

use super::Daemon;
use super::code_files::CodeFiles;
use super::volumes::LaneView;
use crate::base::{Lane, PlatformName, RelativePath, Timestamp, files};
use crate::control::response::{
    MountStatus, PlatformAdded, PlatformDetails, PlatformRemoved, PlatformSummary, Platforms,
};
use crate::control::{Failure, request};
use crate::fuse::mounts::{PlatformView, list};
use crate::site::{Generation, GenerationState, Platform, Site, is_older_version};
use crate::trees::{Digest, digest_directory, list_directory};

/// Where applications have their sites directories, the most specific first.
const SITES_DIRECTORIES: [&str; 3] = ["web/sites", "docroot/sites", "sites"];

impl Daemon {
    /// `platform add`.
    pub(super) fn platform_add(&self, request: &request::PlatformAdd) -> Result<PlatformAdded, Failure> {
        let started = Instant::now();
        let directory = files::canonical(&request.directory)?;
        let text = directory.to_str().ok_or_else(|| {
            Failure::usage(format!("{} is not valid UTF-8", directory.display()))
                .hint("web server configuration cannot name it: rename the directory")
        })?;
        self.refuse_own(&directory)?;
        refuse_taken(&request.platform, &directory, &self.store.catalog.list::<Platform>("")?)?;
        let sites = find_sites(&directory, request.sites.as_ref())?;
        let (digest, listed) = list_directory(&directory, std::slice::from_ref(&sites))?;
        let code_files = self.store_code_files(&listed)?;
        let docroot = match &request.docroot {
            None => Platform::docroot_of(&sites),
            Some(request::Docroot::Platform) => None,
            Some(request::Docroot::Below(path)) => Some(path.clone()),
        };
        let mut platform = Platform {
            name: request.platform.clone(),
            directory: text.to_owned(),
            docroot,
            sites,
            code: digest.id,
            files: digest.files,
            size_bytes: digest.bytes,
            added: Timestamp::now(),
            application: None,
            version: None,
        };
        let docroot = platform.docroot_in(Lane::A);
        if let Some(recipe) = self.recipes()?.detect_platform(&directory, &docroot)? {
            platform.application = Some(recipe.title.clone());
            platform.version = recipe.version_of(&docroot)?;
        }
        self.store.catalog.write(|tx| {
            // Hashing the code takes a while, and another may have been added meanwhile.
            refuse_taken(&platform.name, &directory, &tx.list::<Platform>("")?)?;
            tx.put(platform.name.as_str(), &code_files)?;
            Ok::<_, Failure>(tx.put(platform.name.as_str(), &platform)?)
        })?;
        if let Err(failure) = self.attach_views(&platform) {
            self.detach_views(&platform)?;
            self.store.catalog.write(|tx| {
                tx.remove::<CodeFiles>(platform.name.as_str())?;
                tx.remove::<Platform>(platform.name.as_str()).map_err(Failure::from)
            })?;
            self.publish()?;
            return Err(failure);
        }
        Ok(PlatformAdded {
            details: self.platform_details(&platform)?,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// `platform list`.
    pub(super) fn platform_list(&self) -> Result<Platforms, Failure> {
        let platforms = self.store.catalog.list::<Platform>("")?;
        let platforms = platforms
            .iter()
            .map(|(_, platform)| self.platform_summary(platform))
            .collect::<Result<_, _>>()?;
        Ok(Platforms { platforms })
    }

    /// `platform show`.
    pub(super) fn platform_show(&self, name: &PlatformName) -> Result<PlatformDetails, Failure> {
        self.platform_details(&self.platform(name)?)
    }

    /// `platform remove`.
    pub(super) fn platform_remove(&self, name: &PlatformName) -> Result<PlatformRemoved, Failure> {
        let platform = self.platform(name)?;
        refuse_in_use(name, &self.store.catalog.list::<Generation>("")?)?;
        // The views go first: a crash in between finds the record, and shows them again.
        self.detach_views(&platform)?;
        let removed = self.store.catalog.write(|tx| {
            // A generation may have been made there meanwhile.
            refuse_in_use(name, &tx.list::<Generation>("")?)?;
            tx.remove::<CodeFiles>(name.as_str())?;
            Ok::<_, Failure>(tx.remove::<Platform>(name.as_str())?)
        });
        if let Err(failure) = removed {
            self.attach_views(&platform)?;
            return Err(failure);
        }
        self.publish()?;
        Ok(PlatformRemoved { platform: name.clone(), directory: platform.directory })
    }

    /// The hash over a platform's code as it is now.
    pub(super) fn platform_digest(&self, platform: &Platform) -> Result<Digest, Failure> {
        Ok(digest_directory(Path::new(&platform.directory), std::slice::from_ref(&platform.sites))?)
    }

    /// Refuses a platform of an older version than the one that a site's database was used with last: its code may not
    /// know the schema. Where the recipe or one of the platforms does not tell a version, nothing is refused.
    pub(super) fn refuse_downgrade(
        &self,
        site: &Site,
        used_with: &PlatformName,
        platform: &Platform,
    ) -> Result<(), Failure> {
        if used_with == &platform.name {
            return Ok(());
        }
        let recipe = self.recipe(site)?;
        let Some(used_with) = self.store.catalog.get::<Platform>(used_with.as_str())? else { return Ok(()) };
        let version = |platform: &Platform| recipe.version_of(&platform.docroot_in(Lane::A));
        match (version(&used_with)?, version(platform)?) {
            (Some(from), Some(to)) if is_older_version(&to, &from) => Err(Failure::refused(format!(
                "{} has version {to}, older than {from} of {}, which the database of {} was used with: its code may \
                 not know the schema",
                platform.name, used_with.name, site.name
            ))
            .hint("name a platform that is no older, or say --allow-downgrade")),
            _ => Ok(()),
        }
    }

    /// Covers the sites directory of a platform, in both lanes, by its views.
    pub(super) fn attach_views(&self, platform: &Platform) -> Result<(), Failure> {
        for lane in Lane::ALL {
            if lane == Lane::B {
                let shown = platform.directory_in(lane);
                files::create_public_directories(&shown)?;
                self.mounts.bind(Path::new(&platform.directory), &shown)?;
            }
            let view = LaneView::new(PlatformView::open(&platform.sites_in(lane))?)?;
            self.views.lock().insert((platform.name.clone(), lane), view);
        }
        // The places to mount on must be there before anything is mounted on them.
        self.publish()?;
        let mut views = self.views.lock();
        for ((name, lane), view) in views.iter_mut().filter(|((name, _), _)| name == &platform.name) {
            let source = self.root.join("views").join(name.as_str()).join(lane.to_string());
            view.view.attach(&self.mounts, &source, &view.shown)?;
            view.attached = true;
        }
        Ok(())
    }

    /// Uncovers the sites directory of a platform: it is as it was. No error where it is not covered.
    pub(super) fn detach_views(&self, platform: &Platform) -> Result<(), Failure> {
        for lane in Lane::ALL {
            if let Some(view) = self.views.lock().remove(&(platform.name.clone(), lane)) {
                view.view.detach(&self.mounts)?;
            }
            if lane == Lane::B {
                let shown = platform.directory_in(lane);
                self.mounts.unmount(&shown)?;
                files::remove_directory(&shown)?;
            }
        }
        Ok(())
    }

    /// A platform as lists show it.
    pub(super) fn platform_summary(&self, platform: &Platform) -> Result<PlatformSummary, Failure> {
        let application = platform.application.as_ref().map(|application| match &platform.version {
            Some(version) => format!("{application} {version}"),
            None => application.clone(),
        });
        let generations = self.store.catalog.list::<Generation>("")?;
        let sites = generations
            .into_iter()
            .map(|(_, generation)| generation)
            .filter(|generation| {
                generation.platform == platform.name && generation.state == GenerationState::Live
            })
            .map(|generation| generation.name.site)
            .collect();
        Ok(PlatformSummary {
            platform: platform.name.clone(),
            directory: platform.directory.clone(),
            application,
            sites,
        })
    }

    /// The mounts of a platform, and whether they are there.
    pub(super) fn platform_mounts(&self, name: &PlatformName) -> Vec<MountStatus> {
        let listed = list().unwrap_or_default();
        let views = self.views.lock();
        let of_platform = views.iter().filter(|((platform, _), _)| platform == name);
        of_platform
            .map(|((platform, lane), view)| MountStatus {
                path: view.view.sites().display().to_string(),
                shows: format!("sites of {platform}, lane {lane}"),
                mounted: listed
                    .iter()
                    .any(|entry| entry.is_sitefs() && entry.mount_point == view.view.sites()),
            })
            .collect()
    }

    fn platform_details(&self, platform: &Platform) -> Result<PlatformDetails, Failure> {
        Ok(PlatformDetails {
            summary: self.platform_summary(platform)?,
            sites_directory: platform.sites.clone(),
            document_root: platform.docroot_in(Lane::A).display().to_string(),
            code: platform.code.to_string(),
            files: platform.files,
            size_bytes: platform.size_bytes,
            added: platform.added.into(),
            mounts: self.platform_mounts(&platform.name),
        })
    }

    fn refuse_own(&self, directory: &Path) -> Result<(), Failure> {
        if directory.starts_with(&self.root) || directory.starts_with(self.store.directory()) {
            return Err(Failure::refused(format!("{} belongs to sitefs itself", directory.display())));
        }
        Ok(())
    }
}

/// An error when a platform of this name is there, or one whose directory has to do with this one.
fn refuse_taken(
    name: &PlatformName,
    directory: &Path,
    platforms: &[(String, Platform)],
) -> Result<(), Failure> {
    for (_, other) in platforms {
        if &other.name == name {
            return Err(Failure::refused(format!("there is a platform {name} already"))
                .hint(format!("it is {}; choose another name", other.directory)));
        }
        let other_directory = Path::new(&other.directory);
        if directory.starts_with(other_directory) || other_directory.starts_with(directory) {
            return Err(Failure::refused(format!(
                "{} and platform {} ({}) are one within the other",
                directory.display(),
                other.name,
                other.directory
            )));
        }
    }
    Ok(())
}

/// An error when one of the generations is on the platform.
fn refuse_in_use(name: &PlatformName, generations: &[(String, Generation)]) -> Result<(), Failure> {
    let on_it = || generations.iter().map(|(_, generation)| generation).filter(|one| &one.platform == name);
    let mut sites: Vec<&str> = on_it().map(|generation| generation.name.site.as_str()).collect();
    sites.dedup();
    if sites.is_empty() {
        return Ok(());
    }
    if on_it().all(|generation| generation.state == GenerationState::Abandoned) {
        let sites = sites.join(", ");
        return Err(Failure::refused(format!(
            "requests that began on platform {name} may still be running: {sites}"
        ))
        .because_of("an update to it was switched back")
        .hint("repeat the command in some minutes"));
    }
    Err(Failure::refused(format!("platform {name} has generations of: {}", sites.join(", "))).hint(
        "move them to another platform (sitefs update, sitefs cutover) or remove them (sitefs site remove)",
    ))
}

/// The sites directory below a platform: the one asked for, or the one that is found.
fn find_sites(directory: &Path, asked: Option<&RelativePath>) -> Result<RelativePath, Failure> {
    let is_directory = |path: &RelativePath| {
        Ok::<_, Failure>(files::metadata(&path.below(directory))?.is_some_and(|found| found.is_dir()))
    };
    let candidates = SITES_DIRECTORIES.map(|path| path.parse().expect("the candidates are relative paths"));
    let found = match asked {
        Some(path) => Some(path.clone()).filter(|path| is_directory(path).unwrap_or(false)),
        None => {
            let mut found = None;
            for candidate in candidates {
                if found.is_none() && is_directory(&candidate)? {
                    found = Some(candidate);
                }
            }
            found
        }
    };
    found.ok_or_else(|| {
        let looked = asked.map_or_else(|| SITES_DIRECTORIES.join(", "), RelativePath::to_string);
        Failure::usage(format!("{} has no sites directory ({looked})", directory.display()))
            .hint("create it, or say where it is: --sites PATH, relative to the platform's directory")
    })
}
