//! A small HTTP server for load balancers' checks and for requests that wait, on a Unix socket or a loopback port.
//!
//! Written here because all of it is a request line: no header means anything, no body is read, each connection has
//! one answer. A crate for HTTP would bring keep-alive, bodies and pipelines only for them to be limited again.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::files::{self, At, FileError};

/// Longest head of a request, in bytes: what a browser sends with large cookies, passed on by a web server.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// How long a client may take to send its request, and to take its answer.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(5);

/// Most connections at one time, each a thread; beyond that a connection is closed at once, which a load balancer
/// takes for "down" and a web server answers with an error. Writes that wait have one each.
const CONNECTIONS_MAX: usize = 512;

/// The stack of a connection's thread, in bytes.
const STACK_BYTES: usize = 256 << 10;

/// How long to wait before accepting again when the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port of the loopback interface.
    Loopback(SocketAddr),
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Address, String> {
        if text.starts_with('/') {
            return Ok(Address::Unix(text.into()));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Address::Loopback(address)),
            _ => Err(format!(
                "{text:?} is neither the absolute path of a socket nor 127.0.0.1:PORT or [::1]:PORT"
            )),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(out, "unix:{}", path.display()),
            Address::Loopback(address) => address.fmt(out),
        }
    }
}

/// What a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// A line of text.
    pub text: String,
}

/// Who knows the answers. Called from many threads at once, and may take its time.
pub trait Answers: Send + Sync {
    /// The answer to a path, `/health/example.com`, with its query if there is one.
    fn answer(&self, path: &str) -> Answer;
}

/// What can go wrong with listening.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct HttpError {
    address: Address,
    source: io::Error,
}

/// The server, listening until dropped.
pub struct Http {
    address: Address,
    stopping: Arc<AtomicBool>,
}

impl Http {
    /// Listens, and answers from threads of its own.
    pub fn start(address: &Address, answers: Arc<dyn Answers>) -> Result<Http, HttpError> {
        let failed = |source| HttpError { address: address.clone(), source };
        let stopping = Arc::new(AtomicBool::new(false));
        let (address, accept): (Address, Box<dyn Fn() -> io::Result<Connection> + Send>) = match address {
            Address::Unix(path) => {
                let listener = bind(path).map_err(|error| failed(error.source))?;
                (address.clone(), Box::new(move || Ok(Connection::Unix(listener.accept()?.0))))
            }
            Address::Loopback(wanted) => {
                let listener = TcpListener::bind(wanted).map_err(failed)?;
                let bound = Address::Loopback(listener.local_addr().map_err(failed)?);
                (bound, Box::new(move || Ok(Connection::Tcp(listener.accept()?.0))))
            }
        };
        let stop = Arc::clone(&stopping);
        let run = move || accept_all(&*accept, &stop, &answers);
        thread::Builder::new().name("http".to_owned()).spawn(run).map_err(failed)?;
        Ok(Http { address, stopping })
    }

    /// Where it listens; a port that was asked for as 0 is the one that was given.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = match &self.address {
            Address::Unix(path) => UnixStream::connect(path).map(drop),
            Address::Loopback(address) => TcpStream::connect(address).map(drop),
        };
        if let Address::Unix(path) = &self.address
            && let Err(error) = files::remove_file(path)
        {
            log::warn!("{error}");
        }
    }
}

/// A socket that any user may connect to, as web servers' users do; one that a dead daemon left is replaced.
fn bind(path: &PathBuf) -> Result<UnixListener, FileError> {
    if let Some(parent) = path.parent() {
        files::create_public_directories(parent)?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::from(io::ErrorKind::AddrInUse)).at("listen on", path);
    }
    files::remove_file(path)?;
    let listener = UnixListener::bind(path).at("listen on", path)?;
    files::set_mode(path, 0o666)?;
    Ok(listener)
}

fn accept_all(
    accept: &dyn Fn() -> io::Result<Connection>,
    stopping: &AtomicBool,
    answers: &Arc<dyn Answers>,
) {
    let active = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = accept();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut connection) = accepted else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        if active.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            active.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (answers, counted) = (Arc::clone(answers), Counted(Arc::clone(&active)));
        let serve = move || {
            let _counted = counted;
            if let Err(error) = serve(&mut connection, &*answers) {
                log::debug!("a client of the HTTP socket: {error}");
            }
        };
        // Dropped with the error, the closure is counted no more.
        let spawned = thread::Builder::new().name("http".to_owned()).stack_size(STACK_BYTES).spawn(serve);
        if let Err(error) = spawned {
            log::warn!("no thread for a connection to the HTTP socket: {error}");
        }
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    fn limit(&self, time: Duration) -> io::Result<()> {
        let time = Some(time.max(Duration::from_millis(1)));
        match self {
            Connection::Unix(stream) => stream.set_read_timeout(time).and(stream.set_write_timeout(time)),
            Connection::Tcp(stream) => stream.set_read_timeout(time).and(stream.set_write_timeout(time)),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.read(buffer),
            Connection::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.write(bytes),
            Connection::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn serve(connection: &mut Connection, answers: &dyn Answers) -> io::Result<()> {
    let head = read_head(connection)?;
    let (answer, has_body) = match head.as_deref().and_then(parse) {
        Some(("GET", path)) => (answers.answer(path), true),
        Some(("HEAD" | "OPTIONS", path)) => (answers.answer(path), false),
        Some(_) => (Answer { status: 405, text: "only GET and HEAD".to_owned() }, true),
        None => (Answer { status: 400, text: "not a request".to_owned() }, true),
    };
    connection.limit(CLIENT_TIME_MAX)?;
    let Answer { status, text } = answer;
    let reason = match status {
        200..=299 => "OK",
        503 => "Service Unavailable",
        _ => "Refused",
    };
    let length = text.len() + 1;
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    if has_body {
        bytes = bytes + &text + "\n";
    }
    connection.write_all(bytes.as_bytes())
}

/// The bytes up to the empty line; `None` when they are too many.
fn read_head(connection: &mut Connection) -> io::Result<Option<Vec<u8>>> {
    let end = Instant::now() + CLIENT_TIME_MAX;
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        // Each byte in time is not enough: all of them.
        connection.limit(end.checked_duration_since(Instant::now()).ok_or(io::ErrorKind::TimedOut)?)?;
        match connection.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(Some(head))
}

/// Method and path.
fn parse(head: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    (path.starts_with('/') && version.starts_with("HTTP/1.") && words.next().is_none())
        .then_some((method, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Answers for Echo {
        fn answer(&self, path: &str) -> Answer {
            Answer { status: 200, text: format!("<{path}>") }
        }
    }

    fn ask(address: &Address, request: &[u8]) -> String {
        let Address::Unix(path) = address else { panic!("a Unix socket") };
        let mut stream = UnixStream::connect(path).unwrap();
        // A server that has answered early may have closed its end.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn requests_are_answered_and_nonsense_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("web.sock"));
        let http = Http::start(&address, Arc::new(Echo)).unwrap();
        let answer = ask(&address, b"GET /health/a?x HTTP/1.1\r\nHost: b\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n</health/a?x>\n"),
            "{answer}"
        );
        let answer = ask(&address, b"HEAD /a HTTP/1.0\r\n\r\n");
        assert!(answer.contains("Content-Length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        for (request, status) in [
            (&b"POST /a HTTP/1.1\r\n\r\n"[..], "405"),
            (b"GET a HTTP/1.1\r\n\r\n", "400"),
            (b"GET /a b HTTP/1.1\r\n\r\n", "400"),
            (b"\xff\xfe\r\n\r\n", "400"),
        ] {
            assert_eq!(ask(&address, request).get(9..12), Some(status), "{request:?}");
        }
        // Too long a head gets no answer from who knows them.
        assert!(!ask(&address, &[b'a'; HEAD_BYTES_MAX + 8192]).contains("200"));
        assert!(Http::start(&address, Arc::new(Echo)).is_err(), "two servers on one socket");
        drop(http);
        let Address::Unix(path) = &address else { unreachable!() };
        assert!(!path.exists());
    }

    #[test]
    fn only_this_machine_is_served() {
        assert_eq!("/run/web.sock".parse(), Ok(Address::Unix("/run/web.sock".into())));
        assert!("127.0.0.1:0".parse::<Address>().is_ok() && "[::1]:80".parse::<Address>().is_ok());
        assert!("0.0.0.0:80".parse::<Address>().is_err() && "web.sock".parse::<Address>().is_err());
        let http = Http::start(&"127.0.0.1:0".parse().unwrap(), Arc::new(Echo)).unwrap();
        assert_ne!(http.address().to_string(), "127.0.0.1:0");
    }
}
