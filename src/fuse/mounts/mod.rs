//! Mounts beside a session's own: views bound into platforms, second lanes, and what a killed daemon left.
//!
//! A killed daemon leaves its mount and every bind mount of it in place, dead: whoever looks there gets an error,
//! never the directory below. A new daemon takes them away ([`Mounts::take_over`]) before it mounts its own.
//!
//! Propagation: mounts are made with the propagation of the place they are made in. On a host run by systemd that is
//! shared, so services with a mount namespace of their own see them, too; a daemon that is itself given such a
//! namespace (`PrivateMounts=`, `ProtectSystem=` and the like) shows its mounts to nobody else.

mod table;
mod users;
mod view;
pub mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use self::worker::{Answer, Request};
use crate::base::process::{self, Command, ProcessError};
use crate::base::{FileError, files};

pub use table::{MountEntry, list};
pub use users::{MountUser, users};
pub use view::PlatformView;

/// How long a mount call may take: it waits for nothing but lookups in the own file system.
const TIME_MAX: Duration = Duration::from_secs(30);

/// How long a file system of sitefs has to answer before it is taken for one that is served, though badly.
const PROBE_TIME_MAX: Duration = Duration::from_secs(5);

/// Why mounts are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// A file or directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The child process that mounts could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It could not do what it was asked for.
    #[error("{0}")]
    Refused(String),
    /// Another daemon serves there.
    #[error("{} is served by another sitefs daemon: stop that one first", path.display())]
    Served {
        /// Where it is mounted.
        path: PathBuf,
    },
    /// A view is there already.
    #[error("{} shows a sitefs view already", path.display())]
    Covered {
        /// The directory.
        path: PathBuf,
    },
}

/// The means of mounting: a child process and a staging directory.
pub struct Mounts {
    program: PathBuf,
    /// One at a time uses it.
    staging: Mutex<PathBuf>,
}

impl Mounts {
    /// By this program's own file. `staging` is a directory (made when missing) outside every mount of sitefs, used
    /// by one daemon alone.
    pub fn new(staging: &Path) -> Result<Mounts, MountsError> {
        let program = process::current_program().map_err(|source| FileError {
            action: "find",
            path: "/proc/self/exe".into(),
            source,
        })?;
        Mounts::with_program(program, staging)
    }

    /// By the `sitefs` executable `program`.
    pub fn with_program(program: PathBuf, staging: &Path) -> Result<Mounts, MountsError> {
        files::create_directories(staging)?;
        Ok(Mounts { program, staging: Mutex::new(files::canonical(staging)?) })
    }

    /// Shows the directory `source`, without what is mounted below it, at the directory `target`.
    pub fn bind(&self, source: &Path, target: &Path) -> Result<(), MountsError> {
        let staging = self.staging.lock();
        let (source, target) = (source.to_owned(), target.to_owned());
        self.done(Request::Bind { source, target, staging: staging.clone(), own: Vec::new() }, None)
    }

    /// Takes away whatever is mounted at `path` (absolute, without symbolic links), with what is mounted below it;
    /// nothing mounted there is no error. Who has files open there keeps them.
    pub fn unmount(&self, path: &Path) -> Result<(), MountsError> {
        self.done(Request::Unmount { path: path.to_owned(), only_sitefs: false }, None)
    }

    /// As [`Mounts::unmount`], but what somebody else has mounted there before stays.
    fn unmount_views(&self, path: &Path) -> Result<(), MountsError> {
        self.done(Request::Unmount { path: path.to_owned(), only_sitefs: true }, None)
    }

    /// Whether what is mounted at `path` is a dead file system, whose daemon is gone.
    pub fn is_dead(&self, path: &Path) -> Result<bool, MountsError> {
        match self.ask(Request::Probe { path: path.to_owned() }, None, PROBE_TIME_MAX)? {
            Answer::Alive => Ok(false),
            Answer::Dead => Ok(true),
            other => Err(refusal(other)),
        }
    }

    /// Takes away dead mounts of sitefs at or below `directories`, so that they can be mounted anew; returns where
    /// they were. Refuses, before it takes any away, when one of them is served.
    pub fn take_over(&self, directories: &[&Path]) -> Result<Vec<PathBuf>, MountsError> {
        let mut found: Vec<MountEntry> = list()?;
        found.retain(|entry| {
            entry.is_sitefs() && directories.iter().any(|directory| entry.mount_point.starts_with(directory))
        });
        let mut dead_devices: Vec<&str> = Vec::new();
        for entry in &found {
            if dead_devices.contains(&entry.device.as_str()) {
                continue;
            }
            // One that does not answer in time is served by somebody, too.
            if !self.is_dead(&entry.mount_point).unwrap_or(false) {
                return Err(MountsError::Served { path: entry.mount_point.clone() });
            }
            dead_devices.push(&entry.device);
        }
        let mut taken = Vec::new();
        for entry in &found {
            // One that was below another one is gone with it.
            self.unmount_views(&entry.mount_point)?;
            taken.push(entry.mount_point.clone());
        }
        Ok(taken)
    }

    fn done(&self, request: Request, input: Option<std::fs::File>) -> Result<(), MountsError> {
        match self.ask(request, input, TIME_MAX)? {
            Answer::Done => Ok(()),
            other => Err(refusal(other)),
        }
    }

    fn ask(
        &self,
        request: Request,
        input: Option<std::fs::File>,
        limit: Duration,
    ) -> Result<Answer, MountsError> {
        let request = serde_json::to_string(&request)
            .map_err(|_| MountsError::Refused("paths that are mounted must be text in UTF-8".to_owned()))?;
        let mut command =
            Command::new(&self.program).argument(worker::VERB).argument(request).time_limit(limit);
        if let Some(input) = input {
            command = command.input_file(input);
        }
        let outcome = command.run()?;
        let answer =
            outcome.output.text().lines().next_back().and_then(|line| serde_json::from_str(line).ok());
        match answer {
            Some(answer) => Ok(answer),
            None => {
                outcome.success()?;
                Err(MountsError::Refused("the process that mounts gave no answer".to_owned()))
            }
        }
    }
}

fn refusal(answer: Answer) -> MountsError {
    match answer {
        Answer::Problem(problem) => MountsError::Refused(problem),
        other => MountsError::Refused(format!("the process that mounts answered {other:?}")),
    }
}
