//! What a recipe has done: shell lines and checks.

use std::fmt;

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

/// Seconds an HTTP check may take where it does not say otherwise: the first page after a cache rebuild is slow.
const CHECK_SECONDS_DEFAULT: u32 = 30;

/// One shell line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The line, for `sh -c`.
    pub run: String,
    /// Seconds it may take; `None`: as the recipe says.
    pub timeout_seconds: Option<u32>,
}

/// One way to find out whether a site works: a command that must succeed, or a page that must be as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is found out by it, for people.
    pub title: String,
    /// What must hold.
    pub expectation: Expectation,
    /// Seconds until it counts as failed.
    pub seconds_max: u32,
}

/// What a check expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The shell line ends with 0. Checked on every copy of the site.
    Command(String),
    /// A page of the live site is as expected. Nothing else has an address.
    Page(ExpectedPage),
}

/// A page, and what it must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedPage {
    /// The path and query, from `/`.
    pub path: String,
    /// The status it must have.
    pub status: u16,
    /// Texts it must contain.
    pub contains: Vec<String>,
    /// Texts it must not contain.
    pub lacks: Vec<String>,
}

/// A line alone, or a table with its timeout. Not an untagged enum: that could not say which key is wrong.
impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Command, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            run: String,
            timeout_seconds: Option<u32>,
        }
        struct LineOrTable;
        impl<'de> Visitor<'de> for LineOrTable {
            type Value = Command;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a shell line, or a table { run = \"LINE\", timeout_seconds = N }")
            }
            fn visit_str<E: de::Error>(self, run: &str) -> Result<Command, E> {
                Ok(Command { run: run.to_owned(), timeout_seconds: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Command, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Command { run: table.run, timeout_seconds: table.timeout_seconds })
            }
        }
        deserializer.deserialize_any(LineOrTable)
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Check, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            title: Option<String>,
            run: Option<String>,
            page: Option<String>,
            status: Option<u16>,
            #[serde(default)]
            contains: Vec<String>,
            #[serde(default)]
            lacks: Vec<String>,
            seconds_max: Option<u32>,
        }
        let table = Table::deserialize(deserializer)?;
        let of_a_page = table.status.is_some() || !table.contains.is_empty() || !table.lacks.is_empty();
        let expectation = match (table.run, table.page) {
            (Some(run), None) if !of_a_page => Expectation::Command(run),
            (Some(_), None) => {
                return Err(de::Error::custom(
                    "`status`, `contains` and `lacks` are for a check with `page`",
                ));
            }
            (None, Some(path)) if path.starts_with('/') => Expectation::Page(ExpectedPage {
                path,
                status: table.status.unwrap_or(200),
                contains: table.contains,
                lacks: table.lacks,
            }),
            (None, Some(path)) => {
                return Err(de::Error::custom(format!("`page` must start with a slash: {path:?}")));
            }
            _ => return Err(de::Error::custom("a check has either `run` or `page`")),
        };
        let title = table.title.unwrap_or_else(|| match &expectation {
            Expectation::Command(line) => line.clone(),
            Expectation::Page(page) => page.path.clone(),
        });
        Ok(Check { title, expectation, seconds_max: table.seconds_max.unwrap_or(CHECK_SECONDS_DEFAULT) })
    }
}
