//! The verb that makes a web server's configuration for a site.

use super::Daemon;
use crate::control::response::VhostMade;
use crate::control::{Failure, WebServer, request};
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
        let uri = site.uri_or_name();
        let host = uri.split_once("://").map_or(uri.as_str(), |(_, rest)| rest);
        let host = host.split(['/', ':']).next().unwrap_or(host).to_owned();
        let vhost = Vhost {
            site: site.name.clone(),
            host,
            listen: setting(LISTEN_SETTING),
            root: self.root.clone(),
            php: setting(PHP_SETTING),
            web,
            retry_seconds: RETRY_SECONDS,
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
