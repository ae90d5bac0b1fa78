//! Starting a daemon that outlives this command.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::base::files::{self, At, FileError};
use crate::base::process::{Command, current_program};
use crate::cli::context::{Context, Ended};
use crate::cli::page::Page;
use crate::cli::processes::is_running;
use crate::control::{Client, ClientError, DEFAULT_STORE, Failure};
use crate::daemon::ServeOptions;

/// How often it is looked whether the daemon answers.
const POLL: Duration = Duration::from_millis(50);

/// How long the daemon may take until it answers: recovery of a large store after a crash included.
const TIME_MAX: Duration = Duration::from_secs(300);

/// How much of the log is shown when the daemon does not come up, in lines.
const LOG_LINES_MAX: usize = 8;

/// Starts the program in a session of its own, so that neither the terminal's end nor its interrupt key reaches it,
/// and prints its process id.
const DETACH: &str = r#"log=$1; shift; setsid -- "$@" >>"$log" 2>&1 </dev/null & echo $!"#;

/// The document.
#[derive(Serialize)]
struct Started {
    pid: u32,
    store: String,
    root: String,
    log: String,
}

/// Starts a daemon in the background and waits until it answers.
pub(super) fn start(context: &Context, options: &ServeOptions) -> Ended {
    match Client::connect(&context.store) {
        // One that goes away now has been killed, and lets the store go in a moment, which the next waits for.
        Err(ClientError::NoDaemon { .. } | ClientError::Lost { .. }) => {}
        Ok(_) | Err(ClientError::Version { .. }) => {
            let store = context.store.display();
            return Err(Failure::refused(format!("a daemon serves the store {store} already"))
                .hint(format!("sitefs{0} status, or sitefs{0} stop", context.store_option()))
                .into());
        }
        Err(other) => return Err(other.into()),
    }
    let log = log_file(&context.store).map_err(cannot_log)?;
    let (path, log_start) = (&log.0, log.1);
    let pid = spawn(context, options, path)?;
    let begun = Instant::now();
    while !answers(&context.store) {
        if !is_running(pid) {
            return Err(Failure::failed("the daemon ended before it answered")
                .because_of(tail(path, log_start))
                .hint(format!("its log: {}", path.display()))
                .into());
        }
        if begun.elapsed() >= TIME_MAX {
            return Err(Failure::failed(format!("the daemon (process {pid}) does not answer so far"))
                .hint(format!("it goes on; its log: {}", path.display()))
                .into());
        }
        thread::sleep(POLL);
    }
    let started = Started {
        pid,
        store: context.store.display().to_string(),
        root: options.root.display().to_string(),
        log: path.display().to_string(),
    };
    context.print(&started, |started, _| {
        let mut page = Page::default();
        page.line(format!("serving the store {} at {}", started.store, started.root));
        page.note(format!("process {}, log {}", started.pid, started.log));
        page
    })
}

fn answers(store: &Path) -> bool {
    Client::connect(store).is_ok()
}

fn cannot_log(error: FileError) -> Failure {
    Failure::failed("cannot open the daemon's log").because(&error)
}

/// The log, and its length so far.
fn log_file(store: &Path) -> Result<(PathBuf, u64), FileError> {
    let path = if store == Path::new(DEFAULT_STORE) {
        files::create_directories("/var/log/sitefs".as_ref())?;
        PathBuf::from("/var/log/sitefs/daemon.log")
    } else {
        store.join("daemon.log")
    };
    let length = files::open_or_create(&path)?.metadata().at("look at", &path)?.len();
    Ok((path, length))
}

/// Starts the program again, with what this one was told.
fn spawn(context: &Context, options: &ServeOptions, log: &Path) -> Result<u32, Failure> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| Failure::failed("cannot start the daemon").because(error);
    let program = current_program().map_err(|error| failed(&error))?;
    let mut command = Command::script(DETACH).argument("sh").argument(log).argument(program);
    command = command.argument("--store").argument(&context.store);
    if let Some(config) = &context.config_file {
        command = command.argument("--config").argument(config);
    }
    command = command.argument("serve").argument("--foreground").argument("--root").argument(&options.root);
    if !options.passthrough {
        command = command.argument("--no-passthrough");
    }
    let outcome = command.run().and_then(|outcome| outcome.success()).map_err(|error| failed(&error))?;
    let text = outcome.output.text();
    text.trim().parse().map_err(|_| Failure::failed("cannot start the daemon").because_of(text))
}

/// The last lines written to the log since it was `start` bytes long.
fn tail(log: &Path, start: u64) -> String {
    let mut text = Vec::new();
    let read = files::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_end(&mut text)).at("read", log)
    });
    if let Err(error) = read {
        return error.to_string();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return "it wrote nothing to its log".to_owned();
    }
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
}
