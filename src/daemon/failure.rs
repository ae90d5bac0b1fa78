//! How the errors of the layers below become failures of a verb. They say themselves what failed.

use crate::control::{Failure, FailureKind};
use crate::update::UpdateError;

macro_rules! fails_as_it_says {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                let message = error.to_string();
                let failure = Failure::failed(message);
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
    crate::history::HistoryError,
    crate::live::LiveError,
    crate::objects::ObjectsError,
    crate::site::RecipeError,
    crate::trees::TreesError,
);

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Failure {
        let kind = match &error {
            UpdateError::Refused(_) | UpdateError::Running { .. } | UpdateError::Interrupted { .. } => {
                FailureKind::Refused
            }
            UpdateError::Journal(_)
            | UpdateError::Recipe(_)
            | UpdateError::NothingInterrupted { .. }
            | UpdateError::Survey(_)
            | UpdateError::Inspection(_) => FailureKind::Failed,
        };
        let failure = Failure::new(kind, error.to_string());
        match std::error::Error::source(&error) {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}
