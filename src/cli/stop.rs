//! `sitefs stop`.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::context::{Context, Ended, Ending};
use super::format::seconds;
use super::page::Page;
use super::processes::is_running;
use crate::control::Failure;
use crate::control::request::Stop as Request;

/// How often it is looked whether the daemon has ended.
const POLL: Duration = Duration::from_millis(50);

/// How long the daemon may take: as systemd allows a service by default.
const TIME_MAX: Duration = Duration::from_secs(90);

/// Stop the daemon: unmount everything and exit
///
/// Waits until the daemon has ended. The sites are not to be seen until it is started again. A run that is under way is
/// interrupted: `sitefs update SITE --resume` goes on with it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sitefs stop")]
pub(super) struct Stop {}

impl Stop {
    pub(super) fn run(self, context: &Context) -> Ended {
        let answer = context.ask(Request {})?;
        let begun = Instant::now();
        while is_running(answer.pid) {
            if begun.elapsed() >= TIME_MAX {
                return Err(Failure::failed(format!("the daemon (process {}) is still ending", answer.pid))
                    .because_of(format!("it has taken {} so far", seconds(TIME_MAX.as_secs_f64())))
                    .hint("its log tells what it waits for")
                    .into());
            }
            thread::sleep(POLL);
        }
        context.print(&answer, |answer, _| {
            let mut page = Page::default();
            page.line(format!("the daemon (process {}) has ended", answer.pid));
            page
        })?;
        Ok(Ending::Done)
    }
}
