//! `sitefs readonly`.

use clap::{Args, ValueEnum};

use super::context::{Context, Ended};
use super::page::Page;
use crate::base::{SiteName, Span};
use crate::control::request::Readonly as Request;

/// Let a site be read and not written, or end that
///
/// Reads go on. Requests that write are refused with a friendly page, or with --hold wait for `readonly SITE off` and
/// then go through, to what is live by then; who has waited that long is refused. The application is told where its
/// recipe knows how, and the file system refuses what writes to code and database all the same. Uploads directories
/// stay writable for what the application makes of what is read. The web server's configuration must be one that
/// `sitefs vhost` made.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs readonly shop.example on
  sitefs readonly shop.example on --hold 30s
  sitefs readonly shop.example on --divert
  sitefs readonly shop.example off")]
pub(super) struct Readonly {
    /// The site
    site: SiteName,
    /// Whether writes are closed
    #[arg(value_enum, value_name = "on|off", hide_possible_values = true)]
    state: State,
    /// How long a write waits before it is refused [default: it is refused at once]
    #[arg(long, value_name = "SPAN")]
    hold: Option<Span>,
    /// Also tell load balancers that the site is in maintenance, so that they send visitors elsewhere
    #[arg(long)]
    divert: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    On,
    Off,
}

impl Readonly {
    pub(super) fn run(self, context: &Context) -> Ended {
        let Readonly { site, state, hold, divert } = self;
        let request = Request { site, on: state == State::On, hold, divert };
        context.show(request, |answer, _| {
            let mut page = Page::default();
            page.line(match (answer.read_only, answer.hold_seconds) {
                (false, _) => format!("{} takes writes", answer.site),
                (true, None) => format!("{} is read-only: writes are refused", answer.site),
                (true, Some(seconds)) => {
                    format!("{} is read-only: writes wait up to {seconds} s", answer.site)
                }
            });
            if answer.divert {
                page.note("load balancers are told that it is in maintenance");
            }
            page
        })
    }
}
