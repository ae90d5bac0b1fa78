//! Validated names. A value of one of these types can be joined to a path or shown to a person as it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::limits::NAME_BYTES_MAX;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {reason}")]
pub struct NameError {
    what: &'static str,
    text: String,
    reason: &'static str,
}

/// Letters, digits, `.`, `-` and `_`, not starting with `.` or `-`: safe as a file name, a host name, a word of a
/// command line and a part of a reference (`SITE@ID`).
fn validate(what: &'static str, text: &str) -> Result<(), NameError> {
    let error = |reason| Err(NameError { what, text: text.to_owned(), reason });
    if text.is_empty() {
        return error("it is empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return error("it is longer than 200 bytes");
    }
    if text.starts_with(['.', '-']) {
        return error("it must not start with a dot or a hyphen");
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
        return error("use letters, digits, dots, hyphens and underscores only");
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                validate($what, text).map(|()| $name(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                validate($what, &text).map(|()| $name(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a site: the name of its directory below a platform's sites directory.
    SiteName,
    "site name"
);
name_type!(
    /// The name of a platform.
    PlatformName,
    "platform name"
);
name_type!(
    /// The name of a tag on a snapshot.
    TagName,
    "tag name"
);

/// One of the two places where a platform is shown, so that a new generation on the same platform has another
/// document root path than the one still serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// The platform's own directory.
    A,
    /// A bind mount of the platform's directory beside it: `PLATFORM@b`.
    B,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Lane; 2] = [Lane::A, Lane::B];

    /// The other lane.
    pub fn other(self) -> Lane {
        match self {
            Lane::A => Lane::B,
            Lane::B => Lane::A,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Lane::A => "a",
            Lane::B => "b",
        })
    }
}

/// A path below some directory: relative, not empty, without `.` or `..` or empty components.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

impl RelativePath {
    /// The components, first to last; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The path as text, without a leading or trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `path` is this path or below it.
    pub fn contains(&self, path: &RelativePath) -> bool {
        path.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The directories it is in, the outermost first; none for a single component.
    pub fn parents(&self) -> impl Iterator<Item = RelativePath> {
        self.0.match_indices('/').map(|(end, _)| RelativePath(self.0[..end].to_owned()))
    }

    /// This path below `directory`.
    pub fn below(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }
}

impl FromStr for RelativePath {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |reason| {
            Err(NameError { what: "path below the site's directory", text: text.to_owned(), reason })
        };
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if trimmed.is_empty() {
            return error("it is empty");
        }
        if trimmed.starts_with('/') {
            return error("it must be relative");
        }
        if trimmed.contains('\0') {
            return error("it contains a zero byte");
        }
        if trimmed.split('/').any(|component| matches!(component, "" | "." | "..")) {
            return error("it must not contain '.', '..' or empty components");
        }
        Ok(RelativePath(trimmed.to_owned()))
    }
}

impl TryFrom<String> for RelativePath {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> String {
        path.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for text in ["", ".", "..", "a/b", "-x", ".hidden", "a b", "a@b", "é", &"x".repeat(201)] {
            assert!(text.parse::<SiteName>().is_err(), "{text:?}");
        }
        for text in ["example.com", "www.example.com_8080", "drupal-10.3", "x"] {
            assert_eq!(text.parse::<SiteName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn relative_paths_cannot_climb() {
        for text in ["", "/", "/etc", "a//b", "../x", "a/..", "a/./b", "a\0b"] {
            assert!(text.parse::<RelativePath>().is_err(), "{text:?}");
        }
        let path: RelativePath = "files/css/".parse().unwrap();
        assert!(
            path.contains(&"files/css".parse().unwrap()) && path.contains(&"files/css/x".parse().unwrap())
        );
        assert!(!path.contains(&"files/css2".parse().unwrap()) && !path.contains(&"files".parse().unwrap()));
        assert_eq!(path.components().collect::<Vec<_>>(), ["files", "css"]);
        let parents = |text: &str| {
            text.parse::<RelativePath>().unwrap().parents().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(parents("a/b/c"), ["a", "a/b"]);
        assert!(parents("a").is_empty());
    }
}
