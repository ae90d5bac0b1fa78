//! `sitefs init`.

use clap::Args;
use serde::Serialize;

use super::context::{Context, Ended};
use super::format::{counted, short_id};
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
///
/// With --rebuild-live, a store whose record of changes (live/live.redb) is damaged or gone gets a new one: sites whose changes
/// are whole are as they were; of the others, what is damaged (a generation, or the data directories) goes back to the newest
/// snapshot that can be read. What is lost is named; the damaged files are set aside.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs init
  sitefs --store /srv/sitefs init
  sitefs init --rebuild-catalog
  sitefs init --rebuild-live")]
pub(super) struct Init {
    /// Make a new catalog for an existing store, from its copy and the snapshots; the daemon must not run
    #[arg(long)]
    rebuild_catalog: bool,
    /// Make a new record of changes for an existing store, from what of it can be read; the daemon must not run
    #[arg(long, conflicts_with = "rebuild_catalog")]
    rebuild_live: bool,
}

/// The document.
#[derive(Serialize)]
struct Created {
    store: String,
}

/// The document with `--rebuild-live`.
#[derive(Serialize)]
struct RebuiltLive {
    store: String,
    lost: Vec<Lost>,
    kept: u64,
    set_aside: Vec<String>,
}

/// What has gone back to a snapshot.
#[derive(Serialize)]
struct Lost {
    site: String,
    generation: Option<u64>,
    snapshot: Option<String>,
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
        if self.rebuild_live {
            return rebuild_live(context);
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

fn rebuild_live(context: &Context) -> Ended {
    let rebuilt = daemon::rebuild_overlays(&context.store)?;
    let lost = |lost: &daemon::LostChanges| Lost {
        site: lost.site.to_string(),
        generation: lost.generation,
        snapshot: lost.snapshot.map(|id| id.to_string()),
    };
    let document = RebuiltLive {
        store: context.store.display().to_string(),
        lost: rebuilt.lost.iter().map(lost).collect(),
        kept: rebuilt.kept,
        set_aside: rebuilt.aside.iter().map(|path| path.display().to_string()).collect(),
    };
    context.print(&document, |rebuilt, _| {
        let mut page = Page::default();
        for lost in &rebuilt.lost {
            let what =
                lost.generation.map_or_else(|| "data".to_owned(), |number| format!("generation {number}"));
            let state = match &lost.snapshot {
                Some(id) => format!("as in {}@{}", lost.site, short_id(id)),
                None => "as when it was made".to_owned(),
            };
            page.line(format!("CHANGES ARE LOST: {}, {what}: {state}", lost.site));
        }
        for path in &rebuilt.set_aside {
            page.line(format!("set aside: {path}"));
        }
        let kept = counted(rebuilt.kept, "live directory is", "live directories are");
        page.line(format!("{kept} as they were"));
        page.note(format!("next: sitefs{} serve", context.store_option()));
        page
    })
}
