//! `sitefs database`.

mod clone;
mod dump;
mod restore;
mod verify;

use clap::Subcommand;

use super::context::{Context, Ended};
use super::format::{count, short_id};
use super::page::Table;
use crate::control::response::TableInfo;

/// What can be done with databases.
#[derive(Debug, Subcommand)]
pub(super) enum Database {
    Dump(dump::Dump),
    Restore(restore::Restore),
    Clone(clone::Clone),
    Verify(verify::Verify),
}

impl Database {
    pub(super) fn run(self, context: &Context) -> Ended {
        match self {
            Database::Dump(verb) => verb.run(context),
            Database::Restore(verb) => verb.run(context),
            Database::Clone(verb) => verb.run(context),
            Database::Verify(verb) => verb.run(context),
        }
    }
}

/// Tables with rows and the start of their checksums.
pub(super) fn tables(tables: &[TableInfo]) -> Table {
    let mut shown = Table::new(["TABLE", ">ROWS", "CHECKSUM"]);
    for table in tables {
        shown.row([table.table.clone(), count(table.rows), short_id(&table.checksum).to_owned()]);
    }
    shown
}
