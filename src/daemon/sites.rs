//! The verbs on sites that change no files: list, show, set, remove.

use super::Daemon;
use super::draining::forget_departure;
use super::vhosts::{LISTEN_SETTING, PHP_SETTING};
use super::windows::{WAIT_DEFAULT, WRITES_SETTING, check_writes_setting};
use crate::base::SiteName;
use crate::control::response::{
    DatabaseInfo, GenerationInfo, GenerationState as ShownState, SettingValue, SiteDetails, SiteRemoved,
    SiteSummary, Sites,
};
use crate::control::{Failure, request};
use crate::database::ServerDatabase;
use crate::history::{SnapshotRecord, Tag};
use crate::live::LiveError;
use crate::site::{Generation, GenerationName, GenerationState, LivePointer, Site, SiteKind};
use crate::update::newest_runs;

/// How many of a site's newest runs `site show` tells of.
const RUNS_SHOWN_MAX: usize = 10;

/// What `site set` knows, with what it means.
const SETTINGS: [(&str, &str); 4] = [
    ("uri", "the site's address, scheme and host: https://example.com"),
    (WRITES_SETTING, "how long writes wait during an update before they are refused, or refuse: 30s"),
    (LISTEN_SETTING.0, "what the web server listens on for it: 80"),
    (PHP_SETTING.0, "the socket of PHP-FPM: /run/php/php-fpm.sock"),
];

impl Daemon {
    /// `site list`.
    pub(super) fn site_list(&self) -> Result<Sites, Failure> {
        let mut sites = Vec::new();
        for (_, site) in self.store.catalog.list::<Site>("")? {
            // A site without a live generation is what an interrupted import left; `status` tells of it.
            if self.store.catalog.get::<LivePointer>(site.name.as_str())?.is_some() {
                match self.site_summary(&site) {
                    Ok(summary) => sites.push(summary),
                    // `status` tells of it; the others are listed.
                    Err(failure) if !self.store.catalog.damaged()?.is_empty() => {
                        log::error!("site {}: {}", site.name, failure.message);
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(Sites { sites })
    }

    /// `site show`.
    pub(super) fn site_show(&self, name: &SiteName) -> Result<SiteDetails, Failure> {
        let site = self.site(name)?;
        let live = self.live_generation(name)?;
        let mut generations = self
            .generations(name)?
            .iter()
            .map(|generation| self.generation_info(generation))
            .collect::<Result<Vec<_>, _>>()?;
        generations.reverse();
        let runs = newest_runs(&self.store.catalog, name, RUNS_SHOWN_MAX)?;
        Ok(SiteDetails {
            summary: self.site_summary(&site)?,
            live_link: self.live_link(name),
            path: self.site_path(name),
            data: site.data.clone(),
            database: self.database_info(&site, &live)?,
            settings: SETTINGS.iter().map(|(key, _)| setting(&site, key)).collect(),
            generations,
            runs: runs.iter().map(|run| self.run_summary(run)).collect(),
        })
    }

    /// `site set`.
    pub(super) fn site_set(&self, request: &request::SiteSet) -> Result<SettingValue, Failure> {
        if !SETTINGS.iter().any(|(key, _)| *key == request.key) {
            let known = SETTINGS.map(|(key, meaning)| format!("{key} ({meaning})")).join(", ");
            return Err(Failure::usage(format!("there is no setting {:?}", request.key)).hint(known));
        }
        if let (WRITES_SETTING, Some(value)) = (request.key.as_str(), &request.value) {
            check_writes_setting(value)?;
        }
        let _lock = self.lock_site(&request.site, "site set")?;
        let mut site = self.site(&request.site)?;
        match &request.value {
            Some(value) => site.settings.insert(request.key.clone(), value.clone()),
            None => site.settings.remove(&request.key),
        };
        self.store.catalog.write(|tx| tx.put(site.name.as_str(), &site).map_err(Failure::from))?;
        Ok(setting(&site, &request.key))
    }

    /// `site remove`.
    pub(super) fn site_remove(&self, request: &request::SiteRemove) -> Result<SiteRemoved, Failure> {
        let site = self.site(&request.site)?;
        if site.kind == SiteKind::Live && !request.force {
            return Err(Failure::refused(format!("{} is a live site, not a clone", site.name)).hint(
                "with --force it is removed with all its generations and snapshots; take a copy of what you need first",
            ));
        }
        let _lock = self.lock_site(&request.site, "site remove")?;
        self.remove_site(&site)
    }

    /// Removes a site with all it has. Records go first, in one transaction; volumes nobody refers to follow, now
    /// or when the daemon next starts.
    pub(super) fn remove_site(&self, site: &Site) -> Result<SiteRemoved, Failure> {
        self.remove_site_and(site, true)
    }

    /// As [`Daemon::remove_site`], but for its snapshots and tags.
    pub(super) fn remove_site_but_snapshots(&self, site: &Site) -> Result<SiteRemoved, Failure> {
        self.remove_site_and(site, false)
    }

    fn remove_site_and(&self, site: &Site, with_snapshots: bool) -> Result<SiteRemoved, Failure> {
        let name = site.name.as_str();
        let prefix = GenerationName::prefix(&site.name);
        let (generations, snapshots) = self.store.catalog.write(|tx| {
            let generations = tx.list::<Generation>(&prefix)?;
            let snapshots = if with_snapshots { tx.list::<SnapshotRecord>(&prefix)? } else { Vec::new() };
            tx.remove::<LivePointer>(name)?;
            tx.remove::<Site>(name)?;
            for (key, _) in &generations {
                tx.remove::<Generation>(key)?;
                forget_departure(tx, key)?;
            }
            for (key, _) in &snapshots {
                tx.remove::<SnapshotRecord>(key)?;
            }
            let tags = if with_snapshots { tx.list::<Tag>(&prefix)? } else { Vec::new() };
            for (key, _) in tags {
                tx.remove::<Tag>(&key)?;
            }
            Ok::<_, Failure>((generations, snapshots))
        })?;
        self.publish_site(&site.name)?;
        self.discard_volume(site.data_volume)?;
        for (_, generation) in &generations {
            self.discard_volume(generation.volume)?;
        }
        snapshots.iter().for_each(|(_, record)| self.hide_snapshot(record));
        for (key, _) in self.store.catalog.list::<ServerDatabase>(&prefix)? {
            self.drop_database(&key)?;
        }
        Ok(SiteRemoved {
            site: site.name.clone(),
            generations: generations.len() as u64,
            snapshots: snapshots.len() as u64,
        })
    }

    /// A site as lists show it.
    pub(super) fn site_summary(&self, site: &Site) -> Result<SiteSummary, Failure> {
        let live = self.live_generation(&site.name)?;
        let place = self.place(&live)?;
        let snapshots = self.snapshot_records(&site.name)?;
        let (clone_of, expires) = match &site.kind {
            SiteKind::Live => (None, None),
            SiteKind::Clone { of, expires, .. } => (Some(of.clone()), expires.map(Into::into)),
        };
        Ok(SiteSummary {
            site: site.name.clone(),
            app: site.recipe.clone(),
            platform: live.platform.clone(),
            generation: live.name.number,
            document_root: place.docroot.display().to_string(),
            clone_of,
            expires,
            snapshots: snapshots.len() as u64,
            newest_snapshot: snapshots.first().map(|record| record.created.into()),
        })
    }

    /// The site's database as it is now.
    pub(super) fn database_info(
        &self,
        site: &Site,
        generation: &Generation,
    ) -> Result<Option<DatabaseInfo>, Failure> {
        let Some(database) = &site.database else { return Ok(None) };
        let Some(file) = database.files.first() else {
            let on_server = self.server_database(&generation.name)?;
            return Ok(on_server.map(|found| DatabaseInfo {
                engine: database.engine.clone(),
                // A server that does not answer is told of by `status`; the site's other facts are no less true.
                size_bytes: found.at.size_bytes().unwrap_or_default(),
                name: found.at.name,
            }));
        };
        let size_bytes = match self.volume(generation.volume)?.resolve(file) {
            Ok(attributes) => attributes.size,
            Err(LiveError::NotFound) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(DatabaseInfo { engine: database.engine.clone(), name: file.to_string(), size_bytes }))
    }

    /// The link that a web server resolves.
    pub(super) fn live_link(&self, site: &SiteName) -> String {
        self.root.join("live").join(site.as_str()).display().to_string()
    }

    /// The link to the site's live generation.
    pub(super) fn site_path(&self, site: &SiteName) -> String {
        self.root.join("sites").join(site.as_str()).display().to_string()
    }

    fn generation_info(&self, generation: &Generation) -> Result<GenerationInfo, Failure> {
        Ok(GenerationInfo {
            generation: generation.name.number,
            state: match generation.state {
                GenerationState::Prepared => ShownState::Staged,
                GenerationState::Live => ShownState::Live,
                GenerationState::Previous if self.is_draining(generation)? => ShownState::Draining,
                GenerationState::Abandoned => ShownState::Draining,
                GenerationState::Previous => ShownState::Previous,
                GenerationState::Retired => ShownState::Retired,
            },
            platform: generation.platform.clone(),
            lane: generation.lane,
            created: generation.created.into(),
            snapshot: generation.snapshot.map(|snapshot| snapshot.to_string()),
            path: self.generation_path(&generation.name).display().to_string(),
        })
    }
}

fn setting(site: &Site, key: &str) -> SettingValue {
    let value = site.settings.get(key).cloned();
    let source = if value.is_some() { "site" } else { "default" }.to_owned();
    let value = value.or_else(|| match key {
        "uri" => Some(site.uri_or_name()),
        WRITES_SETTING => Some(format!("{}s", WAIT_DEFAULT.as_secs())),
        _ => [LISTEN_SETTING, PHP_SETTING]
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, to)| (*to).to_owned()),
    });
    SettingValue { key: key.to_owned(), value, source }
}
