//! `sitefs init`.

use clap::Args;
use serde::Serialize;

use super::context::{Context, Ended};
use super::format::counted;
use super::page::Page;
use crate::daemon;

/// Create a store
///
/// The store's directory must not exist yet, or be empty. It is best on a file system of its own, with room for what
/// the sites' content takes compressed, and for what changes.
///
/// With --rebuild-catalog, a store whose catalog is damaged or gone gets a new one from the catalog's copy, as the daemon makes
/// one itself when it starts. Where the copy is damaged too, what is left of tags and platforms is kept, and all snapshots
/// that can be read are listed again, also those that were removed and not yet reclaimed. Sites have to be made again from
/// them, then. What was changed since is set aside.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs init
  sitefs --store /srv/sitefs init
  sitefs init --rebuild-catalog")]
pub(super) struct Init {
    /// Make a new catalog for an existing store, from its copy and the snapshots; the daemon must not run
    #[arg(long)]
    rebuild_catalog: bool,
}

/// The document.
#[derive(Serialize)]
struct Created {
    store: String,
}

/// The document with `--rebuild-catalog`.
#[derive(Serialize)]
struct Rebuilt {
    store: String,
    sites: u64,
    snapshots: u64,
    damaged: u64,
    set_aside: Vec<String>,
}

impl Init {
    pub(super) fn run(self, context: &Context) -> Ended {
        if self.rebuild_catalog {
            return rebuild(context);
        }
        daemon::init_store(&context.store)?;
        context.print(&Created { store: context.store.display().to_string() }, |created, _| {
            let mut page = Page::default();
            page.line(format!("created the store {}", created.store));
            page.note(format!("next: sitefs{} serve", context.store_option()));
            page
        })
    }
}

fn rebuild(context: &Context) -> Ended {
    let rebuilt = daemon::rebuild_catalog(&context.store)?;
    let document = Rebuilt {
        store: context.store.display().to_string(),
        sites: rebuilt.sites,
        snapshots: rebuilt.snapshots,
        damaged: rebuilt.damaged,
        set_aside: rebuilt.aside.iter().map(|path| path.display().to_string()).collect(),
    };
    context.print(&document, |rebuilt, _| {
        let mut page = Page::default();
        let snapshots = counted(rebuilt.snapshots, "snapshot", "snapshots");
        let sites = counted(rebuilt.sites, "site", "sites");
        page.line(format!("made a new catalog with {sites} and {snapshots} for the store {}", rebuilt.store));
        if rebuilt.damaged > 0 {
            page.line(format!("{} CANNOT BE READ", counted(rebuilt.damaged, "record", "records")));
        }
        for path in &rebuilt.set_aside {
            page.line(format!("set aside: {path}"));
        }
        page.note(format!("next: sitefs{} serve", context.store_option()));
        page
    })
}
