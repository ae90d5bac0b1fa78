//! What is going to be done, before it is, and what speaks against it.

use super::steps::title;
use super::{Inspection, Run, StepKind, Strategy, UpdateError};
use crate::base::{PlatformName, SiteName, Timestamp};
use crate::database::CopiedAsFiles;
use crate::site::is_older_version;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateRequest {
    /// The site.
    pub site: SiteName,
    /// The platform to go to.
    pub platform: PlatformName,
    /// How.
    pub strategy: Strategy,
    /// Shell lines that must succeed, beside the recipe's checks.
    pub checks: Vec<String>,
    /// Whether the rehearsal's clone is kept.
    pub keep_test: bool,
    /// Whether a platform of an older version is accepted.
    pub allow_downgrade: bool,
    /// Who asks: a user name of this machine.
    pub who: String,
}

/// What is going to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The site.
    pub site: SiteName,
    /// How.
    pub strategy: Strategy,
    /// What that means for this site, and what the other one would.
    pub choice: String,
    /// The application, for people.
    pub application: String,
    /// The platform the site is on, with its version where known.
    pub from: String,
    /// The platform it goes to, with its version where known.
    pub to: String,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// How long writes will be held, in seconds, as the last run of the site with the same strategy had it.
    pub window_seconds_expected: Option<f64>,
    /// What the administrator should know and that is no reason to refuse.
    pub warnings: Vec<String>,
}

/// One step that is going to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// Which.
    pub kind: StepKind,
    /// What will be done, with the names of what will be made.
    pub title: String,
    /// How long it took in the last run of the site, in seconds.
    pub seconds_expected: Option<f64>,
}

/// Free space below which no update begins, in bytes: the snapshots' lists, the catalog and logs need some whatever
/// the size of the database.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// How many copies of the database an update may write: the clone's pages, the new generation's, and as much again
/// in snapshots of both.
const DATABASE_COPIES_MAX: u64 = 3;

impl Plan {
    /// The plan for a request, or why it is refused. `former` are the site's runs, the oldest first.
    pub(super) fn new(
        request: &UpdateRequest,
        inspection: &Inspection,
        former: &[Run],
    ) -> Result<Plan, UpdateError> {
        if let Some(reason) = objection(request, inspection) {
            return Err(UpdateError::Refused(reason));
        }
        let mut planned = Run::new(request, inspection, Timestamp::default())?;
        planned.clone = format!("{}--rehearsal-RUN", request.site).parse().unwrap_or(planned.clone);
        let last = Run::last_like(former, request.strategy);
        let step = |kind: &StepKind| PlannedStep {
            kind: *kind,
            title: title(*kind, &planned),
            seconds_expected: last.and_then(|run| run.step(*kind)).and_then(|step| step.seconds()),
        };
        Ok(Plan {
            site: request.site.clone(),
            strategy: request.strategy,
            choice: choice(request.strategy, inspection),
            application: inspection.recipe.title.clone(),
            from: with_version(&inspection.platform, inspection.version.as_deref()),
            to: with_version(&request.platform, inspection.target_version.as_deref()),
            steps: request.strategy.steps().iter().map(step).collect(),
            window_seconds_expected: last.and_then(Run::window_seconds),
            warnings: warnings(request, inspection),
        })
    }
}

/// Why the update must not begin.
fn objection(request: &UpdateRequest, inspection: &Inspection) -> Option<String> {
    let (site, target, recipe) = (&request.site, &request.platform, &inspection.recipe.name);
    if inspection.platform == *target {
        return Some(format!("{site} is on {target} already"));
    }
    if !inspection.missing_from_target.is_empty() {
        return Some(format!(
            "{target} is no platform for {site}: the recipe {recipe} asks for {}, which it has not",
            inspection.missing_from_target.join(", ")
        ));
    }
    if !inspection.missing_programs.is_empty() {
        return Some(format!(
            "the recipe {recipe} needs {}, which cannot be found: install it, or set PATH in the recipe",
            inspection.missing_programs.join(", ")
        ));
    }
    if let (Some(from), Some(to)) = (&inspection.version, &inspection.target_version)
        && !request.allow_downgrade
        && is_older_version(to, from)
    {
        return Some(format!(
            "{target} has version {to}, older than {from} which {site} is on: its code may not know the database's \
             schema. Go back with `sitefs rollback {site}`, or say --allow-downgrade"
        ));
    }
    if request.strategy == Strategy::InPlace && inspection.read_only {
        return Some(format!(
            "{site} is in read-only mode, in which its live database cannot be updated: end that (sitefs readonly \
             {site} off), or use the strategy switch"
        ));
    }
    if let Some(objection) = &inspection.database_objection {
        return Some(format!("the database of {site} is not ready for an update: {objection}"));
    }
    if let Some(objection) = &inspection.pages_objection {
        return Some(format!(
            "{objection}, and the recipe {recipe} asks for pages of {site} after the switch: without an answer it would \
             be switched back. Start the web server, or say where it is (sitefs site set {site} uri http://...); with an \
             empty address no page is asked for"
        ));
    }
    let needed = FREE_BYTES_MIN.saturating_add(DATABASE_COPIES_MAX.saturating_mul(inspection.database_bytes));
    if inspection.free_bytes < needed {
        return Some(format!(
            "the store has {} MiB left and the update may need {}: make room with `sitefs prune` and `sitefs gc`",
            inspection.free_bytes >> 20,
            needed.div_ceil(1 << 20)
        ));
    }
    None
}

/// What the strategy means for this site, and what the other one would.
fn choice(strategy: Strategy, inspection: &Inspection) -> String {
    let mebibytes = inspection.database_bytes.div_ceil(1 << 20);
    let copy = match (inspection.database_bytes, inspection.database_on_server) {
        (0, _) => "there is no database to copy".to_owned(),
        (_, true) => copy_on_server(mebibytes, inspection.database_as_files.as_ref()),
        (_, false) => {
            format!("copying the database ({mebibytes} MiB) costs next to nothing, as copies share it")
        }
    };
    let meaning = match strategy {
        Strategy::Switch => format!(
            "switch: a copy of the site is updated while visitors read the old release, then one pointer moves; going \
             back moves it back and restores nothing. For that the database is copied while writes are held: {copy}. \
             in-place would update the live one, with readers on it"
        ),
        Strategy::InPlace => format!(
            "in-place: the pointer moves first and the live database is updated, with whoever reads on it; if that \
             fails, the snapshot taken when writes were held is restored. The database is not copied while writes \
             are held; with switch it would be: {copy}, readers would see no half-updated site, and nothing would \
             have to be restored"
        ),
    };
    match inspection.database_on_server && inspection.database_bytes > 0 {
        true => format!(
            "{meaning}. The rehearsal needs no copy of its own: it takes over the database that proves the backup"
        ),
        false => meaning,
    }
}

/// How a database on a server is copied while writes are held.
fn copy_on_server(mebibytes: u64, as_files: Option<&CopiedAsFiles>) -> String {
    let cost = format!("takes time, and {mebibytes} MiB on its server");
    match as_files {
        Some(CopiedAsFiles::Tables { count, bytes }) if *count > 0 => {
            let tables = if *count == 1 { "table is" } else { "tables are" };
            format!(
                "its {count} large {tables} copied as files ({} MiB), the rest is read from a dump, which {cost}",
                bytes.div_ceil(1 << 20)
            )
        }
        Some(CopiedAsFiles::Nothing(reason)) => {
            format!(
                "reading a dump of the database into a new one {cost} (large tables cannot be copied as files: {reason})"
            )
        }
        _ => format!("reading a dump of the database into a new one {cost}"),
    }
}

fn warnings(request: &UpdateRequest, inspection: &Inspection) -> Vec<String> {
    let recipe = &inspection.recipe;
    let mut warnings = Vec::new();
    if let Some(drift) = &inspection.target_drift {
        warnings.push(drift.clone());
    }
    if !inspection.tables_without_transactions.is_empty() {
        warnings.push(format!(
            "tables {} have no transactions: writers wait while a snapshot reads the database, not only at its \
             beginning (ALTER TABLE ... ENGINE=InnoDB changes that)",
            inspection.tables_without_transactions.join(", ")
        ));
    }
    for page in &inspection.pages_amiss {
        warnings.push(format!("{page}; if it is so after the switch too, the site will be switched back"));
    }
    if recipe.update.commands.is_empty() {
        warnings.push(format!("the recipe {} has no update command: only the code changes", recipe.name));
    }
    if recipe.checks.is_empty() && request.checks.is_empty() {
        warnings.push(format!(
            "nothing is checked: the recipe {} has no check and no --check is given, so only a failing command can \
             stop the update",
            recipe.name
        ));
    }
    warnings
}

fn with_version(platform: &PlatformName, version: Option<&str>) -> String {
    version.map_or_else(|| platform.to_string(), |version| format!("{platform} ({version})"))
}
