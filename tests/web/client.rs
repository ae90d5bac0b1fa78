//! A client of web servers on Unix sockets, and of Apache, which has none.

use std::io::{Read, Result as IoResult, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than any answer takes here.
const LIMIT: Duration = Duration::from_secs(30);

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Socket(PathBuf),
    /// On the loopback interface.
    Port(u16),
}

impl Address {
    /// As other servers' configurations write it: a socket with what they put in front of one.
    pub(crate) fn named(&self, socket: &str) -> String {
        match self {
            Address::Socket(path) => format!("{socket}{}", path.display()),
            Address::Port(port) => format!("127.0.0.1:{port}"),
        }
    }
}

/// A connection.
pub(crate) trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// What can be connected to.
pub(crate) trait Reach {
    fn connect(&self) -> IoResult<Box<dyn Stream>>;
}

impl Reach for Path {
    fn connect(&self) -> IoResult<Box<dyn Stream>> {
        let stream = UnixStream::connect(self)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Box::new(stream))
    }
}

impl Reach for PathBuf {
    fn connect(&self) -> IoResult<Box<dyn Stream>> {
        self.as_path().connect()
    }
}

impl Reach for Address {
    fn connect(&self) -> IoResult<Box<dyn Stream>> {
        match self {
            Address::Socket(path) => path.connect(),
            Address::Port(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_read_timeout(Some(LIMIT))?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// An answer, or that there was none.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lines of the head, the status line first.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks for `path` of `host`; an error when no whole answer comes.
pub(crate) fn ask<R: Reach + ?Sized>(
    server: &R,
    method: &str,
    host: &str,
    path: &str,
) -> Result<Answer, String> {
    ask_with(server, &format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"))
}

/// Sends `request` and reads to the end.
pub(crate) fn ask_with<R: Reach + ?Sized>(server: &R, request: &str) -> Result<Answer, String> {
    let said = |error: std::io::Error| format!("{request:?}: {error}");
    let mut stream = server.connect().map_err(said)?;
    stream.write_all(request.as_bytes()).map_err(said)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(said)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{request:?}: {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("{request:?}: {text:?}"))?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
