//! `verify`: everything that is stored is read, and what damage there is is named by what it affects.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Daemon;
use super::code_files::CodeFiles;
use crate::base::SiteName;
use crate::control::response::{Affected, Repair, Verification};
use crate::control::{Events, Failure, Unit, request};
use crate::history::{Snapshot, SnapshotRecord, Tag};
use crate::objects::{ObjectId, Repaired};
use crate::site::{Generation, LivePointer, Platform, Site};
use crate::trees::{Audit, Finding};

/// How many affected paths an answer names: enough to see which sites and directories it is about.
const AFFECTED_MAX: usize = 1000;

/// What going through all trees has found.
#[derive(Default)]
struct Survey {
    affected: Vec<Affected>,
    affected_count: u64,
    /// Objects that are referred to and damaged or missing.
    objects: BTreeSet<ObjectId>,
    snapshots: u64,
    volumes: u64,
}

/// Which state of which site a finding is about.
struct Place {
    site: Option<SiteName>,
    state: String,
    snapshot: Option<String>,
}

impl Survey {
    fn note(&mut self, place: &Place, finding: Finding) {
        self.objects.extend(finding.object);
        self.affected_count += 1;
        if self.affected.len() < AFFECTED_MAX {
            self.affected.push(Affected {
                site: place.site.clone(),
                state: place.state.clone(),
                snapshot: place.snapshot.clone(),
                path: finding.path.display().to_string(),
                reason: finding.reason,
            });
        }
    }
}

impl Daemon {
    /// `verify`.
    pub(super) fn verify(
        &self,
        request: &request::Verify,
        events: &dyn Events,
    ) -> Result<Verification, Failure> {
        let started = Instant::now();
        let objects = &self.store.trees.objects;
        let report = objects.verify(&mut |progress| {
            events.progress("reading objects", progress.bytes, Some(progress.bytes_total), Unit::Bytes);
        })?;
        let catalog = &self.store.catalog;
        let mut damages: Vec<String> = report.damages.iter().map(ToString::to_string).collect();
        let records = self.damaged_records()?;
        damages.extend(
            records.iter().map(|damage| format!("catalog.redb: the record of {} is damaged", damage.of)),
        );
        let is_copy_sound = catalog.is_copy_sound()?;
        if !is_copy_sound {
            damages.push("catalog.copy: it is damaged, and not what the catalog is".to_owned());
        }
        let mut survey = self.survey(&report.bad)?;
        let mut repaired = None;
        if request.repair {
            let wanted: BTreeSet<ObjectId> = report.bad.union(&survey.objects).copied().collect();
            let result = if wanted.is_empty() && !report.needs_repair() {
                Repaired::default()
            } else {
                log::warn!("repairing {} objects", wanted.len());
                objects.repair(&wanted)?
            };
            let records = self.forget_damaged_records()?;
            if !is_copy_sound {
                catalog.renew_copy();
            }
            survey = self.survey(&result.lost)?;
            repaired = Some(Repair {
                restored: result.restored.len() as u64,
                lost: result.lost.len() as u64,
                records_forgotten: records,
            });
        }
        Ok(Verification {
            objects: report.sound,
            snapshots: survey.snapshots,
            volumes: survey.volumes,
            damages_count: report.damages_count + records.len() as u64 + u64::from(!is_copy_sound),
            damages,
            affected: survey.affected,
            affected_count: survey.affected_count,
            repair: repaired,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Whether a site or a generation has this volume.
    fn is_known(&self, number: u32) -> Result<bool, Failure> {
        let catalog = &self.store.catalog;
        let sites = catalog.list::<Site>("")?;
        let generations = catalog.list::<Generation>("")?;
        Ok(sites.iter().any(|(_, site)| site.data_volume == number)
            || generations.iter().any(|(_, generation)| generation.volume == number))
    }

    /// Goes through all snapshots and live volumes.
    fn survey(&self, bad: &BTreeSet<ObjectId>) -> Result<Survey, Failure> {
        let trees = &self.store.trees;
        let catalog = &self.store.catalog;
        let mut audit = Audit::new(trees, bad);
        let mut survey = Survey::default();
        for (_, record) in catalog.list::<SnapshotRecord>("")? {
            let place = Place {
                state: format!("snapshot {}", record.id.short()),
                site: Some(record.site),
                snapshot: Some(record.id.to_string()),
            };
            survey.snapshots += 1;
            match Snapshot::load(&trees.objects, record.id) {
                Ok(snapshot) => {
                    audit.root(&snapshot.root, &mut |finding| survey.note(&place, finding));
                    let dump = snapshot.database.and_then(|database| database.dump);
                    if let Some(dump) = dump {
                        let name = "(dump of the database)".as_ref();
                        audit.content(&dump, name, &mut |finding| survey.note(&place, finding));
                    }
                }
                Err(error) => {
                    let object = Some(record.id.0);
                    let finding = Finding { path: "".into(), object, reason: error.to_string() };
                    survey.note(&place, finding);
                }
            }
        }
        let data = catalog.list::<Site>("")?.into_iter();
        let data = data.map(|(_, site)| (site.name, "data".to_owned(), site.data_volume));
        let generations = catalog.list::<Generation>("")?.into_iter().map(|(_, generation)| {
            let state = format!("generation {}", generation.name.number);
            (generation.name.site, state, generation.volume)
        });
        for (site, state, number) in data.chain(generations).collect::<Vec<_>>() {
            let place = Place { site: Some(site), state, snapshot: None };
            let volume = match self.volume(number) {
                Ok(volume) => volume,
                // One that was removed meanwhile is no damage.
                Err(_) if !self.is_known(number)? => continue,
                Err(_) => {
                    let reason = "it could not be shown when the daemon started: see its log".to_owned();
                    survey.note(&place, Finding { path: "".into(), object: None, reason });
                    continue;
                }
            };
            survey.volumes += 1;
            let audited = volume.audit(&mut audit, &mut |finding| survey.note(&place, finding));
            if let Err(error) = audited {
                survey.note(&place, Finding { path: "".into(), object: None, reason: error.to_string() });
            }
        }
        for (name, files) in catalog.list::<CodeFiles>("")? {
            let place = Place { site: None, state: format!("platform {name}"), snapshot: None };
            let path = "(list of its files)".as_ref();
            audit.content(&files.list, path, &mut |finding| survey.note(&place, finding));
        }
        for damage in self.damaged_records()? {
            let place = Place { site: damage.site, state: damage.of, snapshot: None };
            survey.note(&place, Finding { path: "".into(), object: None, reason: damage.reason });
        }
        // Records that nothing above has read: one that cannot be decoded is an error that names it.
        catalog.list::<Tag>("")?;
        catalog.list::<Platform>("")?;
        catalog.list::<LivePointer>("")?;
        Ok(survey)
    }
}
