//! The command line as a whole.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use super::context::{Context, Ended, STORE_VARIABLE};
use super::output::Loudness;
use super::{
    clone, cutover, database, deploy, diff, gc, init, log, platform, prune, readonly, receive, restore,
    rollback, run, send, serve, show, site, snapshot, status, stop, tag, update, verify, vhost,
};

/// A versioned file system for PHP sites
///
/// Sites live in generations over content-addressed snapshots: a clone costs nearly nothing, a release is one switch
/// of one pointer, a rollback is the switch back, and an update is rehearsed on a clone first. `sitefs serve` is the
/// daemon that mounts it all; the other commands talk to it.
#[derive(Debug, Parser)]
#[command(
    name = "sitefs",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    after_help = "SITE@ID names a snapshot: the start of its id, a tag, or an age as in 'shop.example@{2h}'. SITE alone, or SITE@live, is the site as it is now.

Exit codes: 0 done, 1 failed (nothing half-done remains), 2 wrong usage, 3 refused by a safety check, 4 rolled back.

Example:
  sitefs init && sitefs serve
  sitefs platform add drupal-10.3 /var/aegir/platforms/drupal-10.3
  sitefs site import shop.example /srv/shop.example --platform drupal-10.3
  sitefs update shop.example --platform drupal-10.4"
)]
pub(super) struct CommandLine {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct Global {
    /// The store's directory [default: /var/lib/sitefs]
    #[arg(long, global = true, value_name = "DIR", env = STORE_VARIABLE, hide_env_values = true)]
    pub(super) store: Option<PathBuf>,
    /// The configuration file [default: /etc/sitefs/config.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say more: also what the application's commands write
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(super) verbose: u8,
    /// Say only results, warnings and errors
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
}

impl Global {
    pub(super) fn loudness(&self) -> Loudness {
        match (self.quiet, self.verbose) {
            (true, _) => Loudness::Quiet,
            (false, 0) => Loudness::Normal,
            (false, _) => Loudness::Verbose,
        }
    }
}

/// The verbs, in the order of their use.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Init(init::Init),
    Serve(serve::Serve),
    Stop(stop::Stop),
    Status(status::Status),
    /// Add, list, show, verify and remove platforms: directories with an application's code
    #[command(
        subcommand,
        after_help = "Example:\n  sitefs platform add --help",
        disable_help_subcommand = true
    )]
    Platform(platform::Platform),
    /// Import, list, show, set up and remove sites
    #[command(
        subcommand,
        after_help = "Example:\n  sitefs site import --help",
        disable_help_subcommand = true
    )]
    Site(site::Site),
    Snapshot(snapshot::Snapshot),
    Log(log::Log),
    Show(show::Show),
    Diff(diff::Diff),
    Tag(tag::Tag),
    Clone(clone::Clone),
    Deploy(deploy::Deploy),
    Cutover(cutover::Cutover),
    Rollback(rollback::Rollback),
    Restore(restore::Restore),
    Update(update::Update),
    /// List and show the updates there were: steps, times, outputs, and who asked for them
    #[command(subcommand, after_help = "Example:\n  sitefs run list --help", disable_help_subcommand = true)]
    Run(run::Run),
    Readonly(readonly::Readonly),
    Vhost(vhost::Vhost),
    /// Dump, restore, clone and verify databases
    #[command(
        subcommand,
        after_help = "Example:\n  sitefs database dump --help",
        disable_help_subcommand = true
    )]
    Database(database::Database),
    Prune(prune::Prune),
    Gc(gc::Gc),
    Send(send::Send),
    Receive(receive::Receive),
    Verify(verify::Verify),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Ended {
        match self {
            Verb::Init(verb) => verb.run(context),
            Verb::Serve(verb) => verb.run(context),
            Verb::Stop(verb) => verb.run(context),
            Verb::Status(verb) => verb.run(context),
            Verb::Platform(verb) => verb.run(context),
            Verb::Site(verb) => verb.run(context),
            Verb::Snapshot(verb) => verb.run(context),
            Verb::Log(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Diff(verb) => verb.run(context),
            Verb::Tag(verb) => verb.run(context),
            Verb::Clone(verb) => verb.run(context),
            Verb::Deploy(verb) => verb.run(context),
            Verb::Cutover(verb) => verb.run(context),
            Verb::Rollback(verb) => verb.run(context),
            Verb::Restore(verb) => verb.run(context),
            Verb::Update(verb) => verb.run(context),
            Verb::Run(verb) => verb.run(context),
            Verb::Readonly(verb) => verb.run(context),
            Verb::Vhost(verb) => verb.run(context),
            Verb::Database(verb) => verb.run(context),
            Verb::Prune(verb) => verb.run(context),
            Verb::Gc(verb) => verb.run(context),
            Verb::Send(verb) => verb.run(context),
            Verb::Receive(verb) => verb.run(context),
            Verb::Verify(verb) => verb.run(context),
        }
    }
}
