//! Applications of other kinds: with a write-ahead log, without a read-only mode, with pages to be checked; and runs that
//! are killed twice.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, kill_process};

use crate::place::{Place, Site, wait_until};

/// The recipe without its `[readonly]`.
fn without_readonly(recipe: &str) -> String {
    let (before, rest) = recipe.split_once("[readonly]").unwrap();
    let (_, after) = rest.split_once("[update]").unwrap();
    format!("{before}[update]{after}")
}

/// Ends the command that blocks, which fails then.
fn end_paused(place: &Place) {
    place.set("pause", "");
    kill_process(place.paused().unwrap(), Signal::KILL).unwrap();
    fs::remove_file(place.path("paused")).unwrap();
}

/// A process that has the database open until it is dropped, as a worker of PHP-FPM may.
struct Connected(Child);

impl Connected {
    fn to(site: &Site<'_>) -> Connected {
        let mut child = Command::new("sqlite3")
            .arg(site.directory().join("database/site.sqlite"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.as_mut().unwrap();
        input.write_all(b"insert into note values ('connected');\nselect 'done';\n").unwrap();
        let mut answer = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        Connected(child)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_database_with_a_write_ahead_log_is_updated_and_rolled_back() {
    let place = Place::new();
    let site = place.import("site");
    assert_eq!(site.sql("pragma journal_mode = wal").unwrap(), "wal");
    assert!(site.write("before"));
    place.done(&["snapshot", "site", "--tag", "early"]);
    // As long as somebody has it open, what is committed is in the log alone.
    let connected = Connected::to(&site);
    assert!(site.directory().join("database/site.sqlite-wal").metadata().unwrap().len() > 0);
    let differs = place.done(&["diff", "site@early", "site"]);
    assert_eq!(differs["tables"][0]["table"], "note", "{differs}");
    let files = differs["files"].as_array().unwrap();
    let names: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| !name.contains("sqlite-")), "what SQLite keeps beside it: {names:?}");
    place.done(&["update", "site", "--platform", "two"]);
    site.assert_updated();
    assert_eq!(site.notes(), ["first", "before", "connected", "after"]);
    assert_eq!(site.sql("pragma journal_mode").unwrap(), "wal");
    drop(connected);
    place.done(&["rollback", "site"]);
    assert_eq!(site.notes(), ["first", "before", "connected"]);
    assert!(site.write("back"));
    place.stop();
}

#[test]
fn without_a_mode_of_the_application_writers_wait_and_are_refused_where_nobody_would_look() {
    let place = Place::with(without_readonly);
    let site = place.import("site");
    place.set("pause", "live-checks");
    let mut update = site.start_update();
    wait_until("the check of the live site blocks", || place.paused().is_some());
    assert_eq!(site.platform(), "two");
    // The new generation is held until the checks have passed; they do not.
    let database = site.directory().join("database/site.sqlite");
    let writer = std::thread::spawn(move || {
        let mut sqlite = Command::new("timeout");
        sqlite.args(["60", "sqlite3", "-cmd", ".timeout 30000"]);
        sqlite.arg(database).arg("insert into note values ('late')").stderr(Stdio::null()).status().unwrap()
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!writer.is_finished(), "the write does not wait");
    end_paused(&place);
    assert_eq!(update.end(), 4, "{}", update.told);
    assert!(!writer.join().unwrap().success(), "the write was accepted by a generation that is gone");
    site.assert_untouched();
    assert_eq!(site.notes(), ["first", "after"]);

    place.done(&["update", "site", "--platform", "two"]);
    assert_eq!(site.platform(), "two");
    assert!(site.write("updated"));
    assert_eq!(site.notes(), ["first", "after", "updated"]);
    place.stop();
}

#[test]
fn what_was_written_after_the_switch_is_kept_when_it_is_switched_back() {
    let place = Place::with(|recipe| {
        without_readonly(recipe).replace("[update]", "[update]\nhold_after_switch = false")
    });
    let site = place.import("site");
    place.set("pause", "live-checks");
    let mut update = site.start_update();
    wait_until("the check of the live site blocks", || place.paused().is_some());
    assert!(site.write("between"), "the new generation takes writes");
    end_paused(&place);
    assert_eq!(update.end(), 4, "{}", update.told);
    assert_eq!((site.platform().as_str(), site.notes()), ("one", vec!["first".to_owned()]));
    let log = place.done(&["log", "site"]);
    let left = log["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["message"].as_str().unwrap().starts_with("what generation site/2 held when run"));
    let left = format!("site@{}", left.expect("it is in the log")["id"].as_str().unwrap());
    let dump = place.sitefs(&["database", "dump", &left]);
    assert!(dump.stdout.contains("between"), "{}{}", dump.stdout, dump.stderr);
    place.stop();
}

/// A web server that answers every request with this text.
fn web_server(text: &'static str, working: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let (status, text) =
                if working.load(Ordering::SeqCst) { ("200 OK", text) } else { ("500 Oh", "Fatal error") };
            let _ = write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        }
    });
    format!("http://{address}")
}

#[test]
fn pages_of_the_live_site_decide_whether_it_is_switched_back() {
    let check = "\n[[check]]\ntitle = 'the front page'\npage = '/'\ncontains = ['a note']\n";
    let place = Place::with(|recipe| format!("{recipe}{check}"));
    let site = place.import("site");
    // Nobody answers: an update could do no more than be switched back, so none begins.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.done(&["site", "set", "site", "uri", &format!("http://{nobody}")]);
    for dry_run in [&["--dry-run"][..], &[]] {
        let refused = place.sitefs(&[&["update", "site", "--platform", "two"], dry_run].concat());
        assert_eq!(refused.exit, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains("no web server answers"), "{}", refused.stderr);
    }
    let working = Arc::new(AtomicBool::new(false));
    let uri = web_server("here is a note", Arc::clone(&working));
    place.done(&["site", "set", "site", "uri", &uri]);
    let planned = place.sitefs(&["update", "site", "--platform", "two", "--dry-run"]);
    assert!(planned.stdout.contains("/ has status 500 now"), "{}", planned.stdout);
    let failed = place.sitefs(&["update", "site", "--platform", "two"]);
    assert_eq!(failed.exit, 4, "{}", failed.stderr);
    assert!(failed.stderr.contains("the front page") && failed.stderr.contains("500"), "{}", failed.stderr);
    site.assert_untouched();
    working.store(true, Ordering::SeqCst);
    place.done(&["update", "site", "--platform", "two"]);
    site.assert_updated();
    place.stop();
}

#[test]
fn a_clone_that_is_kept_survives_a_kill_and_a_resume() {
    let place = Place::new();
    let site = place.import("site");
    place.set("pause", "update");
    let mut update = site.start(&["update", "site", "--platform", "two", "--keep-test"]);
    wait_until("the update blocks", || place.paused().is_some());
    place.kill();
    update.end();
    fs::remove_file(place.path("paused")).unwrap();
    place.serve();
    place.wait_until_settled();
    // The second kill comes while the run is resumed.
    let mut resumed = site.start(&["update", "site", "--resume"]);
    wait_until("the update blocks again", || place.paused().is_some());
    place.kill();
    resumed.end();
    place.set("pause", "");
    place.serve();
    place.wait_until_settled();
    assert_eq!(site.run().0, "interrupted");
    place.done(&["update", "site", "--resume"]);
    let sites = place.sites();
    let clone = sites.iter().find(|name| *name != "site").expect("the clone is kept");
    let kept = Site { place: &place, name: clone.clone() };
    assert_eq!((kept.platform().as_str(), kept.tables().as_str()), ("two", "added note"));
    place.done(&["site", "remove", clone]);
    site.assert_updated();
    place.stop();
}

#[test]
fn a_second_kill_while_a_run_is_undone_is_no_harm() {
    let place = Place::new();
    let site = place.import("site");
    place.set("pause", "update");
    let mut update = site.start_update();
    wait_until("the update blocks", || place.paused().is_some());
    place.kill();
    update.end();
    fs::remove_file(place.path("paused")).unwrap();
    // The site cannot be settled, so that aborting has the application's mode to switch off.
    place.set("pause", "");
    place.set("fail", "hold");
    place.serve();
    place.wait_until_settled();
    place.set("fail", "");
    place.set("pause", "hold");
    let mut aborting = site.start(&["update", "site", "--abort"]);
    wait_until("undoing blocks", || place.paused().is_some());
    place.kill();
    aborting.end();
    place.set("pause", "");
    place.serve();
    // Undoing that had begun is finished without a word.
    place.wait_until_settled();
    assert_eq!(site.run().0, "aborted");
    site.assert_untouched();
    place.stop();
}
