//! Pages as smoke tests: those of the live site before an update begins, and those of copies of a site, which no web
//! server knows: PHP-FPM is asked for them as a web server would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Daemon;
use super::operations::fetch;
use super::vhosts::{PHP_LIMITS, PHP_SETTING};
use crate::base::files;
use crate::control::Failure;
use crate::site::{Expectation, GenerationName, Recipe, Site, SiteKind};
use crate::update::Page;
use crate::web::fastcgi;

/// What answers for a path that names no script.
const FRONT_CONTROLLER: &str = "index.php";

impl Daemon {
    /// What the web server says now to the pages that are asked for after a switch: why it cannot be asked at all, and
    /// which have another status than they are to have. Their texts may be of the release to come, and are not looked at.
    pub(super) fn pages_now(&self, site: &Site, recipe: &Recipe) -> (Option<String>, Vec<String>) {
        let mut amiss = Vec::new();
        let Some(uri) = site.uri() else { return (None, amiss) };
        for check in &recipe.checks {
            let Expectation::Page(expected) = &check.expectation else { continue };
            match fetch(uri, &expected.path, Duration::from_secs(u64::from(check.seconds_max))) {
                Err(failure) => return (Some(failure.to_string()), amiss),
                Ok(page) if page.status != expected.status => amiss.push(format!(
                    "{uri}{} has status {} now, and the check \"{}\" expects {}",
                    expected.path, page.status, check.title, expected.status
                )),
                Ok(_) => {}
            }
        }
        (None, amiss)
    }

    /// A page of a generation, wherever its platform shows it; `None` where the setting `php-socket` of the site, or of
    /// the one it is a clone of, was never made.
    pub(super) fn page_by_php(
        &self,
        site: &Site,
        of: &GenerationName,
        path: &str,
        limit: Duration,
    ) -> Result<Option<Page>, Failure> {
        let origin = match &site.kind {
            SiteKind::Live => None,
            SiteKind::Clone { of, .. } => self.site(of).ok(),
        };
        let settings = std::iter::once(site).chain(&origin).find_map(|site| site.settings.get(PHP_SETTING.0));
        let Some(socket) = settings.map(PathBuf::from) else { return Ok(None) };
        let docroot = self.place(&self.generation(of)?)?.docroot;
        let parameters = parameters(&docroot, site.name.as_str(), path)?;
        let answer = fastcgi::get(&socket, &parameters, limit).map_err(|error| {
            Failure::failed(format!("PHP at {} does not answer", socket.display())).because(&error)
        })?;
        Ok(Some(Page { status: answer.status, body: String::from_utf8_lossy(&answer.body).into_owned() }))
    }
}

/// What PHP is told of a request for `path`, as the configuration that sitefs makes for web servers has it.
fn parameters(docroot: &Path, site: &str, path: &str) -> Result<Vec<(&'static str, String)>, Failure> {
    let (script_path, query) = path.split_once('?').unwrap_or((path, ""));
    let (script, rest) = match script_path.split_once(".php") {
        Some((script, rest)) if rest.is_empty() || rest.starts_with('/') => (format!("{script}.php"), rest),
        _ => (format!("/{FRONT_CONTROLLER}"), ""),
    };
    let file = docroot.join(script.trim_start_matches('/'));
    // The lane's own path is what makes the answer one of this copy.
    let file = if files::metadata(&file)?.is_some() { file } else { docroot.join(FRONT_CONTROLLER) };
    Ok(vec![
        ("SCRIPT_FILENAME", file.display().to_string()),
        ("SCRIPT_NAME", script),
        ("PATH_INFO", rest.to_owned()),
        ("DOCUMENT_ROOT", docroot.display().to_string()),
        ("REQUEST_URI", path.to_owned()),
        ("QUERY_STRING", query.to_owned()),
        ("REQUEST_METHOD", "GET".to_owned()),
        ("SERVER_PROTOCOL", "HTTP/1.1".to_owned()),
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("SERVER_SOFTWARE", "sitefs".to_owned()),
        ("SERVER_NAME", site.to_owned()),
        ("SERVER_PORT", "80".to_owned()),
        ("REMOTE_ADDR", "127.0.0.1".to_owned()),
        ("HTTP_HOST", site.to_owned()),
        ("HTTP_USER_AGENT", "sitefs".to_owned()),
        ("REDIRECT_STATUS", "200".to_owned()),
        ("SITEFS_SITE", site.to_owned()),
        ("PHP_ADMIN_VALUE", PHP_LIMITS.to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_script_or_to_the_front_controller() {
        let docroot = tempfile::tempdir().unwrap();
        std::fs::write(docroot.path().join("api.php"), "").unwrap();
        for (path, script, query, rest) in [
            ("/", "index.php", "", ""),
            ("/node/1?x=1", "index.php", "x=1", ""),
            ("/api.php?a=b", "api.php", "a=b", ""),
            ("/api.php/extra", "api.php", "", "/extra"),
            ("/missing.php", "index.php", "", ""),
        ] {
            let told = parameters(docroot.path(), "site", path).unwrap();
            let of = |name: &str| told.iter().find(|(key, _)| *key == name).unwrap().1.clone();
            assert_eq!(of("SCRIPT_FILENAME"), docroot.path().join(script).display().to_string(), "{path}");
            assert_eq!((of("QUERY_STRING").as_str(), of("PATH_INFO").as_str()), (query, rest), "{path}");
        }
    }
}
