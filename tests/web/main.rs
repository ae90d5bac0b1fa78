//! Real web servers in front of sites: nginx and PHP-FPM, as Debian packages them.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod client;
mod cutovers;
mod deaths;
mod fixture;
mod health;
#[path = "../update/place.rs"]
#[allow(dead_code, reason = "this uses a part of it")]
mod place;
mod servers;
mod vhosts;
mod windows;
