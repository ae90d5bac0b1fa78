//! What administrators do.

use std::fs;

use super::{Done, Step, Workload, live, text};
use crate::ledger::Snapshot;
use crate::place::Place;

/// How many things are done while space is reclaimed.
const STEPS_BESIDE_GC: usize = 4;

impl Workload<'_> {
    pub(super) fn snapshot(&mut self) -> Done {
        let tag = (self.numbers.below(4) == 0).then(|| format!("tag{}", self.count));
        let mut arguments = vec!["snapshot", "shop"];
        arguments.extend(tag.iter().flat_map(|tag| ["--tag", tag]));
        let taken = self.place.sitefs(&arguments).answer()?;
        let id = taken["snapshot"]["id"].as_str().unwrap().to_owned();
        let files = self.ledger.present("file:");
        self.ledger.snapshots.push(Snapshot {
            id,
            acknowledged: self.at(),
            files,
            is_tagged: tag.is_some(),
            removal_begun: None,
            removed: None,
        });
        Ok(())
    }

    /// Removes all snapshots but the newest and those with a tag.
    pub(super) fn prune(&mut self) -> Done {
        self.ledger.begin_removal(self.at());
        let pruned = self.place.sitefs(&["prune", "shop", "--keep-hourly", "1"]).answer()?;
        let kept = pruned["snapshots"].as_array().unwrap().iter();
        let kept = kept.filter(|snapshot| !snapshot["kept_as"].as_array().unwrap().is_empty());
        let kept = kept.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect();
        self.ledger.removed_but(&kept, self.at());
        Ok(())
    }

    /// Reclaims space while the site goes on.
    pub(super) fn collect(&mut self) -> Done {
        let collecting = self.place.begin(&["gc"]);
        let mut done = Ok(());
        for _ in 0..STEPS_BESIDE_GC {
            let step = self.any_of(Step::OF_THE_SITE);
            done = done.and_then(|()| self.take(step));
        }
        let collected = Place::end(collecting).answer();
        done.and(collected.map(|_| ()))
    }

    pub(super) fn clone_or_remove(&mut self) -> Done {
        let name = format!("test{}", self.numbers.below(2));
        let key = format!("clone:{name}");
        let is_there = self.ledger.current(&key).is_some();
        self.ledger.begin(&key, (!is_there).then(|| "clone".to_owned()), self.at());
        if is_there {
            self.place.sitefs(&["site", "remove", &name]).answer()?;
        } else {
            self.place.sitefs(&["clone", "shop", &name]).answer()?;
        }
        self.ledger.acknowledge(&key, self.at());
        Ok(())
    }

    pub(super) fn update(&mut self, strategy: &str) -> Done {
        let target = fs::read_link(self.place.path("root/live/shop")).map_err(text)?;
        let other = if target.to_string_lossy().contains("/platforms/one") { "two" } else { "one" };
        self.switch(&["update", "shop", "--platform", other, "--strategy", strategy])
    }

    /// Runs a command that makes another generation live.
    pub(super) fn switch(&mut self, arguments: &[&str]) -> Done {
        let begun = self.at();
        // Where it leads to is only known afterwards; a cut in between may come before or after the switch.
        for name in ["live", "rows"] {
            self.ledger.begin(name, Some("unknown".to_owned()), begun);
        }
        self.place.sitefs(arguments).answer()?;
        let position = self.at();
        for (name, value) in [("live", live(self.place)?), ("rows", self.place.rows()?)] {
            self.ledger.begin(name, Some(value), begun);
            self.ledger.acknowledge(name, position);
        }
        Ok(())
    }

    /// Closes the site's code and database for writing, saves a file all the same, and opens them again.
    pub(super) fn read_only(&mut self) -> Done {
        self.ledger.begin("read-only", Some("on".to_owned()), self.at());
        self.place.sitefs(&["readonly", "shop", "on"]).answer()?;
        self.ledger.acknowledge("read-only", self.at());
        self.save()?;
        self.ledger.begin("read-only", None, self.at());
        self.place.sitefs(&["readonly", "shop", "off"]).answer()?;
        self.ledger.acknowledge("read-only", self.at());
        Ok(())
    }

    /// Brings a file back as it was in a snapshot.
    pub(super) fn restore(&mut self) -> Done {
        let here: Vec<&Snapshot> = self
            .ledger
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.is_certain(u64::MAX) && !snapshot.files.is_empty())
            .collect();
        if here.is_empty() {
            return Ok(());
        }
        let snapshot = here[self.numbers.below(here.len() as u64) as usize].clone();
        let at = self.numbers.below(snapshot.files.len() as u64) as usize;
        let (name, content) = snapshot.files.iter().nth(at).expect("the number is below how many there are");
        let key = format!("file:{name}");
        self.ledger.begin(&key, Some(content.clone()), self.at());
        let (from, path) = (format!("shop@{}", snapshot.id), format!("files/{name}"));
        self.place.sitefs(&["restore", &from, &path]).answer()?;
        self.acknowledge(&key);
        Ok(())
    }

    pub(super) fn add_or_remove_platform(&mut self) -> Done {
        let is_there = self.ledger.current("platform").is_some();
        self.ledger.begin("platform", (!is_there).then(|| "three".to_owned()), self.at());
        if is_there {
            self.place.sitefs(&["platform", "remove", "three"]).answer()?;
        } else {
            let directory = self.place.path("platforms/three");
            self.place.sitefs(&["platform", "add", "three", directory.to_str().unwrap()]).answer()?;
        }
        self.ledger.acknowledge("platform", self.at());
        Ok(())
    }

    /// Sends the newest snapshot to where no cut reaches.
    pub(super) fn send(&mut self) -> Done {
        let newest = self.ledger.snapshots.iter().rfind(|snapshot| snapshot.is_certain(u64::MAX));
        let Some((id, files)) = newest.map(|snapshot| (snapshot.id.clone(), snapshot.files.clone())) else {
            return Ok(());
        };
        self.place.send(&id)?;
        self.sent.retain(|(sent, _)| *sent != id);
        self.sent.push((id, files));
        Ok(())
    }

    /// Takes a snapshot that was sent in again, whether it was removed since or not; from now on it has a tag.
    pub(super) fn receive(&mut self) -> Done {
        if self.sent.is_empty() {
            return Ok(());
        }
        let at = self.numbers.below(self.sent.len() as u64) as usize;
        let (id, files) = self.sent.swap_remove(at);
        let known = |snapshot: &Snapshot| snapshot.id == id && snapshot.is_certain(u64::MAX);
        let known = self.ledger.snapshots.iter().position(known);
        if known.is_some_and(|at| self.ledger.snapshots[at].is_tagged) {
            return self.place.receive(&id, None);
        }
        if known.is_none() {
            // Until it is acknowledged, it may be there or not.
            self.ledger.snapshots.retain(|snapshot| snapshot.id != id);
        }
        self.place.receive(&id, Some(&format!("received{}", self.count)))?;
        match known {
            Some(at) => self.ledger.snapshots[at].is_tagged = true,
            None => self.ledger.snapshots.push(Snapshot {
                id,
                acknowledged: self.at(),
                files,
                is_tagged: true,
                removal_begun: None,
                removed: None,
            }),
        }
        Ok(())
    }
}
