//! The daemon is killed before and after what each step of an update does, with the database on a server.
//!
//! A few of these always, all of them with `SITEFS_TEST_KILLS` (`scripts/test --long`).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::machines::{Server, Setup, wait_until};
use crate::place::Place;

/// Both strategies have them, the last ones in another order.
const STEPS: [&str; 14] = [
    "backup",
    "clone",
    "rehearse-update",
    "rehearse-checks",
    "compare",
    "discard",
    "hold",
    "freeze",
    "prepare",
    "update",
    "checks",
    "switch",
    "live-checks",
    "release",
];

/// What is always tried, of the strategy `switch`: something was made, and the journal does not know.
const ALWAYS_MARIADB: (&str, &str) = ("after-switch", "--resume");
const ALWAYS_POSTGRESQL: (&str, &str) = ("after-prepare", "--abort");

/// A hook that says that it was reached, and does not end.
fn stop_in(place: &Place, moment: &str) -> std::path::PathBuf {
    let (directory, reached) = (place.path("hooks").join(moment), place.path("reached"));
    fs::create_dir_all(&directory).unwrap();
    let hook = directory.join("stop");
    fs::write(&hook, format!("#!/bin/sh\ntouch '{}'\nexec sleep 600\n", reached.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = fs::remove_file(reached);
    hook
}

/// One update that is killed there, and resumed or aborted.
fn kill_in(place: &Place, strategy: &str, moment: &str, verb: &str) {
    let what = format!("{strategy}, {moment}, {verb}");
    place.import();
    let mut expected = vec!["first".to_owned()];
    let mut add = |note: &str| {
        let is_accepted = place.visit("site", &["add", note]).is_ok();
        if is_accepted {
            expected.push(note.to_owned());
        }
        is_accepted
    };
    assert!(add("before"), "{what}");
    let hook = stop_in(place, moment);
    std::thread::scope(|scope| {
        let update = ["update", "site", "--platform", "two", "--strategy", strategy];
        let running = scope.spawn(move || place.sitefs(&update));
        wait_until("the hook runs", || place.path("reached").exists() || running.is_finished());
        assert!(!running.is_finished(), "{what}: {:?}", running.join());
        place.kill();
        assert_ne!(running.join().unwrap().0, 0, "{what}");
    });
    fs::remove_file(hook).unwrap();
    place.serve();
    wait_until("the site is settled", || {
        !place.problems().iter().any(|one| one.contains("being made to take writes again"))
    });
    let run = place.done(&["run", "show", "site"]);
    assert!(run["state"] == "interrupted" && run["step"].is_string(), "{what}: {run}");
    let is_switched =
        || fs::read_link(place.path("root/live/site")).unwrap().to_string_lossy().contains("/two");
    let was_switched = is_switched();
    assert!(add("since") || was_switched, "{what}: the site is closed");
    place.done(&["update", "site", verb]);
    assert_eq!(is_switched(), verb == "--resume", "{what}");
    assert_eq!(place.visit("site", &["version"]).is_ok(), verb == "--resume", "{what}: the schema");
    let notes = place.notes("site");
    if was_switched && verb == "--abort" && notes != expected {
        // What the new generation took is in a snapshot.
        let log = place.done(&["log", "site"]);
        let kept = log["snapshots"].as_array().unwrap().iter();
        let mut kept = kept.filter(|one| one["message"].as_str().unwrap().starts_with("what generation"));
        assert!(kept.next().is_some(), "{what}: {log}");
        expected.retain(|note| note != "since");
    }
    assert_eq!(notes, expected, "{what}");
    place.visit("site", &["add", "after"]).unwrap();
    assert_eq!(place.problems(), Vec::<String>::new(), "{what}");
    place.done(&["site", "remove", "--force", "site"]);
    wait_until("no database is left", || place.databases().is_empty());
}

#[test]
fn an_update_that_is_killed_in_any_step_is_resumed_or_aborted() {
    let all = std::env::var_os("SITEFS_TEST_KILLS").is_some();
    Server::both(Setup::default(), "", "", |server| {
        let (moment, verb) = if server.is_mariadb { ALWAYS_MARIADB } else { ALWAYS_POSTGRESQL };
        let place = Place::new(server);
        if !all {
            return kill_in(&place, "switch", moment, verb);
        }
        for strategy in ["switch", "in-place"] {
            for step in STEPS {
                for moment in ["before", "after"] {
                    for verb in ["--resume", "--abort"] {
                        kill_in(&place, strategy, &format!("{moment}-{step}"), verb);
                    }
                }
            }
        }
    });
}

#[test]
fn an_update_that_is_killed_while_its_dump_goes_on_is_resumed_or_aborted() {
    let place = Place::new(Server::mariadb());
    let bulk = "CREATE TABLE bulk (id INT PRIMARY KEY, text TEXT) SELECT seq AS id, REPEAT(MD5(seq), 10) AS text FROM seq_1_to_20000;";
    place.server.sql("notes", bulk);
    for (moment, verb) in [("after-freeze", "--resume"), ("before-switch", "--abort")] {
        kill_in(&place, "switch", moment, verb);
        assert!(place.log().contains("got 1 tables of"), "{}", place.log());
    }
}
