//! What a person sees while the daemon works.

use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::format::{counted, printable, seconds, size};
use super::output::{Loudness, Output, say};
use crate::control::{Event, Receiver, StepState, Unit};

/// How often a bar moves by itself.
const TICK: Duration = Duration::from_millis(120);

/// Where the bytes of a result go.
pub(super) type DataTarget<'a> = Box<dyn FnMut(&[u8]) -> io::Result<()> + 'a>;

/// Shows events on standard error, as bars on a terminal and as lines elsewhere, and passes data on.
pub(super) struct Progress<'a> {
    output: Output,
    data: DataTarget<'a>,
    work: Option<Work>,
    bar: Option<ProgressBar>,
}

/// A piece of work whose progress was told last.
struct Work {
    what: String,
    done: u64,
    unit: Unit,
}

impl<'a> Progress<'a> {
    pub(super) fn new(output: Output, data: DataTarget<'a>) -> Progress<'a> {
        Progress { output, data, work: None, bar: None }
    }

    /// The last words on the piece of work told of last; also takes its bar away.
    pub(super) fn finish(&mut self) {
        self.clear_bar();
        if let Some(work) = self.work.take() {
            self.line(&format!("{}: {}", work.what, amount(work.done, work.unit)));
        }
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Says a line above the bar, if there is one.
    fn line(&self, line: &str) {
        if !self.output.says_notes() {
            return;
        }
        let line = printable(line);
        match &self.bar {
            Some(bar) => bar.suspend(|| say(format_args!("{line}"))),
            None => say(format_args!("{line}")),
        }
    }

    fn show_bar(&mut self, style: &str, total: Option<u64>, message: String) {
        if !self.output.draws() {
            return;
        }
        self.clear_bar();
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_style(ProgressStyle::with_template(style).expect("the templates of this file are valid"));
        bar.set_message(printable(&message));
        bar.enable_steady_tick(TICK);
        self.bar = Some(bar);
    }

    fn progress(&mut self, what: String, done: u64, total: Option<u64>, unit: Unit) {
        if self.work.as_ref().is_none_or(|work| work.what != what) {
            self.finish();
            let counter = match unit {
                Unit::Bytes => "{binary_bytes}",
                Unit::Files | Unit::Tables | Unit::Objects | Unit::Snapshots => "{human_pos}",
            };
            let total_counter = match unit {
                Unit::Bytes => "{binary_total_bytes}",
                Unit::Files | Unit::Tables | Unit::Objects | Unit::Snapshots => "{human_len}",
            };
            let style = match total {
                Some(_) => format!("{{msg}} [{{bar:30}}] {counter} of {total_counter}, {{elapsed}}"),
                None => format!("{{spinner}} {{msg}}: {counter}, {{elapsed}}"),
            };
            if !self.output.draws() {
                self.line(&format!("{what} ..."));
            }
            self.show_bar(&style, total, what.clone());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        self.work = Some(Work { what, done, unit });
    }

    fn step(&mut self, number: u32, count: u32, name: &str, state: StepState) {
        let width = count.to_string().len();
        let title = format!("[{number:width$}/{count}] {name}");
        let end = match state {
            StepState::Started => {
                self.finish();
                if !self.output.draws() {
                    self.line(&title);
                }
                return self.show_bar("{spinner} {msg}  {elapsed}", None, title);
            }
            StepState::Done { seconds: length } => seconds(length),
            StepState::Failed { seconds: length } => format!("FAILED after {}", seconds(length)),
            StepState::Undone { seconds: length } => format!("taken back in {}", seconds(length)),
            StepState::Skipped => "not needed".to_owned(),
        };
        self.finish();
        self.line(&format!("{title}: {end}"));
    }
}

impl Receiver for Progress<'_> {
    fn event(&mut self, event: Event) {
        match event {
            Event::Progress { what, done, total, unit } => self.progress(what, done, total, unit),
            Event::Step { number, count, name, state } => self.step(number, count, &name, state),
            Event::Output { line } => {
                if self.output.loudness >= Loudness::Verbose {
                    self.line(&format!("  | {line}"));
                }
            }
            Event::Warning { text } => match &self.bar {
                Some(bar) => bar.suspend(|| self.output.warning(&text)),
                None => self.output.warning(&text),
            },
        }
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.finish();
        (self.data)(bytes)
    }
}

/// `23,257 files`, `281.0 MiB`.
fn amount(number: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => size(number),
        Unit::Files => counted(number, "file", "files"),
        Unit::Tables => counted(number, "table", "tables"),
        Unit::Objects => counted(number, "object", "objects"),
        Unit::Snapshots => counted(number, "snapshot", "snapshots"),
    }
}
