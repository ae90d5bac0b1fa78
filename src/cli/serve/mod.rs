//! `sitefs serve`.

mod background;
mod notify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::config::DEFAULT_CONFIG;
use super::context::{Context, Ended, Ending};
use super::logger;
use crate::base::files;
use crate::control::Failure;
use crate::daemon::{self, ServeOptions};

/// Where the namespace is mounted unless told otherwise.
const DEFAULT_ROOT: &str = "/var/aegir/sitefs";

/// Where recipes of one's own are, unless told otherwise: a directory beside the configuration file.
const RECIPES_NAME: &str = "recipes";

/// Where hooks are, unless told otherwise: likewise.
const HOOKS_NAME: &str = "hooks";

/// How long a hook may take unless told otherwise.
const HOOK_SECONDS_DEFAULT: u32 = 300;

/// How long a request may take unless told otherwise: as long as nginx waits for PHP.
const DRAIN_SECONDS_DEFAULT: u32 = 60;

/// Where templates of one's own are, unless told otherwise, if it exists.
const DEFAULT_TEMPLATES: &str = "/etc/sitefs/templates";

/// Start the daemon: mounts, control socket, jobs
///
/// Returns when everything is mounted and commands are answered; the daemon goes on in the background and logs to a
/// file (/var/log/sitefs/daemon.log for the default store, else daemon.log in the store). With --foreground it stays
/// and logs to standard error, as systemd wants it; SIGTERM and SIGINT stop it cleanly. A daemon that was killed leaves
/// dead mounts, which the next one takes over.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs serve
  sitefs --store /srv/sitefs serve --root /srv/sites --foreground")]
pub(super) struct Serve {
    /// Where the namespace is mounted [default: /var/aegir/sitefs]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Stay in the foreground
    #[arg(long)]
    foreground: bool,
    /// Pass every read and write through the daemon, even where the kernel can do without
    #[arg(long)]
    no_passthrough: bool,
}

impl Serve {
    pub(super) fn run(self, context: &Context) -> Ended {
        let options = self.options(context)?;
        if self.foreground { foreground(context, options) } else { background::start(context, &options) }
    }

    fn options(&self, context: &Context) -> Result<ServeOptions, Failure> {
        let config = &context.config;
        let root = self.root.as_ref().or(config.root.as_ref());
        let root = root.map_or(Path::new(DEFAULT_ROOT), PathBuf::as_path);
        let root = std::path::absolute(root)
            .map_err(|error| Failure::usage("--root needs a directory").because(&error))?;
        let own_templates = files::metadata(Path::new(DEFAULT_TEMPLATES)).is_ok_and(|found| found.is_some());
        let web = config.web.as_deref().map(str::parse).transpose().map_err(|reason: String| {
            Failure::usage("`web` in the configuration is not an address").because_of(reason)
        })?;
        Ok(ServeOptions {
            store: context.store.clone(),
            root,
            recipes: config.recipes.clone().map_or_else(|| beside(context, RECIPES_NAME), Ok)?,
            hooks: config.hooks.clone().map_or_else(|| beside(context, HOOKS_NAME), Ok)?,
            updates_max: config
                .updates
                .or_else(|| thread::available_parallelism().ok())
                .map_or(1, usize::from),
            hook_limit: Duration::from_secs(u64::from(config.hook_seconds.unwrap_or(HOOK_SECONDS_DEFAULT))),
            php: config.php.as_ref().map_or_else(|| "php".to_owned(), |php| php.display().to_string()),
            web,
            templates: config.templates.clone().or_else(|| own_templates.then(|| DEFAULT_TEMPLATES.into())),
            passthrough: !self.no_passthrough,
            wakeful: config.wakeful.unwrap_or(true),
            schedule: config.schedule(),
            drain: Duration::from_secs(u64::from(config.drain_seconds.unwrap_or(DRAIN_SECONDS_DEFAULT))),
        })
    }
}

/// The directory of this name that goes with the configuration file.
fn beside(context: &Context, name: &str) -> Result<PathBuf, Failure> {
    let config = context.config_file.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let config = std::path::absolute(config)
        .map_err(|error| Failure::usage("--config needs a file").because(&error))?;
    Ok(config.with_file_name(name))
}

/// Serves in this process until a signal or a command stops it.
fn foreground(context: &Context, options: ServeOptions) -> Ended {
    logger::start(context.output.loudness);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the second signal finds the flag set and ends the process at once.
        flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::failed("cannot catch signals").because(&error))?;
    }
    let store = options.store.display().to_string();
    daemon::serve(options, stop, |root| {
        log::info!("serving the store {store} at {}", root.display());
        notify::ready();
    })?;
    log::info!("stopped");
    Ok(Ending::Done)
}
