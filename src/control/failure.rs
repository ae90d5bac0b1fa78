//! How a request ends when it does not end well.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of ending it is; decides the exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// It was tried and did not work; nothing half-done remains.
    Failed,
    /// The request itself makes no sense: a name that does not exist, arguments that contradict each other.
    Usage,
    /// A safety check forbids it; nothing was tried.
    Refused,
    /// It was tried, a check found the result bad, and everything is as it was before.
    RolledBack,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [FailureKind; 4] =
        [FailureKind::Failed, FailureKind::Usage, FailureKind::Refused, FailureKind::RolledBack];

    /// The exit code of the command: 1 to 4.
    pub fn exit_code(self) -> u8 {
        match self {
            FailureKind::Failed => 1,
            FailureKind::Usage => 2,
            FailureKind::Refused => 3,
            FailureKind::RolledBack => 4,
        }
    }
}

/// What failed, why, and what to do next, in words for the administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// What failed; lower case, without a full stop.
    pub message: String,
    /// Why, from the nearest cause to the deepest.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// Tried, and did not work.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Failed, message)
    }

    /// The request makes no sense.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Usage, message)
    }

    /// A safety check forbids it.
    pub fn refused(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Refused, message)
    }

    /// Tried, found bad, taken back.
    pub fn rolled_back(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::RolledBack, message)
    }

    /// Adds `error` and its sources to the causes. A source whose text the one above it already ends with is left
    /// out: many errors quote their source.
    pub fn because(mut self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if !self.causes.last().unwrap_or(&self.message).ends_with(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds one cause in words.
    pub fn because_of(mut self, cause: impl Into<String>) -> Failure {
        self.causes.push(cause.into());
        self
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}

/// All of it in one line, what to do next left out.
impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(out, ": {cause}"))
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        assert_eq!(FailureKind::ALL.map(FailureKind::exit_code), [1, 2, 3, 4]);
    }

    #[test]
    fn causes_are_listed_once_each() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open /x: {source}")]
        struct Quoting {
            source: std::io::Error,
        }
        let error = Quoting { source: std::io::Error::other("the disk is gone") };
        let failure = Failure::failed("cannot take the snapshot").because(&error);
        assert_eq!(failure.causes, ["cannot open /x: the disk is gone"]);
    }
}
