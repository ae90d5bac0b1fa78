//! `sitefs verify`.

use clap::Args;

use super::context::{Context, Ended, Ending};
use super::format::{counted, seconds};
use super::page::Page;
use crate::control::request::Verify as Request;
use crate::control::response::Verification;

/// Read everything that is stored, and name what damage there is and what it affects
///
/// Every object is read and compared with its name, every snapshot and every live directory is gone through. Sites are
/// served meanwhile. The exit code is 1 when something is wrong, or was and could not be put right.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs verify
  sitefs verify --repair")]
pub(super) struct Verify {
    /// Put right what can be: damaged objects are restored from any other copy, the index from the packs. What is lost is
    /// forgotten, so that the same content can be stored again
    #[arg(long)]
    repair: bool,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Ended {
        let answer = context.ask(Request { repair: self.repair })?;
        let store_option = context.store_option();
        context.print(&answer, |answer, _| page(answer, &store_option))?;
        Ok(if answer.is_sound() { Ending::Done } else { Ending::BadNews })
    }
}

fn page(answer: &Verification, store_option: &str) -> Page {
    let mut page = Page::default();
    for damage in &answer.damages {
        page.line(damage);
    }
    let more = answer.damages_count.saturating_sub(answer.damages.len() as u64);
    if more > 0 {
        page.line(format!("and {}", counted(more, "more damage", "more damages")));
    }
    if let Some(repair) = &answer.repair {
        page.line(format!(
            "repair: {} restored, {} lost",
            counted(repair.restored, "object", "objects"),
            counted(repair.lost, "object", "objects")
        ));
    }
    for affected in &answer.affected {
        let site = affected.site.as_ref().map_or_else(|| "the store".to_owned(), ToString::to_string);
        let path = if affected.path.is_empty() { String::new() } else { format!(": {}", affected.path) };
        page.line(format!("CANNOT BE READ: {site}, {}{path}: {}", affected.state, affected.reason));
    }
    let more = answer.affected_count.saturating_sub(answer.affected.len() as u64);
    if more > 0 {
        page.line(format!("and {}", counted(more, "more path", "more paths")));
    }
    let verdict = match (answer.damages_count, answer.is_sound()) {
        (0, true) => "the store is sound",
        (_, true) => "the damage is repaired",
        _ => "THE STORE IS DAMAGED",
    };
    page.line(format!(
        "{verdict}: {}, {} and {} gone through in {}",
        counted(answer.objects, "object", "objects"),
        counted(answer.snapshots, "snapshot", "snapshots"),
        counted(answer.volumes, "live directory", "live directories"),
        seconds(answer.seconds),
    ));
    if answer.repair.is_none() && !answer.is_sound() {
        page.note(format!("put right what can be: sitefs{store_option} verify --repair"));
    }
    page
}
