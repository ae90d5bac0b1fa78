//! The only door to the clock.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Span;

/// A point in time: nanoseconds since 1970-01-01 00:00:00 UTC, negative before it.
///
/// Covers the years 1677 to 2262; file times outside that range are clamped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time now.
    pub fn now() -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    /// From whole seconds and nanoseconds (`0..1_000_000_000`), as `stat` gives them; clamped to the range.
    pub fn from_parts(seconds: i64, nanoseconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    /// Whole seconds, rounded towards the past, and the nanoseconds that remain (`0..1_000_000_000`).
    pub fn parts(self) -> (i64, u32) {
        (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000) as u32)
    }

    /// To the minute, in this machine's time zone: `2026-11-21 15:03`.
    pub fn local_minute(self) -> String {
        match jiff::Timestamp::from_second(self.parts().0) {
            Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
            Err(_) => self.to_string(),
        }
    }

    /// This much later; clamped to the range.
    pub fn after(self, span: Span) -> Timestamp {
        self.shifted(i64::try_from(span.seconds()).unwrap_or(i64::MAX))
    }

    /// This much earlier; clamped to the range.
    pub fn before(self, span: Span) -> Timestamp {
        self.shifted(i64::try_from(span.seconds()).map_or(i64::MIN, |seconds| -seconds))
    }

    fn shifted(self, seconds: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(seconds.saturating_mul(1_000_000_000)))
    }

    /// The span since `earlier` in seconds; negative when `earlier` is later.
    pub fn seconds_since(self, earlier: Timestamp) -> f64 {
        (self.0.saturating_sub(earlier.0)) as f64 / 1e9
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => {
                Timestamp(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos))
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> SystemTime {
        let magnitude = std::time::Duration::from_nanos(time.0.unsigned_abs());
        if time.0 >= 0 { UNIX_EPOCH + magnitude } else { UNIX_EPOCH - magnitude }
    }
}

/// RFC 3339 in UTC, to the second: `2026-11-21T14:03:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, _) = self.parts();
        match jiff::Timestamp::from_second(seconds) {
            Ok(time) => write!(out, "{time}"),
            Err(_) => write!(out, "{seconds}s"),
        }
    }
}

/// A text that is not a point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time: write it as 2026-11-21T14:03:00Z, or with an offset such as +01:00 instead of Z"
)]
pub struct ParseTimestampError(String);

/// RFC 3339 with an offset.
impl FromStr for Timestamp {
    type Err = ParseTimestampError;
    fn from_str(text: &str) -> Result<Timestamp, ParseTimestampError> {
        let time: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError(text.to_owned()))?;
        Ok(Timestamp(i64::try_from(time.as_nanosecond()).map_err(|_| ParseTimestampError(text.to_owned()))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_round_trip_on_both_sides_of_the_epoch() {
        for nanos in [0, 1, -1, 1_500_000_000, -1_500_000_000, i64::MAX, i64::MIN + 1] {
            let (seconds, rest) = Timestamp(nanos).parts();
            assert!(rest < 1_000_000_000);
            assert_eq!(i128::from(seconds) * 1_000_000_000 + i128::from(rest), i128::from(nanos));
            assert_eq!(Timestamp::from(SystemTime::from(Timestamp(nanos))), Timestamp(nanos));
        }
    }

    #[test]
    fn display_is_rfc_3339() {
        assert_eq!(Timestamp::from_parts(0, 5).to_string(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_display_writes_is_read_back() {
        let time = Timestamp::from_parts(1_795_269_780, 0);
        assert_eq!(time.to_string().parse(), Ok(time));
        assert_eq!("2026-11-21T15:03:00+01:00".parse(), "2026-11-21T14:03:00Z".parse::<Timestamp>());
        for text in ["", "yesterday", "2026-11-21", "2026-13-01T00:00:00Z", "9000-01-01T00:00:00Z"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
    }
}
