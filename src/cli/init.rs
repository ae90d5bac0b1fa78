//! `sitefs init`.

use clap::Args;
use serde::Serialize;

use super::context::{Context, Ended};
use super::page::Page;
use crate::daemon;

/// Create a store
///
/// The store's directory must not exist yet, or be empty. It is best on a file system of its own, with room for what
/// the sites' content takes compressed, and for what changes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs init
  sitefs --store /srv/sitefs init")]
pub(super) struct Init {}

/// The document.
#[derive(Serialize)]
struct Created {
    store: String,
}

impl Init {
    pub(super) fn run(self, context: &Context) -> Ended {
        daemon::init_store(&context.store)?;
        context.print(&Created { store: context.store.display().to_string() }, |created, _| {
            let mut page = Page::default();
            page.line(format!("created the store {}", created.store));
            page.note(format!("next: sitefs{} serve", context.store_option()));
            page
        })
    }
}
