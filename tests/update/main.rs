//! `sitefs update` from end to end: the real program, a real mount, real commands, in a temporary directory.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on has failed")]

mod contained;
mod drupal;
mod kills;
mod modes;
mod place;

use std::fs;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use place::{Place, Site, read_only, wait_until};

#[test]
fn an_update_is_one_switch_and_a_rollback_the_switch_back() {
    let place = Place::new();
    let site = place.import("site");
    assert!(site.write("before"));

    let plan = place.done(&["update", "site", "--platform", "two", "--dry-run"]);
    assert_eq!((&plan["outcome"], plan["steps"].as_array().unwrap().len()), (&json!("planned"), 14));
    assert_eq!(site.generations().len(), 1);

    let report = place.done(&["update", "site", "--platform", "two"]);
    assert_eq!(
        [
            &report["outcome"],
            &report["from"],
            &report["to"],
            &report["old"]["platform"],
            &report["new"]["platform"]
        ],
        ["updated", "one", "two", "one", "two"]
    );
    assert_eq!((&report["old"]["generation"], &report["new"]["generation"]), (&json!(1), &json!(2)));
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.len() == 14 && steps.iter().all(|step| step["state"] == "done"), "{steps:?}");
    assert_eq!(report["test"], Value::Null);
    assert_eq!(
        (&report["summary"]["tables_added"], &report["summary"]["files_added"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        (&report["tables"][0]["table"], &report["tables"][0]["new_rows"]),
        (&json!("added"), &json!(1))
    );
    let held = report["held_seconds"].as_f64().unwrap();
    assert!(held > 0.0 && held < report["seconds"].as_f64().unwrap(), "{held}");
    assert!(fs::read_to_string(report["log"].as_str().unwrap()).unwrap().contains("create table added"));
    let snapshots = place.done(&["log", "site"]);
    assert!(snapshots.to_string().contains(report["backup"].as_str().unwrap()));
    site.assert_updated();
    assert_eq!(site.notes(), ["first", "before", "after"]);

    // A clone of what was frozen while the application refused writes takes them.
    let snapshots = snapshots["snapshots"].as_array().unwrap();
    let frozen = snapshots
        .iter()
        .find(|one| one["message"].as_str().unwrap().starts_with("what the update to two began with"))
        .unwrap();
    let frozen = format!("site@{}", frozen["id"].as_str().unwrap());
    place.done(&["restore", &frozen, "closed", "--into", place.path("").to_str().unwrap()]);
    place.done(&["clone", "site", "copy", "--from", &frozen]);
    let copy = Site { place: &place, name: "copy".to_owned() };
    assert_eq!(copy.platform(), "one");
    assert!(copy.write("taken"), "the clone is closed");
    place.done(&["site", "remove", "copy"]);

    let back = place.done(&["rollback", "site"]);
    assert_eq!((&back["from"]["generation"], &back["to"]["generation"]), (&json!(2), &json!(1)));
    assert_eq!((site.platform().as_str(), site.tables().as_str()), ("one", "note"));
    assert_eq!(site.notes(), ["first", "before"]);
    assert_eq!(site.uploads(), ["after", "before", "first"]);
    assert!(site.write("back"));
    assert_eq!(read_only(&site.generation(2)), Some(30));

    place.done(&["cutover", "site", "--platform", "two"]);
    assert_eq!((site.platform().as_str(), site.tables().as_str()), ("two", "added note"));
    assert_eq!(site.notes(), ["first", "before", "after"]);
    assert_eq!(site.uploads(), ["after", "back", "before", "first"]);
    assert_eq!(read_only(&site.generation(1)), Some(30));

    place.stop();
}

#[test]
fn a_platform_of_an_older_version_gets_no_newer_database() {
    let place = Place::new();
    let site = place.import("site");
    place.platform("zero", "0.9");
    place.done(&["snapshot", "site", "--tag", "now"]);
    let verbs: [&[&str]; 7] = [
        &["update", "site", "--platform", "zero"],
        &["update", "site", "--platform", "zero", "--strategy", "in-place"],
        &["cutover", "site", "--platform", "zero", "--to", "site@live"],
        &["cutover", "site", "--platform", "zero", "--to", "site@now"],
        &["clone", "site", "copy", "--platform", "zero"],
        &["clone", "site", "copy", "--platform", "zero", "--from", "site@now"],
        &["cutover", "site", "--platform", "zero"],
    ];
    for verb in verbs {
        let refused = place.sitefs(verb);
        let told = &refused.stderr;
        assert!(refused.exit == 3 && told.contains("0.9, older than 1.0"), "{verb:?}: {told}");
        assert!(told.contains("--allow-downgrade"), "{verb:?}: {told}");
        site.assert_untouched();
    }
    for verb in &verbs[..2] {
        place.done(&[verb, &["--allow-downgrade", "--dry-run"][..]].concat());
    }
    // Without the database there is nothing that the code may not know.
    place.done(&["clone", "site", "bare", "--platform", "zero", "--no-database"]);
    for verb in &verbs[4..] {
        place.done(&[verb, &["--allow-downgrade"][..]].concat());
        if verb[0] == "clone" {
            place.done(&["site", "remove", "copy"]);
        }
    }
    assert_eq!(site.platform(), "zero");
    // A generation that is there already has the database that goes with its platform.
    place.done(&["cutover", "site", "--platform", "one"]);
    place.done(&["cutover", "site", "--platform", "zero"]);
    assert_eq!(site.platform(), "zero");
    place.stop();
}

#[test]
fn an_update_in_place_restores_what_was_held_when_it_fails() {
    let place = Place::new();
    let site = place.import("site");
    let update = ["update", "site", "--platform", "two", "--strategy", "in-place"];
    let plan = place.sitefs(&[&update[..], &["--dry-run"]].concat());
    assert!(plan.stdout.contains("in-place: the pointer moves first"), "{}{}", plan.stdout, plan.stderr);
    for (step, exit) in
        [("update", 4), ("checks", 4), ("live-checks", 4), ("rehearse-update", 1), ("hold", 1)]
    {
        place.set("fail", step);
        let failed = place.sitefs(&update);
        assert_eq!(failed.exit, exit, "{step}: {}", failed.stderr);
        assert_eq!(failed.stderr.matches("the gate is closed").count(), told(step), "{}", failed.stderr);
        place.set("fail", "");
        if step == "hold" {
            place.done(&["update", "site", "--abort"]);
        }
        site.assert_on_old_release();
    }
    assert_eq!(site.notes(), ["first", "after", "after", "after", "after", "after"]);
    // What the failed update had made is not lost.
    let log = place.done(&["log", "site"]);
    let left = log["snapshots"].as_array().unwrap().iter();
    let mut left = left.filter(|one| one["message"].as_str().unwrap().contains("was switched back"));
    let left = format!("site@{}", left.next().unwrap()["id"].as_str().unwrap());
    assert!(place.sitefs(&["database", "dump", &left]).stdout.contains("added"));

    let report = place.done(&update);
    assert_eq!((&report["outcome"], &report["to"]), (&json!("updated"), &json!("two")));
    site.assert_updated();
    let back = place.done(&["rollback", "site"]);
    assert_eq!(back["to"]["platform"], "one");
    assert_eq!((site.platform().as_str(), site.tables().as_str()), ("one", "note"));
    assert_eq!(site.notes().len(), 6);
    assert!(site.write("back"));
    place.stop();
}

#[test]
fn what_two_failed_updates_left_is_not_gone_back_to() {
    let place = Place::new();
    let site = place.import("site");
    place.kill();
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(place.path("config.toml"), config.replace("drain_seconds = 0", "drain_seconds = 3600"))
        .unwrap();
    place.serve();
    place.set("fail", "live-checks");
    for _ in 0..2 {
        let failed = place.sitefs(&["update", "site", "--platform", "two", "--strategy", "in-place"]);
        assert_eq!(failed.exit, 4, "{}", failed.stderr);
    }
    // The second one was restored into the place that the first one had left.
    let states: Vec<(u64, String)> =
        site.generations().into_iter().map(|(number, state, _)| (number, state)).collect();
    let draining = |number| (number, "draining".to_owned());
    assert_eq!(states, [(5, "live".to_owned()), draining(4), draining(3), draining(2)]);
    assert_eq!(place.sitefs(&["rollback", "site"]).exit, 2);
    assert_eq!(site.platform(), "one");
    place.stop();
}

/// How often what a failing command of a step printed is said: once for each command that fails.
fn told(step: &str) -> usize {
    // The command that switches the mode off again is the same step's, and fails too.
    if step == "hold" { 2 } else { 1 }
}

#[test]
fn a_failure_before_the_switch_leaves_the_site_as_it_was() {
    let place = Place::new();
    let site = place.import("site");
    for step in ["rehearse-update", "rehearse-checks", "hold", "prepare", "update", "checks", "switch"] {
        place.set("fail", step);
        let failed = place.sitefs(&["update", "site", "--platform", "two"]);
        assert_eq!(failed.exit, 1, "{step}: {}", failed.stderr);
        assert_eq!(failed.stderr.matches("the gate is closed").count(), told(step), "{}", failed.stderr);
        place.set("fail", "");
        if step == "hold" {
            assert_eq!(site.run().0, "interrupted");
            place.done(&["update", "site", "--abort"]);
        } else {
            assert_eq!(site.run().0, "failed", "{step}");
        }
        site.assert_untouched();
    }
    place.stop();
}

#[test]
fn a_check_that_fails_on_the_live_site_switches_back() {
    let place = Place::new();
    let site = place.import("site");
    place.set("fail", "live-checks");
    let ran = place.sitefs(&["update", "site", "--platform", "two"]);
    assert_eq!(ran.exit, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("switched back"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("the gate is closed").count(), told("live-checks"), "{}", ran.stderr);
    assert_eq!(site.run().0, "rolled_back");
    site.assert_untouched();
    assert_eq!(site.notes(), ["first", "after"]);
    place.set("fail", "");
    place.done(&["update", "site", "--platform", "two"]);
    site.assert_updated();
    place.stop();
}

#[test]
fn hooks_are_told_what_happens_and_stop_it() {
    let place = Place::new();
    let site = place.import("site");
    let told = place.path("told");
    let tell = |word: &str| {
        format!("echo {word} $SITEFS_HOOK-$SITEFS_STEP $SITEFS_TO_PLATFORM $SITEFS_TO_GENERATION >> {told:?}")
    };
    place.hook("before-switch/20-second", &tell("second"));
    place.hook("before-switch/10-first", &format!("{}; echo 'from the hook'", tell("first")));
    place.hook("sites/site/after-release/own", &tell("own"));
    place.hook("sites/other/after-release/other", &tell("other"));
    let report = place.done(&["update", "site", "--platform", "two"]);
    let lines = fs::read_to_string(&told).unwrap();
    assert_eq!(lines, "first before-switch two 2\nsecond before-switch two 2\nown after-release two 2\n");
    let log = fs::read_to_string(report["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("from the hook"), "{log}");
    site.assert_updated();
    place.done(&["rollback", "site"]);
    place.done(&["site", "remove", "--force", "site"]);

    let site = place.import("shop");
    for (hook, exit) in [("before-hold/no", 1), ("after-switch/no", 4), ("after-release/no", 0)] {
        place.hook(hook, "echo 'no, says the hook'; exit 3");
        let ran = place.sitefs(&["update", "shop", "--platform", "two"]);
        assert_eq!(ran.exit, exit, "{hook}: {}", ran.stderr);
        assert!(ran.stderr.contains("ended with status 3"), "{hook}: {}", ran.stderr);
        fs::remove_file(place.path("hooks").join(hook)).unwrap();
        if exit != 0 {
            site.assert_on_old_release();
        }
    }
    site.assert_updated();
    place.stop();
}

#[test]
fn a_clone_does_not_expire_while_it_is_updated() {
    let place = Place::new();
    let _original = place.import("site");
    place.done(&["clone", "site", "test", "--expires", "1s"]);
    let test = Site { place: &place, name: "test".to_owned() };
    place.set("pause", "update");
    let mut update = test.start_update();
    wait_until("the update blocks", || place.paused().is_some());
    // One that expires later is gone.
    place.done(&["clone", "site", "later", "--expires", "1s"]);
    wait_until("the other has expired", || !place.sites().contains(&"later".to_owned()));
    assert!(place.sites().contains(&"test".to_owned()));
    place.kill();
    update.end();
    place.set("pause", "");
    place.serve();
    place.wait_until_settled();
    // An interrupted update keeps it, too.
    place.done(&["clone", "site", "later", "--expires", "1s"]);
    wait_until("the other has expired", || !place.sites().contains(&"later".to_owned()));
    let status = place.sitefs(&["status"]).stdout;
    assert!(
        status.contains("the clone test has expired and is removed when the work on it has ended"),
        "{status}"
    );
    place.done(&["update", "test", "--abort"]);
    wait_until("it has expired", || place.sites() == ["site"]);
    place.stop();
}

#[test]
fn several_sites_are_updated_at_once_and_more_wait_their_turn() {
    let place = Place::new();
    let sites: Vec<Site<'_>> = ["a", "b", "c", "d"].iter().map(|name| place.import(name)).collect();
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    let serve_with = |updates: u32| {
        place.stop();
        fs::write(place.path("config.toml"), format!("updates = {updates}\n{config}")).unwrap();
        place.serve();
    };
    serve_with(2);
    let mut updates: Vec<_> = sites.iter().map(Site::start_update).collect();
    for update in &mut updates {
        assert_eq!(update.end(), 0, "{}", update.told);
    }
    for site in &sites {
        site.assert_updated();
    }

    // One that hangs has its turn until it ends; who waits is told, and nothing is done for it so far.
    serve_with(1);
    for site in &sites[..2] {
        place.done(&["rollback", &site.name]);
    }
    place.set("pause", "rehearse-update");
    let mut first = sites[0].start_update();
    wait_until("the first one blocks", || place.paused().is_some());
    let mut second = sites[1].start_update();
    assert!(second.waits(), "{}", second.told);
    let refused = place.sitefs(&["snapshot", "b"]);
    assert!(refused.exit == 3 && refused.stderr.contains("update is under way"), "{}", refused.stderr);
    place.set("pause", "");
    kill_process(place.paused().unwrap(), Signal::KILL).unwrap();
    assert_eq!((first.end(), second.end()), (1, 0), "{}{}", first.told, second.told);
    assert!(sites[0].platform() == "one" && sites[1].platform() == "two");
    place.stop();
}
