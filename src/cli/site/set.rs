//! `sitefs site set`.

use clap::Args;

use crate::base::SiteName;
use crate::cli::context::{Context, Ended};
use crate::cli::page::Page;
use crate::control::request::SiteSet;

/// Change a setting of a site, such as its address
///
/// `uri` is the site's address, scheme and host: recipes ask for its pages there. `writes` says how long writes wait
/// while an update holds them (30s), or `refuse`. `php-socket` is the socket of the site's PHP-FPM, and `listen` what the
/// web server listens on for it (80): for `sitefs vhost`.
///
/// `sitefs site show SITE` lists the settings. An empty value takes a setting away, so that the default holds again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs site set shop.example uri https://shop.example
  sitefs site set shop.example php-socket /run/php/php8.4-fpm.sock
  sitefs site set shop.example uri ''")]
pub(in crate::cli) struct Set {
    /// The site
    site: SiteName,
    /// The name of the setting
    key: String,
    /// Its new value
    value: String,
}

impl Set {
    pub(super) fn run(self, context: &Context) -> Ended {
        let Set { site, key, value } = self;
        let value = Some(value).filter(|value| !value.is_empty());
        context.show(SiteSet { site, key, value }, |setting, _| {
            let mut page = Page::default();
            let value = setting.value.as_deref().unwrap_or("(not set)");
            page.line(format!("{} = {value} ({})", setting.key, super::origin(setting)));
            page
        })
    }
}
