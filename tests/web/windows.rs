//! Windows in which a site is read and not written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::Served;
use crate::place::{Place, read_only, wait_until};

fn writes_are_refused(program: &str) {
    let place = Place::new();
    let served = Served::behind(&place, program);
    let visitor = &served.visitor;
    assert_eq!(visitor.post("before"), (200, "first".to_owned()));
    place.done(&["readonly", "site", "on"]);
    assert_eq!(visitor.get("/"), (200, "first".to_owned()));
    let refused = visitor.request("POST", "/?note=lost", "Accept: text/html\r\n");
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("\r\nRetry-After: 30"), "{}", refused.head);
    assert!(refused.head.contains("text/html") && refused.body.contains("go on reading"), "{refused:?}");
    let refused = visitor.request("PUT", "/?note=lost", "Accept: application/json\r\n");
    let said: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((refused.status, said["error"].as_str()), (503, Some("read_only")));
    // Below the web server, for who does not come through it.
    assert_eq!(read_only(&served.site.directory()), Some(30));
    assert!(served.site.sql("insert into note values ('lost')").is_err());
    assert_eq!(served.site.notes(), ["first", "before"]);
    // It survives a crash, and ends when it is ended.
    place.kill();
    place.serve();
    assert_eq!(visitor.request("POST", "/?note=lost", "").status, 503);
    assert_eq!(read_only(&served.site.directory()), Some(30));
    place.done(&["readonly", "site", "off"]);
    assert_eq!(visitor.post("after"), (200, "first".to_owned()));
    assert_eq!(served.site.notes(), ["first", "before", "after"]);
    drop(served);
    place.stop();
}

#[test]
fn writes_that_wait_go_through_to_the_new_generation() {
    let place = Place::new();
    let served = Served::new(&place);
    let visitor = &served.visitor;
    place.done(&["readonly", "site", "on", "--hold", "60s"]);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|number| scope.spawn(move || visitor.request("POST", &format!("/?note=w{number}"), "")))
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(visitor.get("/"), (200, "first".to_owned()));
        served.deploy("second");
        assert_eq!(visitor.get("/"), (200, "second".to_owned()));
        assert!(waiting.iter().all(|each| !each.is_finished()), "a write did not wait");
        place.done(&["readonly", "site", "off"]);
        for each in waiting {
            let answer = each.join().unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (200, "second"), "{}", answer.head);
        }
    });
    let mut notes = served.site.notes();
    notes.sort();
    assert_eq!(notes, ["first", "w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7"]);
    // Who has waited for as long as was said is refused.
    place.done(&["readonly", "site", "on", "--hold", "1s"]);
    let begun = Instant::now();
    let late = visitor.request("POST", "/?note=late", "Accept: application/json\r\n");
    assert_eq!(late.status, 503, "{late:?}");
    assert!(late.body.contains("read_only") && begun.elapsed() >= Duration::from_secs(1), "{late:?}");
    drop(served);
    place.stop();
}

#[test]
fn an_update_holds_writes_at_the_web_server_and_shows_assets_of_both_releases() {
    let place = Place::new();
    let served = Served::new(&place);
    let visitor = &served.visitor;
    let signals = place.path("signals");
    fs::create_dir(&signals).unwrap();
    fs::set_permissions(&signals, fs::Permissions::from_mode(0o777)).unwrap();
    let check = format!(
        "cd {} && if test $SITEFS_STEP = checks; then touch reached; until test -e go; do sleep 0.05; done; fi",
        signals.display()
    );
    let mut update = Command::new("timeout")
        .args(["--signal=KILL", "90", env!("CARGO_BIN_EXE_sitefs"), "--store"])
        .arg(place.path("store"))
        .args(["update", "site", "--platform", "two", "--check", &check])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the new generation is checked", || signals.join("reached").exists());
    assert_eq!(visitor.get("/"), (200, "first".to_owned()));
    // `updated` is made by the update, so only the generation that comes has it.
    assert_eq!(visitor.get("/sites/site/updated"), (200, "version 2.0\n".to_owned()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| visitor.post("waited"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished(), "a write did not wait");
        fs::write(signals.join("go"), "").unwrap();
        assert!(update.wait().unwrap().success());
        assert_eq!(waiting.join().unwrap(), (200, "first".to_owned()));
    });
    assert_eq!(
        (served.site.platform(), served.site.notes()),
        ("two".to_owned(), vec!["first".to_owned(), "waited".to_owned()])
    );
    drop(served);
    place.stop();
}

fn assets_of_the_release_before_are_answered(program: &str) {
    let place = Place::new();
    let served = Served::behind(&place, program);
    let visitor = &served.visitor;
    served.deploy("second");
    assert_eq!(visitor.get("/sites/site/second.css"), (200, "second".to_owned()));
    assert_eq!(visitor.get("/sites/site/first.css"), (200, "first".to_owned()));
    // What no release has is the application's business; what is not for visitors stays so.
    assert_eq!(visitor.get("/sites/site/third.css").1, "second");
    assert_eq!(visitor.get("/sites/site/database/site.sqlite").0, 404);
    assert_eq!(visitor.get("/windows").1, "second");
    drop(served);
    place.stop();
}

#[test]
fn assets_of_the_release_before_are_answered_after_the_switch() {
    assets_of_the_release_before_are_answered("nginx");
}

#[test]
fn assets_of_the_release_before_are_answered_by_apache_too() {
    assets_of_the_release_before_are_answered("apache");
}

#[test]
fn writes_are_refused_in_a_friendly_way_while_reads_go_on() {
    writes_are_refused("nginx");
}

#[test]
fn writes_are_refused_by_apache_while_reads_go_on() {
    writes_are_refused("apache");
}
