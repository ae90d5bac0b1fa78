//! The command line's end.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use super::frame::{self, Frame, FrameError, FromDaemon, Hello, PROGRAM, PROTOCOL};
use super::place::{DEFAULT_STORE, reachable, socket_path};
use super::{Event, Failure, Reply, Request, Verb};
use crate::base::files;
use crate::base::limits::{DATA_BYTES_MAX, REPLY_BYTES_MAX, REQUEST_BYTES_MAX};

/// What can go wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon says so.
    #[error("{}", .0.message)]
    Failure(Failure),
    /// Nobody listens.
    #[error("no sitefs daemon serves the store {}", store.display())]
    NoDaemon {
        /// The store.
        store: PathBuf,
        /// Whether the directory exists.
        store_exists: bool,
    },
    /// The socket belongs to someone else.
    #[error("only root, or the user the daemon runs as, may connect to {}", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon is of another version.
    #[error("the daemon runs version {daemon} of sitefs, this is version {command}")]
    Version {
        /// The daemon's version and protocol.
        daemon: String,
        /// This program's version and protocol.
        command: String,
        /// The daemon's process.
        pid: u32,
    },
    /// Something else listens, or the bytes are damaged.
    #[error("what listens on {} does not speak as a sitefs daemon does: {reason}", socket.display())]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What was wrong with what it said.
        reason: String,
    },
    /// The daemon closed the connection before it answered.
    #[error("the daemon went away before it answered")]
    Lost {
        /// What the system said, if anything.
        source: Option<io::Error>,
    },
    /// The connection cannot be made for another reason.
    #[error("cannot connect to {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The request cannot be put into a message: too long, or a path that is not UTF-8.
    #[error("the request cannot be sent: {reason}")]
    Request {
        /// Why.
        reason: String,
    },
    /// What came could not be passed on (a closed pipe, a full disk).
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
}

/// Takes what comes before the answer.
pub trait Receiver {
    /// Something happened.
    fn event(&mut self, event: Event);

    /// A piece of the result. An error ends the request.
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A connection to a daemon that speaks the same protocol.
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
}

impl Client {
    /// Connects to the daemon that serves `store`.
    pub fn connect(store: &Path) -> Result<Client, ClientError> {
        let socket = socket_path(store);
        let connected = reachable(&socket).and_then(|(address, _directory)| UnixStream::connect(address));
        let stream = connected.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                let store_exists = files::metadata(store).is_ok_and(|found| found.is_some());
                ClientError::NoDaemon { store: store.to_owned(), store_exists }
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket: socket.clone() },
            _ => ClientError::Connect { socket: socket.clone(), source },
        })?;
        let mut client = Client { stream, socket };
        client.say_hello()?;
        Ok(client)
    }

    fn say_hello(&mut self) -> Result<(), ClientError> {
        let ours = Hello::ours();
        // A daemon that is too busy answers and closes at once: what it says is read even when sending fails.
        let _ = self.send(&ours);
        let theirs: Hello =
            frame::read_message(&mut self.stream, REPLY_BYTES_MAX).map_err(|e| self.error(e))?;
        if theirs.protocol == PROTOCOL {
            return Ok(());
        }
        let show = |hello: &Hello| format!("{} (protocol {})", hello.program, hello.protocol);
        Err(ClientError::Version { daemon: show(&theirs), command: show(&ours), pid: theirs.pid })
    }

    fn send<T: serde::Serialize>(&mut self, message: &T) -> Result<(), ClientError> {
        let frame = frame::message(message, REQUEST_BYTES_MAX)
            .map_err(|error| ClientError::Request { reason: error.to_string() })?;
        self.stream.write_all(&frame).map_err(|source| ClientError::Lost { source: Some(source) })
    }

    fn error(&self, error: FrameError) -> ClientError {
        match error {
            FrameError::Closed => ClientError::Lost { source: None },
            FrameError::Io(source) => ClientError::Lost { source: Some(source) },
            other => ClientError::Protocol { socket: self.socket.clone(), reason: other.to_string() },
        }
    }

    /// Sends a request and passes on what comes until the answer.
    pub fn call<V: Verb>(self, request: V, receiver: &mut dyn Receiver) -> Result<V::Answer, ClientError> {
        self.call_with_input(request, None, receiver)
    }

    /// As [`Client::call`], for a request that takes input: `input` is sent to its end, meanwhile.
    pub fn call_with_input<V: Verb>(
        mut self,
        request: V,
        input: Option<Box<dyn Read + Send>>,
        receiver: &mut dyn Receiver,
    ) -> Result<V::Answer, ClientError> {
        let request: Request = request.into();
        match self.send(&request) {
            // The reply of a daemon that is too busy may be there already.
            Ok(()) | Err(ClientError::Lost { .. }) => {}
            Err(other) => return Err(other),
        }
        let input_error = input.map(|input| self.send_input(input)).transpose()?;
        let reply = self.receive(receiver);
        // Input that could not be read makes the daemon fail for want of it; the first cause is the one to tell.
        if let Some(source) = input_error.and_then(|sender| sender.try_recv().ok()) {
            return Err(ClientError::Failure(Failure::failed("cannot read the input").because(&source)));
        }
        let response = reply?.map_err(ClientError::Failure)?;
        V::answer(response).ok_or_else(|| ClientError::Protocol {
            socket: self.socket.clone(),
            reason: "it answered another request than was asked".to_owned(),
        })
    }

    /// Sends `input` on a thread of its own; the result gets the error when it cannot be read. The thread is not
    /// waited for: the answer may come while it waits for input that nobody needs any more.
    fn send_input(
        &self,
        mut input: Box<dyn Read + Send>,
    ) -> Result<std::sync::mpsc::Receiver<io::Error>, ClientError> {
        let lost = |source| ClientError::Lost { source: Some(source) };
        let mut stream = self.stream.try_clone().map_err(lost)?;
        let (failed, failure) = std::sync::mpsc::channel();
        let send = move || {
            let mut buffer = vec![0; DATA_BYTES_MAX as usize];
            loop {
                match input.read(&mut buffer) {
                    Ok(count) => {
                        // An empty piece ends the input. Who no longer listens has answered.
                        if stream.write_all(&frame::bytes(&buffer[..count])).is_err() || count == 0 {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        // Told first, so that it is known when the daemon answers to the closed connection.
                        let _ = failed.send(error);
                        let _ = stream.shutdown(std::net::Shutdown::Write);
                        return;
                    }
                }
            }
        };
        thread::Builder::new().name("input".to_owned()).spawn(send).map_err(lost)?;
        Ok(failure)
    }

    fn receive(&mut self, receiver: &mut dyn Receiver) -> Result<Reply, ClientError> {
        loop {
            match frame::read(&mut self.stream, REPLY_BYTES_MAX).map_err(|error| self.error(error))? {
                Frame::Bytes(bytes) => receiver.data(&bytes).map_err(ClientError::Output)?,
                Frame::Message(json) => match serde_json::from_slice(&json) {
                    Ok(FromDaemon::Event(event)) => receiver.event(event),
                    Ok(FromDaemon::Reply(reply)) => return Ok(reply),
                    Err(error) => return Err(self.error(error.into())),
                },
            }
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let message = error.to_string();
        match error {
            ClientError::Failure(failure) => failure,
            ClientError::NoDaemon { store, store_exists } => {
                let option = if store == Path::new(DEFAULT_STORE) {
                    String::new()
                } else {
                    format!(" --store {}", store.display())
                };
                let start = match (store_exists, option.is_empty()) {
                    (false, _) => {
                        format!("there is no such directory; create the store: sitefs{option} init")
                    }
                    (true, true) => "start it: systemctl start sitefs, or: sitefs serve".to_owned(),
                    (true, false) => format!("start it: sitefs{option} serve"),
                };
                Failure::failed(message).hint(start)
            }
            ClientError::Denied { .. } => Failure::refused(message).hint("run the command with sudo"),
            ClientError::Version { pid, .. } => Failure::failed(message).hint(format!(
                "restart the daemon: systemctl restart sitefs, or: kill {pid}, and start it again"
            )),
            ClientError::Lost { source } => {
                let failure = Failure::failed(message)
                    .hint("`sitefs status` tells whether it runs; its log tells why it went");
                match source {
                    Some(source) => failure.because(&source),
                    None => failure,
                }
            }
            ClientError::Protocol { .. } => {
                Failure::failed(message).hint(format!("this command is version {PROGRAM}"))
            }
            ClientError::Connect { .. } | ClientError::Output(_) => Failure::failed(message),
            ClientError::Request { .. } => Failure::usage(message),
        }
    }
}
