//! `sitefs send`.

use std::io::{self, IsTerminal};

use clap::Args;

use super::context::{Context, Ended};
use super::format::{counted, seconds, short_id, size};
use super::page::Page;
use crate::control::request::Send as Request;
use crate::control::{Failure, Revision};

/// Write a snapshot to standard output, for `sitefs receive` on another machine
///
/// With --base, what a snapshot of the same site has that the other store has too is left out. The stream is compressed
/// and checks itself. One that broke off is continued with --skip, as `sitefs receive` then says.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs send shop.example@release-7 | ssh backup sitefs receive
  sitefs send shop.example@latest --base shop.example@release-7 | ssh backup sitefs receive")]
pub(super) struct Send {
    /// The snapshot
    #[arg(value_name = "SITE@ID", value_parser = Revision::parse_snapshot)]
    snapshot: Revision,
    /// A snapshot of the same site that the other store has
    #[arg(long, value_name = "SITE@ID", value_parser = Revision::parse_snapshot)]
    base: Option<Revision>,
    /// Leave out so many objects, which have arrived
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
}

impl Send {
    pub(super) fn run(self, context: &Context) -> Ended {
        if self.base.as_ref().is_some_and(|base| base.site != self.snapshot.site) {
            return Err(Failure::usage("the base is a snapshot of another site").into());
        }
        if context.output.json {
            return Err(Failure::usage(
                "with --json, standard output is for the document, and the stream needs it",
            )
            .hint("leave out --json: what was sent is said on standard error")
            .into());
        }
        if io::stdout().is_terminal() {
            return Err(Failure::usage("a snapshot is not written to a terminal")
                .hint("pipe it: sitefs send SITE@ID | ssh HOST sitefs receive")
                .into());
        }
        let request = Request { snapshot: self.snapshot, base: self.base, skip: self.skip };
        let sent = context.ask_for_data(request, |bytes| context.output.bytes(bytes))?;
        context.print(&sent, |sent, _| {
            let mut page = Page::default();
            page.note(format!(
                "sent {}@{}: {}, {} in {}",
                sent.site,
                short_id(&sent.snapshot),
                counted(sent.objects, "object", "objects"),
                size(sent.stream_bytes),
                seconds(sent.seconds),
            ));
            page
        })
    }
}
