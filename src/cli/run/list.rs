//! `sitefs run list`.

use clap::Args;

use crate::base::SiteName;
use crate::cli::context::{Context, Ended};
use crate::cli::format::counted;
use crate::cli::page::Page;
use crate::cli::status;
use crate::control::request::RunList;

/// List the updates there were, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs run list
  sitefs run list shop.example -n 5")]
pub(in crate::cli) struct List {
    /// Those of this site alone
    site: Option<SiteName>,
    /// Only this many of the newest
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

impl List {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(RunList { site: self.site, limit: self.limit }, |found, now| {
            let mut page = Page::default();
            match found.runs.first() {
                None => page.note("there was no update yet"),
                Some(first) => {
                    page.table(status::runs(&found.runs, now));
                    page.note(format!(
                        "the steps of one: sitefs{} run show {} {}",
                        context.store_option(),
                        first.site,
                        first.run
                    ));
                }
            }
            if found.left_out > 0 {
                page.note(format!("{} not shown: -n", counted(found.left_out, "older run", "older runs")));
            }
            page
        })
    }
}
