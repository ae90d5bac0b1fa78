//! A client of web servers on Unix sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longer than any answer takes here.
const LIMIT: Duration = Duration::from_secs(30);

/// An answer, or that there was none.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lines of the head, the status line first.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks for `path` of `host`; an error when no whole answer comes.
pub(crate) fn ask(socket: &Path, method: &str, host: &str, path: &str) -> Result<Answer, String> {
    ask_with(socket, &format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"))
}

/// Sends `request` and reads to the end.
pub(crate) fn ask_with(socket: &Path, request: &str) -> Result<Answer, String> {
    let said = |error: std::io::Error| format!("{request:?}: {error}");
    let mut stream = UnixStream::connect(socket).map_err(said)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(said)?;
    stream.write_all(request.as_bytes()).map_err(said)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(said)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{request:?}: {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("{request:?}: {text:?}"))?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
