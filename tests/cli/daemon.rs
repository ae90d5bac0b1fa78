//! A daemon that answers as a case says.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use sitefs::control::{
    Caller, Event, Events, Failure, Handler, InputReader, Reply, Request, Response, Server, Stopper,
    socket_path,
};

use crate::case::Case;

/// A store with a daemon, which ends with this.
pub(crate) struct Daemon {
    place: tempfile::TempDir,
    heard: Arc<Mutex<Heard>>,
    running: Option<(Stopper, JoinHandle<usize>)>,
}

#[derive(Default)]
struct Heard {
    request: Option<Value>,
    input: Option<String>,
}

struct Canned {
    events: Vec<Event>,
    data: Option<String>,
    reply: Reply,
    waits: bool,
    heard: Arc<Mutex<Heard>>,
}

impl Daemon {
    /// Answers as the case says.
    pub(crate) fn start(case: &Case) -> Daemon {
        Daemon::start_with(case, |_| {})
    }

    /// Answers as the case says, after a change.
    pub(crate) fn start_with(case: &Case, change: impl FnOnce(&mut Value)) -> Daemon {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("store");
        let heard = Arc::default();
        if case.get("daemon") == Some("none") {
            return Daemon { place, heard, running: None };
        }
        let reply = match (case.json("answer"), case.json("failure")) {
            (Some(mut answer), None) => {
                change(&mut answer);
                let response: Response = serde_json::from_value(answer.clone()).unwrap();
                // Nothing of the document is lost, and nothing that there is was left out of it.
                assert_eq!(serde_json::to_value(&response).unwrap(), answer);
                Ok(response)
            }
            (None, Some(failure)) => Err(serde_json::from_value(failure).unwrap()),
            _ => Err(Failure::failed("the case expects no request")),
        };
        let events =
            case.all("event").map(|text| serde_json::from_value(case.parse(text)).unwrap()).collect();
        let data = case.get("data").map(str::to_owned);
        let waits = case.get("daemon") == Some("waits");
        let canned = Canned { events, data, reply, waits, heard: Arc::clone(&heard) };
        let server = Server::bind(&socket_path(&store)).unwrap();
        let stopper = server.stopper().unwrap();
        let handler: Arc<dyn Handler> = Arc::new(canned);
        let thread = std::thread::spawn(move || server.run(&handler, Duration::from_secs(30)));
        Daemon { place, heard, running: Some((stopper, thread)) }
    }

    /// The directory the case runs in.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    /// The store's directory, below that.
    pub(crate) fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    /// The text with words in place of what is different on every machine.
    pub(crate) fn masked(&self, text: &str) -> String {
        let text = text.replace(&self.store().display().to_string(), "STORE");
        text.replace(&self.place().display().to_string(), "PLACE")
    }

    /// The request that came, if any.
    pub(crate) fn request(&self) -> Option<Value> {
        self.heard.lock().unwrap().request.clone()
    }

    /// The input that came with it.
    pub(crate) fn input(&self) -> Option<String> {
        self.heard.lock().unwrap().input.clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((stopper, thread)) = self.running.take() {
            stopper.stop();
            let left = thread.join();
            assert!(std::thread::panicking() || left.is_ok_and(|left| left == 0));
        }
    }
}

impl Handler for Canned {
    fn handle(&self, _: &Caller, request: Request, events: &dyn Events) -> Reply {
        let document = serde_json::to_value(&request).unwrap();
        assert_eq!(serde_json::from_value::<Request>(document.clone()).unwrap(), request);
        let mut input = String::new();
        InputReader(events).read_to_string(&mut input).unwrap();
        let heard = Heard { request: Some(document), input: Some(input).filter(|_| request.takes_input()) };
        *self.heard.lock().unwrap() = heard;
        for event in &self.events {
            events.send(event.clone());
        }
        while self.waits && !events.cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(data) = &self.data {
            // A caller that wants none hangs up.
            let _ = events.data(data.as_bytes());
        }
        self.reply.clone()
    }
}

/// A snapshot's summary, as a document.
pub(crate) fn snapshot() -> Value {
    json!({
        "id": "3fa9c1d2e4b70000000000000000000000000000000000000000000000000000",
        "site": "shop.example",
        "created": "2026-11-21T14:03:00Z",
        "author": "root",
        "message": "nightly",
        "tags": [],
        "platform": "drupal-10.3",
        "generation": 12,
        "nodes": 23_257,
        "size_bytes": 294_649_856,
        "added_bytes": 1_258_291,
        "database": null,
    })
}
