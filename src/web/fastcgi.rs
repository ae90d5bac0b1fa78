//! Asking PHP-FPM for a page as a web server does, so that a copy of a site can be asked which no web server knows.
//!
//! One GET on a connection of its own (<https://fastcgi-archives.github.io/FastCGI_Specification.html>). The answer is
//! bounded in time, for the whole of it, and in length.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest answer that is kept, in bytes; what comes after is read and dropped.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The longest content of a record that is sent, in bytes; less than the 65,535 there is room for.
const RECORD_BYTES_MAX: usize = 32 << 10;

const VERSION: u8 = 1;
const REQUEST: u16 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const ROLE_RESPONDER: u8 = 1;

/// What PHP answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status: 200 where PHP names none.
    pub status: u16,
    /// The body, or the first mebibyte of the answer.
    pub body: Vec<u8>,
}

/// Asks the PHP-FPM that listens on `socket` for the page that `parameters` describe.
pub fn get(socket: &Path, parameters: &[(&str, String)], limit: Duration) -> io::Result<Page> {
    let end = Instant::now() + limit;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(limit.max(Duration::from_millis(1))))?;
    let mut request = record(BEGIN_REQUEST, &[0, ROLE_RESPONDER, 0, 0, 0, 0, 0, 0]);
    let mut encoded = Vec::new();
    for (name, value) in parameters {
        for length in [name.len(), value.len()] {
            encoded.extend(encode_length(length)?);
        }
        encoded.extend(name.as_bytes());
        encoded.extend(value.as_bytes());
    }
    for part in encoded.chunks(RECORD_BYTES_MAX) {
        request.extend(record(PARAMS, part));
    }
    request.extend(record(PARAMS, &[]));
    request.extend(record(STDIN, &[]));
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    loop {
        let mut header = [0; 8];
        read_before(&mut stream, end, &mut header)?;
        let [_, kind, _, _, high, low, padding, _] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let mut content = vec![0; length + usize::from(padding)];
        read_before(&mut stream, end, &mut content)?;
        content.truncate(length);
        match kind {
            STDOUT => {
                content.truncate(ANSWER_BYTES_MAX - answer.len());
                answer.extend(content);
            }
            END_REQUEST => return Ok(page(&answer)),
            // What PHP has to say beside the page goes to its own log too.
            _ => {}
        }
    }
}

/// A record; `content` is not longer than one can be.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [id_high, id_low] = REQUEST.to_be_bytes();
    let length = u16::try_from(content.len()).expect("no record is made longer than 32 KiB");
    let [high, low] = length.to_be_bytes();
    [&[VERSION, kind, id_high, id_low, high, low, 0, 0], content].concat()
}

/// One byte up to 127, else four with the highest bit set.
fn encode_length(length: usize) -> io::Result<Vec<u8>> {
    match u32::try_from(length) {
        Ok(length @ 0..=0x7f) => Ok(vec![length.to_be_bytes()[3]]),
        Ok(length @ 0x80..=0x7fff_ffff) => Ok((length | 0x8000_0000).to_be_bytes().to_vec()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a parameter is too long")),
    }
}

fn read_before(stream: &mut UnixStream, end: Instant, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the answer did not come in time"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ended too early")),
            Ok(count) => buffer = &mut buffer[count..],
            // A time limit that was reached is seen at the top.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The page in what a CGI program writes: header lines, an empty one, the body.
fn page(answer: &[u8]) -> Page {
    let end_of_head = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, body) = match end_of_head {
        Some(place) => (&answer[..place], &answer[place + 4..]),
        None => (answer, &[][..]),
    };
    let head = String::from_utf8_lossy(head);
    let status = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_status = name.eq_ignore_ascii_case("status");
        is_status.then(|| value.trim().split(' ').next()?.parse().ok()).flatten()
    });
    Page { status: status.unwrap_or(200), body: body.to_vec() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What comes of a request to a server that answers with these records.
    fn ask(records: Vec<Vec<u8>>) -> (io::Result<Page>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("php");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 64 << 10];
            let length = stream.read(&mut request).unwrap();
            for record in records {
                stream.write_all(&record).unwrap();
            }
            request.truncate(length);
            request
        });
        let long = "x".repeat(200);
        let parameters = [("REQUEST_URI", "/a".to_owned()), ("LONG", long)];
        let page = get(&socket, &parameters, Duration::from_secs(20));
        (page, server.join().unwrap())
    }

    #[test]
    fn a_page_is_put_together_of_its_records() {
        let padded = [&[1, STDOUT, 0, 1, 0, 2, 3, 0][..], b"lo", &[0; 3]].concat();
        let (page, request) = ask(vec![
            record(STDOUT, b"Status: 404 Not Found\r\nX: y\r\n\r\nhel"),
            record(7, b"a warning"),
            padded,
            record(END_REQUEST, &[0; 8]),
        ]);
        assert_eq!(page.unwrap(), Page { status: 404, body: b"hello".to_vec() });
        let sent = [&[11, 2][..], b"REQUEST_URI/a", &[4, 0x80, 0, 0, 200], b"LONGxxx"].concat();
        assert!(request.windows(sent.len()).any(|part| part == sent), "{request:?}");
        assert!(request.ends_with(&[1, PARAMS, 0, 1, 0, 0, 0, 0, 1, STDIN, 0, 1, 0, 0, 0, 0]));
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        let (page, _) = ask(vec![record(STDOUT, b"\r\n\r\nhel")]);
        assert_eq!(page.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
