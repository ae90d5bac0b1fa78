//! `sitefs vhost`.

use std::path::PathBuf;

use clap::Args;

use super::context::{Context, Ended};
use super::page::Page;
use crate::base::SiteName;
use crate::control::WebServer;
use crate::control::request::Vhost as Request;

/// Make a web server's configuration for a site
///
/// From a template: nginx.conf or apache.conf in /etc/sitefs/templates, or the one that sitefs brings. With --install
/// the web server itself is asked whether it accepts its configuration with the new file; if not, the file is put back
/// as it was. Reload the server then. No release, rollback or window needs another one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs vhost shop.example
  sitefs vhost shop.example --install /etc/nginx/sites-enabled/shop.example && systemctl reload nginx
  sitefs vhost shop.example --server apache > /etc/apache2/sites-available/shop.example.conf")]
pub(super) struct Vhost {
    /// The site
    site: SiteName,
    /// nginx or apache
    #[arg(long, default_value = "nginx", value_name = "nginx|apache")]
    server: WebServer,
    /// The file to write, instead of printing it
    #[arg(long, value_name = "FILE")]
    install: Option<PathBuf>,
    /// The server's main configuration file [default: the server's own]
    #[arg(long, value_name = "FILE", requires = "install")]
    server_config: Option<PathBuf>,
}

impl Vhost {
    pub(super) fn run(self, context: &Context) -> Ended {
        let absolute = |path: Option<PathBuf>| path.map(|path| Context::absolute(&path)).transpose();
        let request = Request {
            site: self.site,
            server: self.server,
            install: absolute(self.install)?,
            configuration: absolute(self.server_config)?,
        };
        context.show(request, |answer, _| {
            let mut page = Page::default();
            match &answer.installed {
                Some(path) => page.line(format!("{path} is in place: reload the web server")),
                None => answer.text.lines().for_each(|line| page.line(line)),
            }
            page
        })
    }
}
