//! The daemon is killed in each step of an update, and started again; then the run is resumed or aborted.

use std::fs;

use crate::place::{Place, Site, runs, wait_until};

/// A step, as the environment of its commands has it.
struct Step {
    name: &'static str,
    /// Whether it runs a command, which can be made to block.
    has_command: bool,
}

const fn step(name: &'static str, has_command: bool) -> Step {
    Step { name, has_command }
}

/// The steps of every strategy until writes are held.
const REHEARSAL: [Step; 6] = [
    step("backup", false),
    step("clone", false),
    step("rehearse-update", true),
    step("rehearse-checks", true),
    step("compare", false),
    step("discard", false),
];

/// The place of the step from which on writes are held.
const HOLD: usize = REHEARSAL.len() + 1;

const SWITCH: Plan = Plan {
    strategy: "switch",
    window: [
        step("hold", true),
        step("freeze", false),
        step("prepare", true),
        step("update", true),
        step("checks", true),
        step("switch", true),
        step("live-checks", true),
        step("release", true),
    ],
    first: 1,
    stays: 12,
};

const IN_PLACE: Plan = Plan {
    strategy: "in-place",
    window: [
        step("hold", true),
        step("freeze", false),
        step("prepare", false),
        step("switch", false),
        step("update", true),
        step("checks", true),
        step("live-checks", true),
        step("release", false),
    ],
    first: HOLD,
    stays: 11,
};

struct Plan {
    strategy: &'static str,
    /// The steps after the rehearsal.
    window: [Step; 8],
    /// The place of the first step to kill in.
    first: usize,
    /// The place of the step after which the site stays on the new release when the daemon was killed.
    stays: usize,
}

impl Plan {
    /// All its steps, each with its place, from 1.
    fn steps(&self) -> impl Iterator<Item = (usize, &Step)> {
        REHEARSAL.iter().chain(&self.window).enumerate().map(|(index, step)| (index + 1, step))
    }

    /// How many there are.
    fn count(&self) -> usize {
        REHEARSAL.len() + self.window.len()
    }
}

/// How often a kill is tried again that came when the step had ended.
const ROUNDS_MAX: usize = 6;

/// A kill, and what came of it.
struct Killed {
    /// What visitors had saved before it and until the run is taken up.
    notes: Vec<String>,
    /// The step that was under way, by its place from 1.
    place: usize,
    /// Whether the site was on the new release then.
    is_switched: bool,
}

/// Updates a site until the step at `place`, kills the daemon in it, and starts another.
fn kill_in(site: &Site<'_>, plan: &Plan, (place, step): (usize, &Step), in_command: bool) -> Killed {
    let mut notes = vec!["first".to_owned()];
    let mut note = |text: &str| {
        if site.write(text) {
            notes.push(text.to_owned());
            return true;
        }
        false
    };
    let _ = fs::remove_file(site.place.path("paused"));
    site.place.set("pause", if in_command { step.name } else { "" });
    assert!(note("before"));
    let mut update = site.start(&["update", &site.name, "--platform", "two", "--strategy", plan.strategy]);
    assert!(update.wait_for(place), "{}: the update ended early:\n{}", step.name, update.told);
    if in_command {
        wait_until("the command blocks", || site.place.paused().is_some());
        if place < HOLD {
            assert!(note("meanwhile"));
        }
    }
    site.place.kill();
    let exit = update.end();
    site.place.set("pause", "");

    // What visitors ask for fails: they do not see what is below the mount.
    for shown in ["root/live", "platforms/one/web/sites", "platforms/two/web/sites"] {
        let unheard_of = site.place.path(shown).join("unheard-of");
        let error = fs::symlink_metadata(unheard_of).expect_err("the mount is dead");
        // ENOTCONN, or ECONNABORTED where the kernel is just about it.
        assert!(matches!(error.raw_os_error(), Some(107 | 103)), "{shown}: {error}");
    }
    site.place.serve();
    site.place.wait_until_settled();
    if let Some(blocked) = site.place.paused() {
        assert!(!runs(blocked), "a command of {} goes on under the next daemon", step.name);
    }
    let (state, at) = site.run();
    // The kill may have come between the end of the run and its answer.
    if update.last == plan.count() && (exit == 0 || state == "done") {
        return Killed { notes, place: plan.count() + 1, is_switched: true };
    }
    assert_eq!(state, "interrupted", "{}: {at}\n{}", step.name, update.told);
    let is_switched = site.platform() == "two";
    assert!(place >= plan.stays || update.last > place || !is_switched, "switched in {}", step.name);
    assert!(place <= plan.stays || is_switched, "switched back in {}", step.name);
    // Whoever was kept from writing is not any more, unless the update is only waiting to be let go on.
    assert!(note("since") || is_switched, "{}: the site is closed", step.name);
    Killed { notes, place: update.last, is_switched }
}

/// What a visitor saved on a release that was given up is in the snapshot taken then.
fn assert_left_behind(site: &Site<'_>, note: &str) {
    let log = site.place.done(&["log", &site.name]);
    let left = log["snapshots"].as_array().unwrap().iter();
    let mut left = left.filter(|one| one["message"].as_str().unwrap().starts_with("what generation"));
    let left = format!("{}@{}", site.name, left.next().expect("it is in the log")["id"].as_str().unwrap());
    let dump = site.place.sitefs(&["database", "dump", &left]);
    assert!(dump.stdout.contains(note), "{}{}", dump.stdout, dump.stderr);
}

/// Kills in every step, with what is to follow, and checks how it ends.
fn kill_in_all_steps(plan: &Plan, verb: &str, check: fn(&Site<'_>)) {
    let place = Place::new();
    let mut missed = Vec::new();
    let mut number = 0;
    // As soon as it is told that the step has begun, and in the command that blocks where there is one.
    let early = plan.steps().map(|step| (step, false));
    let late = plan.steps().filter(|(_, step)| step.has_command).map(|step| (step, true));
    for ((at, step), in_command) in early.chain(late).filter(|((at, _), _)| *at >= plan.first) {
        for attempt in 0..ROUNDS_MAX {
            number += 1;
            let site = place.import(&format!("site{number}"));
            let killed = kill_in(&site, plan, (at, step), in_command);
            eprintln!("{verb} {}: killed in step {}, attempt {attempt}", step.name, killed.place);
            if killed.place <= plan.count() {
                let ended = place.sitefs(&["update", &site.name, verb]);
                assert_eq!(ended.exit, 0, "{verb} in {}: {}", step.name, ended.stderr);
                check(&site);
                let mut expected = killed.notes;
                if verb == "--abort" && killed.is_switched && expected.ends_with(&["since".to_owned()]) {
                    assert_left_behind(&site, "since");
                    expected.pop();
                }
                expected.push("after".to_owned());
                assert_eq!(site.notes(), expected, "{verb} in {}", step.name);
                assert!(site.uploads().starts_with(&["after".to_owned(), "before".to_owned()]));
                assert!(site.uploads().ends_with(&["since".to_owned()]));
                let again = place.sitefs(&["update", &site.name, verb]);
                assert_ne!(again.exit, 0, "nothing is left to {verb}");
            }
            place.done(&["site", "remove", "--force", &site.name]);
            if killed.place == at {
                break;
            }
            if attempt + 1 == ROUNDS_MAX {
                missed.push(step.name);
            }
        }
    }
    assert_eq!(missed, Vec::<&str>::new(), "the kill never came in time");
    place.stop();
}

#[test]
fn an_update_whose_daemon_was_killed_is_resumed() {
    kill_in_all_steps(&SWITCH, "--resume", |site| site.assert_updated());
}

#[test]
fn an_update_whose_daemon_was_killed_is_aborted() {
    kill_in_all_steps(&SWITCH, "--abort", |site| site.assert_untouched());
}

#[test]
fn an_update_in_place_whose_daemon_was_killed_is_resumed() {
    kill_in_all_steps(&IN_PLACE, "--resume", |site| site.assert_updated());
}

#[test]
fn an_update_in_place_whose_daemon_was_killed_is_aborted() {
    kill_in_all_steps(&IN_PLACE, "--abort", |site| site.assert_on_old_release());
}

#[test]
fn a_command_that_hangs_at_the_start_keeps_no_daemon_from_serving() {
    let place = Place::new();
    let (site, other) = (place.import("site"), place.import("other"));
    place.set("pause", "update");
    let mut update = site.start_update();
    wait_until("the update blocks", || place.paused().is_some());
    place.kill();
    update.end();
    fs::remove_file(place.path("paused")).unwrap();
    // The application is taken out of its read-only mode when the daemon starts.
    place.set("pause", "hold");
    place.serve();
    wait_until("the command blocks", || place.paused().is_some());
    assert!(place.problems().contains("being made to take writes again"), "{}", place.problems());
    assert!(other.write("meanwhile"));
    let refused = place.sitefs(&["snapshot", "site"]);
    assert!(refused.exit == 3 && refused.stderr.contains("settling"), "{}", refused.stderr);
    // It keeps no daemon from stopping either, and does not outlive it.
    let blocked = place.paused().unwrap();
    place.stop();
    wait_until("the command is gone", || !runs(blocked));
    place.set("pause", "");
    place.serve();
    place.wait_until_settled();
    assert!(site.write("since"));
    place.done(&["update", "site", "--abort"]);
    place.done(&["site", "remove", "--force", "other"]);
    site.assert_untouched();
    place.stop();
}
