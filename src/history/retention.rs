//! Which snapshots of a site a schedule keeps.

use std::collections::{BTreeMap, BTreeSet};

use super::{SnapshotId, SnapshotRecord};
use crate::base::Timestamp;

/// For how many hours, days, weeks and months one snapshot each is kept: the newest. Hours without a snapshot do not
/// count, so a site that rests for a month keeps as many as one that does not. All are those of UTC, weeks begin on
/// Monday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Hours.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// Weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
}

/// Why a snapshot is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is the newest of the site.
    Newest,
    /// It has a tag.
    Tagged,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
}

/// The number of the hour, day, week or month that a time in seconds is in.
type Period = fn(i64) -> i64;

const SECONDS_A_DAY: i64 = 86_400;

/// Months since the year 0 (<https://howardhinnant.github.io/date_algorithms.html>, `civil_from_days`).
fn month(days: i64) -> i64 {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Counted from March, so that the day that some years have more is a year's last.
    let month = (5 * day_of_year + 2) / 153;
    (year_of_era + era * 400) * 12 + month + 2
}

impl Retention {
    /// Whether it keeps nothing by age.
    pub fn is_empty(&self) -> bool {
        *self == Retention::default()
    }

    /// Which of a site's snapshots are kept and why, the newest and the `tagged` ones in any case.
    pub fn keep(
        &self,
        snapshots: &[SnapshotRecord],
        tagged: &BTreeSet<SnapshotId>,
    ) -> BTreeMap<SnapshotId, Vec<Reason>> {
        let mut ordered: Vec<(Timestamp, SnapshotId)> =
            snapshots.iter().map(|record| (record.created, record.id)).collect();
        ordered.sort_unstable();
        ordered.reverse();
        let mut kept: BTreeMap<SnapshotId, Vec<Reason>> = BTreeMap::new();
        let mut keep = |id, reason| kept.entry(id).or_default().push(reason);
        if let Some((_, newest)) = ordered.first() {
            keep(*newest, Reason::Newest);
        }
        ordered.iter().filter(|(_, id)| tagged.contains(id)).for_each(|(_, id)| keep(*id, Reason::Tagged));
        let schedules: [(u32, Reason, Period); 4] = [
            (self.hourly, Reason::Hourly, |seconds| seconds.div_euclid(3_600)),
            (self.daily, Reason::Daily, |seconds| seconds.div_euclid(SECONDS_A_DAY)),
            // The first day of 1970 was a Thursday.
            (self.weekly, Reason::Weekly, |seconds| (seconds.div_euclid(SECONDS_A_DAY) + 3).div_euclid(7)),
            (self.monthly, Reason::Monthly, |seconds| month(seconds.div_euclid(SECONDS_A_DAY))),
        ];
        for (count, reason, period) in schedules {
            let mut last = None;
            let mut left = count;
            for (created, id) in &ordered {
                let current = period(created.parts().0);
                if left > 0 && last != Some(current) {
                    keep(*id, reason);
                    last = Some(current);
                    left -= 1;
                }
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::objects::{Kind, ObjectId};

    fn snapshot(time: &str) -> SnapshotRecord {
        SnapshotRecord {
            site: "shop".parse().unwrap(),
            id: SnapshotId(ObjectId::of(Kind::Snapshot, time.as_bytes())),
            created: time.parse().unwrap(),
            author: String::new(),
            message: String::new(),
            volume: 1,
        }
    }

    fn kept(retention: Retention, snapshots: &[SnapshotRecord]) -> Vec<String> {
        let kept = retention.keep(snapshots, &BTreeSet::new());
        let mut times: Vec<String> = snapshots
            .iter()
            .filter(|record| kept.contains_key(&record.id))
            .map(|record| record.created.to_string())
            .collect();
        times.sort();
        times
    }

    #[test]
    fn the_newest_of_each_period_stays() {
        let times = [
            "2024-02-29T23:59:59Z",
            "2024-03-01T00:00:00Z",
            "2025-12-31T10:00:00Z",
            // A Sunday and the Monday after it.
            "2026-11-15T08:00:00Z",
            "2026-11-16T07:10:00Z",
            "2026-11-16T07:50:00Z",
            "2026-11-16T08:00:00Z",
        ];
        let snapshots = times.map(snapshot);
        let of =
            |hourly, daily, weekly, monthly| kept(Retention { hourly, daily, weekly, monthly }, &snapshots);
        assert_eq!(of(0, 0, 0, 0), [times[6]]);
        assert_eq!(of(2, 0, 0, 0), [times[5], times[6]]);
        assert_eq!(of(3, 0, 0, 0), [times[3], times[5], times[6]]);
        assert_eq!(of(0, 2, 0, 0), [times[3], times[6]]);
        assert_eq!(of(0, 0, 2, 0), [times[3], times[6]]);
        assert_eq!(of(0, 0, 3, 0), [times[2], times[3], times[6]]);
        assert_eq!(of(0, 0, 0, 2), [times[2], times[6]]);
        assert_eq!(of(0, 0, 0, 9), [times[0], times[1], times[2], times[6]]);
    }

    #[test]
    fn a_tag_keeps_for_ever_and_says_so() {
        let snapshots = ["2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"].map(snapshot);
        let tagged = BTreeSet::from([snapshots[0].id]);
        let kept = Retention { daily: 1, ..Retention::default() }.keep(&snapshots, &tagged);
        assert_eq!(kept[&snapshots[0].id], [Reason::Tagged]);
        assert_eq!(kept[&snapshots[1].id], [Reason::Newest, Reason::Daily]);
        assert_eq!(Retention::default().keep(&[], &tagged), BTreeMap::new());
    }

    proptest! {
        /// Pruning every day keeps the same as pruning once at the end, however often it ran in between: what a
        /// schedule would keep later is never taken away before.
        #[test]
        fn pruning_often_keeps_what_pruning_once_keeps(
            hours in proptest::collection::btree_set(0_i64..24 * 400, 1..60),
            hourly in 0_u32..4, daily in 0_u32..5, weekly in 0_u32..4, monthly in 0_u32..4,
        ) {
            let retention = Retention { hourly, daily, weekly, monthly };
            let at = |hour: i64| {
                let time = Timestamp::from_parts(1_780_000_000 + hour * 3_600, 0);
                SnapshotRecord { created: time, ..snapshot(&time.to_string()) }
            };
            let all: Vec<SnapshotRecord> = hours.iter().map(|hour| at(*hour)).collect();
            let mut often: Vec<SnapshotRecord> = Vec::new();
            for record in &all {
                often.push(record.clone());
                let kept = retention.keep(&often, &BTreeSet::new());
                often.retain(|record| kept.contains_key(&record.id));
            }
            prop_assert_eq!(kept(retention, &often), kept(retention, &all));
        }
    }
}
