//! `verify SITE --against TAG`: whether a site's code still is that of a snapshot, and whether its data directories have
//! got anything that web servers execute.

use std::time::Instant;

use super::Daemon;
use super::code_files::{CHANGES_MAX, user_name};
use crate::base::RelativePath;
use crate::control::response::{ChangeKind, CodeChange, SiteVerification};
use crate::control::{Failure, Revision, request};
use crate::history::{Snapshot, SnapshotId};
use crate::objects::FileContent;
use crate::site::with_companions;
use crate::trees::{Difference, Entry, Node, Root};

/// Endings of files that web servers hand to PHP as they are commonly set up, in lower case.
const ENDINGS: [&str; 9] = ["php", "php3", "php4", "php5", "php7", "php8", "phtml", "phar", "pht"];

/// Files that tell a web server or PHP what to execute.
const CONFIGURATION: [&str; 2] = [".htaccess", ".user.ini"];

/// How much of a file with another name is searched for the beginning of a PHP program, in bytes.
const HEAD_BYTES: usize = 4096;

/// For how many files it is looked which snapshots have them as they were and as they are.
const TRACED_MAX: usize = 100;

impl Daemon {
    /// `verify SITE --against`.
    pub(super) fn site_verify(&self, request: &request::SiteVerify) -> Result<SiteVerification, Failure> {
        let started = Instant::now();
        let site = self.site(&request.against.site)?;
        let id = self.resolve_snapshot(&request.against)?;
        let snapshot = self.load_snapshot(id)?;
        let live = self.state(&Revision::live(site.name.clone()))?;
        let database = live.database.as_ref().and_then(|database| database.file.as_ref());
        let database = database.map(with_companions).unwrap_or_default();
        let mut answer = SiteVerification {
            site: site.name.clone(),
            against: id.to_string(),
            code: Vec::new(),
            code_count: 0,
            executables: Vec::new(),
            executables_count: 0,
            seconds: 0.0,
        };
        let mut failure = None;
        self.store.trees.diff(&snapshot.root, &live.root, &mut |difference| {
            let is_below =
                |paths: &[RelativePath]| paths.iter().any(|path| difference.path.starts_with(path.as_str()));
            let Some(change) = change(&difference) else { return Ok(()) };
            if is_below(&site.data) {
                match self.is_executable(&difference) {
                    Ok(true) => add(&mut answer.executables, &mut answer.executables_count, change),
                    Ok(false) => {}
                    Err(error) => failure = failure.take().or(Some(error)),
                }
            } else if !is_below(&database) {
                add(&mut answer.code, &mut answer.code_count, change);
            }
            Ok(())
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let history = self.since(&snapshot, id)?;
        for change in answer.executables.iter_mut().chain(&mut answer.code).take(TRACED_MAX) {
            self.trace(change, &history, &live.root)?;
        }
        answer.seconds = started.elapsed().as_secs_f64();
        Ok(answer)
    }

    /// The snapshots of a site from this one on, the oldest first.
    fn since(&self, snapshot: &Snapshot, id: SnapshotId) -> Result<Vec<SnapshotId>, Failure> {
        let records = self.snapshot_records(&snapshot.site)?;
        let later = records.iter().rev().filter(|record| record.created > snapshot.created);
        Ok(std::iter::once(id).chain(later.map(|record| record.id)).collect())
    }

    /// Finds the snapshots between which a file became what it is: by halving, so that few of many are read.
    fn trace(&self, change: &mut CodeChange, history: &[SnapshotId], live: &Root) -> Result<(), Failure> {
        // A name that is no text has no path that could be asked for.
        let Ok(path) = change.path.parse::<RelativePath>() else { return Ok(()) };
        let node =
            |root: &Root| Ok::<_, Failure>(self.store.trees.entry_at(root, &path)?.map(|entry| entry.node));
        let now = node(live)?;
        // Before `low` it was as it was; from `high` on it is as it is.
        let (mut low, mut high) = (1, history.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let is_now = match self.load_snapshot(history[middle]) {
                Ok(snapshot) => node(&snapshot.root)? == now,
                // A damaged one says nothing; the question is asked of those after it.
                Err(_) => false,
            };
            if is_now { high = middle } else { low = middle + 1 }
        }
        change.last_as_it_was = history.get(low - 1).map(ToString::to_string);
        change.first_as_it_is = history.get(low).map(ToString::to_string);
        Ok(())
    }

    /// Whether a file is new or changed, and web servers may execute it or obey it.
    fn is_executable(&self, difference: &Difference) -> Result<bool, Failure> {
        let Some(Entry { node: Node::File(content), .. }) = &difference.new else { return Ok(false) };
        if matches!(&difference.old, Some(Entry { node: Node::File(old), .. }) if old == content) {
            return Ok(false);
        }
        let name = difference.path.file_name().map(|name| name.to_string_lossy().to_lowercase());
        let name = name.unwrap_or_default();
        // Web servers may take any of a name's endings for the one that counts: `shell.php.jpg`.
        let has_ending = name.split('.').skip(1).any(|part| ENDINGS.contains(&part));
        if has_ending || CONFIGURATION.contains(&name.as_str()) {
            return Ok(true);
        }
        self.begins_as_php(content)
    }

    fn begins_as_php(&self, content: &FileContent) -> Result<bool, Failure> {
        let mut head = vec![0; HEAD_BYTES];
        let read = self.store.trees.objects.read_at(content, 0, &mut head)?;
        Ok(head[..read].to_ascii_lowercase().windows(5).any(|bytes| bytes == b"<?php"))
    }
}

fn add(changes: &mut Vec<CodeChange>, count: &mut u64, change: CodeChange) {
    *count += 1;
    if changes.len() < CHANGES_MAX {
        changes.push(change);
    }
}

/// What differs; `None` where only times do, or what is below a directory.
fn change(difference: &Difference) -> Option<CodeChange> {
    let (old, new) = (difference.old.as_ref(), difference.new.as_ref());
    let change = match (old, new) {
        (None, None) => return None,
        (None, Some(_)) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Removed,
        (Some(old), Some(new)) => match (&old.node, &new.node) {
            (Node::Directory { .. }, Node::Directory { .. }) => attributes(old, new)?,
            (old_node, new_node) if old_node == new_node => attributes(old, new)?,
            (old_node, new_node) if std::mem::discriminant(old_node) != std::mem::discriminant(new_node) => {
                ChangeKind::Type
            }
            _ => ChangeKind::Modified,
        },
    };
    let size = |entry: Option<&Entry>| match entry.map(|entry| &entry.node) {
        Some(Node::File(content)) => Some(content.size()),
        _ => None,
    };
    let uid = new.map(|new| new.attributes.uid);
    Some(CodeChange {
        path: difference.path.to_string_lossy().into_owned(),
        change,
        old_size_bytes: size(old),
        new_size_bytes: size(new),
        uid,
        owner: uid.and_then(user_name),
        modified: new.map(|new| new.attributes.mtime.into()),
        changed: None,
        last_as_it_was: None,
        first_as_it_is: None,
    })
}

/// Whether owner or permissions differ: times do when nothing has happened.
fn attributes(old: &Entry, new: &Entry) -> Option<ChangeKind> {
    let rights = |entry: &Entry| (entry.attributes.mode, entry.attributes.uid, entry.attributes.gid);
    (rights(old) != rights(new) || old.attributes.xattrs != new.attributes.xattrs)
        .then_some(ChangeKind::Attributes)
}
