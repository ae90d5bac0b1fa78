//! The daemon's end: the socket, and a thread for each request.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::place::reachable;
use super::{Events, Failure, Reply, Request, connection};
use crate::base::files::{self, At, FileError};
use crate::base::limits::REQUESTS_MAX;

/// How long the daemon waits before it accepts again when the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// What can go wrong with the socket.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another daemon answers there.
    #[error("a daemon already listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The socket, listening. Dropped, it is removed.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    shared: Arc<Shared>,
}

/// Ends [`Server::run`] from another thread, or from within a request.
#[derive(Clone)]
pub struct Stopper {
    listener: Arc<UnixListener>,
    shared: Arc<Shared>,
}

/// What the threads have in common.
#[derive(Default)]
pub(super) struct Shared {
    stopping: AtomicBool,
    active: Mutex<usize>,
    idle: Condvar,
}

impl Shared {
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// Counts one request as long as it lives.
struct Active(Arc<Shared>);

impl Drop for Active {
    fn drop(&mut self) {
        *self.0.active.lock() -= 1;
        self.0.idle.notify_all();
    }
}

impl Server {
    /// Makes the socket, open to its owner only, and its directory where that is missing, through which web servers may go
    /// to theirs. A socket that a dead daemon left is replaced in one step.
    pub fn bind(path: &Path) -> Result<Server, ServerError> {
        if let Some(parent) =
            path.parent().filter(|parent| files::metadata(parent).is_ok_and(|m| m.is_none()))
        {
            files::create_public_directories(parent)?;
            files::set_mode(parent, 0o755)?;
        }
        let (address, _directory) = reachable(path).at("reach", path)?;
        match UnixStream::connect(&address) {
            Ok(_) => return Err(ServerError::InUse { path: path.to_owned() }),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            Err(error) => return Err(error).at("connect to", path).map_err(ServerError::from),
        }
        // Under another name first: a client finds the old socket or one that is ready, and never no socket.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        files::remove_file(&fresh)?;
        let (address, _directory) = reachable(&fresh).at("reach", &fresh)?;
        let listener = UnixListener::bind(&address).at("listen on", &fresh)?;
        // Until here others might have connected; who they are is checked for every connection.
        files::set_mode(&fresh, 0o600)?;
        files::rename(&fresh, path)?;
        Ok(Server { listener, path: path.to_owned(), shared: Arc::default() })
    }

    /// What ends [`Server::run`].
    pub fn stopper(&self) -> Result<Stopper, ServerError> {
        let listener = self.listener.try_clone().at("copy the socket", &self.path)?;
        Ok(Stopper { listener: Arc::new(listener), shared: self.shared.clone() })
    }

    /// Serves requests until [`Stopper::stop`], then removes the socket and waits up to `grace` for the requests
    /// under way; returns how many of them still are.
    pub fn run(self, handler: &Arc<dyn Handler>, grace: Duration) -> usize {
        while !self.shared.is_stopping() {
            match self.listener.accept() {
                Ok((stream, _)) => self.start(stream, handler),
                Err(_) if self.shared.is_stopping() => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("cannot accept a connection to {}: {error}", self.path.display());
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
        let shared = self.shared.clone();
        drop(self);
        let end = Instant::now() + grace;
        let mut active = shared.active.lock();
        while *active > 0 && !shared.idle.wait_until(&mut active, end).timed_out() {}
        *active
    }

    fn start(&self, stream: UnixStream, handler: &Arc<dyn Handler>) {
        {
            let mut active = self.shared.active.lock();
            if *active >= REQUESTS_MAX {
                drop(active);
                let busy = format!("the daemon works on {REQUESTS_MAX} requests already");
                return connection::turn_away(stream, Failure::failed(busy).hint("try again in a moment"));
            }
            *active += 1;
        }
        let counted = Active(self.shared.clone());
        let handler = handler.clone();
        let spawned = thread::Builder::new().name("request".to_owned()).spawn(move || {
            connection::serve(stream, &*handler, &counted.0);
        });
        // The closure is dropped with the error: the connection closes, and the request is no longer counted.
        if let Err(error) = spawned {
            log::warn!("cannot start a thread for a request: {error}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = files::remove_file(&self.path) {
            log::warn!("{error}");
        }
    }
}

impl Stopper {
    /// No more requests are accepted; those under way see [`Events::cancelled`].
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts: Linux answers it with an error once the socket is shut down.
        if let Err(error) = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both) {
            log::warn!("cannot shut the control socket down: {error}");
        }
    }
}
