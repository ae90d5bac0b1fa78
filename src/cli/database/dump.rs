//! `sitefs database dump`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;

use crate::base::files::{self, At};
use crate::cli::context::{Context, Ended};
use crate::cli::format::{counted, seconds, size};
use crate::cli::output::Stop;
use crate::cli::page::Page;
use crate::control::request::DatabaseDump;
use crate::control::{Failure, Revision};

/// Write a dump of a site's database, as one consistent state, without locking the site
///
/// Goes to standard output, or to a file that must not exist yet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs database dump shop.example | gzip > shop.sql.gz
  sitefs database dump shop.example@release-7 --output shop.sql")]
pub(in crate::cli) struct Dump {
    /// The site, or a snapshot of it
    #[arg(value_name = "SITE[@ID]")]
    of: Revision,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Dump {
    pub(super) fn run(self, context: &Context) -> Ended {
        let request = DatabaseDump { of: self.of };
        let answer = match self.output {
            None if context.output.json => {
                return Err(Failure::usage("with --json, standard output is for the document")
                    .hint("name a file for the dump: --output FILE")
                    .into());
            }
            None if io::stdout().is_terminal() => {
                return Err(Failure::usage("a dump is not written to a terminal")
                    .hint("name a file with --output FILE, or pipe it somewhere")
                    .into());
            }
            None => context.ask_for_data(request, |bytes| context.output.bytes(bytes))?,
            Some(path) => {
                let failed = |error: files::FileError| {
                    Stop::from(Failure::failed("cannot write the dump").because(&error))
                };
                let mut file = files::create_new(&path).map_err(failed)?;
                let answer = context.ask_for_data(request, |bytes| file.write_all(bytes));
                match answer {
                    Ok(answer) => {
                        file.sync_all().at("sync", &path).map_err(failed)?;
                        answer
                    }
                    Err(stop) => {
                        // Half a dump is worse than none.
                        files::remove_file(&path).map_err(failed)?;
                        return Err(stop);
                    }
                }
            }
        };
        context.print(&answer, |answer, _| {
            let mut page = Page::default();
            page.note(format!(
                "dumped {} ({}): {}, {}, {} in {}",
                answer.of,
                answer.engine,
                counted(answer.tables, "table", "tables"),
                counted(answer.rows, "row", "rows"),
                size(answer.size_bytes),
                seconds(answer.seconds),
            ));
            page
        })
    }
}
