//! The verb that puts files of a snapshot back.

use std::time::Instant;

use super::Daemon;
use crate::base::{RelativePath, files};
use crate::control::response::Restored;
use crate::control::{Caller, Events, Failure, request};
use crate::history::Snapshot;
use crate::site::Site;
use crate::trees::{Entry, Root, Totals};

/// Where files are written before they get their names.
const STAGING_NAME: &str = ".sitefs-restore";

impl Daemon {
    /// `restore`.
    pub(super) fn restore(
        &self,
        caller: &Caller,
        request: &request::Restore,
        events: &dyn Events,
    ) -> Result<Restored, Failure> {
        let started = Instant::now();
        let id = self.resolve_snapshot(&request.snapshot)?;
        let snapshot = self.load_snapshot(id)?;
        let site = self.site(&request.snapshot.site)?;
        let entries = self.entries_to_restore(&snapshot, &request.paths)?;
        let sums = entries.iter().map(|(_, entry)| entry.totals()).fold(Totals::default(), Totals::plus);
        let (into, safety_snapshot) = match &request.into {
            Some(directory) => {
                self.restore_elsewhere(&snapshot.root, &entries, directory)?;
                (directory.display().to_string(), None)
            }
            None => {
                refuse_database(&site, &request.paths)?;
                let _lock = self.lock_site(&site.name, "restore")?;
                let live = self.live_generation(&site.name)?;
                let captured = self.capture(&site, &live, None)?;
                captured.warn_of_unstable(events);
                let message = format!("before files of {} were restored", id.short());
                let safety = self.register(caller, &site, &live, captured, &message, None)?;
                self.restore_in_place(&site, live.volume, &snapshot.root, &entries)?;
                (self.generation_path(&live.name).display().to_string(), Some(safety.to_string()))
            }
        };
        Ok(Restored {
            snapshot: id.to_string(),
            paths: request.paths.clone(),
            into,
            safety_snapshot,
            nodes: sums.nodes,
            size_bytes: sums.bytes,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn entries_to_restore(
        &self,
        snapshot: &Snapshot,
        paths: &[RelativePath],
    ) -> Result<Vec<(RelativePath, Entry)>, Failure> {
        let find = |path: &RelativePath| {
            let entry = self.store.trees.entry_at(&snapshot.root, path)?;
            let entry = entry.ok_or_else(|| {
                Failure::usage(format!("the snapshot has no {path}"))
                    .hint("paths are relative to the site's directory; look around below snapshots/SITE/ID")
            })?;
            Ok((path.clone(), entry))
        };
        paths.iter().map(find).collect()
    }

    /// Grafts the entries into the live volumes: at once, whatever their size.
    fn restore_in_place(
        &self,
        site: &Site,
        code_volume: u32,
        whole: &Root,
        entries: &[(RelativePath, Entry)],
    ) -> Result<(), Failure> {
        for (path, entry) in entries {
            let is_data = site.data.iter().any(|directory| directory.contains(path));
            let volume = self.volume(if is_data { site.data_volume } else { code_volume })?;
            let forgotten = volume.replace_with_entry(path, entry.clone(), whole.links)?;
            volume.sync_volume()?;
            self.tell_kernel(forgotten);
        }
        Ok(())
    }

    /// Writes the entries below a directory, at their paths.
    fn restore_elsewhere(
        &self,
        whole: &Root,
        entries: &[(RelativePath, Entry)],
        directory: &std::path::Path,
    ) -> Result<(), Failure> {
        if !files::metadata(directory)?.is_some_and(|found| found.is_dir()) {
            return Err(Failure::usage(format!("{} is not a directory", directory.display()))
                .hint("create it first: files are written below it"));
        }
        if directory.starts_with(&self.root) {
            return Err(Failure::usage(format!("{} is shown by sitefs itself", directory.display()))
                .hint("without --into the files go into the live site"));
        }
        for (path, _) in entries {
            let target = path.below(directory);
            if files::metadata(&target)?.is_some() {
                return Err(Failure::refused(format!("{} exists already", target.display()))
                    .hint("move it away, or choose another directory"));
            }
        }
        let empty = Root { tree: None, totals: Totals::default(), ..whole.clone() };
        let mut part = empty;
        for (path, entry) in entries {
            part = self.store.trees.replace_at(&part, path, Some(entry.clone()))?;
        }
        // Written beside, then renamed: a restore that fails half way leaves nothing under the asked-for names.
        let staging = directory.join(STAGING_NAME);
        files::remove_directory_all(&staging)?;
        files::create_directories(&staging)?;
        let written = self.store.trees.export(&part, &staging).map_err(Failure::from);
        let moved = written.and_then(|()| {
            entries.iter().try_for_each(|(path, _)| {
                let target = path.below(directory);
                if let Some(parent) = target.parent() {
                    files::create_directories(parent)?;
                }
                Ok(files::rename(&path.below(&staging), &target)?)
            })
        });
        files::remove_directory_all(&staging)?;
        moved
    }
}

fn refuse_database(site: &Site, paths: &[RelativePath]) -> Result<(), Failure> {
    let database = site.state_paths();
    match paths.iter().find(|path| database.iter().any(|file| path.contains(file))) {
        None => Ok(()),
        Some(path) => Err(Failure::refused(format!("{path} holds the site's database, which is in use"))
            .hint(format!(
                "restore the database as a database: sitefs database restore {} --from SITE@ID",
                site.name
            ))),
    }
}
