//! What of damaged tables of overlays can be kept: the volumes all of whose rows are as they were written.
//!
//! A value has a checksum of its own. A key has none, but keys ascend, a name has its hash in front of it, and the rows of
//! nodes and those of names say the same twice; a volume in which anything of that is wrong is lost as a whole, since a row
//! that is missing would show the base tree's state for what somebody has changed. Where a table cannot be read to its end,
//! so are all volumes from there on.
//!
//! **Power fails here.** The damaged file is only read. What is kept is whole and durable under another name before
//! anything is moved, and repeating everything is harmless.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::mark::{self, KnownMark};
use super::node::{LINKS, MADE, Node};
use super::rows::{self, Engine, Slot, VolumeRow};
use super::upper::Uppers;
use super::{LiveError, VolumeNumber};
use crate::base::encoding::EncodingError;
use crate::base::files::{self, At};
use crate::base::tables::{Prefix, Tables};
use crate::trees::{NameKey, Totals, TreeId};

/// Pages of the engine kept in memory, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// How many rows are written at once.
const ROWS_MAX: usize = 10_000;

/// The tables whose keys begin with a volume.
const TABLES: [&str; 5] = [rows::VOLUMES, rows::NODES, rows::ENTRIES, rows::DIRTY, rows::FROZEN];

/// Which overlays are left.
#[derive(Clone, Debug, Default)]
pub struct Salvaged {
    damaged: BTreeSet<VolumeNumber>,
    /// Of volumes from this one on, rows may be missing.
    unseen_from: Option<VolumeNumber>,
}

impl Salvaged {
    /// Whether what was changed in this volume is lost.
    pub fn is_lost(&self, volume: VolumeNumber) -> bool {
        self.damaged.contains(&volume) || self.unseen_from.is_some_and(|from| volume >= from)
    }

    fn ends_at(&mut self, volume: VolumeNumber) {
        self.unseen_from = Some(self.unseen_from.map_or(volume, |from| from.min(volume)));
    }
}

/// Where a node has its only name.
type Place = (u64, NameKey);

/// What the rows of nodes and those of names say of each other.
#[derive(Default)]
struct Nodes {
    /// By volume and number; `None` for a node with other than one name.
    homes: HashMap<(VolumeNumber, u64), Option<Place>>,
    volumes: HashSet<VolumeNumber>,
}

/// Reads the damaged tables below `directory` and makes new ones beside them of the volumes that are whole, for records with
/// the mark `known`. `None`, and nothing is made, where the tables are sound. Of those of another time or store, none is kept.
pub fn salvage(directory: &Path, known: KnownMark) -> Result<Option<Salvaged>, LiveError> {
    let path = directory.join("live.redb");
    let exists = files::metadata(&path)?.is_some();
    if exists {
        match Engine::open(&path) {
            Ok(engine) if mark::belongs(&engine.tables, known)? => return Ok(None),
            Ok(_) => {}
            Err(LiveError::Tables(error)) if error.is_damaged() => {}
            Err(error) => return Err(error),
        }
    }
    let (scratch, new) = (directory.join("live.salvage.redb"), new_name(directory));
    for left in [&scratch, &new] {
        files::remove_file(left)?;
    }
    let made = Tables::open(&new, CACHE_BYTES)?;
    let mut salvaged = Salvaged::default();
    if exists {
        // The engine may write to what it opens.
        let mut from = files::open(&path)?;
        std::io::copy(&mut from, &mut files::create_new(&scratch)?).at("copy", &path)?;
        match Tables::open(&scratch, CACHE_BYTES) {
            // What cannot be read of it says nothing.
            Ok(damaged) if mark::belongs(&damaged, known).unwrap_or(true) => {
                survey(&damaged, &mut salvaged);
                keep(&damaged, &made, &mut salvaged)?;
            }
            Ok(_) => salvaged.ends_at(VolumeNumber(0)),
            Err(error) if error.is_damaged() => salvaged.ends_at(VolumeNumber(0)),
            Err(error) => return Err(error.into()),
        }
        files::remove_file(&scratch)?;
    } else {
        salvaged.ends_at(VolumeNumber(0));
    }
    // So that it is a file of tables in any case.
    let made = Engine { tables: made };
    let mark = match known {
        KnownMark::Mark(known) => vec![mark::put(known, KnownMark::Never)],
        KnownMark::Never | KnownMark::Any => Vec::new(),
    };
    made.apply(&mark)?;
    Ok(Some(salvaged))
}

fn new_name(directory: &Path) -> PathBuf {
    directory.join("live.new.redb")
}

/// Finds out which volumes are not whole.
fn survey(tables: &Tables, salvaged: &mut Salvaged) {
    let mut nodes = Nodes::default();
    let mut slots: HashSet<(VolumeNumber, u64, Place)> = HashSet::new();
    for table in TABLES {
        let mut before: Option<Vec<u8>> = None;
        let mut last = VolumeNumber(0);
        let mut count = 0;
        let scanned = tables.read().and_then(|reader| {
            reader.scan(table, Prefix::new(&[]), |key, value| {
                let Some(volume) = rows::volume_of(key) else {
                    salvaged.ends_at(last);
                    return false;
                };
                if before.as_deref().is_some_and(|before| before >= key) {
                    salvaged.ends_at(last.min(volume));
                    return false;
                }
                if check(table, key, value, volume, &mut nodes, &mut slots).is_err() {
                    salvaged.damaged.insert(volume);
                }
                count += 1;
                (before, last) = (Some(key.to_owned()), volume);
                true
            })
        });
        // A page may also have lost rows and look well: then it is not known whose.
        match tables.read().and_then(|reader| reader.count(table)) {
            Ok(known) if known == count => {}
            Ok(_) if scanned.is_err() => {}
            Ok(_) | Err(_) => salvaged.ends_at(VolumeNumber(0)),
        }
        if let Err(error) = scanned {
            log::warn!("the rows of {table} cannot be read to the end: {error}");
            salvaged.ends_at(last);
        }
    }
    // Nodes without the row of their volume; names of nodes that are not there; nodes that are not where they say.
    for ((volume, number), home) in &nodes.homes {
        let is_named =
            home.as_ref().is_none_or(|home| slots.contains(&(*volume, *number, (home.0, home.1.clone()))));
        if !is_named || !nodes.volumes.contains(volume) {
            salvaged.damaged.insert(*volume);
        }
    }
    for (volume, number, place) in &slots {
        let is_link = (LINKS..MADE).contains(number);
        let is_known = match nodes.homes.get(&(*volume, *number)) {
            None => is_link,
            Some(None) => true,
            Some(Some(home)) => home == place,
        };
        if !is_known || !nodes.volumes.contains(volume) {
            salvaged.damaged.insert(*volume);
        }
    }
}

/// Checks one row, and notes what it says of others.
fn check(
    table: &str,
    key: &[u8],
    value: &[u8],
    volume: VolumeNumber,
    nodes: &mut Nodes,
    slots: &mut HashSet<(VolumeNumber, u64, Place)>,
) -> Result<(), LiveError> {
    let number = |at| rows::number_at(key, at).ok_or(LiveError::Row(EncodingError::Damaged));
    match table {
        rows::VOLUMES => {
            rows::decode::<VolumeRow>(value)?;
            nodes.volumes.insert(volume);
        }
        rows::NODES => {
            let node: Node = rows::decode(value)?;
            nodes.homes.insert((volume, number(4)?), node.home.map(|home| (home.directory, home.key)));
        }
        rows::ENTRIES => {
            let name = rows::entry_name(key, 12)?;
            if let Slot::Node(node) = rows::decode(value)? {
                slots.insert((volume, node, (number(4)?, name)));
            }
        }
        rows::DIRTY => drop(rows::decode::<u64>(value)?),
        _ => drop(rows::decode::<(Option<TreeId>, Totals)>(value)?),
    }
    Ok(())
}

/// Copies the rows of the volumes that are whole.
fn keep(damaged: &Tables, made: &Tables, salvaged: &mut Salvaged) -> Result<(), LiveError> {
    for table in TABLES {
        let mut kept = Vec::new();
        let mut written = Ok(());
        let scanned = damaged.read()?.scan(table, Prefix::new(&[]), |key, value| {
            let Some(volume) = rows::volume_of(key) else { return false };
            if salvaged.unseen_from.is_some_and(|from| volume >= from) {
                return false;
            }
            if !salvaged.is_lost(volume) {
                kept.push((key.to_owned(), value.to_owned()));
            }
            if kept.len() >= ROWS_MAX {
                written = put(made, table, std::mem::take(&mut kept));
            }
            written.is_ok()
        });
        // It was read before as far as it is needed.
        scanned?;
        written?;
        put(made, table, kept)?;
    }
    Ok(())
}

fn put(made: &Tables, table: &str, kept: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), LiveError> {
    let mut writer = made.write()?;
    writer.put_many(table, kept)?;
    Ok(writer.commit()?)
}

/// Sets the damaged tables below `directory` aside, and the upper files of the volumes `lost`, and gives the new tables
/// their name. Returns where that is now.
pub fn put_in_place(directory: &Path, lost: &BTreeSet<VolumeNumber>) -> Result<Vec<PathBuf>, LiveError> {
    let mut aside = Vec::new();
    let uppers = Uppers::open(directory.join("upper"))?;
    for volume in lost {
        let contents = uppers.volume_path(*volume);
        if files::metadata(&contents)?.is_some() {
            let name = files::name_aside(&directory.join(format!("upper-{:06x}", volume.0)))?;
            files::rename(&contents, &name)?;
            aside.push(name);
        }
    }
    let path = directory.join("live.redb");
    if files::metadata(&path)?.is_some() {
        let name = files::name_aside(&path)?;
        files::hard_link(&path, &name)?;
        aside.push(name);
    }
    files::rename(&new_name(directory), &path)?;
    files::sync_directory(directory)?;
    Ok(aside)
}
