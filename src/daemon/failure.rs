//! How the errors of the layers below become failures of a verb. They say themselves what failed.

use crate::control::{Failure, FailureKind};
use crate::history::HistoryError;
use crate::site::RecipeError;
use crate::update::UpdateError;

/// What is no failure of the machine but a request that makes no sense, or one that a safety check forbids.
fn kind(error: &(dyn std::error::Error + 'static)) -> FailureKind {
    let history = error.downcast_ref::<HistoryError>().map(|error| match error {
        HistoryError::Unknown { .. }
        | HistoryError::Ambiguous { .. }
        | HistoryError::NoneThen { .. }
        | HistoryError::TagReserved { .. } => FailureKind::Usage,
        HistoryError::TagExists { .. } => FailureKind::Refused,
        HistoryError::Catalog(_)
        | HistoryError::Objects(_)
        | HistoryError::Snapshot { .. }
        | HistoryError::NoVolumes => FailureKind::Failed,
    });
    let update = error.downcast_ref::<UpdateError>().map(|update| match update {
        UpdateError::Refused(_) | UpdateError::Running { .. } | UpdateError::Interrupted { .. } => {
            FailureKind::Refused
        }
        UpdateError::NothingInterrupted { .. } => FailureKind::Usage,
        UpdateError::Journal(_) | UpdateError::Recipe(_) => FailureKind::Failed,
        UpdateError::Survey(_) | UpdateError::Inspection(_) => {
            of_update(error).map_or(FailureKind::Failed, |below| below.kind)
        }
    });
    let recipe = error.downcast_ref::<RecipeError>().map(|error| match error {
        RecipeError::Unknown { .. } => FailureKind::Usage,
        RecipeError::File(_) | RecipeError::Syntax { .. } | RecipeError::Meaning { .. } => {
            FailureKind::Failed
        }
    });
    history.or(update).or(recipe).unwrap_or(FailureKind::Failed)
}

/// The failure of an operation of the daemon's own that an update was told of and tells in its turn.
fn of_update<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Failure> {
    match error.downcast_ref::<UpdateError>() {
        Some(UpdateError::Survey(below) | UpdateError::Inspection(below)) => below.downcast_ref(),
        _ => None,
    }
}

macro_rules! fails_as_it_says {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                let message = error.to_string();
                let mut failure = Failure::new(kind(&error), message);
                failure.hint = of_update(&error).and_then(|below| below.hint.clone());
                match std::error::Error::source(&error) {
                    Some(source) => failure.because(source),
                    None => failure,
                }
            }
        })*
    };
}

fails_as_it_says!(
    crate::base::FileError,
    crate::base::accounts::AccountError,
    crate::base::process::ProcessError,
    crate::database::DatabaseError,
    crate::fuse::SessionError,
    crate::fuse::mounts::MountsError,
    crate::history::CatalogError,
    HistoryError,
    crate::live::LiveError,
    crate::objects::ObjectsError,
    RecipeError,
    crate::trees::TreesError,
    UpdateError,
);
