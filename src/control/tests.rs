//! Client and server over a real socket.

use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::frame::{self, FromDaemon, Hello};
use super::request::{DatabaseDump, DatabaseRestore, DatabaseSource, Status, Stop, Tag};
use super::response::{DatabaseDumped, DatabaseRestored, Stopping, Tagged};
use super::*;

/// Longer than anything here takes, so that a defect fails a test instead of hanging it.
const LIMIT: Duration = Duration::from_secs(30);

type Handle = dyn Fn(&Caller, Request, &dyn Events) -> Reply + Send + Sync;

struct Fake(Box<Handle>);

impl Handler for Fake {
    fn handle(&self, caller: &Caller, request: Request, events: &dyn Events) -> Reply {
        (self.0)(caller, request, events)
    }
}

/// A store directory with a server on its socket.
struct Daemon {
    store: PathBuf,
    _directory: tempfile::TempDir,
    stopper: Stopper,
    thread: Option<JoinHandle<usize>>,
}

impl Daemon {
    fn start(handle: impl Fn(&Caller, Request, &dyn Events) -> Reply + Send + Sync + 'static) -> Daemon {
        Daemon::start_below("store", handle)
    }

    fn start_below(
        name: &str,
        handle: impl Fn(&Caller, Request, &dyn Events) -> Reply + Send + Sync + 'static,
    ) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join(name);
        let server = Server::bind(&socket_path(&store)).unwrap();
        let stopper = server.stopper().unwrap();
        let handler: Arc<dyn Handler> = Arc::new(Fake(Box::new(handle)));
        let thread = std::thread::spawn(move || server.run(&handler, LIMIT));
        Daemon { store, _directory: directory, stopper, thread: Some(thread) }
    }

    fn call<V: Verb>(&self, request: V) -> Result<(V::Answer, Seen), ClientError> {
        let mut seen = Seen::default();
        let answer = Client::connect(&self.store)?.call(request, &mut seen)?;
        Ok((answer, seen))
    }

    /// A raw connection that has said hello and heard the daemon's.
    fn raw(&self) -> UnixStream {
        let mut stream = UnixStream::connect(socket_path(&self.store)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(&frame::message(&Hello::ours(), 1_000).unwrap()).unwrap();
        assert_eq!(frame::read_message::<Hello>(&mut stream, 1_000).unwrap(), Hello::ours());
        stream
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stopper.stop();
        let left = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            assert_eq!(left.unwrap(), 0);
            assert!(!socket_path(&self.store).exists());
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    data: Vec<u8>,
}

impl Receiver for Seen {
    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.data.extend_from_slice(bytes);
        Ok(())
    }
}

fn stopping() -> Reply {
    Ok(Response::Stop(Stopping { pid: 7 }))
}

fn dumped() -> Reply {
    let (of, engine) = ("shop@live".to_owned(), "sqlite".to_owned());
    Ok(Response::DatabaseDump(DatabaseDumped { of, engine, tables: 1, rows: 2, size_bytes: 3, seconds: 0.5 }))
}

fn tag_request() -> Tag {
    Tag { snapshot: "shop@3fa9".parse().unwrap(), tag: "release-1".parse().unwrap() }
}

#[test]
fn a_request_reaches_the_handler_and_the_answer_the_caller() {
    let daemon = Daemon::start(|caller, request, events| {
        assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
        let Request::Tag(tag) = request else { panic!("another request: {request:?}") };
        events.warn("the store is nearly full".to_owned());
        events.send(Event::Step {
            number: 1,
            count: 2,
            name: "look".to_owned(),
            state: StepState::Done { seconds: 0.25 },
        });
        Ok(Response::Tag(Tagged { site: tag.snapshot.site, snapshot: "3fa9".to_owned(), tag: tag.tag }))
    });
    let (tagged, seen) = daemon.call(tag_request()).unwrap();
    assert_eq!((tagged.site.as_str(), tagged.tag.as_str()), ("shop", "release-1"));
    assert_eq!(seen.events.len(), 2);
    assert!(matches!(&seen.events[0], Event::Warning { text } if text == "the store is nearly full"));
    assert!(matches!(
        &seen.events[1],
        Event::Step { number: 1, state: StepState::Done { seconds }, .. } if *seconds == 0.25
    ));
}

#[test]
fn the_socket_is_for_its_owner_only_and_its_directory_is_not() {
    let daemon = Daemon::start(|_, _, _| stopping());
    let mode = std::fs::metadata(socket_path(&daemon.store)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode = std::fs::metadata(&daemon.store).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn failures_arrive_whole() {
    let daemon = Daemon::start(|_, _, _| {
        Err(Failure::refused("platform drupal-10.3 has sites")
            .because_of("shop is on it")
            .hint("sitefs site list"))
    });
    let failure = Failure::from(daemon.call(Stop {}).unwrap_err());
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(failure.causes, ["shop is on it"]);
    assert_eq!(failure.hint.as_deref(), Some("sitefs site list"));
}

#[test]
fn a_store_path_too_long_for_an_address_works_all_the_same() {
    let daemon = Daemon::start_below(&"deep/".repeat(40), |_, _, _| stopping());
    assert!(socket_path(&daemon.store).as_os_str().len() > 200);
    assert_eq!(daemon.call(Stop {}).unwrap().0.pid, 7);
}

#[test]
fn no_daemon_is_told_with_how_to_start_it() {
    let directory = tempfile::tempdir().unwrap();
    let hint = |store: &Path| Failure::from(Client::connect(store).err().unwrap()).hint.unwrap();
    let store = directory.path();
    assert_eq!(hint(store), format!("start it: sitefs --store {} serve", store.display()));
    let missing = store.join("missing");
    assert!(hint(&missing).ends_with(&format!("sitefs --store {} init", missing.display())));
    drop(UnixListener::bind(socket_path(store)).unwrap());
    assert!(matches!(Client::connect(store), Err(ClientError::NoDaemon { store_exists: true, .. })));
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    let server = Server::bind(&path).unwrap();
    assert!(matches!(Server::bind(&path), Err(ServerError::InUse { .. })));
    drop(server);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn data_arrives_in_order_whatever_its_size() {
    let sent: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();
    let daemon = Daemon::start(move |_, _, events| {
        DataWriter(events).write_all(&sent).unwrap();
        dumped()
    });
    let (answer, seen) = daemon.call(DatabaseDump { of: "shop".parse().unwrap() }).unwrap();
    assert_eq!(answer.size_bytes, 3);
    assert!(seen.data == expected);
}

fn restore(from: DatabaseSource) -> DatabaseRestore {
    DatabaseRestore { site: "shop".parse().unwrap(), from }
}

fn restoring_daemon(read: impl Fn(&dyn Events) -> Result<u64, String> + Send + Sync + 'static) -> Daemon {
    Daemon::start(move |_, _, events| {
        let rows = read(events).map_err(Failure::failed)?;
        let (site, from) = ("shop".parse().unwrap(), "dump".to_owned());
        let safety_snapshot = "3fa9".to_owned();
        Ok(Response::DatabaseRestore(DatabaseRestored {
            site,
            from,
            tables: 1,
            rows,
            safety_snapshot,
            seconds: 1.5,
        }))
    })
}

#[test]
fn input_is_read_to_its_end() {
    let daemon = restoring_daemon(|events| {
        let mut all = Vec::new();
        InputReader(events).read_to_end(&mut all).map_err(|error| error.to_string())?;
        Ok(all.iter().map(|byte| u64::from(*byte)).sum())
    });
    let input = Box::new(Cursor::new(vec![1; 3_000_000]));
    let client = Client::connect(&daemon.store).unwrap();
    let answer =
        client.call_with_input(restore(DatabaseSource::Input), Some(input), &mut Seen::default()).unwrap();
    assert_eq!(answer.rows, 3_000_000);
    // A request without input has none, rather than waiting for some.
    let from = DatabaseSource::Snapshot("shop@3fa9".parse().unwrap());
    assert_eq!(daemon.call(restore(from)).unwrap().0.rows, 0);
}

#[test]
fn a_refusal_reaches_a_caller_that_is_still_sending() {
    let daemon = restoring_daemon(|_| Err("no such site".to_owned()));
    let endless = Box::new(io::repeat(7));
    let client = Client::connect(&daemon.store).unwrap();
    let error = client
        .call_with_input(restore(DatabaseSource::Input), Some(endless), &mut Seen::default())
        .unwrap_err();
    assert_eq!(error.to_string(), "no such site");
}

#[test]
fn input_that_breaks_off_is_no_whole_input() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let daemon = restoring_daemon(|events| {
        io::copy(&mut InputReader(events), &mut io::sink()).map_err(|error| error.to_string())
    });
    let client = Client::connect(&daemon.store).unwrap();
    let error = client
        .call_with_input(restore(DatabaseSource::Input), Some(Box::new(Broken)), &mut Seen::default())
        .unwrap_err();
    assert_eq!(Failure::from(error).causes, ["the disk is gone"]);
}

#[test]
fn another_version_is_told_by_both_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(socket_path(directory.path())).unwrap();
    let old = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        frame::read_message::<Hello>(&mut stream, 1_000).unwrap();
        let hello = Hello { protocol: 0, program: "0.0.9".to_owned(), pid: 4_242 };
        stream.write_all(&frame::message(&hello, 1_000).unwrap()).unwrap();
    });
    let error = Client::connect(directory.path()).err().unwrap();
    old.join().unwrap();
    let text = error.to_string();
    assert!(text.contains("0.0.9 (protocol 0)") && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    assert!(Failure::from(error).hint.unwrap().contains("kill 4242"));
    // The daemon's side: it answers a strange hello with its own and takes no request.
    let daemon = Daemon::start(|_, _, _| panic!("no request was sent"));
    let mut stream = UnixStream::connect(socket_path(&daemon.store)).unwrap();
    let hello = Hello { protocol: 99, program: "9".to_owned(), pid: 1 };
    stream.write_all(&frame::message(&hello, 1_000).unwrap()).unwrap();
    assert_eq!(frame::read_message::<Hello>(&mut stream, 1_000).unwrap(), Hello::ours());
    assert!(matches!(frame::read(&mut stream, 1_000), Err(frame::FrameError::Closed)));
}

#[test]
fn garbage_and_oversize_requests_end_their_connection_and_nothing_else() {
    let daemon = Daemon::start(|_, _, _| stopping());
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[1, 255, 255, 255, 255], &[1, 2, 0, 0, 0, b'{', b'}']] {
        let mut stream = UnixStream::connect(socket_path(&daemon.store)).unwrap();
        stream.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        // Closed with unread bytes, a Unix socket reports a reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{garbage:?}");
    }
    assert!(daemon.call(Stop {}).is_ok());
}

#[test]
fn a_request_with_a_field_the_daemon_does_not_know_is_refused() {
    let daemon = Daemon::start(|_, _, _| stopping());
    for request in [
        r#"{"verb":"stop","dry_run":true}"#,
        r#"{"verb":"explode"}"#,
        r#"{"verb":"tag","snapshot":"shop@1","tag":"../x"}"#,
    ] {
        let mut stream = daemon.raw();
        let request: serde_json::Value = serde_json::from_str(request).unwrap();
        stream.write_all(&frame::message(&request, 1_000).unwrap()).unwrap();
        let FromDaemon::Reply(Err(failure)) = frame::read_message(&mut stream, 10_000).unwrap() else {
            panic!("{request} was taken");
        };
        assert_eq!(failure.kind, FailureKind::Usage);
    }
}

#[test]
fn a_panic_is_answered_and_the_daemon_goes_on() {
    let daemon = Daemon::start(|_, request, _| match request {
        Request::Stop(_) => stopping(),
        _ => panic!("an invariant is broken"),
    });
    let failure = Failure::from(daemon.call(Status {}).unwrap_err());
    assert_eq!(failure.causes, ["an invariant is broken"]);
    assert!(daemon.call(Stop {}).is_ok());
}

#[test]
fn a_caller_that_goes_away_is_seen_and_the_work_may_go_on() {
    let (seen, result) = mpsc::channel();
    let daemon = Daemon::start(move |_, _, events| {
        assert!(!events.cancelled());
        events.warn("begun".to_owned());
        while !events.cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        events.warn("nobody hears this".to_owned());
        assert_eq!(events.data(b"x"), Err(Gone));
        seen.send(()).unwrap();
        stopping()
    });
    let mut stream = daemon.raw();
    stream.write_all(&frame::message(&Request::from(Stop {}), 1_000).unwrap()).unwrap();
    assert!(matches!(frame::read_message(&mut stream, 1_000).unwrap(), FromDaemon::Event(_)));
    drop(stream);
    result.recv_timeout(LIMIT).unwrap();
}

#[test]
fn a_daemon_that_dies_amid_a_request_is_told_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(socket_path(directory.path())).unwrap();
    let dying = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        frame::read_message::<Hello>(&mut stream, 1_000).unwrap();
        stream.write_all(&frame::message(&Hello::ours(), 1_000).unwrap()).unwrap();
        frame::read(&mut stream, 1_000).unwrap();
    });
    let client = Client::connect(directory.path()).unwrap();
    assert!(matches!(client.call(Stop {}, &mut Seen::default()), Err(ClientError::Lost { .. })));
    dying.join().unwrap();
}

#[test]
fn a_stop_from_within_a_request_answers_it_and_cancels_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::bind(&socket_path(directory.path())).unwrap();
    let stopper = server.stopper().unwrap();
    let (begun, other_begun) = mpsc::channel();
    let handler: Arc<dyn Handler> = Arc::new(Fake(Box::new(move |_, request, events| match request {
        Request::Stop(_) => {
            stopper.stop();
            stopping()
        }
        _ => {
            begun.send(()).unwrap();
            while !events.cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(Failure::failed("the daemon is stopping"))
        }
    })));
    let running = std::thread::spawn(move || server.run(&handler, LIMIT));
    let store = directory.path().to_owned();
    let other =
        std::thread::spawn(move || Client::connect(&store).unwrap().call(Status {}, &mut Seen::default()));
    other_begun.recv_timeout(LIMIT).unwrap();
    let client = Client::connect(directory.path()).unwrap();
    assert_eq!(client.call(Stop {}, &mut Seen::default()).unwrap().pid, 7);
    assert_eq!(other.join().unwrap().unwrap_err().to_string(), "the daemon is stopping");
    assert_eq!(running.join().unwrap(), 0);
    assert!(matches!(Client::connect(directory.path()), Err(ClientError::NoDaemon { .. })));
}

#[test]
fn more_requests_than_the_limit_are_turned_away() {
    let (begun, count) = mpsc::channel();
    let daemon = Daemon::start(move |_, _, events| {
        begun.send(()).unwrap();
        while !events.cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        stopping()
    });
    let mut held = Vec::new();
    for _ in 0..crate::base::limits::REQUESTS_MAX {
        let mut stream = daemon.raw();
        stream.write_all(&frame::message(&Request::from(Stop {}), 1_000).unwrap()).unwrap();
        held.push(stream);
        count.recv_timeout(LIMIT).unwrap();
    }
    let error = daemon.call(Stop {}).unwrap_err().to_string();
    assert_eq!(error, "the daemon works on 64 requests already");
}
