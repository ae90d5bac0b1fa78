//! What every verb is given.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::Config;
use super::output::{Output, Stop};
use super::page::Page;
use super::progress::Progress;
use crate::base::Timestamp;
use crate::control::{Client, DEFAULT_STORE, Failure, Verb};

/// The environment variable that names the store.
pub(super) const STORE_VARIABLE: &str = "SITEFS_STORE";

/// How a verb ends when it does not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It did what was asked.
    Done,
    /// It found what was asked for to be bad, and has said so.
    BadNews,
}

/// How a verb ends.
pub(super) type Ended = Result<Ending, Stop>;

/// The store, the configuration and the ways out.
pub(super) struct Context {
    /// The store's directory, absolute.
    pub(super) store: PathBuf,
    /// What the configuration file says.
    pub(super) config: Config,
    /// The file it was read from, when it was named.
    pub(super) config_file: Option<PathBuf>,
    /// The ways out.
    pub(super) output: Output,
}

impl Context {
    /// Asks the daemon, and shows progress meanwhile.
    pub(super) fn ask<V: Verb>(&self, request: V) -> Result<V::Answer, Stop> {
        self.ask_for_data(request, |_| Err(io::Error::other("the daemon sent bytes that nobody asked for")))
    }

    /// As [`Context::ask`], for a request whose result has bytes.
    pub(super) fn ask_for_data<V: Verb>(
        &self,
        request: V,
        data: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<V::Answer, Stop> {
        let client = Client::connect(&self.store)?;
        let mut progress = Progress::new(self.output, Box::new(data));
        let answer = client.call(request, &mut progress);
        progress.finish();
        Ok(answer?)
    }

    /// As [`Context::ask`], for a request that takes input.
    pub(super) fn ask_with_input<V: Verb>(
        &self,
        request: V,
        input: Box<dyn Read + Send>,
    ) -> Result<V::Answer, Stop> {
        let client = Client::connect(&self.store)?;
        let nothing = |_: &[u8]| Err(io::Error::other("the daemon sent bytes that nobody asked for"));
        let mut progress = Progress::new(self.output, Box::new(nothing));
        let answer = client.call_with_input(request, Some(input), &mut progress);
        progress.finish();
        Ok(answer?)
    }

    /// Asks the daemon and prints the answer.
    pub(super) fn show<V: Verb>(
        &self,
        request: V,
        page: impl FnOnce(&V::Answer, Timestamp) -> Page,
    ) -> Ended {
        let answer = self.ask(request)?;
        self.print(&answer, page)
    }

    /// Prints a result.
    pub(super) fn print<T: Serialize>(&self, answer: &T, page: impl FnOnce(&T, Timestamp) -> Page) -> Ended {
        self.output.result(answer, |answer| page(answer, Timestamp::now()))?;
        Ok(Ending::Done)
    }

    /// The path as the daemon needs it, whose working directory is another one.
    pub(super) fn absolute(path: &Path) -> Result<PathBuf, Stop> {
        std::path::absolute(path).map_err(|error| {
            Failure::usage(format!("{:?} is no path", path.display().to_string())).because(&error).into()
        })
    }

    /// What a suggested command needs to talk to the same daemon: ` --store DIR`, or nothing when it would anyhow.
    pub(super) fn store_option(&self) -> String {
        let otherwise = std::env::var_os(STORE_VARIABLE).map(PathBuf::from);
        let otherwise =
            otherwise.or_else(|| self.config.store.clone().filter(|_| self.config_file.is_none()));
        if self.store == otherwise.unwrap_or_else(|| PathBuf::from(DEFAULT_STORE)) {
            String::new()
        } else {
            format!(" --store {}", self.store.display())
        }
    }
}
