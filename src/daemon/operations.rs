//! What an update run does to the site: the operations of `update`, on the real thing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Daemon;
use super::clones::NewClone;
use super::copying::UnfinishedSnapshot;
use super::holding::WriteHold;
use super::runs::Proof;
use crate::base::process::{Command, Ending};
use crate::base::{Lane, PlatformName, SiteName, Timestamp};
use crate::control::{Caller, Events};
use crate::database::ServerExamination;
use crate::history::SnapshotId;
use crate::site::{Facts, GenerationName, LivePointer, Place, Platform, Site, SiteKind, is_companion};
use crate::trees::Node;
use crate::update::{
    Begun, Changes, CommandEnd, CommandRequest, DatabaseSource, Failure, FileChanges, HoldId, HookRequest,
    Inspection, Operations, Page, PageRequest, Pages, Reading, Switch, TableChange, Verified,
};

/// The counter that gives out the numbers of holds.
const HOLD_COUNTER: &str = "hold";

/// How many changed files a report names.
const EXAMPLES_MAX: usize = 20;

/// The operations of one run, for whoever asked for it.
pub(super) struct RunOperations<'a> {
    /// The daemon that runs it.
    pub(super) daemon: &'a Daemon,
    /// Who asked.
    pub(super) caller: &'a Caller,
    /// Where warnings go.
    pub(super) events: &'a dyn Events,
    /// The snapshot that is not in the log yet.
    unfinished: Mutex<Option<UnfinishedSnapshot>>,
}

impl<'a> RunOperations<'a> {
    /// Those of a run on a site of `daemon`.
    pub(super) fn new(daemon: &'a Daemon, caller: &'a Caller, events: &'a dyn Events) -> RunOperations<'a> {
        RunOperations { daemon, caller, events, unfinished: Mutex::default() }
    }
}

impl Operations for RunOperations<'_> {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn inspect(&self, site: &SiteName, target: &PlatformName) -> Result<Inspection, Failure> {
        let daemon = self.daemon;
        let site = daemon.site(site)?;
        let live = daemon.live_generation(&site.name)?;
        let (platform, target) = (daemon.platform(&live.platform)?, daemon.platform(target)?);
        let recipe = daemon.recipe(&site)?;
        let (directory, docroot) = (target.directory_in(Lane::A), target.docroot_in(Lane::A));
        let missing = recipe.missing_from_platform(&directory, &docroot)?;
        let now = daemon.platform_digest(&target)?;
        let space = daemon.filesystem.space()?;
        let database = daemon.database_info(&site, &live)?;
        let on_server = daemon.server_database(&live.name)?.map(|database| database.at.examine());
        let (database_objection, examined) = match on_server {
            Some(Ok(examination)) => (None, examination),
            Some(Err(error)) => (Some(error.to_string()), ServerExamination::default()),
            None => (None, ServerExamination::default()),
        };
        let (pages_objection, pages_amiss) = daemon.pages_now(&site, &recipe);
        Ok(Inspection {
            live: live.name.number,
            platform: platform.name.clone(),
            version: recipe.version_of(&platform.docroot_in(Lane::A))?,
            target_version: recipe.version_of(&docroot)?,
            target_drift: (now.id != target.code).then(|| {
                format!(
                    "the code of platform {} is not what it was when it was added ({} files then, {} now)",
                    target.name, target.files, now.files
                )
            }),
            missing_from_target: missing.iter().map(|path| path.display().to_string()).collect(),
            missing_programs: recipe
                .programs
                .iter()
                .filter(|program| !crate::base::process::exists(program))
                .cloned()
                .collect(),
            read_only: site.read_only,
            free_bytes: space.blocks_available * u64::from(space.block_size),
            database_bytes: database.map_or(0, |database| database.size_bytes),
            database_on_server: Daemon::is_on_server(&site),
            database_objection,
            database_as_files: examined.as_files,
            tables_without_transactions: examined.without_transactions,
            pages_objection,
            pages_amiss,
            recipe,
        })
    }

    fn snapshot(
        &self,
        of: &GenerationName,
        message: &str,
        author: &str,
        reading: Reading,
    ) -> Result<SnapshotId, Failure> {
        let daemon = self.daemon;
        let (site, generation) = (daemon.site(&of.site)?, daemon.generation(of)?);
        let hold = self.hold_of(of);
        let captured = match reading {
            Reading::Whole => daemon.capture(&site, &generation, hold.as_deref())?,
            Reading::Nothing => daemon.take(&site, &generation, hold.as_deref(), || ())?,
        };
        captured.warn_of_unstable(self.events);
        Ok(daemon.register(&self.caller_as(author), &site, &generation, captured, message, None)?)
    }

    fn begin_snapshot(&self, of: &GenerationName, message: &str, author: &str) -> Result<Begun, Failure> {
        let generation = self.daemon.generation(of)?;
        let (hold, caller) = (self.hold_of(of), self.caller_as(author));
        // What an earlier attempt has left of the dump is of no use, and in the way of this one.
        drop(self.unfinished.lock().take());
        let (snapshot, unfinished) =
            self.daemon.begin_snapshot(&caller, &generation, hold.as_deref(), message, self.events)?;
        let is_finished = unfinished.is_none();
        *self.unfinished.lock() = unfinished;
        Ok(Begun { snapshot, is_finished })
    }

    fn finish_snapshot(&self, begun: SnapshotId, made: &GenerationName) -> Result<SnapshotId, Failure> {
        let unfinished = self.unfinished.lock().take_if(|unfinished| unfinished.stands_for == begun);
        match unfinished {
            Some(unfinished) => Ok(self.daemon.finish_snapshot(unfinished, made)?),
            None => {
                Err("nothing is left of the dump of what is held: it ended with the command that began it"
                    .into())
            }
        }
    }

    fn verify(&self, snapshot: SnapshotId) -> Result<Verified, Failure> {
        Ok(self.daemon.verify_snapshot(snapshot, Proof::Kept)?)
    }

    fn read_back(&self, snapshot: SnapshotId) -> Result<u64, Failure> {
        Ok(self.daemon.read_database_back(snapshot)?)
    }

    fn create_clone(
        &self,
        name: &SiteName,
        snapshot: SnapshotId,
        platform: &PlatformName,
    ) -> Result<GenerationName, Failure> {
        let platform = self.daemon.platform(platform)?;
        let new = NewClone { name, snapshot, platform: &platform, expires: None, database: true };
        Ok(self.daemon.make_clone(&new)?.name)
    }

    fn delete_clone(&self, name: &SiteName) -> Result<(), Failure> {
        let Some(site) = self.daemon.store.catalog.get::<Site>(name.as_str())? else { return Ok(()) };
        if site.kind == SiteKind::Live {
            return Err(format!("{name} is a live site, not a clone").into());
        }
        self.daemon.remove_site(&site)?;
        Ok(())
    }

    fn reserve_generation(&self, site: &SiteName) -> Result<GenerationName, Failure> {
        Ok(self.daemon.reserve_generation(site)?)
    }

    fn prepare_generation(
        &self,
        name: &GenerationName,
        snapshot: SnapshotId,
        platform: &PlatformName,
        database: DatabaseSource<'_>,
    ) -> Result<(), Failure> {
        let (site, platform) = (self.daemon.site(&name.site)?, self.daemon.platform(platform)?);
        if let DatabaseSource::Of(other) = database {
            self.daemon.share_database(other, name)?;
        }
        self.daemon.prepare_generation(&site, name, snapshot, &platform)?;
        Ok(())
    }

    fn give_up_database(&self, generation: &GenerationName) -> Result<(), Failure> {
        Ok(self.daemon.drop_database(&generation.key())?)
    }

    fn discard_generation(&self, name: &GenerationName) -> Result<(), Failure> {
        Ok(self.daemon.discard_generation(name)?)
    }

    fn facts(&self, of: &GenerationName) -> Result<Facts, Failure> {
        let (site, generation) = (self.daemon.site(&of.site)?, self.daemon.generation(of)?);
        let platform = self.daemon.platform(&generation.platform)?;
        Ok(self.daemon.facts_on(&site, of, &platform, generation.lane)?)
    }

    fn run_command(
        &self,
        request: &CommandRequest,
        output: &mut dyn FnMut(&str),
    ) -> Result<CommandEnd, Failure> {
        Ok(self.daemon.run_command(request, output)?)
    }

    fn run_hooks(&self, request: &HookRequest, output: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        Ok(self.daemon.run_hooks(request, output)?)
    }

    fn fetch_page(&self, request: &PageRequest) -> Result<Option<Page>, Failure> {
        let site = self.daemon.site(&request.generation.site)?;
        let limit = Duration::from_secs(u64::from(request.seconds_max));
        match request.by {
            Pages::WebServer => match site.uri() {
                Some(uri) => fetch(uri, &request.path, limit).map(Some),
                None => Ok(None),
            },
            Pages::Php => Ok(self.daemon.page_by_php(&site, &request.generation, &request.path, limit)?),
        }
    }

    fn compare(&self, snapshot: SnapshotId, generation: &GenerationName) -> Result<Changes, Failure> {
        let daemon = self.daemon;
        let site = daemon.site(&generation.site)?;
        let before = daemon.load_snapshot(snapshot)?;
        let after = daemon.capture(&site, &daemon.generation(generation)?, None)?;
        let databases = site.database_files();
        let mut files = FileChanges::default();
        daemon.store.trees.diff(&before.root, &after.root, &mut |difference| {
            let path = difference.path.to_string_lossy().into_owned();
            let is_state =
                databases.iter().any(|file| file.as_str() == path) || is_companion(&path, databases);
            let is_directory = |entry: &crate::trees::Entry| matches!(entry.node, Node::Directory { .. });
            let mark = match (&difference.old, &difference.new) {
                (None, _) => '+',
                (_, None) => '-',
                (Some(old), Some(new)) if is_directory(old) && is_directory(new) => return Ok(()),
                _ => '~',
            };
            if !is_state {
                match mark {
                    '+' => files.added += 1,
                    '-' => files.removed += 1,
                    _ => files.changed += 1,
                }
                if files.examples.len() < EXAMPLES_MAX {
                    files.examples.push(format!("{mark}{path}"));
                }
            }
            Ok(())
        })?;
        let tables = super::differences::table_changes(before.database.as_ref(), after.database.as_ref())
            .into_iter()
            .map(|table| TableChange {
                name: table.table,
                rows_before: table.old_rows,
                rows_after: table.new_rows,
            })
            .collect();
        Ok(Changes { files, tables })
    }

    fn wait_for_lane(&self, site: &SiteName, platform: &PlatformName) -> Result<(), Failure> {
        Ok(self.daemon.wait_for_lane(site, platform, self.events)?)
    }

    fn wait_for_last_writers(&self, of: &GenerationName) -> Result<(), Failure> {
        Ok(self.daemon.wait_for_last_writers(&self.daemon.generation(of)?)?)
    }

    fn hold_writes(&self, generation: &GenerationName) -> Result<HoldId, Failure> {
        let generation = self.daemon.generation(generation)?;
        let number = self.next_hold()?;
        // The web server first: what it lets through from here on only reads.
        let _waiting = self.daemon.let_writers_wait(&generation)?;
        let hold = self.daemon.hold_writes(&generation)?;
        // From here on writers wait for the hold.
        self.daemon.holds.lock().insert(number, Arc::new(hold));
        Ok(HoldId(number))
    }

    fn hold_requests(&self, generation: &GenerationName) -> Result<HoldId, Failure> {
        let hold = self.daemon.hold_nothing(&self.daemon.generation(generation)?)?;
        let number = self.next_hold()?;
        self.daemon.holds.lock().insert(number, Arc::new(hold));
        self.daemon.set_window(&generation.site, true)?;
        Ok(HoldId(number))
    }

    fn is_held(&self, hold: HoldId) -> bool {
        self.daemon.holds.lock().get(&hold.0).is_some_and(|hold| hold.check().is_ok())
    }

    fn release_writes(&self, hold: HoldId) -> Result<(), Failure> {
        // A run does one step at a time, so nobody else uses the hold now.
        let hold = self.daemon.holds.lock().remove(&hold.0).and_then(Arc::into_inner);
        let Some(hold) = hold else { return Ok(()) };
        let is_live = self
            .daemon
            .store
            .catalog
            .get::<LivePointer>(hold.generation().site.as_str())?
            .is_some_and(|pointer| pointer.generation == hold.generation().number);
        let site = hold.generation().site.clone();
        let is_taken_over = !is_live && self.daemon.is_database_shared(hold.generation())?;
        let released = match is_live || is_taken_over {
            true => hold.refuse_and_release(is_taken_over),
            false => {
                self.daemon.release_when_drained(hold);
                Ok(())
            }
        };
        // The web server last: what waits there goes through to a database that takes it.
        self.daemon.close_window_unless_held(&site)?;
        released?;
        Ok(())
    }

    fn live_generation(&self, site: &SiteName) -> Result<u64, Failure> {
        Ok(self.daemon.live_pointer(site)?.generation)
    }

    fn switch_live(&self, switch: &Switch) -> Result<(), Failure> {
        let still_held = || match switch.hold {
            Some(hold) if !self.is_held(hold) => {
                Err(crate::control::Failure::failed("writes to the live generation are no longer held"))
            }
            _ => Ok(()),
        };
        self.daemon.switch_live(&switch.site, switch.from, switch.to, switch.drains_writable, &still_held)?;
        Ok(())
    }
}

impl Daemon {
    /// Runs a command of a recipe for a generation.
    pub(super) fn run_command(
        &self,
        request: &CommandRequest,
        output: &mut dyn FnMut(&str),
    ) -> Result<CommandEnd, crate::control::Failure> {
        let generation = self.generation(&request.generation)?;
        let site = self.site(&request.generation.site)?;
        let place = self.place(&generation)?;
        let mut command = Command::script(&request.line)
            .contained()
            .clear_env()
            .directory(&place.docroot)
            .user(&self.account(&request.user, &site)?)
            .time_limit(Duration::from_secs(u64::from(request.timeout_seconds)));
        for (name, value) in &request.environment {
            command = command.env(name, value);
        }
        let outcome = command.run_with(&mut |_, line| output(line))?;
        // Commands rarely sync what they write, and the journal is about to say durably that they are done.
        for volume in [generation.volume, site.data_volume] {
            self.volume(volume)?.sync_contents()?;
        }
        Ok(match outcome.ending {
            Ending::Exited(status) => CommandEnd::Status(status),
            Ending::Signalled(signal) => CommandEnd::Signal(signal),
            Ending::TimedOut(_) => CommandEnd::TimedOut,
        })
    }

    /// The facts of a site's generation on a lane of a platform.
    pub(super) fn facts_on(
        &self,
        site: &Site,
        generation: &GenerationName,
        platform: &Platform,
        lane: Lane,
    ) -> Result<Facts, crate::control::Failure> {
        Ok(Facts {
            generation: generation.clone(),
            is_clone: site.kind != SiteKind::Live,
            platform: platform.name.clone(),
            place: Place::new(platform, lane, &site.name),
            uri: site.uri_or_name(),
            run: String::new(),
            step: String::new(),
            php: self.options.php.clone(),
        })
    }
}

impl RunOperations<'_> {
    /// The hold of a generation. One that lets the application write is none: its state is not to be taken as it is.
    fn hold_of(&self, of: &GenerationName) -> Option<Arc<WriteHold>> {
        let is_of = |hold: &&Arc<WriteHold>| hold.generation() == of && !hold.lets_write();
        self.daemon.holds.lock().values().find(is_of).cloned()
    }

    fn caller_as(&self, author: &str) -> Caller {
        Caller { user: author.to_owned(), ..self.caller.clone() }
    }

    /// The number of a new hold.
    fn next_hold(&self) -> Result<u64, Failure> {
        let counter = |tx: &mut crate::history::Transaction<'_>| tx.next_number(HOLD_COUNTER);
        Ok(self.daemon.store.catalog.write(counter)?)
    }
}

/// Asks a web server for a page with HTTP/1.0, whose answers end with the connection.
pub(super) fn fetch(uri: &str, path: &str, limit: Duration) -> Result<Page, Failure> {
    const BODY_BYTES_MAX: u64 = 1 << 20;
    if uri.starts_with("https://") {
        return fetch_with_curl(&format!("{uri}{path}"), limit);
    }
    let rest = uri.strip_prefix("http://").ok_or_else(|| {
        format!("the page {uri}{path} cannot be asked for: set an address that starts with http:// (site set SITE uri)")
    })?;
    let host = rest.split('/').next().unwrap_or(rest);
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(&address)
        .map_err(|error| format!("no web server answers at {address}: {error}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // In one piece: a server may answer, and close, as soon as it has read the first.
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: sitefs\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(BODY_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("what answers at {address} is no web server"))?;
    Ok(Page { status, body: body.to_owned() })
}

/// Asks for a page over TLS, which is the business of a program that is kept up to date with its certificates.
fn fetch_with_curl(url: &str, limit: Duration) -> Result<Page, Failure> {
    let seconds = limit.as_secs().max(1).to_string();
    let arguments =
        ["--silent", "--show-error", "--max-time", &seconds, "--write-out", "\\n%{http_code}", "--", url];
    let outcome = Command::new("curl").arguments(arguments).time_limit(limit * 2).run()?.success()?;
    let answer = outcome.output.text();
    let (body, status) = answer.rsplit_once('\n').unwrap_or(("", &answer));
    let status = status.trim().parse().map_err(|_| format!("curl says no status of {url}"))?;
    Ok(Page { status, body: body.to_owned() })
}
