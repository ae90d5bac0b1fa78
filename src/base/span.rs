//! Lengths of time as a person writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The units, longest first: their letter and their length in seconds.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Longest span, in seconds: a century, so that adding one to a time cannot leave the range of times.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// A length of time in whole seconds, at least one, written as numbers with a unit: `90s`, `30m`, `2h`, `7d`, `1w`,
/// or several together, longest first: `1d12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    seconds: u64,
}

/// A text that is not a span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time: write a number and a unit, as in 90s, 30m, 2h, 7d or 1w")]
pub struct SpanError(String);

impl Span {
    /// The length in seconds.
    pub fn seconds(self) -> u64 {
        self.seconds
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        Duration::from_secs(span.seconds)
    }
}

impl FromStr for Span {
    type Err = SpanError;
    fn from_str(text: &str) -> Result<Span, SpanError> {
        let mut rest = text;
        let mut seconds: u64 = 0;
        for (letter, length) in UNITS {
            let Some((count, after)) = rest.split_once(letter) else { continue };
            // Only digits: `parse` alone would accept a sign.
            let count: Option<u64> =
                count.bytes().all(|byte| byte.is_ascii_digit()).then(|| count.parse().ok()).flatten();
            seconds = count
                .and_then(|count| count.checked_mul(length))
                .and_then(|part| seconds.checked_add(part))
                .ok_or_else(|| SpanError(text.to_owned()))?;
            rest = after;
        }
        if rest.is_empty() && (1..=SECONDS_MAX).contains(&seconds) {
            Ok(Span { seconds })
        } else {
            Err(SpanError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;
    fn try_from(text: String) -> Result<Span, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

/// The shortest text that reads back as the same span: `1d12h`.
impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.seconds;
        for (letter, length) in UNITS {
            if rest >= length {
                write!(out, "{}{letter}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_writes_it_back() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800), ("1w", 604_800), ("1d12h", 129_600)]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.seconds(), seconds, "{text}");
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        assert_eq!("90s".parse::<Span>().unwrap().to_string(), "1m30s");
    }

    #[test]
    fn refuses_everything_else() {
        for text in
            ["", "0s", "5", "s", "-1d", "+1d", "1 d", "1h1d", "1x", "999999999999999999999d", "200000w"]
        {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
