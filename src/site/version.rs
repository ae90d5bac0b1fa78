//! Versions of applications, as far as they can be compared without knowing the application.

use std::cmp::Ordering;

/// Whether `version` is older than `other`, by the numbers in both: from left to right, as far as both have some; what
/// is no number only separates. So `1.43.0-rc.1` and `1.43.0` are as good as equal, which is no reason to refuse anything.
pub fn is_older_version(version: &str, other: &str) -> bool {
    let pairs = numbers(version).into_iter().zip(numbers(other));
    pairs.map(|(left, right)| left.cmp(&right)).find(|order| order.is_ne()) == Some(Ordering::Less)
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|character: char| !character.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (older, newer) in [("1.9", "1.10"), ("10.9.9", "11.0.0"), ("7.x-1", "7.x-2")] {
            assert!(is_older_version(older, newer) && !is_older_version(newer, older), "{older} {newer}");
        }
        for (left, right) in [("1.43.0-rc.1", "1.43.0"), ("1.43", "1.43.2"), ("main", "1.2"), ("2", "2")] {
            assert!(!is_older_version(left, right) && !is_older_version(right, left), "{left} {right}");
        }
    }
}
