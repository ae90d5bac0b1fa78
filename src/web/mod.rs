//! `web`: what web servers and load balancers are told about a site.
//!
//! [`Vhost`] makes the configuration of nginx or Apache from a template that the administrator may replace, and
//! [`install`] puts it in place after the server itself has found it good. [`fastcgi`] asks PHP for a page. [`Http`] answers load balancers and web
//! servers on a socket.
//!
//! Invariants: a configuration that its server refuses never stays in place; the HTTP server's requests, their time
//! and their number are bounded, and it answers nothing but paths it is given.
//!
//! Absent: the state of any site ([`Answers`] is implemented by the daemon); reloading a web server, which only the
//! administrator's service manager can do right.

pub mod fastcgi;
mod http;
mod install;
mod vhost;

pub use http::{Address, Answer, Answers, Http, HttpError};
pub use install::{InstallError, install};
pub use vhost::{Program, Vhost, VhostError};
