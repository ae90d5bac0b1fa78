//! Numbers as people read them.

use crate::base::Timestamp;
use crate::control::response::Moment;

/// How many digits of a snapshot's id are shown: 48 bits, so that two of a million snapshots that begin alike are
/// not to be expected, and a line still has room for the rest.
const ID_DIGITS: usize = 12;

/// `281.0 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().expect("there are units");
    // From 1023.95 on, one decimal would read 1024.0.
    while scaled >= 1023.95 {
        let Some(next) = units.next() else { break };
        scaled /= 1024.0;
        unit = next;
    }
    format!("{scaled:.1} {unit}")
}

/// `23,257`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `23,257 files`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `3.1 ms`, `42 ms`, `3.2 s`, `61 s`, `2 min 05 s`, `1 h 02 min`.
pub(super) fn seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 0.009_95 => format!("{:.1} ms", seconds.max(0.0) * 1e3),
        _ if seconds < 0.999_5 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..120 => format!("{whole} s"),
        120..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
    }
}

/// `2 hours ago`, `in 6 days`.
pub(super) fn relative(time: Moment, now: Timestamp) -> String {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
    ];
    let distance = now.seconds_since(time.0);
    // Towards the event in both directions: a clone that was just made for 7 days expires in 7 days.
    let whole = if distance < 0.0 { distance.abs().ceil() } else { distance } as u64;
    // A unit from twice its length on: "13 days" says more than "1 week".
    let (number, unit) = UNITS
        .iter()
        .find(|(length, _)| whole >= 2 * length)
        .map_or((whole, "second"), |(length, unit)| (whole / length, *unit));
    let text = counted(number, unit, &format!("{unit}s"));
    if distance < 0.0 { format!("in {text}") } else { format!("{text} ago") }
}

/// `2026-11-21 14:03 (2 hours ago)`.
pub(super) fn time(time: Moment, now: Timestamp) -> String {
    format!("{} ({})", time.0.local_minute(), relative(time, now))
}

/// The start of an id that people handle.
pub(super) fn short_id(id: &str) -> &str {
    id.get(..ID_DIGITS).unwrap_or(id)
}

/// Texts in one line, or a word for none.
pub(super) fn list<T: ToString>(items: &[T], none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// The text with control characters made visible: a file name or a message must not steer the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_never_a_thousand_and_twenty_four() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_575, "1.0 MiB"),
            (294_649_856, "281.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
    }

    #[test]
    fn lengths_of_time_keep_two_digits_that_matter() {
        for (length, text) in [
            (0.0, "0.0 ms"),
            (0.003_14, "3.1 ms"),
            (0.009_99, "10 ms"),
            (0.042, "42 ms"),
            (0.999_9, "1.0 s"),
            (3.21, "3.2 s"),
            (9.96, "10 s"),
            (61.2, "61 s"),
            (125.0, "2 min 05 s"),
            (3_725.0, "1 h 02 min"),
        ] {
            assert_eq!(seconds(length), text);
        }
    }

    #[test]
    fn distances_in_time_read_in_both_directions() {
        let now = Timestamp::from_parts(1_000_000_000, 0);
        let at = |offset: i64| relative(Moment(Timestamp::from_parts(1_000_000_000 - offset, 0)), now);
        for (offset, text) in [
            (0, "0 seconds ago"),
            (1, "1 second ago"),
            (119, "119 seconds ago"),
            (7_205, "2 hours ago"),
            (13 * 86_400, "13 days ago"),
            (800 * 86_400, "2 years ago"),
            (-6 * 86_400, "in 6 days"),
        ] {
            assert_eq!(at(offset), text);
        }
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb\u{fffd}c");
    }
}
