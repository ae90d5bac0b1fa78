//! The only door to processes.
//!
//! A [`Command`] runs to its end with [`Command::run`] or [`Command::run_with`], is talked to with
//! [`Command::converse`], or has data flow through it with [`Command::stream`]. Each process leads a process group of its own, so that a time limit ends everything it
//! started, and the terminal's interrupt key reaches sitefs alone.
//!
//! Invariants:
//! - A call returns soon after the process has ended or its time is up, even when something that the process left
//!   behind keeps its outputs open.
//! - Nothing between fork and exec, and no lookup of this program's own, touches a path that may lie in a sitefs
//!   mount. Until its exec, a child holds copies of this program's descriptors, the mounts' among them: were it to
//!   wait for the mount there, and this program were killed, the mount could not be aborted and neither would ever
//!   end. So a working directory is entered, and a program named by a path is started, by a shell after the exec.
//! - Environment values and input never appear in a message: secrets travel there.
//!
//! Absent: threads, signal handlers, any knowledge of what is run.

mod capture;
pub mod containment;
mod conversation;
mod leftovers;
mod open_files;
mod run;
mod stream;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

pub use leftovers::kill_by_environment;
pub use open_files::allow_open_files;

use super::accounts::User;

pub use std::process::ExitCode;

pub use capture::Captured;
pub use conversation::Conversation;
pub use run::{Ending, Outcome, Stream};
pub use stream::Streaming;

/// Where programs are looked for when there is no `PATH`, in this program or in a cleared environment.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of each output is kept unless [`Command::capture_bytes_max`] says otherwise, in bytes.
const CAPTURE_BYTES_MAX: usize = 1024 * 1024;

/// What can go wrong with a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No such program.
    #[error("program {program} is not found in PATH ({path}): install it, or correct PATH")]
    NotFound {
        /// The program.
        program: String,
        /// Where it was looked for.
        path: String,
    },
    /// It could not be started, or its outputs not be read.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Running as another user takes root.
    #[error("cannot run {program} as user {user}: only root can, and this is user {current}")]
    Privilege {
        /// The program.
        program: String,
        /// The user asked for.
        user: String,
        /// The user this program runs as.
        current: u32,
    },
    /// It did not succeed (only from [`Outcome::success`]).
    #[error("{program} {ending}{}", detail(output))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        ending: Ending,
        /// The last lines it wrote, of errors if there are any.
        output: String,
    },
    /// A conversation's other side did not answer in time.
    #[error("{program} did not answer within {} s", limit.as_secs_f64())]
    Silent {
        /// The program.
        program: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A conversation's other side ended instead of answering.
    #[error("{program} {ending} instead of answering")]
    Ended {
        /// The program.
        program: String,
        /// How it ended.
        ending: Ending,
    },
}

fn detail(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(":\n{output}") }
}

/// Where a process reads from.
#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(File),
}

/// A program to run: its arguments, surroundings and bounds.
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    environment_cleared: bool,
    directory: Option<PathBuf>,
    user: Option<User>,
    input: Input,
    output: Option<File>,
    time_limit: Option<Duration>,
    grace: Duration,
    contained: bool,
    capture_bytes_max: usize,
}

impl Command {
    /// A program found in PATH, or at a path.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            environment_cleared: false,
            directory: None,
            user: None,
            input: Input::Nothing,
            output: None,
            time_limit: None,
            grace: Duration::from_secs(5),
            contained: false,
            capture_bytes_max: CAPTURE_BYTES_MAX,
        }
    }

    /// A script for `sh`.
    pub fn script(script: impl AsRef<OsStr>) -> Command {
        Command::new("sh").argument("-c").argument(script)
    }

    /// Adds an argument. Arguments are visible to every user of the machine: no secrets.
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Command {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the last setting of a name counts.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts from an empty environment, `PATH` excepted, which is [`DEFAULT_PATH`].
    pub fn clear_env(mut self) -> Command {
        self.environment_cleared = true;
        self
    }

    /// Runs in this directory.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Command {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Runs as `user`, with the groups of the account, and `HOME`, `USER` and `LOGNAME` set accordingly (settings by
    /// [`Command::env`] win).
    pub fn user(mut self, user: &User) -> Command {
        self.user = Some(user.clone());
        self
    }

    /// Feeds these bytes to the process; without this or [`Command::input_file`] it reads nothing.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Command {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Lets the process read from an open file.
    pub fn input_file(mut self, file: File) -> Command {
        self.input = Input::File(file);
        self
    }

    /// Lets the process write its output to an open file instead of capturing it.
    pub fn output_file(mut self, file: File) -> Command {
        self.output = Some(file);
        self
    }

    /// Ends the process with everything in its group when it runs longer than this: with SIGTERM, and what is left
    /// after the grace period with SIGKILL.
    pub fn time_limit(mut self, limit: Duration) -> Command {
        self.time_limit = Some(limit);
        self
    }

    /// The time between SIGTERM and SIGKILL; 5 s unless set.
    pub fn grace(mut self, grace: Duration) -> Command {
        self.grace = grace;
        self
    }

    /// Ends everything that the process has started when it ends, and when this program does: see [`containment`]. Only in
    /// the `sitefs` program, and with [`Command::run`] and [`Command::run_with`].
    pub fn contained(mut self) -> Command {
        self.contained = true;
        self
    }

    /// How many bytes of each output are kept; 1 MiB unless set.
    pub fn capture_bytes_max(mut self, bytes_max: usize) -> Command {
        self.capture_bytes_max = bytes_max;
        self
    }

    /// The name for messages: the program without its directory, or what the script starts with.
    fn name(&self) -> String {
        let program = Path::new(&self.program);
        let name = program.file_name().unwrap_or(&self.program).to_string_lossy();
        match self.arguments.as_slice() {
            [flag, script] if name == "sh" && flag == "-c" => {
                let script = script.to_string_lossy();
                let line = script.trim().lines().next().unwrap_or_default();
                let cut: String = line.chars().take(60).collect();
                format!("`{cut}{}`", if cut.len() < script.trim().len() { " ..." } else { "" })
            }
            _ => name.into_owned(),
        }
    }

    fn path(&self) -> OsString {
        let set = self.environment.iter().rev().find(|(name, _)| name == "PATH");
        match set {
            Some((_, value)) => value.clone(),
            None if self.environment_cleared => DEFAULT_PATH.into(),
            None => std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
        }
    }

    fn start_error(&self, source: impl Into<io::Error>) -> ProcessError {
        ProcessError::Start { program: self.name(), source: source.into() }
    }

    fn find(&self, program: &OsStr) -> Result<PathBuf, ProcessError> {
        let path = self.path();
        find_in(program, &path).ok_or_else(|| ProcessError::NotFound {
            program: program.to_string_lossy().into_owned(),
            path: path.to_string_lossy().into_owned(),
        })
    }

    /// The words to execute: the program, behind the shell that enters the directory and the `setpriv` that
    /// changes the user where those are asked for.
    fn words(&self) -> Result<Vec<OsString>, ProcessError> {
        let mut words: Vec<OsString> = Vec::new();
        if self.contained {
            let program = current_program().map_err(|source| self.start_error(source))?;
            words.extend(self.shell_in(".".as_ref())?);
            words.extend(containment::words(&program, self.grace));
        }
        let current = nix::unistd::geteuid().as_raw();
        if let Some(user) = self.user.as_ref().filter(|user| user.uid != current) {
            if current != 0 {
                return Err(ProcessError::Privilege {
                    program: self.name(),
                    user: user.name.clone(),
                    current,
                });
            }
            words.push(self.find("setpriv".as_ref())?.into());
            words.extend(["--reuid".into(), user.uid.to_string().into()]);
            words.extend(["--regid".into(), user.gid.to_string().into()]);
            words.extend([if user.has_account { "--init-groups" } else { "--clear-groups" }.into()]);
            words.push("--".into());
        }
        let by_path = self.program.as_encoded_bytes().contains(&b'/');
        if self.directory.is_some() || by_path {
            words.extend(self.shell_in(self.directory.as_deref().unwrap_or(".".as_ref()))?);
        }
        words.push(if by_path { self.program.clone() } else { self.find(&self.program)?.into() });
        words.extend(self.arguments.iter().cloned());
        Ok(words)
    }

    /// The words for a shell that enters a directory and executes what follows.
    fn shell_in(&self, directory: &Path) -> Result<[OsString; 5], ProcessError> {
        let script = r#"cd -- "$1" || exit 126; shift; exec "$@""#;
        let shell = self.find("sh".as_ref())?;
        Ok([shell.into(), "-c".into(), script.into(), "sitefs".into(), directory.into()])
    }

    /// What is common to all ways of starting; inputs and outputs are set by those.
    fn prepare(&self) -> Result<std::process::Command, ProcessError> {
        let words = self.words()?;
        let mut command = std::process::Command::new(&words[0]);
        command.args(&words[1..]).process_group(0);
        if self.environment_cleared {
            command.env_clear().env("PATH", DEFAULT_PATH);
        }
        if let Some(user) = &self.user {
            command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    fn input_stdio(&self) -> Result<Stdio, ProcessError> {
        Ok(match &self.input {
            Input::Nothing => Stdio::null(),
            Input::Bytes(_) => Stdio::piped(),
            Input::File(file) => file.try_clone().map_err(|source| self.start_error(source))?.into(),
        })
    }

    fn output_stdio(&self) -> Result<Stdio, ProcessError> {
        Ok(match &self.output {
            None => Stdio::piped(),
            Some(file) => file.try_clone().map_err(|source| self.start_error(source))?.into(),
        })
    }
}

/// The program and its arguments; neither environment nor input.
impl fmt::Debug for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Command({:?} {:?})", self.program, self.arguments)
    }
}

/// Whether a program of this name is in PATH.
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    find_in(program.as_ref(), &path).is_some()
}

/// The file of the program that is running. After an upgrade under a running program, that of the new one.
pub fn current_program() -> io::Result<PathBuf> {
    let file = std::env::current_exe()?;
    // What the kernel says of a file that was replaced.
    Ok(match file.as_os_str().to_str().and_then(|name| name.strip_suffix(" (deleted)")) {
        Some(name) => PathBuf::from(name),
        None => file,
    })
}

/// The id of this process.
pub fn own_id() -> u32 {
    std::process::id()
}

/// The processor that a thread of any process ran on last; `None` when there is no such thread.
pub fn processor_of(thread: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{thread}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The second field is a name in parentheses, which may contain anything; this is the 39th.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(36)?.parse().ok()
}

/// Ends this process at once, without unwinding any of its threads.
pub fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn find_in(program: &OsStr, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).filter(|directory| directory.is_absolute()).map(|d| d.join(program)).find(
        |file| {
            std::fs::metadata(file)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        },
    )
}

#[cfg(test)]
mod tests;
