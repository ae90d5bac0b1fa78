//! `sitefs gc`.

use clap::Args;

use super::context::{Context, Ended};
use super::format::{counted, seconds, size};
use super::page::Page;
use crate::control::request::Gc as Request;

/// Reclaim the space of what nobody refers to any more
///
/// What pruned snapshots, removed sites and interrupted commands left behind is removed, and packs of which a quarter or
/// more is unused are written anew. Sites and commands go on meanwhile; it begins between two commands. The disk needs
/// room for one pack (256 MiB) at most.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sitefs prune shop.example --keep-daily 7 && sitefs gc")]
pub(super) struct Gc {}

impl Gc {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(Request {}, |collected, _| {
            let mut page = Page::default();
            page.line(format!(
                "freed {}: {} that nobody referred to ({}), {} removed",
                size(collected.freed_bytes),
                counted(collected.objects_removed, "object", "objects"),
                size(collected.garbage_bytes),
                counted(collected.packs_removed, "pack", "packs"),
            ));
            page.note(format!(
                "the store holds {} in {}; {}",
                size(collected.stored_bytes),
                counted(collected.objects, "object", "objects"),
                seconds(collected.seconds),
            ));
            page
        })
    }
}
