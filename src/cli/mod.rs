//! `cli`: the command line, one file per verb.
//!
//! A verb turns its arguments into a request, asks the daemon, and makes a page for people of the answer; with
//! `--json` the answer itself is the document. `serve` and `init` run the daemon's code in this process.
//!
//! Invariants: results go to standard output, everything else to standard error; only `output` prints; the exit code
//! says how it ended (0 done, 1 failed, 2 wrong usage, 3 refused, 4 rolled back); text from names, messages and
//! programs reaches the terminal without control characters.
//!
//! Absent: any knowledge of the store, the mounts or databases.

mod arguments;
mod clone;
mod config;
mod context;
mod cutover;
mod database;
mod deploy;
mod diff;
mod format;
mod gc;
mod init;
mod log;
mod logger;
mod output;
mod page;
mod platform;
mod processes;
mod progress;
mod prune;
mod readonly;
mod receive;
mod restore;
mod rollback;
mod run;
mod send;
mod serve;
mod show;
mod site;
mod snapshot;
mod status;
mod stop;
mod tag;
mod update;
mod verify;
mod vhost;

use std::ffi::OsString;
use std::io;
use std::panic;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use arguments::{CommandLine, Global};
use config::Config;
use context::{Context, Ending};
use output::{Loudness, Output, Stop};

use crate::base::process::ExitCode;
use crate::control::{DEFAULT_STORE, Failure};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    panic::set_hook(Box::new(|panic| {
        // Of damaged tables, which is an error that the caller has.
        if crate::base::tables::is_expected_panic() {
            return;
        }
        output::say(format_args!("error: sitefs met a defect of its own; please report this: {panic}"));
    }));
    panic::catch_unwind(|| run(&arguments)).unwrap_or(ExitCode::FAILURE)
}

fn run(arguments: &[OsString]) -> ExitCode {
    let command_line = match CommandLine::try_parse_from(arguments) {
        Ok(command_line) => command_line,
        Err(error) => return misread(&error, arguments),
    };
    let global = &command_line.global;
    let output = Output::new(global.json, global.loudness());
    let ended = context(global, output).and_then(|context| command_line.verb.run(&context));
    match ended {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::BadNews) => ExitCode::FAILURE,
        // Who closed the pipe has seen enough: `sitefs log SITE | head`.
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Stop::Output(error)) => {
            failed(output, &Failure::failed("cannot write the result").because(&error))
        }
        Err(Stop::Failure(failure)) => failed(output, &failure),
    }
}

fn failed(output: Output, failure: &Failure) -> ExitCode {
    output.failure(failure);
    ExitCode::from(failure.kind.exit_code())
}

fn context(global: &Global, output: Output) -> Result<Context, Stop> {
    let config_file = global.config.as_deref().map(Context::absolute).transpose()?;
    let config = Config::load(config_file.as_deref())?;
    let store = match (&global.store, &config.store) {
        (Some(store), _) | (None, Some(store)) => Context::absolute(store)?,
        (None, None) => PathBuf::from(DEFAULT_STORE),
    };
    Ok(Context { store, config, config_file, output })
}

/// Help, the version, or what is wrong with the arguments.
fn misread(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.kind() == ErrorKind::MissingSubcommand && arguments.len() == 1 {
        // Not clap's own way for this, which is not taken when the store is named by the environment.
        let help = CommandLine::command().render_help();
        output::say(format_args!("{}", help.to_string().trim_end()));
        return ExitCode::from(2);
    }
    let helps = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !helps && arguments.iter().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let (message, rest) = text.trim().split_once("\n\n").unwrap_or((text.trim(), ""));
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let failure = Failure::usage(message.split_whitespace().collect::<Vec<_>>().join(" "));
        let hint = rest.lines().find(|line| line.starts_with("Usage:"));
        let failure = match hint {
            Some(usage) => failure.hint(usage),
            None => failure,
        };
        return failed(Output::new(true, Loudness::Normal), &failure);
    }
    // To standard output where it was asked for, else to standard error; neither being open is no reason to fail
    // in another way than this does anyhow.
    let _ = error.print();
    ExitCode::from(if helps { 0 } else { 2 })
}
