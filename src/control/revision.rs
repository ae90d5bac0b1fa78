//! How a person names a state of a site.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::{NameError, SiteName, Span, TagName, Timestamp};

/// A state of a site: `SITE` or `SITE@live` (as it is now), `SITE@ID` (a snapshot, by the start of its id or by a
/// tag), `SITE@{2h}` (as of two hours ago), `SITE@{2026-11-21T14:03:00Z}` (as of then).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision {
    /// The site.
    pub site: SiteName,
    /// Which of its states.
    pub at: At,
}

/// Which state of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// As it is now; no snapshot.
    Live,
    /// The snapshot with this tag, else the one whose id starts with this text. Such a start has the syntax of a
    /// tag, so only who knows the tags can tell which it is.
    Named(TagName),
    /// The newest snapshot that is at least this old.
    Ago(Span),
    /// The newest snapshot taken at this time or before.
    Time(Timestamp),
}

/// A text that names no state of a site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// What comes before `@` is not a site's name, or what comes after it is not a tag.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What is in braces is neither a span nor a time.
    #[error(
        "{0:?} in braces is neither a length of time, as in {{2h}}, nor a time, as in {{2026-11-21T14:03:00Z}}"
    )]
    Braces(String),
    /// A snapshot has to be named, and this is the name of a site alone.
    #[error("{0:?} names no snapshot: write SITE@ID, SITE@TAG or SITE@{{2h}}; `sitefs log SITE` lists them")]
    NoSnapshot(String),
}

impl Revision {
    /// The site as it is now.
    pub fn live(site: SiteName) -> Revision {
        Revision { site, at: At::Live }
    }

    /// Reads the name of a snapshot: [`At::Live`] is an error.
    pub fn parse_snapshot(text: &str) -> Result<Revision, RevisionError> {
        let revision: Revision = text.parse()?;
        if revision.at == At::Live { Err(RevisionError::NoSnapshot(text.to_owned())) } else { Ok(revision) }
    }
}

impl FromStr for Revision {
    type Err = RevisionError;
    fn from_str(text: &str) -> Result<Revision, RevisionError> {
        let Some((site, at)) = text.split_once('@') else {
            return Ok(Revision::live(text.parse()?));
        };
        Ok(Revision { site: site.parse()?, at: at.parse()? })
    }
}

impl FromStr for At {
    type Err = RevisionError;
    fn from_str(text: &str) -> Result<At, RevisionError> {
        if let Some(braces) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return braces
                .parse()
                .map(At::Ago)
                .or_else(|_| braces.parse().map(At::Time))
                .map_err(|_| RevisionError::Braces(braces.to_owned()));
        }
        if text == "live" { Ok(At::Live) } else { Ok(At::Named(text.parse()?)) }
    }
}

impl fmt::Display for At {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Live => out.write_str("live"),
            At::Named(name) => name.fmt(out),
            At::Ago(span) => write!(out, "{{{span}}}"),
            At::Time(time) => write!(out, "{{{time}}}"),
        }
    }
}

/// Always with `@`.
impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.site, self.at)
    }
}

impl TryFrom<String> for Revision {
    type Error = RevisionError;
    fn try_from(text: String) -> Result<Revision, RevisionError> {
        text.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> String {
        revision.to_string()
    }
}

/// What a switch goes to: a generation by its number, or a state of a site, of which a generation is made first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// The generation with this number.
    Generation(u64),
    /// A snapshot, or another site as it is now.
    Revision(Revision),
}

/// A text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is neither the number of a generation nor a snapshot written as SITE@ID: `sitefs site show SITE` lists the generations, `sitefs log SITE` the snapshots"
)]
pub struct TargetError {
    text: String,
    source: Option<RevisionError>,
}

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Target, TargetError> {
        if let Ok(number) = text.parse() {
            return Ok(Target::Generation(number));
        }
        if !text.contains('@') {
            return Err(TargetError { text: text.to_owned(), source: None });
        }
        text.parse()
            .map(Target::Revision)
            .map_err(|source| TargetError { text: text.to_owned(), source: Some(source) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Generation(number) => number.fmt(out),
            Target::Revision(revision) => revision.fmt(out),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;
    fn try_from(text: String) -> Result<Target, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_itself() {
        for (text, written) in [
            ("shop.example", "shop.example@live"),
            ("shop.example@live", "shop.example@live"),
            ("shop.example@3fa9c1", "shop.example@3fa9c1"),
            ("shop.example@before-10.3", "shop.example@before-10.3"),
            ("shop.example@{2h}", "shop.example@{2h}"),
            ("shop.example@{2026-11-21T14:03:00Z}", "shop.example@{2026-11-21T14:03:00Z}"),
        ] {
            let revision: Revision = text.parse().unwrap();
            assert_eq!(revision.to_string(), written);
            assert_eq!(written.parse::<Revision>().unwrap(), revision);
        }
    }

    #[test]
    fn what_names_no_state_is_refused() {
        for text in ["", "@", "site@", "@tag", "site@a@b", "site@{}", "site@{soon}", "site@{2h", "a/b@c"] {
            assert!(text.parse::<Revision>().is_err(), "{text:?}");
        }
        for text in ["site", "site@live"] {
            assert!(matches!(Revision::parse_snapshot(text), Err(RevisionError::NoSnapshot(_))), "{text:?}");
        }
    }

    #[test]
    fn digits_alone_are_a_generation_and_a_site_alone_is_nothing() {
        assert_eq!("12".parse::<Target>().unwrap(), Target::Generation(12));
        assert!(matches!("12@live".parse::<Target>().unwrap(), Target::Revision(_)));
        assert!("shop".parse::<Target>().is_err());
    }
}
