//! `sitefs site import`.

use std::path::PathBuf;

use clap::Args;

use crate::base::{PlatformName, SiteName};
use crate::cli::context::{Context, Ended};
use crate::cli::format::{counted, seconds, short_id, size};
use crate::cli::page::Page;
use crate::control::request::SiteImport;

/// Put an existing site under sitefs
///
/// Reads the site's directory (custom code, settings, uploads and, with SQLite, its database) into the store, takes
/// the first snapshot and shows the site on the platform. The original is only read: keep it until you are content.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs site import shop.example /srv/drupal/web/sites/shop.example --platform drupal-10.3
  sitefs site import wiki /srv/wiki-site --platform wiki-1.43 --app mediawiki
  sitefs site import blog /srv/blog-site --platform blog-6 --app blog --database mariadb:///blog")]
pub(in crate::cli) struct Import {
    /// A name for it, usually its host name
    site: SiteName,
    /// The directory that holds it now
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The platform it is to stand on
    #[arg(long)]
    platform: PlatformName,
    /// The recipe of its application [default: the one that recognises it]
    #[arg(long, value_name = "RECIPE")]
    app: Option<String>,
    /// Its database: sqlite:PATH below its directory, mariadb://HOST/NAME or postgresql://HOST/NAME (no host: the
    /// server's socket), without a password [default: as the recipe finds it]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

impl Import {
    pub(super) fn run(self, context: &Context) -> Ended {
        let directory = Context::absolute(&self.directory)?;
        let Import { site, platform, app, database, .. } = self;
        context.show(SiteImport { site, directory, platform, app, database }, |imported, _| {
            let site = &imported.site;
            let mut page = Page::default();
            page.line(format!(
                "imported {} ({}): {}, {}, in {}",
                site.site,
                site.app,
                counted(imported.nodes, "file", "files"),
                size(imported.size_bytes),
                seconds(imported.seconds),
            ));
            page.fields([
                ("  first snapshot", format!("{}@{}", site.site, short_id(&imported.snapshot.id))),
                ("  store grew by", size(imported.snapshot.added_bytes)),
                ("  site directory", imported.path.clone()),
                ("  document root", site.document_root.clone()),
                ("  live link", imported.live_link.clone()),
            ]);
            for moved in &imported.moved {
                page.note(format!(
                    "{} is kept as {}: it belongs to one generation, and what is beside it is shared by all; the site's \
                     settings are told",
                    moved.from, moved.to
                ));
            }
            for skipped in &imported.skipped {
                page.note(format!("left out: {}: {}", skipped.path, skipped.reason));
            }
            let (option, name) = (context.store_option(), &site.site);
            page.note(format!("next: sitefs{option} site set {name} uri http://{name}"));
            page.note(format!(
                "      sitefs{option} vhost {name} (a web server's configuration; one of your own resolves the live link once \
                 per request)"
            ));
            page
        })
    }
}
