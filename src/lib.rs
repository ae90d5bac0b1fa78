//! sitefs: a versioned file system for PHP sites. `docs/architecture.md` is the map of this code.

pub mod base;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod database;
pub mod fuse;
pub mod history;
pub mod live;
pub mod objects;
pub mod site;
pub mod trees;
pub mod update;
pub mod web;
