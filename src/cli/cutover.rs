//! `sitefs cutover`.

use clap::Args;

use super::context::{Context, Ended};
use super::format::seconds;
use super::page::Page;
use crate::base::{PlatformName, SiteName};
use crate::control::Target;
use crate::control::request::Cutover as Request;
use crate::control::response::Switched;

/// Switch a site to another generation, platform or snapshot
///
/// One durable switch of one pointer: every request gets the old or the new, none a mix. Nothing is updated or checked
/// on the way; `sitefs update` does that. Without options, the newest generation goes live.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs cutover shop.example
  sitefs cutover shop.example --to 13
  sitefs cutover shop.example --platform drupal-10.4
  sitefs cutover shop.example --to shop-test@live")]
pub(super) struct Cutover {
    /// The site
    site: SiteName,
    /// The platform to move to
    #[arg(long)]
    platform: Option<PlatformName>,
    /// The generation, or the state of a site, to switch to
    #[arg(long, value_name = "GENERATION|SITE@ID")]
    to: Option<Target>,
    /// Accept a platform of an older version, whose code may not know the database's schema
    #[arg(long, requires = "platform")]
    allow_downgrade: bool,
}

impl Cutover {
    pub(super) fn run(self, context: &Context) -> Ended {
        let Cutover { site, platform, to, allow_downgrade } = self;
        context.show(Request { site, platform, to, allow_downgrade }, |answer, _| {
            let mut page = Page::default();
            switched(&mut page, answer, &context.store_option());
            page
        })
    }
}

/// What is live now, what was before, and how to go back.
pub(super) fn switched(page: &mut Page, answer: &Switched, store_option: &str) {
    page.line(format!(
        "{} is on generation {} ({}), was on {} ({}); switched in {}",
        answer.site,
        answer.to.generation,
        answer.to.platform,
        answer.from.generation,
        answer.from.platform,
        seconds(answer.switch_seconds),
    ));
    page.note(format!("document root: {}", answer.to.document_root));
    page.note(format!(
        "to undo this: sitefs{store_option} cutover {} --to {}",
        answer.site, answer.from.generation
    ));
}
