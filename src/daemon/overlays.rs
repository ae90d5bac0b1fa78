//! New tables of overlays in place of damaged ones.
//!
//! What was changed in a volume that is whole stays. One that is not gets a new number, since numbers of nodes are never
//! used again, and stands on what the site's newest snapshot has of it: the code and the SQLite database of a generation, or
//! the uploads; without such a snapshot, on what it was made from. Its upper files, and the damaged tables, are set aside.
//!
//! Power fails here: the catalog leaves lost volumes before their files are moved; repeating the command finds nobody in
//! them, and does what is left to do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::generations::volume_number;
use super::store::{PAGE_CACHE_BYTES_MAX, check_format, open_catalog};
use crate::base::SiteName;
use crate::base::files;
use crate::control::Failure;
use crate::history::{Catalog, Record, Refs, Snapshot, SnapshotId, VOLUME_COUNTER};
use crate::live::{KnownMark, Mark, VolumeNumber, put_in_place, salvage};
use crate::objects::Objects;
use crate::site::{Generation, GenerationName, Site, layout};
use crate::trees::{Audit, Trees};

/// The mark of the overlays that belong to a catalog; none where it could not be read any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OverlaysMark(pub(super) Option<Mark>);

impl Record for OverlaysMark {
    const TABLE: &'static str = "overlays-mark";
    const VERSION: u8 = 1;
}

/// The mark of the overlays that belong to the catalog.
pub(super) fn known_mark(catalog: &Catalog) -> Result<KnownMark, Failure> {
    Ok(match catalog.get::<OverlaysMark>("")? {
        Some(OverlaysMark(Some(mark))) => KnownMark::Mark(mark),
        Some(OverlaysMark(None)) => KnownMark::Any,
        None => KnownMark::Never,
    })
}

/// A mark that never was.
pub(super) fn new_mark() -> Result<Mark, Failure> {
    let mut bytes = [0; 16];
    files::fill_random(&mut bytes)?;
    Ok(Mark(bytes))
}

/// Writes down that overlays have got a mark.
pub(super) fn set_known_mark(catalog: &Catalog, mark: Option<Mark>) -> Result<(), Failure> {
    catalog.write(|tx| tx.put("", &OverlaysMark(mark)).map_err(Failure::from))
}

/// What was made.
#[derive(Clone, Debug)]
pub struct RebuiltOverlays {
    /// What has gone back.
    pub lost: Vec<LostChanges>,
    /// How many generations and sites' data directories are as they were.
    pub kept: u64,
    /// What was set aside.
    pub aside: Vec<PathBuf>,
}

/// A part of a site whose changes are lost.
#[derive(Clone, Debug)]
pub struct LostChanges {
    /// The site.
    pub site: SiteName,
    /// The generation; none for the data directories.
    pub generation: Option<u64>,
    /// The snapshot it is as now; none where there was none: it is as when it was made.
    pub snapshot: Option<SnapshotId>,
}

/// Makes new tables of overlays for the store in `directory`. Refused while a daemon serves it, and where they are sound.
pub fn rebuild_overlays(directory: &Path) -> Result<RebuiltOverlays, Failure> {
    check_format(directory)?;
    let objects = Arc::new(Objects::open(&directory.join("objects"))?);
    let trees = Trees::new(objects, PAGE_CACHE_BYTES_MAX);
    let catalog = open_catalog(directory, &trees.objects)?;
    let live = directory.join("live");
    let mut aside = make_directory(&live)?;
    let Some(salvaged) = salvage(&live, known_mark(&catalog)?)? else {
        return Err(Failure::refused(format!("{} is sound", live.join("live.redb").display()))
            .hint("there is nothing to rebuild; start the daemon: sitefs serve"));
    };
    let mut rebuilt = RebuiltOverlays { lost: Vec::new(), kept: 0, aside: Vec::new() };
    let mut volumes = BTreeSet::new();
    for (_, site) in catalog.list::<Site>("")? {
        if salvaged.is_lost(VolumeNumber(site.data_volume)) {
            volumes.insert(VolumeNumber(site.data_volume));
            rebuilt.lost.push(reset(&catalog, &trees, &site, None)?);
        } else {
            rebuilt.kept += 1;
        }
        for (_, generation) in catalog.list::<Generation>(&GenerationName::prefix(&site.name))? {
            if salvaged.is_lost(VolumeNumber(generation.volume)) {
                volumes.insert(VolumeNumber(generation.volume));
                rebuilt.lost.push(reset(&catalog, &trees, &site, Some(&generation))?);
            } else {
                rebuilt.kept += 1;
            }
        }
    }
    drop(catalog);
    aside.extend(put_in_place(&live, &volumes)?);
    rebuilt.aside = aside;
    Ok(rebuilt)
}

/// Makes the directory of overlays where it is gone; what stands in its place is set aside.
fn make_directory(live: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut aside = Vec::new();
    // A link to a directory is as good as one.
    if files::list(live).is_ok() {
        return Ok(aside);
    }
    if files::metadata(live)?.is_some() {
        let name = files::name_aside(live)?;
        files::rename(live, &name)?;
        aside.push(name);
    }
    files::create_directories(live)?;
    files::sync_parent(live)?;
    Ok(aside)
}

/// The newest snapshot of a site that can be read, of one generation where one is given.
fn newest_whole(
    catalog: &Catalog,
    trees: &Trees,
    site: &SiteName,
    generation: Option<u64>,
) -> Result<Option<(SnapshotId, Snapshot)>, Failure> {
    let none = BTreeSet::new();
    for record in Refs::new(catalog).list(site)? {
        let Ok(snapshot) = Snapshot::load(&trees.objects, record.id) else { continue };
        if generation.is_some() && snapshot.generation != generation {
            continue;
        }
        let mut is_whole = true;
        Audit::new(trees, &none).root(&snapshot.root, &mut |_| is_whole = false);
        if is_whole {
            return Ok(Some((record.id, snapshot)));
        }
    }
    Ok(None)
}

/// Has what is lost, the generation or the site's data directories, stand on the newest snapshot of it that can be read, in a
/// volume of a new number. A generation has settings of its own, so only its own snapshots are it.
fn reset(
    catalog: &Catalog,
    trees: &Trees,
    site: &Site,
    generation: Option<&Generation>,
) -> Result<LostChanges, Failure> {
    let number = generation.map(|generation| generation.name.number);
    let found = newest_whole(catalog, trees, &site.name, number)?;
    let split = |snapshot: &Snapshot| layout::split(trees, &snapshot.root, &site.name, &site.data);
    let split = found.as_ref().map(|(_, snapshot)| split(snapshot)).transpose()?;
    // What a record refers to is durable before the record is.
    trees.objects.flush()?;
    catalog.write(|tx| {
        let volume = volume_number(tx.next_number(VOLUME_COUNTER)?)?;
        let put = match generation {
            Some(generation) => {
                let base = split.map_or_else(|| generation.base.clone(), |split| split.code);
                tx.put(&generation.name.key(), &Generation { volume, base, ..generation.clone() })
            }
            None => {
                let data_base = split.map_or_else(|| site.data_base.clone(), |split| split.data);
                tx.put(site.name.as_str(), &Site { data_volume: volume, data_base, ..site.clone() })
            }
        };
        put.map_err(Failure::from)
    })?;
    Ok(LostChanges { site: site.name.clone(), generation: number, snapshot: found.map(|(id, _)| id) })
}
