//! The daemon's log: lines on standard error, where systemd or a file takes them.

use log::{LevelFilter, Log, Metadata, Record};

use super::format::printable;
use super::output::{Loudness, say};
use crate::base::Timestamp;

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Other crates' chatter is of no use to an administrator; what they warn of is.
        if record.target().starts_with("sitefs") || record.level() <= log::Level::Warn {
            let level = record.level().as_str().to_ascii_lowercase();
            say(format_args!("{} {level:5} {}", Timestamp::now(), printable(&record.args().to_string())));
        }
    }

    fn flush(&self) {}
}

/// Starts logging. A second call changes nothing.
pub(super) fn start(loudness: Loudness) {
    log::set_max_level(match loudness {
        Loudness::Quiet => LevelFilter::Warn,
        Loudness::Normal => LevelFilter::Info,
        Loudness::Verbose => LevelFilter::Debug,
    });
    // An error means that there is a logger already.
    let _ = log::set_logger(&Logger);
}
