//! The verb that puts files of a snapshot back.

use std::time::Instant;

use super::Daemon;
use crate::base::{RelativePath, files};
use crate::control::response::Restored;
use crate::control::{Caller, Events, Failure, request};
use crate::history::Snapshot;
use crate::live::Caller as Owner;
use crate::site::{Site, layout};
use crate::trees::{Entry, Root, Totals, TreeId};

/// Something to be put into one volume.
struct Part {
    volume: u32,
    path: RelativePath,
    entry: Entry,
    /// What the numbers of hard links in the entry mean.
    links: Option<TreeId>,
}

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
        let entries = self.entries_to_restore(&snapshot, &request.paths)?;
        let sums = entries.iter().map(|(_, entry)| entry.totals()).fold(Totals::default(), Totals::plus);
        let (into, safety_snapshot) = match &request.into {
            Some(directory) => {
                self.restore_elsewhere(&snapshot.root, &entries, directory)?;
                (directory.display().to_string(), None)
            }
            None => {
                let site = self.site(&request.snapshot.site)?;
                refuse_database(&site, &request.paths)?;
                let _lock = self.lock_site(&site.name, "restore")?;
                let live = self.live_generation(&site.name)?;
                let parts = self.parts_to_restore(&site, live.volume, &snapshot.root, &entries)?;
                let captured = self.capture(&site, &live, None)?;
                captured.warn_of_unstable(events);
                let message = format!("before files of {} were restored", id.short());
                let safety = self.register(caller, &site, &live, captured, &message, None)?;
                self.restore_in_place(&snapshot.root, parts).map_err(|failure| {
                    failure.hint(format!(
                        "what was there before is in the snapshot {}@{}; repeating the command does no harm",
                        site.name,
                        safety.short()
                    ))
                })?;
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

    /// What goes into which volume. A directory that has a data directory somewhere below it is split as a generation
    /// is: its code keeps the link to the site's data, and what the snapshot has behind the link goes into the data.
    /// A data directory that the snapshot lacks stays as it is.
    fn parts_to_restore(
        &self,
        site: &Site,
        code_volume: u32,
        whole: &Root,
        entries: &[(RelativePath, Entry)],
    ) -> Result<Vec<Part>, Failure> {
        let trees = &self.store.trees;
        let mut parts = Vec::new();
        for (path, entry) in entries {
            let is_data = site.data.iter().any(|directory| directory.contains(path));
            let below: Vec<RelativePath> =
                site.data.iter().filter(|directory| !is_data && path.contains(directory)).cloned().collect();
            if below.is_empty() {
                let volume = if is_data { site.data_volume } else { code_volume };
                parts.push(Part { volume, path: path.clone(), entry: entry.clone(), links: whole.links });
                continue;
            }
            let split = layout::split(trees, whole, &site.name, &below)?;
            if let Some(left) = below.iter().find(|directory| !split.directories.contains(directory)) {
                return Err(Failure::refused(format!(
                    "{path} would take the site's data at {left} out of view"
                ))
                .because_of(format!("in the snapshot {left} is no directory of the site's own"))
                .hint(
                    "name what is to be restored in it one by one, or write it elsewhere with --into DIR",
                ));
            }
            // What the volumes will refer to is durable before they do.
            trees.objects.flush()?;
            if let Some(entry) = trees.entry_at(&split.code, path)? {
                let links = split.code.links;
                parts.push(Part { volume: code_volume, path: path.clone(), entry, links });
            }
            for directory in below {
                if trees.entry_at(whole, &directory)?.is_some()
                    && let Some(entry) = trees.entry_at(&split.data, &directory)?
                {
                    let links = split.data.links;
                    parts.push(Part { volume: site.data_volume, path: directory, entry, links });
                }
            }
        }
        Ok(parts)
    }

    /// Grafts the parts into the live volumes: at once, whatever their size, and with the directories above them
    /// where those are gone. Each part is there as a whole or not at all, also after a power cut; a command that was
    /// cut off is repeated.
    fn restore_in_place(&self, whole: &Root, parts: Vec<Part>) -> Result<(), Failure> {
        for Part { volume, path, entry, links } in parts {
            let volume = self.volume(volume)?;
            let put = || {
                let mut forgotten = Vec::new();
                for above in path.parents() {
                    if let Some(found) = self.store.trees.entry_at(whole, &above)? {
                        let owner = Owner { uid: found.attributes.uid, gid: found.attributes.gid, umask: 0 };
                        forgotten.extend(volume.ensure_directory(&above, found.attributes.mode, owner)?);
                    }
                }
                forgotten.extend(volume.replace_with_entry(&path, entry, links)?);
                volume.sync_volume()?;
                Ok::<_, Failure>(forgotten)
            };
            let forgotten = put().map_err(|failure| {
                Failure::failed(format!("{path} cannot be put back")).because_of(failure.message)
            })?;
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
