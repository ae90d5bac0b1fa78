//! What a run needs from the layer above.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Failure, StepKind};
use crate::base::{PlatformName, SiteName, Timestamp};
use crate::database::CopiedAsFiles;
use crate::history::SnapshotId;
use crate::site::{Facts, GenerationName, Recipe, User};

/// What is made of a snapshot's database when the snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is restored, checked and read from end to end.
    Whole,
    /// It is in a committed state, and not read: whoever waits for the end of a hold does not wait for that too.
    Nothing,
}

/// A snapshot that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The snapshot, or what stands for it until it is finished.
    pub snapshot: SnapshotId,
    /// Whether it is.
    pub is_finished: bool,
}

/// What the database of a new generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseSource<'a> {
    /// What the snapshot holds.
    Snapshot,
    /// On a server: the one that another generation has, which both have until that one gives it up. A database in
    /// files is always that of the snapshot, as it is a part of the generation.
    Of(&'a GenerationName),
}

/// Names one hold of writes. Never used again, so that a hold that ended is not taken for one that began later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HoldId(pub u64);

/// What a plan stands on, gathered before anything is done.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The number of the live generation.
    pub live: u64,
    /// Its platform.
    pub platform: PlatformName,
    /// The version of that platform, where known.
    pub version: Option<String>,
    /// The version of the platform to go to, where known.
    pub target_version: Option<String>,
    /// Whether the code of that platform is what it was when it was added; `Some` says in words what differs.
    pub target_drift: Option<String>,
    /// The site's recipe.
    pub recipe: Recipe,
    /// What the recipe looks for and the platform to go to has not; empty: it is a platform of this application.
    pub missing_from_target: Vec<String>,
    /// Programs that the recipe needs and that are not found.
    pub missing_programs: Vec<String>,
    /// Whether the administrator has put the site in read-only mode.
    pub read_only: bool,
    /// Free space where the store is, in bytes.
    pub free_bytes: u64,
    /// The size of the site's database, in bytes.
    pub database_bytes: u64,
    /// Whether it is on a server, so that a copy of it is made there.
    pub database_on_server: bool,
    /// What keeps the site's database from being dumped, held and copied; `None`: nothing was found.
    pub database_objection: Option<String>,
    /// What of it a copy gets as files while writes are held; `None` on servers that know no such way.
    pub database_as_files: Option<CopiedAsFiles>,
    /// Tables whose rows can be captured only while writes are held.
    pub tables_without_transactions: Vec<String>,
    /// Why the web server cannot be asked for the pages of the recipe's checks; `None`: it answers, or is not to be asked.
    pub pages_objection: Option<String>,
    /// Pages of those checks that have another status than they are to have, in words.
    pub pages_amiss: Vec<String>,
}

/// What a verification of a snapshot found to be sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Objects read back and compared with their names.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Tables of the restored database compared with their checksums.
    pub tables: u64,
}

/// What became of a verification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verified {
    /// What was sound.
    pub found: Verification,
    /// What the copy of the database for a new generation will cost; `None` where copies share what is in the store.
    pub copy: Option<CopyForecast>,
}

/// What a copy of a database will cost while writes are held, by what the proof of its dump took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyForecast {
    /// How long it will take, in seconds.
    pub seconds: f64,
    /// How much of the time that a snapshot takes is spent before it: the rest of a dump goes on beside what follows.
    pub snapshot_share: f64,
}

/// A command to run for a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRequest {
    /// The generation it is for.
    pub generation: GenerationName,
    /// The shell line.
    pub line: String,
    /// Who runs it.
    pub user: User,
    /// The whole environment but `PATH`, `HOME` and the locale.
    pub environment: BTreeMap<String, String>,
    /// After so many seconds it is killed with all its children.
    pub timeout_seconds: u32,
}

/// On which side of a step a hook is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before it begins.
    Before,
    /// After it has succeeded.
    After,
}

/// The first word of the name of a hook's directory.
impl std::fmt::Display for Moment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Moment::Before => "before",
            Moment::After => "after",
        })
    }
}

/// The hooks to run at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRequest {
    /// The site that is updated.
    pub site: SiteName,
    /// The step.
    pub step: StepKind,
    /// On which side of it.
    pub moment: Moment,
    /// What they are told; with `PATH` and the like, all of their environment.
    pub environment: BTreeMap<String, String>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long and was killed.
    TimedOut,
}

/// Who is asked for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// The web server, which knows the live site alone.
    WebServer,
    /// PHP itself, as the web server would.
    Php,
}

/// A page to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The generation that is to answer.
    pub generation: GenerationName,
    /// Who is asked.
    pub by: Pages,
    /// Path and query.
    pub path: String,
    /// After so many seconds it counts as unanswered.
    pub seconds_max: u32,
}

/// What the web server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// The body, or its first mebibyte.
    pub body: String,
}

/// A change of the live pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The site.
    pub site: SiteName,
    /// The generation that is live.
    pub from: u64,
    /// The one to be live.
    pub to: u64,
    /// The hold of writes to `from` that must be in force; `None`: no hold is asked for.
    pub hold: Option<HoldId>,
    /// Whether `from` stays writable until its requests have drained: the application refuses what must not be lost
    /// by itself, and could not finish the pages it is making.
    pub drains_writable: bool,
}

/// What an update changed, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Files.
    pub files: FileChanges,
    /// Tables whose rows or columns differ, in the order of their names.
    pub tables: Vec<TableChange>,
}

/// Files that differ, the database's own files not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChanges {
    /// How many appeared.
    pub added: u64,
    /// How many differ.
    pub changed: u64,
    /// How many are gone.
    pub removed: u64,
    /// The first of them, each with `+`, `~` or `-` in front.
    pub examples: Vec<String>,
}

/// A table that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChange {
    /// Its name.
    pub name: String,
    /// Rows before; `None`: the table is new.
    pub rows_before: Option<u64>,
    /// Rows after; `None`: the table is gone.
    pub rows_after: Option<u64>,
}

/// What a run needs from the layer above. Every method may be called again with the same arguments after a crash in
/// the middle of it, and then ends in the same state as if there had been none.
pub trait Operations {
    /// The time.
    fn now(&self) -> Timestamp;

    /// The facts a plan stands on; an error when site, platform or recipe do not exist.
    fn inspect(&self, site: &SiteName, target: &PlatformName) -> Result<Inspection, Failure>;

    /// Takes a durable snapshot of a generation with the site's data and database. Under a hold of that generation,
    /// the state held; else the database is locked for the instant it takes.
    fn snapshot(
        &self,
        of: &GenerationName,
        message: &str,
        author: &str,
        reading: Reading,
    ) -> Result<SnapshotId, Failure>;

    /// As [`Operations::snapshot`] with [`Reading::Nothing`], of which a generation is made next: the database is copied while it
    /// is held, where that is the faster way to a copy, and dumped beside what follows. What stands for the snapshot is
    /// forgotten with these operations.
    fn begin_snapshot(&self, of: &GenerationName, message: &str, author: &str) -> Result<Begun, Failure>;

    /// Waits for the end of a snapshot that was begun and not finished, and names it; `made` is the generation that was
    /// made of it.
    fn finish_snapshot(&self, begun: SnapshotId, made: &GenerationName) -> Result<SnapshotId, Failure>;

    /// Proves that a snapshot can be restored: reads every object back and compares it with its name, restores the
    /// database and compares its tables. An error when anything is not as it should be.
    fn verify(&self, snapshot: SnapshotId) -> Result<Verified, Failure>;

    /// Reads the database in a snapshot back from the store, each piece compared with its name; how many bytes.
    /// Nothing is restored, so it costs little: for whoever has visitors waiting.
    fn read_back(&self, snapshot: SnapshotId) -> Result<u64, Failure>;

    /// Makes the site `name` (kind clone) from a snapshot, with its own data and database and the recipe's settings
    /// file, and a generation of it on `platform`, reachable there when this returns.
    fn create_clone(
        &self,
        name: &SiteName,
        snapshot: SnapshotId,
        platform: &PlatformName,
    ) -> Result<GenerationName, Failure>;

    /// Deletes a clone with all it has. No error when there is none; an error when the site is not a clone.
    fn delete_clone(&self, name: &SiteName) -> Result<(), Failure>;

    /// Sets a new generation number of the site aside, never given out before. Durable.
    fn reserve_generation(&self, site: &SiteName) -> Result<GenerationName, Failure>;

    /// Makes a generation of the site under a reserved number, code and database as in the snapshot, with the
    /// recipe's settings file, in the state `Prepared`, reachable at `platform` in a lane that is not showing the live one. The data stays the site's.
    fn prepare_generation(
        &self,
        name: &GenerationName,
        snapshot: SnapshotId,
        platform: &PlatformName,
        database: DatabaseSource<'_>,
    ) -> Result<(), Failure>;

    /// Takes from a generation that is not live the database on a server that a later one has too. No error when it
    /// has none.
    fn give_up_database(&self, generation: &GenerationName) -> Result<(), Failure>;

    /// Takes a generation out of the way that is not live, also as the one to go back to. No error when it is not
    /// there.
    fn discard_generation(&self, name: &GenerationName) -> Result<(), Failure>;

    /// The facts of a generation, `run` and `step` left empty.
    fn facts(&self, of: &GenerationName) -> Result<Facts, Failure>;

    /// Runs a command in the docroot of the generation's platform, its output line by line (both streams) to `output`. No process of it outlives the
    /// call, or the start of the next daemon. What it wrote is durable when this returns. An error only when it could not be started.
    fn run_command(
        &self,
        request: &CommandRequest,
        output: &mut dyn FnMut(&str),
    ) -> Result<CommandEnd, Failure>;

    /// Runs the administrator's hooks, one after the other, their output line by line to `output`. The first that fails,
    /// or takes too long, is an error, and the others are left out. None outlives the call, or the start of the next
    /// daemon.
    fn run_hooks(&self, request: &HookRequest, output: &mut dyn FnMut(&str)) -> Result<(), Failure>;

    /// Asks for a page. `None`: nobody has told the site's address, or where its PHP listens. An error when there is no
    /// answer.
    fn fetch_page(&self, request: &PageRequest) -> Result<Option<Page>, Failure>;

    /// What differs between a snapshot and what a generation holds now.
    fn compare(&self, snapshot: SnapshotId, generation: &GenerationName) -> Result<Changes, Failure>;

    /// Waits until a new generation of the site can be shown on the platform without changing what requests that are
    /// running have begun with.
    fn wait_for_lane(&self, site: &SiteName, platform: &PlatformName) -> Result<(), Failure>;

    /// Waits, for a bounded time, until requests are done that may write to a generation and began before they were
    /// told not to.
    fn wait_for_last_writers(&self, of: &GenerationName) -> Result<(), Failure>;

    /// Begins to hold writes to a generation's database: when this returns, every write accepted before is
    /// committed, and none is accepted until the hold ends; who writes waits. Reading goes on.
    fn hold_writes(&self, generation: &GenerationName) -> Result<HoldId, Failure>;

    /// Keeps whoever writes from a site without locking its database: the web server lets their requests wait, or
    /// refuses them, until the hold ends. For a generation whose database is being updated.
    fn hold_requests(&self, generation: &GenerationName) -> Result<HoldId, Failure>;

    /// Whether the hold is in force, and has been without a gap since it began.
    fn is_held(&self, hold: HoldId) -> bool;

    /// Ends a hold. No error when it has ended.
    fn release_writes(&self, hold: HoldId) -> Result<(), Failure>;

    /// The number of the live generation.
    fn live_generation(&self, site: &SiteName) -> Result<u64, Failure>;

    /// Moves the live pointer, durably when this returns `Ok`. In this order: `from` becomes read-only, unless it is to
    /// drain first, so that a writer who waits for the hold to end is refused and not forgotten; the hold is seen to be in force still, or
    /// `from` becomes writable again and it is an error; one transaction makes `to` live and `from` previous; `to`
    /// is writable and visitors get it. Moving back is the same with the numbers exchanged. No error when `to` is
    /// live.
    fn switch_live(&self, switch: &Switch) -> Result<(), Failure>;
}
