//! `sitefs receive`.

use std::io::{self, IsTerminal};

use clap::Args;

use super::context::{Context, Ended};
use super::format::{counted, seconds, short_id, size};
use super::page::Page;
use crate::base::TagName;
use crate::control::Failure;
use crate::control::request::Receive as Request;

/// Take a snapshot that `sitefs send` wrote, from standard input
///
/// It is visible once all of it has come and been checked. Of a stream that breaks off nothing is visible; how it is
/// continued is then said.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  ssh web sitefs send shop.example@release-7 | sitefs receive --tag release-7")]
pub(super) struct Receive {
    /// A name for it here, which it keeps for ever
    #[arg(short, long)]
    tag: Option<TagName>,
}

impl Receive {
    pub(super) fn run(self, context: &Context) -> Ended {
        if io::stdin().is_terminal() {
            return Err(Failure::usage("there is no stream on standard input: it is the terminal")
                .hint("pipe one into the command: ssh HOST sitefs send SITE@ID | sitefs receive")
                .into());
        }
        let received = context.ask_with_input(Request { tag: self.tag }, Box::new(io::stdin()))?;
        context.print(&received, |received, _| {
            let mut page = Page::default();
            let snapshot = &received.snapshot;
            page.line(format!("{}@{}", snapshot.site, short_id(&snapshot.id)));
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
