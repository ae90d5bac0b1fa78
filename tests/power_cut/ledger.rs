//! What was asked, and what was acknowledged: what must be there after a cut, and what may be.

use std::collections::{BTreeMap, BTreeSet};

/// One state something was brought into.
#[derive(Clone, Debug)]
struct Version {
    /// The position before it was asked for.
    begun: u64,
    /// The position when it had been acknowledged as durable.
    acknowledged: Option<u64>,
    /// `None`: it is not there.
    value: Option<String>,
}

/// A snapshot whose id was printed.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: String,
    /// The position when it was.
    pub(crate) acknowledged: u64,
    /// Every saved file with its content.
    pub(crate) files: BTreeMap<String, String>,
    /// Pruning keeps it.
    pub(crate) is_tagged: bool,
    /// The position before a pruning that may remove it.
    pub(crate) removal_begun: Option<u64>,
    /// The position when it was said to be removed.
    pub(crate) removed: Option<u64>,
}

impl Snapshot {
    /// Whether it must be there after a cut.
    pub(crate) fn is_certain(&self, cut: u64) -> bool {
        self.acknowledged <= cut && self.removal_begun.is_none_or(|begun| begun > cut)
    }

    /// Whether it must not be there after a cut.
    pub(crate) fn is_gone(&self, cut: u64) -> bool {
        self.removed.is_some_and(|removed| removed <= cut)
    }
}

/// All that was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    registers: BTreeMap<String, Vec<Version>>,
    /// Directories made one after the other, most of them never synced: begun, and covered by a later sync.
    sequence: Vec<(u64, Option<u64>)>,
    pub(crate) snapshots: Vec<Snapshot>,
}

impl Ledger {
    /// `name` is about to become `value`.
    pub(crate) fn begin(&mut self, name: &str, value: Option<String>, position: u64) {
        let version = Version { begun: position, acknowledged: None, value };
        self.registers.entry(name.to_owned()).or_default().push(version);
    }

    /// What was begun last has been acknowledged.
    pub(crate) fn acknowledge(&mut self, name: &str, position: u64) {
        let version = self.registers.get_mut(name).and_then(|versions| versions.last_mut());
        version.expect("it was begun").acknowledged = Some(position);
    }

    /// What `name` is now.
    pub(crate) fn current(&self, name: &str) -> Option<String> {
        self.registers.get(name)?.last()?.value.clone()
    }

    /// The names that start with `prefix` and are there, with their values.
    pub(crate) fn present(&self, prefix: &str) -> BTreeMap<String, String> {
        let names = self.registers.keys().filter(|name| name.starts_with(prefix));
        names.filter_map(|name| Some((name[prefix.len()..].to_owned(), self.current(name)?))).collect()
    }

    /// Every name that anything was asked for before `cut`.
    pub(crate) fn names(&self, prefix: &str, cut: u64) -> Vec<String> {
        let begun = |versions: &[Version]| versions.first().is_some_and(|version| version.begun <= cut);
        let names =
            self.registers.iter().filter(|(name, versions)| name.starts_with(prefix) && begun(versions));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// What `name` may be after a cut: what was acknowledged last, or anything begun since.
    pub(crate) fn possible(&self, name: &str, cut: u64) -> Vec<Option<String>> {
        let Some(versions) = self.registers.get(name) else { return vec![None] };
        let is_acknowledged = |version: &Version| version.acknowledged.is_some_and(|at| at <= cut);
        let first = versions.iter().rposition(is_acknowledged);
        let mut possible: Vec<Option<String>> = versions[first.unwrap_or(0)..]
            .iter()
            .take_while(|version| version.begun <= cut)
            .map(|version| version.value.clone())
            .collect();
        if first.is_none() {
            possible.push(None);
        }
        possible
    }

    /// The next directory of the sequence is about to be made; its number.
    pub(crate) fn next_in_sequence(&mut self, position: u64) -> usize {
        self.sequence.push((position, None));
        self.sequence.len() - 1
    }

    /// A sync of something in the same volume was acknowledged: it covers all that came before.
    pub(crate) fn synced(&mut self, position: u64) {
        for (_, covered) in self.sequence.iter_mut().rev().take_while(|(_, covered)| covered.is_none()) {
            *covered = Some(position);
        }
    }

    /// How long the sequence must be, and may be, after a cut.
    pub(crate) fn sequence_length(&self, cut: u64) -> (usize, usize) {
        let least = self.sequence.iter().filter(|(_, covered)| covered.is_some_and(|at| at <= cut)).count();
        let most = self.sequence.iter().filter(|(begun, _)| *begun <= cut).count();
        (least, most)
    }

    /// After a crash somebody has looked: what `name` was found to be is what it is from now on.
    pub(crate) fn found(&mut self, name: &str, value: Option<String>, position: u64) {
        let version = Version { begun: position, acknowledged: Some(position), value };
        self.registers.insert(name.to_owned(), vec![version]);
    }

    /// All snapshots without a tag may be about to go.
    pub(crate) fn begin_removal(&mut self, position: u64) {
        for snapshot in self.snapshots.iter_mut().filter(|snapshot| !snapshot.is_tagged) {
            snapshot.removal_begun.get_or_insert(position);
        }
    }

    /// Those that are not in `kept` have been removed.
    pub(crate) fn removed_but(&mut self, kept: &BTreeSet<String>, position: u64) {
        for snapshot in self.snapshots.iter_mut().filter(|snapshot| snapshot.removed.is_none()) {
            if kept.contains(&snapshot.id) {
                snapshot.removal_begun = None;
            } else {
                snapshot.removed = Some(position);
            }
        }
    }

    /// As [`Ledger::found`], for the snapshots.
    pub(crate) fn found_snapshots(&mut self, listed: &BTreeSet<String>) {
        self.snapshots.retain(|snapshot| listed.contains(&snapshot.id));
        self.snapshots.iter_mut().for_each(|snapshot| snapshot.removal_begun = None);
    }

    /// As [`Ledger::found`], for the sequence.
    pub(crate) fn found_sequence(&mut self, length: usize, position: u64) {
        self.sequence.truncate(length);
        self.synced(position);
    }
}
