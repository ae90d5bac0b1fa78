//! The verb that makes a web server's configuration for a site.

use super::Daemon;
use crate::base::RelativePath;
use crate::control::response::VhostMade;
use crate::control::{Failure, WebServer, request};
use crate::site::{Recipe, Site, with_companions};
use crate::web::{InstallError, Program, Vhost, install};

/// The settings of a site that templates are given, each with its default.
pub(super) const LISTEN_SETTING: (&str, &str) = ("listen", "80");
pub(super) const PHP_SETTING: (&str, &str) = ("php-socket", "/run/php/php-fpm.sock");

/// What PHP is told beside where a page is, as the templates have it: what it remembers of paths must not outlive a
/// release.
pub(super) const PHP_LIMITS: &str = "opcache.revalidate_path=1\nrealpath_cache_ttl=2";

/// What a client whose write was refused is told to wait, in seconds.
const RETRY_SECONDS: u64 = 30;

impl Daemon {
    /// `vhost`.
    pub(super) fn vhost(&self, request: &request::Vhost) -> Result<VhostMade, Failure> {
        let site = self.site(&request.site)?;
        let web = self.http.lock().as_ref().map(|http| http.address().clone());
        let web = web.ok_or_else(|| {
            Failure::usage("the daemon has no socket for web servers, which the configuration must name")
                .hint("set `web` in /etc/sitefs/config.toml and restart the daemon")
        })?;
        let setting = |(key, default): (&str, &str)| {
            site.settings.get(key).map_or_else(|| default.to_owned(), Clone::clone)
        };
        let recipe = self.recipe(&site)?;
        let platform = self.platform(&self.live_generation(&site.name)?.platform)?;
        let sites = platform.sites_below_docroot();
        if sites.is_none() && !recipe.web.directories.is_empty() {
            return Err(Failure::refused(format!(
                "the sites of platform {} are not below its document root, where visitors would ask for {}",
                platform.name, recipe.web.directories[0],
            ))
            .hint("write the rules by hand, in a template of your own: docs/operations.md"));
        }
        // Where no site can be asked for, nothing of one needs to be hidden.
        let sites = sites.unwrap_or_else(|| platform.sites.clone());
        let uri = site.uri_or_name();
        let host = uri.split_once("://").map_or(uri.as_str(), |(_, rest)| rest);
        let authority = host.split('/').next().unwrap_or(host);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host.to_owned(), Some(port.to_owned())),
            _ => (authority.to_owned(), None),
        };
        let vhost = Vhost {
            site: site.name.clone(),
            host,
            port,
            listen: setting(LISTEN_SETTING),
            root: self.root.clone(),
            php: setting(PHP_SETTING),
            web,
            retry_seconds: RETRY_SECONDS,
            sites,
            directories: recipe.web.directories.clone(),
            hidden: hidden(&site, &recipe),
            data: std::iter::once(named("files")).chain(site.data.iter().cloned()).collect(),
        };
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::failed(format!("cannot make the configuration of {}", site.name)).because(error)
        };
        let server = match request.server {
            WebServer::Nginx => Program::Nginx,
            WebServer::Apache => Program::Apache,
        };
        let text = vhost.render(server, self.options.templates.as_deref()).map_err(|error| failed(&error))?;
        if let Some(path) = &request.install {
            let installed = install(server, path, &text, request.configuration.as_deref());
            installed.map_err(|error| match &error {
                InstallError::Refused { .. } => Failure::refused(error.to_string())
                    .because(std::error::Error::source(&error).expect("a refusal says what the server said")),
                InstallError::File(_) => failed(&error),
            })?;
        }
        Ok(VhostMade {
            site: site.name,
            text,
            installed: request.install.as_ref().map(|path| path.display().to_string()),
        })
    }
}

/// What no visitor may ask for in a site's directory, whatever the recipe says: where applications keep what is private,
/// the database, and the settings.
fn hidden(site: &Site, recipe: &Recipe) -> Vec<RelativePath> {
    let mut hidden = vec![named("private"), named("database")];
    hidden.extend(recipe.web.hidden.iter().cloned());
    for file in site.database_files() {
        hidden.extend(with_companions(file));
        hidden.push(named(&format!("{file}-shm")));
    }
    if let Some(settings) = &recipe.settings {
        hidden.push(settings.file.clone());
        hidden.extend(settings.included_by.clone());
    }
    hidden
}

fn named(path: &str) -> RelativePath {
    path.parse().expect("it is a relative path")
}
