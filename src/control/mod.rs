//! `control`: the protocol between the command line and the daemon.
//!
//! A connection carries one request. Both sides say hello with the version of the protocol; the client sends a
//! [`Request`] and, for a few of them, bytes; the daemon sends any number of [`Event`]s and bytes, and one [`Reply`].
//!
//! Invariants: a field of a request that the daemon does not know is refused, never ignored; no message is longer
//! than a limit; only root and the daemon's own user are served; a caller that is slow or goes away never holds up
//! the work, except where it is the work to send it bytes.
//!
//! Absent: what any verb does ([`Handler`] is implemented by the daemon), printing, anything durable.

mod client;
mod connection;
mod event;
mod failure;
mod frame;
mod outbox;
mod place;
pub mod request;
pub mod response;
mod revision;
mod server;
mod verbs;

pub use client::{Client, ClientError, Receiver};
pub use event::{DataWriter, Event, Events, Gone, InputReader, StepState, Unit};
pub use failure::{Failure, FailureKind};
pub use place::{DEFAULT_STORE, socket_path};
pub use request::WebServer;
pub use revision::{At, Revision, RevisionError, Target, TargetError};
pub use server::{Caller, Handler, Server, ServerError, Stopper};
pub use verbs::{Reply, Request, Response, Verb};

#[cfg(test)]
mod tests;
