//! `sitefs receive`.

use std::io::{self, IsTerminal};

use clap::Args;

use super::context::{Context, Ended};
use super::format::{counted, seconds, short_id, size};
use super::page::Page;
use crate::base::{PlatformName, SiteName, TagName};
use crate::control::Failure;
use crate::control::request::{Receive as Request, ReceiveSite};

/// Take a snapshot that `sitefs send` wrote, from standard input
///
/// It is visible once all of it has come and been checked. Of a stream that breaks off nothing is visible; how it is
/// continued is then said.
///
/// With --site, a site is made from it: its files, uploads and database as they were, on a platform of this machine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ssh web sitefs send shop.example@release-7 | sitefs receive --tag release-7
  ssh web sitefs send shop.example@latest | sitefs receive --site shop.example --platform drupal-10.3")]
pub(super) struct Receive {
    /// A name for it here, which it keeps for ever
    #[arg(short, long)]
    tag: Option<TagName>,
    /// Make a site of this name from it
    #[arg(long, value_name = "NAME", requires = "platform")]
    site: Option<SiteName>,
    /// The platform the site is to stand on
    #[arg(long, requires = "site")]
    platform: Option<PlatformName>,
    /// The recipe of its application [default: the one that recognises the platform]
    #[arg(long, value_name = "RECIPE", requires = "site")]
    app: Option<String>,
    /// For a snapshot with a dump: a database on the server where the site is to have its own, which is made like it
    #[arg(long, value_name = "URL", requires = "site")]
    database: Option<String>,
}

impl Receive {
    pub(super) fn run(self, context: &Context) -> Ended {
        if io::stdin().is_terminal() {
            return Err(Failure::usage("there is no stream on standard input: it is the terminal")
                .hint("pipe one into the command: ssh HOST sitefs send SITE@ID | sitefs receive")
                .into());
        }
        let Receive { tag, site, platform, app, database } = self;
        let site = site.zip(platform).map(|(name, platform)| ReceiveSite { name, platform, app, database });
        let received = context.ask_with_input(Request { tag, site }, Box::new(io::stdin()))?;
        context.print(&received, |received, _| {
            let mut page = Page::default();
            let snapshot = &received.snapshot;
            page.line(format!("{}@{}", snapshot.site, short_id(&snapshot.id)));
            if let Some(site) = &received.site {
                page.line(format!(
                    "made the site {} on {}: {}",
                    site.site, site.platform, site.document_root
                ));
            }
            page.note(format!(
                "received {}, {} in {}; it holds {}, {}",
                counted(received.objects, "object", "objects"),
                size(received.stream_bytes),
                seconds(received.seconds),
                counted(snapshot.nodes, "file", "files"),
                size(snapshot.size_bytes),
            ));
            page
        })
    }
}
