//! `sitefs verify`.

use clap::Args;

use super::context::{Context, Ended, Ending};
use super::diff::word;
use super::format::{counted, seconds, short_id, time};
use super::page::Page;
use crate::base::{SiteName, TagName, Timestamp};
use crate::control::request::{SiteVerify, Verify as Request};
use crate::control::response::{CodeChange, SiteVerification, Verification};
use crate::control::{At, Revision};

/// Find damage in all that is stored, or what was changed in a site's code
///
/// Damage is named, and what it affects: every object is read and compared with its name, every snapshot and every live
/// directory is gone through. Sites are served meanwhile. The exit code is 1 when something is wrong, or was and could
/// not be put right.
///
/// With a site, its code is compared with that of one of its snapshots, and its data directories are searched for files
/// that appeared or changed since, and that a web server would execute: names that PHP has, contents that begin as PHP does,
/// .htaccess and .user.ini. The exit code is 1 when anything is found.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs verify
  sitefs verify --repair
  sitefs verify shop.example --against release-7")]
pub(super) struct Verify {
    /// A site whose code is compared; without one, all that is stored is read
    #[arg(requires = "against")]
    site: Option<SiteName>,
    /// The snapshot it is compared with: a tag or the start of an id
    #[arg(long, value_name = "TAG", requires = "site", conflicts_with = "repair")]
    against: Option<TagName>,
    /// Put right what can be: damaged objects are restored from any other copy, the index from the packs. What is lost is
    /// forgotten, so that the same content can be stored again; so are records of the catalog that cannot be read
    #[arg(long)]
    repair: bool,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Ended {
        if let (Some(site), Some(name)) = (self.site, self.against) {
            let answer = context.ask(SiteVerify { against: Revision { site, at: At::Named(name) } })?;
            context.print(&answer, site_page)?;
            return Ok(if answer.is_clean() { Ending::Done } else { Ending::BadNews });
        }
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
        if repair.records_forgotten > 0 {
            page.line(format!("{} forgotten", counted(repair.records_forgotten, "record", "records")));
        }
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

fn site_page(answer: &SiteVerification, now: Timestamp) -> Page {
    let mut page = Page::default();
    let against = short_id(&answer.against);
    if answer.is_clean() {
        page.line(format!(
            "{}: the code is that of {against}; nothing executable is new in its data",
            answer.site
        ));
        return page;
    }
    if answer.code_count > 0 {
        page.line(format!("{}: THE CODE IS NOT THAT OF {against}", answer.site));
        code_changes(&mut page, &answer.code, answer.code_count, now);
    }
    if answer.executables_count > 0 {
        page.line(format!("{}: EXECUTABLE FILES APPEARED IN ITS DATA SINCE {against}", answer.site));
        code_changes(&mut page, &answer.executables, answer.executables_count, now);
    }
    page
}

/// One line for each file: how it differs, its name, and who may have done it when.
pub(super) fn code_changes(page: &mut Page, changes: &[CodeChange], count: u64, now: Timestamp) {
    for change in changes {
        let mut facts = Vec::new();
        if let Some(uid) = change.uid {
            let name = change.owner.as_ref().map_or_else(|| format!("user {uid}"), Clone::clone);
            facts.push(format!("owned by {name}"));
        }
        facts.extend(change.modified.map(|modified| format!("modified {}", time(modified, now))));
        let moved = |changed| Some(changed) != change.modified;
        let changed = change.changed.filter(|changed| moved(*changed));
        facts.extend(changed.map(|changed| format!("changed {}", time(changed, now))));
        facts.extend(change.last_as_it_was.as_ref().map(|id| format!("after {}", short_id(id))));
        facts.extend(change.first_as_it_is.as_ref().map(|id| format!("before {}", short_id(id))));
        page.line(format!("{:10}  {}", word(change.change), change.path).trim_end());
        if !facts.is_empty() {
            page.line(format!("            {}", facts.join(", ")));
        }
    }
    let more = count.saturating_sub(changes.len() as u64);
    if more > 0 {
        page.line(format!("and {}", counted(more, "more file", "more files")));
    }
}
