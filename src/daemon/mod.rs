//! `daemon`: the one process that owns a store and its mounts, and the only place where things are wired.
//!
//! A [`Daemon`] implements every verb ([`crate::control::Handler`]) with the layers below. What belongs together is in
//! one file: platforms, sites, generations, captures, snapshots, differences, restores, databases, runs.
//!
//! Invariants: a record is committed before the namespace shows what it says, and the namespace stops showing
//! something before its volume is discarded; no thread of this process opens a path below its own mount (children
//! do); one command at a time changes a site ([`locks`]).
//!
//! Absent: parsing of arguments, formatting for people, the logic of an update run (`update`).

mod adoption;
mod capture;
mod clones;
mod code_files;
mod collection;
mod copying;
mod databases;
mod differences;
mod draining;
mod expiry;
mod failure;
mod generations;
mod handler;
mod holding;
mod hooks;
mod imports;
mod locks;
mod maintenance;
mod mending;
mod namespace;
mod operations;
mod overlays;
mod platforms;
mod pruning;
mod rebuild;
mod recipes;
mod releases;
mod restores;
mod run_history;
mod runs;
mod serve;
mod servers;
mod settling;
mod sites;
mod smoke;
mod snapshots;
mod space;
mod spares;
mod status;
mod store;
mod tampering;
mod transfer;
mod verification;
mod vhosts;
mod volumes;
mod windows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use crate::base::{Lane, PlatformName, SiteName, Timestamp};
use crate::fuse::Session;
use crate::fuse::mounts::Mounts;
use crate::live::{FileSystem, Invalidations, Volume};
use crate::web::Http;

pub use maintenance::Schedule;
pub use overlays::{LostChanges, RebuiltOverlays, rebuild_overlays};
pub use rebuild::{Rebuilt, rebuild_catalog};
pub use serve::{ServeOptions, init_store, serve};
pub use store::Store;

/// A serving daemon.
pub struct Daemon {
    store: Store,
    options: ServeOptions,
    /// Where the namespace is mounted, absolute.
    root: PathBuf,
    filesystem: Arc<FileSystem>,
    session: Mutex<Option<Session>>,
    invalidations: Arc<dyn Invalidations>,
    started: Timestamp,
    volumes: Mutex<BTreeMap<u32, Arc<Volume>>>,
    mounts: Mounts,
    views: Mutex<BTreeMap<(PlatformName, Lane), volumes::LaneView>>,
    locks: locks::Locks,
    turns: locks::Turns,
    holds: Mutex<BTreeMap<u64, Arc<holding::WriteHold>>>,
    /// What has proved a backup of a site and is kept for the next copy of it.
    spares: Mutex<BTreeMap<SiteName, spares::Spare>>,
    /// Serialises changes of the namespace, so that an older description never replaces a newer one.
    publishing: Mutex<()>,
    windows: windows::Windows,
    /// Answers web servers and load balancers, where it is told to.
    http: Mutex<Option<Http>>,
    stopping: Arc<AtomicBool>,
}
