//! `sitefs clone`.

use clap::Args;

use super::context::{Context, Ended};
use super::format::{seconds, short_id, time};
use super::page::Page;
use crate::base::{PlatformName, SiteName, Span};
use crate::control::request::SiteClone;
use crate::control::{Failure, Revision};

/// Make a copy-on-write clone of a site, files and database
///
/// Takes milliseconds and nearly no disk, however large the site is. What is done to the clone never reaches the
/// site. A clone of the site as it is now has the database's last committed state; it is not checked unless --verify
/// says so, and no snapshot is listed for it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs clone shop.example shop-test
  sitefs clone shop.example shop-test --platform drupal-10.4 --expires 7d
  sitefs clone shop.example shop-dev --sanitize
  sitefs clone shop.example shop-old --from shop.example@release-7")]
pub(super) struct Clone {
    /// The site
    site: SiteName,
    /// A name for the clone
    new: SiteName,
    /// A snapshot to clone [default: the site as it is now]
    #[arg(long, value_name = "SITE@ID")]
    from: Option<Revision>,
    /// The platform the clone is to stand on [default: that of the site, or of the snapshot]
    #[arg(long)]
    platform: Option<PlatformName>,
    /// Accept a platform of an older version, whose code may not know the database's schema
    #[arg(long, requires = "platform")]
    allow_downgrade: bool,
    /// Leave the database out
    #[arg(long)]
    no_database: bool,
    /// Restore and check the database first; costs a reading of all of it
    #[arg(long, conflicts_with = "no_database")]
    verify: bool,
    /// Run the recipe's commands that take personal data out of a copy
    #[arg(long)]
    sanitize: bool,
    /// When the clone is removed by itself, from now, as in 12h or 7d: not before whoever uses it is done
    /// [default: never]
    #[arg(long, value_name = "SPAN")]
    expires: Option<Span>,
}

impl Clone {
    pub(super) fn run(self, context: &Context) -> Ended {
        let from = self.from.unwrap_or_else(|| Revision::live(self.site.clone()));
        if from.site != self.site {
            return Err(Failure::usage(format!("{from} is not a snapshot of {}", self.site))
                .hint(format!("clone {} instead, or name a snapshot of {}", from.site, self.site))
                .into());
        }
        let Clone { new, platform, allow_downgrade, no_database, verify, sanitize, expires, .. } = self;
        let database = !no_database;
        let request = SiteClone { from, new, platform, allow_downgrade, database, verify, sanitize, expires };
        context.show(request, |cloned, now| {
            let site = &cloned.site;
            let mut page = Page::default();
            page.line(format!(
                "{} is a clone of {}@{} on {}, made in {}",
                site.site,
                site.clone_of.as_ref().unwrap_or(&site.site),
                cloned.snapshot.as_deref().map_or("live", short_id),
                site.platform,
                seconds(cloned.seconds),
            ));
            page.fields([
                ("  directory", cloned.path.clone()),
                ("  document root", site.document_root.clone()),
                (
                    "  database",
                    cloned.database.as_ref().map_or_else(
                        || "none".to_owned(),
                        |database| format!("{} {}", database.engine, database.name),
                    ),
                ),
                ("  expires", site.expires.map_or_else(|| "never".to_owned(), |moment| time(moment, now))),
            ]);
            page
        })
    }
}
