//! `sitefs database restore`.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::base::{SiteName, files};
use crate::cli::context::{Context, Ended};
use crate::cli::format::{counted, seconds, short_id};
use crate::cli::output::Stop;
use crate::cli::page::Page;
use crate::control::request::{DatabaseRestore, DatabaseSource};
use crate::control::{Failure, Revision};

/// Replace a site's database by that of a snapshot, or by a dump
///
/// A snapshot of the site is taken first, and the database is that of a new generation: visitors see all of it or
/// nothing, no write falls between the two, and `sitefs rollback SITE` undoes it.
#[derive(Debug, Args)]
#[command(
    override_usage = "sitefs database restore [OPTIONS] <SITE> <FILE>\n       sitefs database restore [OPTIONS] <SITE> --from <SITE@ID>"
)]
#[command(after_help = "Examples:
  sitefs database restore shop.example --from shop.example@release-7
  sitefs database restore shop.example shop.sql
  zcat shop.sql.gz | sitefs database restore shop.example -")]
pub(in crate::cli) struct Restore {
    /// The site
    site: SiteName,
    /// The file with the dump, or '-' for standard input
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    file: Option<PathBuf>,
    /// The snapshot with the database
    #[arg(long, value_name = "SITE@ID", value_parser = Revision::parse_snapshot)]
    from: Option<Revision>,
}

impl Restore {
    pub(super) fn run(self, context: &Context) -> Ended {
        let Restore { site, file, from } = self;
        let answer = match (from, file) {
            (Some(from), _) => context.ask(DatabaseRestore { site, from: DatabaseSource::Snapshot(from) })?,
            (None, file) => {
                let input = open(file.as_deref().unwrap_or(Path::new("-")))?;
                context.ask_with_input(DatabaseRestore { site, from: DatabaseSource::Input }, input)?
            }
        };
        context.print(&answer, |answer, _| {
            let mut page = Page::default();
            let from = if answer.from == "dump" { "the dump" } else { &answer.from };
            page.line(format!(
                "the database of {} is that of {from} now: {}, {}, in {}",
                answer.site,
                counted(answer.tables, "table", "tables"),
                counted(answer.rows, "row", "rows"),
                seconds(answer.seconds),
            ));
            page.note(format!(
                "the site as it was before is {}@{}; to undo this: sitefs{} rollback {}",
                answer.site,
                short_id(&answer.safety_snapshot),
                context.store_option(),
                answer.site
            ));
            page
        })
    }
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, Stop> {
    if path == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(Failure::usage("there is no dump on standard input: it is the terminal")
                .hint("pipe a dump into the command, or name a file")
                .into());
        }
        return Ok(Box::new(io::stdin()));
    }
    let file =
        files::open_input(path).map_err(|error| Failure::usage("cannot read the dump").because(&error))?;
    Ok(Box::new(file))
}
