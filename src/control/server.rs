//! The daemon's end.

use super::{Events, Reply, Request};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user id the kernel states for the other end of the connection.
    pub uid: u32,
    /// The name of who asks: the user who logged in, even behind `sudo`, where the kernel keeps track of that;
    /// else the name of the user id.
    pub user: String,
}

/// Does what is asked. Called from many threads at once.
pub trait Handler: Send + Sync {
    /// Works on one request to its end. A panic is answered as a failure and leaves the daemon running.
    fn handle(&self, caller: &Caller, request: Request, events: &dyn Events) -> Reply;
}
