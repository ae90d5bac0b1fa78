//! What can go wrong with a run.

use super::RunId;
use crate::base::SiteName;
use crate::history::CatalogError;
use crate::site::RecipeError;

/// Why an operation of the layer above did not work.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a run could not be begun, taken up or ended. That a step failed is not one of these: the run says it.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] CatalogError),
    /// The recipe that the run began with cannot be read any more.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A safety check says no; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The site has a run that is under way.
    #[error("run {run} is updating {site} now: wait for it, or stop it with `sitefs update {site} --abort`")]
    Running {
        /// The site.
        site: SiteName,
        /// The run.
        run: RunId,
    },
    /// The site has a run that was interrupted.
    #[error(
        "run {run} of {site} was interrupted: finish it with `sitefs update {site} --resume` or undo it with \
         `sitefs update {site} --abort`"
    )]
    Interrupted {
        /// The site.
        site: SiteName,
        /// The run.
        run: RunId,
    },
    /// There is nothing to resume or to abort.
    #[error("{site} has no interrupted run")]
    NothingInterrupted {
        /// The site.
        site: SiteName,
    },
    /// It could not be found out where an interrupted run stopped, or what has to be done again could not be taken
    /// back; the run is still interrupted.
    #[error("the interrupted run cannot be taken up: {0}")]
    Survey(#[source] Failure),
    /// The facts for the plan could not be gathered; nothing was changed.
    #[error("the update cannot be planned: {0}")]
    Inspection(#[source] Failure),
}
