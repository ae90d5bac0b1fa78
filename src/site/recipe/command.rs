//! What a recipe has done: shell lines and checks.

use std::fmt;

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

/// Seconds an HTTP check may take where it does not say otherwise: the first page after a cache rebuild is slow.
const CHECK_SECONDS_DEFAULT: u32 = 30;

/// How often a page may be asked for by one check: visitors wait meanwhile.
const REQUESTS_MAX: u32 = 10_000;

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
    /// Whether it is made again after the switch, when writers wait for it. No use for a command that sees the same as
    /// before: a generation's own directory, and not what visitors get.
    pub after_switch: bool,
}

/// What a check expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The shell line ends with 0. Checked on every copy of the site.
    Command(String),
    /// A page is as expected: of the live site, which alone has an address, and of the copies where PHP-FPM can be asked
    /// for it without one.
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
    /// How many times it is asked for; at least once.
    pub requests: u32,
    /// How many of them may fail.
    pub failures_max: u32,
    /// Seconds for all of them together; `None`: no more than each may take.
    pub seconds_total_max: Option<u32>,
    /// Whether the copies are asked too: the rehearsal's clone, and the new generation before it is live.
    pub copies: bool,
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
            requests: Option<u32>,
            failures_max: Option<u32>,
            seconds_total_max: Option<u32>,
            #[serde(default)]
            copies: bool,
            after_switch: Option<bool>,
        }
        let table = Table::deserialize(deserializer)?;
        let counts = [table.requests, table.failures_max, table.seconds_total_max];
        let of_a_page = table.status.is_some()
            || !table.contains.is_empty()
            || !table.lacks.is_empty()
            || counts.iter().any(Option::is_some)
            || table.copies;
        let (requests, failures_max) = (table.requests.unwrap_or(1), table.failures_max.unwrap_or(0));
        if requests == 0 || requests > REQUESTS_MAX || failures_max >= requests {
            return Err(de::Error::custom(format!(
                "`requests` must be from 1 to {REQUESTS_MAX}, and `failures_max` less than that"
            )));
        }
        let expectation = match (table.run, table.page) {
            (Some(run), None) if !of_a_page => Expectation::Command(run),
            (Some(_), None) => {
                return Err(de::Error::custom(
                    "only a check with `page` has `status`, `contains`, `lacks`, `requests`, `failures_max`, \
                     `seconds_total_max` or `copies`",
                ));
            }
            (None, Some(path)) if path.starts_with('/') => Expectation::Page(ExpectedPage {
                path,
                status: table.status.unwrap_or(200),
                contains: table.contains,
                lacks: table.lacks,
                requests,
                failures_max,
                seconds_total_max: table.seconds_total_max,
                copies: table.copies,
            }),
            (None, Some(path)) => {
                return Err(de::Error::custom(format!("`page` must start with a slash: {path:?}")));
            }
            _ => return Err(de::Error::custom("a check has either `run` or `page`")),
        };
        if table.after_switch.is_some() && matches!(expectation, Expectation::Page(_)) {
            return Err(de::Error::custom("only a check with `run` has `after_switch`"));
        }
        let title = table.title.unwrap_or_else(|| match &expectation {
            Expectation::Command(line) => line.clone(),
            Expectation::Page(page) => page.path.clone(),
        });
        Ok(Check {
            title,
            expectation,
            seconds_max: table.seconds_max.unwrap_or(CHECK_SECONDS_DEFAULT),
            after_switch: table.after_switch.unwrap_or(true),
        })
    }
}
