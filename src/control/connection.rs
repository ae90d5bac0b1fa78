//! One client's request, from hello to reply.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::sockopt::socket_peercred;

use super::frame::{self, Frame, FrameError, FromDaemon, Hello, PROTOCOL};
use super::outbox::Outbox;
use super::server::Shared;
use super::{Caller, Event, Events, Failure, Gone, Handler, Reply, Request};
use crate::base::accounts::User;
use crate::base::files;
use crate::base::limits::{DATA_BYTES_MAX, REPLY_BYTES_MAX, REQUEST_BYTES_MAX};

/// How often a wait for a client looks whether the daemon is stopping.
const READ_WAIT: Duration = Duration::from_millis(200);

/// How many such waits a client may take to say what it wants: 10 seconds. Counted, not measured: when a machine or a
/// container that was paused goes on, the client has had no more time than the daemon.
const REQUEST_WAITS_MAX: u32 = 50;

/// How long a client that reads nothing is waited for at the end.
const REPLY_PATIENCE: Duration = Duration::from_secs(60);

/// A connection whose request is being worked on.
struct Connection<'a> {
    outbox: Outbox,
    input: Mutex<Input>,
    shared: &'a Shared,
}

struct Input {
    stream: UnixStream,
    /// What is left of the piece read last.
    rest: io::Cursor<Vec<u8>>,
    ended: bool,
}

/// Reads from the stream; when it was waited often enough, or the daemon stops, the read fails.
struct Patient<'a> {
    stream: &'a UnixStream,
    /// `None`: without end.
    waits_left: Option<u32>,
    shared: &'a Shared,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.shared.is_stopping() || self.waits_left == Some(0) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    self.waits_left = self.waits_left.map(|left| left - 1);
                }
                other => return other,
            }
        }
    }
}

/// Serves one client. Failures of the connection itself end it silently: nobody is there to be told.
pub(super) fn serve(stream: UnixStream, handler: &dyn Handler, shared: &Shared) {
    if let Err(error) = try_serve(stream, handler, shared) {
        log::debug!("a connection to the control socket ended early: {error}");
    }
}

fn try_serve(stream: UnixStream, handler: &dyn Handler, shared: &Shared) -> Result<(), FrameError> {
    stream.set_read_timeout(Some(READ_WAIT))?;
    let mut reader = Patient { stream: &stream, waits_left: Some(REQUEST_WAITS_MAX), shared };
    let outbox = Outbox::new(stream.try_clone()?);
    let theirs: Hello = frame::read_message(&mut reader, REQUEST_BYTES_MAX)?;
    outbox.push(frame::message(&Hello::ours(), REPLY_BYTES_MAX)?, false);
    if theirs.protocol != PROTOCOL {
        // The client says what is wrong: it knows both versions.
        return Ok(());
    }
    let json = match frame::read(&mut reader, REQUEST_BYTES_MAX)? {
        Frame::Message(json) => json,
        Frame::Bytes(_) => return Err(FrameError::Order),
    };
    let reply = match (caller(&stream), serde_json::from_slice::<Request>(&json)) {
        (Err(failure), _) => Err(failure),
        (_, Err(error)) => Err(Failure::usage("the daemon does not understand the request")
            .because(&error)
            .hint("command and daemon are of different builds: restart the daemon")),
        (Ok(caller), Ok(request)) => {
            let ended = !request.takes_input();
            let input = Mutex::new(Input { stream: stream.try_clone()?, rest: io::Cursor::default(), ended });
            let connection = Connection { outbox, input, shared };
            let reply = handle(handler, &caller, request, &connection);
            // A client that is still sending learns that nobody listens, and comes to read the reply.
            let _ = stream.shutdown(std::net::Shutdown::Read);
            connection.outbox.finish(reply_frame(reply), REPLY_PATIENCE);
            return Ok(());
        }
    };
    outbox.finish(reply_frame(reply), REPLY_PATIENCE);
    Ok(())
}

/// Tells a client that it cannot be served now, without waiting for anything.
pub(super) fn turn_away(stream: UnixStream, failure: Failure) {
    let outbox = Outbox::new(stream);
    if let Ok(hello) = frame::message(&Hello::ours(), REPLY_BYTES_MAX) {
        outbox.push(hello, false);
        outbox.push(reply_frame(Err(failure)), false);
    }
}

fn handle(handler: &dyn Handler, caller: &Caller, request: Request, events: &dyn Events) -> Reply {
    catch_unwind(AssertUnwindSafe(|| handler.handle(caller, request, events))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        log::error!("a request ended in a panic: {text}");
        Err(Failure::failed("the daemon met a defect of its own while it worked on this")
            .because_of(text)
            .hint("`sitefs status` shows what state things are in; please report this with the daemon's log"))
    })
}

fn reply_frame(reply: Reply) -> Vec<u8> {
    frame::message(&FromDaemon::Reply(reply), REPLY_BYTES_MAX).unwrap_or_else(|error| {
        let failure = Failure::failed("the work is done, but its result cannot be sent").because(&error);
        frame::message(&FromDaemon::Reply(Err(failure)), REPLY_BYTES_MAX)
            .expect("a failure of two sentences is shorter than the limit")
    })
}

/// Who is at the other end; a failure for who has no business here.
fn caller(stream: &UnixStream) -> Result<Caller, Failure> {
    let peer = socket_peercred(stream)
        .map_err(|error| Failure::failed("cannot tell who asks").because(&io::Error::from(error)))?;
    let uid = peer.uid.as_raw();
    let own = rustix::process::geteuid().as_raw();
    let login = login_uid(peer.pid.as_raw_pid());
    // A user who cannot be looked up is still someone: the number has to do.
    let name = |uid| User::by_id(uid, uid).map_or_else(|_| uid.to_string(), |user| user.name);
    if uid != 0 && uid != own {
        return Err(Failure::refused(format!("user {} may not use this daemon", name(uid)))
            .because_of(format!("it serves root and its own user {} only", name(own)))
            .hint("run the command with sudo"));
    }
    Ok(Caller { uid, user: name(login.unwrap_or(uid)) })
}

/// The user who logged in to the session of a process, where the kernel keeps track of it: `sudo` does not change it.
fn login_uid(pid: i32) -> Option<u32> {
    let text = files::read_to_string(format!("/proc/{pid}/loginuid").as_ref()).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

impl Connection<'_> {
    fn next_piece(&self, input: &mut Input) -> io::Result<()> {
        let mut reader = Patient { stream: &input.stream, waits_left: None, shared: self.shared };
        match frame::read(&mut reader, DATA_BYTES_MAX) {
            Ok(Frame::Bytes(piece)) => {
                input.ended = piece.is_empty();
                input.rest = io::Cursor::new(piece);
                Ok(())
            }
            Ok(Frame::Message(_)) => Err(io::Error::other(FrameError::Order)),
            Err(FrameError::Io(error)) => Err(error),
            Err(FrameError::Closed) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, Gone)),
            Err(other) => Err(io::Error::other(other)),
        }
    }
}

impl Events for Connection<'_> {
    fn send(&self, event: Event) {
        let lossy = matches!(event, Event::Progress { .. });
        match frame::message(&FromDaemon::Event(event), REPLY_BYTES_MAX) {
            Ok(frame) => self.outbox.push(frame, lossy),
            Err(error) => log::warn!("an event was not sent: {error}"),
        }
    }

    fn data(&self, bytes: &[u8]) -> Result<(), Gone> {
        bytes
            .chunks(DATA_BYTES_MAX as usize)
            .try_for_each(|piece| self.outbox.push_waiting(frame::bytes(piece), || self.shared.is_stopping()))
    }

    fn input(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut input = self.input.lock();
        loop {
            let count = input.rest.read(buffer)?;
            if count > 0 || input.ended || buffer.is_empty() {
                return Ok(count);
            }
            self.next_piece(&mut input)?;
        }
    }

    fn cancelled(&self) -> bool {
        self.shared.is_stopping() || self.outbox.is_gone()
    }
}
