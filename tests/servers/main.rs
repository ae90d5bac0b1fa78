//! Sites whose databases are on real servers: MariaDB and PostgreSQL of Debian's packages.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contract;
mod kills;
mod machines;
mod obstacles;
mod place;
mod sites;
mod tablespaces;
mod templates;
