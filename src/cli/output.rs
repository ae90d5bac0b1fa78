//! The only place that prints. Results go to standard output, everything else to standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::format::printable;
use super::page::Page;
use crate::control::{ClientError, Failure};

/// Why a verb ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed.
    Failure(Failure),
    /// Its result could not be written.
    Output(io::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Stop {
        match error {
            // A closed pipe is not the failure that an answer of the daemon is.
            ClientError::Output(error) => Stop::Output(error),
            other => Stop::Failure(other.into()),
        }
    }
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loudness {
    /// Warnings and errors.
    Quiet,
    /// Also notes and progress.
    Normal,
    /// Also what the application's commands write.
    Verbose,
}

/// The ways out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// Whether the result is one JSON document.
    pub(super) json: bool,
    /// How much is said beside it.
    pub(super) loudness: Loudness,
    /// Whether standard error may have colours.
    colours: bool,
}

impl Output {
    pub(super) fn new(json: bool, loudness: Loudness) -> Output {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Output { json, loudness, colours: !plain && io::stderr().is_terminal() }
    }

    /// Whether progress may be drawn: a person looks on.
    pub(super) fn draws(self) -> bool {
        self.says_notes() && io::stderr().is_terminal()
    }

    /// Whether notes and progress are said at all.
    pub(super) fn says_notes(self) -> bool {
        !self.json && self.loudness >= Loudness::Normal
    }

    /// Prints a result: as the document, or as the page made of it.
    pub(super) fn result<T: Serialize>(
        self,
        document: &T,
        page: impl FnOnce(&T) -> Page,
    ) -> Result<(), Stop> {
        if self.json {
            return self.document(document);
        }
        let page = page(document);
        self.bytes(page.text.as_bytes()).map_err(Stop::Output)?;
        for note in page.notes {
            self.note(note);
        }
        Ok(())
    }

    fn document<T: Serialize>(self, document: &T) -> Result<(), Stop> {
        let mut json = serde_json::to_vec_pretty(document)
            .map_err(|error| Failure::failed("the result cannot be written as JSON").because(&error))?;
        json.push(b'\n');
        self.bytes(&json).map_err(Stop::Output)
    }

    /// Writes bytes of a result as they are.
    pub(super) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Says something that is good to know.
    pub(super) fn note(self, note: impl fmt::Display) {
        if self.says_notes() {
            say(format_args!("{}", printable(&note.to_string())));
        }
    }

    /// Says something that should be known.
    pub(super) fn warning(self, warning: &str) {
        // As causes of failures: what commands print has many lines.
        let mut lines = warning.lines();
        say(format_args!(
            "{} {}",
            self.paint("33;1", "warning:"),
            printable(lines.next().unwrap_or_default())
        ));
        lines.for_each(|line| say(format_args!("         {}", printable(line))));
    }

    /// Prints why it failed, and what to do next.
    pub(super) fn failure(self, failure: &Failure) {
        if self.json {
            #[derive(Serialize)]
            struct Document<'a> {
                error: Error<'a>,
            }
            #[derive(Serialize)]
            struct Error<'a> {
                #[serde(flatten)]
                failure: &'a Failure,
                exit_code: u8,
            }
            let error = Error { failure, exit_code: failure.kind.exit_code() };
            // The exit code tells what a closed standard output cannot.
            let _ = self.document(&Document { error });
            return;
        }
        say(format_args!("{} {}", self.paint("31;1", "error:"), printable(&failure.message)));
        for cause in &failure.causes {
            for (place, line) in cause.lines().enumerate() {
                let lead = if place == 0 { "caused by:" } else { "          " };
                say(format_args!("  {lead} {}", printable(line)));
            }
        }
        if let Some(hint) = &failure.hint {
            say(format_args!("  {} {}", self.paint("36", "hint:"), printable(hint)));
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Writes a line to standard error. When that is closed there is nobody left to tell.
pub(super) fn say(line: fmt::Arguments<'_>) {
    let mut text = line.to_string();
    text.push('\n');
    // One write, so that lines of several threads do not mix.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
