//! Runs against a site in memory: an error, a kill, or both, at every point.

mod in_place;
mod model;
mod operations;
mod recipes;

use self::model::{Fault, Model, request, site};
use self::recipes::{BUSY, CHATTY, CLOSED, PLAIN, POLITE, RECIPES};
use super::*;
use crate::base::{Timestamp, encoding};
use crate::history::{Catalog, Record};

/// Each of them with its database in a file and on a server, where a dump goes on beside the update.
fn kinds() -> impl Iterator<Item = (&'static str, fn(&mut Model))> {
    let on_server: fn(&mut Model) = |model| model.on_server = true;
    RECIPES.into_iter().flat_map(move |recipe| [(recipe, (|_| {}) as fn(&mut Model)), (recipe, on_server)])
}

fn prepared(recipe: &str, prepare: fn(&mut Model)) -> Model {
    let mut model = Model::new(recipe);
    prepare(&mut model);
    model
}

/// How many points a run without a fault has.
fn points_of(recipe: &str, prepare: fn(&mut Model)) -> u64 {
    points_without_fault(&prepared(recipe, prepare))
}

fn points_without_fault(model: &Model) -> u64 {
    let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
    assert_eq!(run.state, RunState::Done, "{} {}", run.reason, run.obstacle);
    model.assert_ended_well(&run);
    model.points()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Resume,
    Abort,
}

impl Answer {
    fn give(self, model: &Model) -> Option<Result<Run, UpdateError>> {
        model.attempt(|engine| match self {
            Answer::Resume => engine.resume(&site()),
            Answer::Abort => engine.abort(&site()),
        })
    }
}

/// Starts a run and answers every interruption in the same way until it has ended. `None`: it never began.
fn drive(model: &Model, answer: Answer) -> Option<Run> {
    let mut last = model.attempt(|engine| engine.start(&model.request));
    for _ in 0..6 {
        if let Some(Ok(run)) = &last
            && run.state.is_final()
        {
            model.assert_ended_well(run);
            return Some(run.clone());
        }
        if model.unfinished(&site()).unwrap().is_none() {
            // Killed or failed before the first entry of the journal, or after the last.
            let ended = model.list(&site()).unwrap().pop();
            if let Some(run) = &ended {
                model.assert_ended_well(run);
            }
            return ended;
        }
        last = answer.give(model);
    }
    let left = model.unfinished(&site()).unwrap().unwrap();
    panic!("the run does not end: {} / {}, {:?}", left.reason, left.obstacle, left.undoing);
}

#[test]
fn a_run_without_a_fault_updates_the_site_and_reports() {
    let model = Model::new(POLITE);
    let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
    assert_eq!(run.state, RunState::Done);
    model.assert_ended_well(&run);
    assert_eq!(model.live(), 2);
    assert!(run.steps.iter().all(|step| step.state == StepState::Done && step.seconds().unwrap() > 0.0));
    let parts = run.rehearsed().unwrap();
    let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["snapshot", "copy", "update", "checks"]);
    let expected = parts.iter().map(|(_, seconds)| seconds).sum();
    assert!(run.window_seconds().unwrap() > 0.0 && run.window_seconds_expected == Some(expected));
    let told = model.events.borrow().iter().any(|event| {
        matches!(event, Event::Started { kind: StepKind::Hold, title, .. }
            if title.contains(&format!("for about {expected:.1} s as in the rehearsal (snapshot ")))
    });
    assert!(told, "what is foreseen is told before writes are held");
    assert!(
        run.foresee(std::slice::from_ref(&run)).unwrap() > expected,
        "what came on top is foreseen the next time"
    );
    assert_eq!(run.verification.unwrap().objects, 3);
    assert!(model.output().contains("$ update\nupdate for rehearse-update\n"), "{}", model.output());
    assert!(model.output().contains("GET /: status 200"));
    let bytes = encoding::encode(Run::VERSION, &run);
    assert_eq!(encoding::decode::<Run>(Run::VERSION, &bytes).unwrap(), run);
    let events = model.events.borrow();
    let started = events.iter().filter(|event| matches!(event, Event::Started { .. })).count();
    assert_eq!(started, Strategy::Switch.steps().len());
}

#[test]
fn what_proved_the_backup_tells_how_long_a_copy_on_a_server_will_take() {
    let mut model = Model::new(POLITE);
    model.on_server = true;
    let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
    let parts = run.rehearsed().unwrap();
    assert!(parts.iter().any(|(name, seconds)| *name == "copy" && *seconds > 7.0), "{parts:?}");
}

#[test]
fn a_site_in_read_only_mode_stays_in_it() {
    let mut model = Model::new(POLITE);
    model.set_read_only();
    let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
    assert_eq!(run.state, RunState::Done);
    model.assert_ended_well(&run);
}

#[test]
fn an_error_anywhere_ends_with_the_site_as_it_was_or_updated() {
    for (recipe, prepare) in kinds() {
        let mut ends = std::collections::BTreeMap::new();
        for point in 0..points_of(recipe, prepare) {
            let model = prepared(recipe, prepare);
            model.plan_faults(&[(point, Fault::Error)]);
            if let Some(run) = drive(&model, Answer::Abort) {
                *ends.entry(format!("{:?}", run.state)).or_insert(0) += 1;
            }
        }
        assert!(ends["Failed"] > 20 && ends["RolledBack"] > 1 && ends["Aborted"] > 10, "{ends:?}");
    }
}

#[test]
fn a_kill_anywhere_can_be_resumed_and_aborted() {
    for (recipe, prepare) in kinds() {
        for answer in [Answer::Resume, Answer::Abort] {
            for point in 0..points_of(recipe, prepare) {
                let model = prepared(recipe, prepare);
                model.plan_faults(&[(point, Fault::Kill)]);
                let Some(run) = drive(&model, answer) else { continue };
                let expected = match answer {
                    Answer::Resume => RunState::Done,
                    Answer::Abort => RunState::Aborted,
                };
                // A kill after the last entry finds nothing to abort.
                assert!(run.state == expected || point + 1 == model.points(), "{point}: {:?}", run.state);
            }
        }
    }
}

#[test]
fn who_waits_at_the_web_server_is_let_through_to_an_application_that_takes_writes() {
    let model = Model::new(CHATTY);
    model.live_checks_fail.set(true);
    let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
    assert_eq!(run.state, RunState::RolledBack);
    assert_eq!(*model.let_through.borrow(), [false]);
}

#[test]
fn a_site_settled_after_a_kill_takes_writes_again() {
    for recipe in [POLITE, CHATTY] {
        for point in 0..points_of(recipe, |_| {}) {
            let model = Model::new(recipe);
            model.plan_faults(&[(point, Fault::Kill)]);
            model.attempt(|engine| engine.start(&model.request));
            if model.unfinished(&site()).unwrap().is_none() {
                continue;
            }
            let settled = model.attempt(|engine| engine.settle(&site()).unwrap()).unwrap();
            assert_eq!(settled.state, RunState::Interrupted);
            assert!(model.live() == 2 || model.takes_writes(), "{point}");
            let run = Answer::Resume.give(&model).unwrap().unwrap();
            assert_eq!(run.state, RunState::Done);
            model.assert_ended_well(&run);
        }
    }
}

#[test]
fn undoing_that_was_interrupted_is_finished_when_the_site_is_settled() {
    let model = Model::new(POLITE);
    model.live_checks_fail.set(true);
    let undoing = (0..).find(|point| {
        let model = Model::new(POLITE);
        model.live_checks_fail.set(true);
        model.plan_faults(&[(*point, Fault::Kill)]);
        model.attempt(|engine| engine.start(&model.request));
        model.unfinished(&site()).unwrap().is_some_and(|run| run.undoing.is_some())
    });
    model.plan_faults(&[(undoing.unwrap(), Fault::Kill)]);
    model.attempt(|engine| engine.start(&model.request));
    let run = model.attempt(|engine| engine.settle(&site()).unwrap()).unwrap();
    assert_eq!(run.state, RunState::RolledBack);
    model.assert_ended_well(&run);
}

#[test]
fn the_catalog_gives_a_site_to_one_run_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&directory.path().join("catalog")).unwrap();
    let inspection = Model::new(POLITE).inspect(&site(), &request().platform).unwrap();
    let run = |seconds| Run::new(&request(), &inspection, Timestamp::from_parts(seconds, 0)).unwrap();
    let (mut first, second) = (run(1_700_000_000), run(1_800_000_000));
    catalog.begin(&first).unwrap();
    assert!(matches!(catalog.begin(&second), Err(UpdateError::Running { run, .. }) if run == first.id));
    // What settled its site after the first crash may be left by the second.
    for _ in 0..2 {
        let interrupted = interrupt_running(&catalog).unwrap();
        assert!(matches!(interrupted.as_slice(), [run] if run.id == first.id));
        assert_eq!(interrupted[0].state, RunState::Interrupted);
    }
    assert!(matches!(catalog.begin(&second), Err(UpdateError::Interrupted { .. })));
    first.state = RunState::Aborted;
    catalog.save(&first).unwrap();
    assert!(catalog.unfinished(&site()).unwrap().is_none());
    assert!(interrupt_running(&catalog).unwrap().is_empty());
    catalog.begin(&second).unwrap();
    // The end of another run does not take the site away from this one.
    catalog.save(&first).unwrap();
    assert_eq!(catalog.unfinished(&site()).unwrap(), Some(second.clone()));
    assert_eq!(Journal::list(&catalog, &site()).unwrap(), [first, second]);
}

#[test]
fn a_kill_anywhere_leaves_a_read_only_site_read_only() {
    for answer in [Answer::Resume, Answer::Abort] {
        for point in 0..points_of(POLITE, Model::set_read_only) {
            let mut model = Model::new(POLITE);
            model.set_read_only();
            model.plan_faults(&[(point, Fault::Kill)]);
            drive(&model, answer);
        }
    }
}

#[test]
fn two_faults_anywhere_lose_nothing() {
    for (recipe, prepare) in kinds().take(4) {
        let points = points_of(recipe, prepare);
        for faults in [[Fault::Kill, Fault::Kill], [Fault::Error, Fault::Kill], [Fault::Kill, Fault::Error]] {
            for answer in [Answer::Resume, Answer::Abort] {
                for first in 0..points {
                    // The second comes while the run is resumed, aborted or undone. Not every pair, but over all
                    // first faults every distance.
                    for second in (first + 1 + first % 30..first + 61).step_by(30) {
                        let model = prepared(recipe, prepare);
                        model.plan_faults(&[(first, faults[0]), (second, faults[1])]);
                        drive(&model, answer);
                    }
                }
            }
        }
    }
}

/// Ends the hold at every point of a run, with checks of the live site that pass, and that fail.
fn end_the_hold_anywhere(new: &dyn Fn() -> Model, points: u64) {
    for fails in [false, true] {
        for point in 0..points {
            let model = new();
            model.live_checks_fail.set(fails);
            model.plan_faults(&[(point, Fault::HoldEnds)]);
            let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
            assert_ne!(run.state, RunState::Interrupted);
            model.assert_ended_well(&run);
        }
    }
}

#[test]
fn a_hold_that_ends_anywhere_loses_nothing() {
    for (recipe, prepare) in kinds() {
        end_the_hold_anywhere(&|| prepared(recipe, prepare), points_of(recipe, prepare));
    }
}

#[test]
fn failing_live_checks_switch_back() {
    for recipe in RECIPES {
        let model = Model::new(recipe);
        model.live_checks_fail.set(true);
        let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
        assert_eq!(run.state, RunState::RolledBack);
        assert!(run.reason.contains("as visitors see it"), "{}", run.reason);
        assert_eq!(
            run.left_behind.is_some(),
            ![PLAIN, CLOSED].contains(&recipe),
            "only a held database needs no snapshot"
        );
        model.assert_ended_well(&run);
    }
}

#[test]
fn a_person_decides_when_the_new_generation_may_have_taken_writes() {
    let model = Model::new(PLAIN);
    model.live_checks_fail.set(true);
    let after_switch = (0..points_of(PLAIN, |_| {})).find(|point| {
        let model = Model::new(PLAIN);
        model.plan_faults(&[(*point, Fault::Kill)]);
        model.attempt(|engine| engine.start(&model.request));
        model.live() == 2
    });
    model.plan_faults(&[(after_switch.unwrap(), Fault::Kill)]);
    assert!(model.attempt(|engine| engine.start(&model.request)).is_none());
    let run = Answer::Resume.give(&model).unwrap().unwrap();
    assert_eq!((run.state, model.live()), (RunState::Interrupted, 2));
    assert!(run.obstacle.contains("abort to switch back"), "{}", run.obstacle);
    let run = Answer::Abort.give(&model).unwrap().unwrap();
    assert_eq!((run.state, model.live()), (RunState::Aborted, 1));
    assert!(run.left_behind.is_some());
    model.assert_ended_well(&run);
}

#[test]
fn a_wish_is_granted_between_steps() {
    for recipe in RECIPES {
        for point in 0..points_of(recipe, |_| {}) {
            for wish in [Wish::Abort, Wish::Suspend] {
                let model = Model::new(recipe);
                model.wish.set(Some((point, wish)));
                let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
                match (wish, run.state) {
                    (_, RunState::Done) | (Wish::Abort, RunState::Aborted) => model.assert_ended_well(&run),
                    (Wish::Suspend, RunState::Interrupted) => {
                        model.wish.set(None);
                        let run = Answer::Resume.give(&model).unwrap().unwrap();
                        assert_eq!(run.state, RunState::Done);
                        model.assert_ended_well(&run);
                    }
                    (wish, state) => panic!("{wish:?} gave {state:?}"),
                }
            }
        }
    }
}

#[test]
fn a_kept_clone_survives_success_and_failure() {
    for fails in [false, true] {
        let model = Model::new(POLITE);
        model.live_checks_fail.set(fails);
        let asked = UpdateRequest { keep_test: true, ..request() };
        let run = model.attempt(|engine| engine.start(&asked).unwrap()).unwrap();
        assert_eq!(run.state, if fails { RunState::RolledBack } else { RunState::Done });
        assert_eq!(model.clones(), 1);
    }
}

/// An application that is asked for a page ten times before the switch, on the clone and on the new generation, and
/// after it.
const SMOKED: &str = r#"
title = "Smoked"
update = { commands = ["update"] }
check = [{ page = "/", contains = ["two says"], requests = 10, failures_max = 1, copies = true }]
"#;

#[test]
fn pages_may_fail_as_often_as_the_recipe_says() {
    for (failing, expected) in [
        (vec![], RunState::Done),
        (vec![3, 13, 29], RunState::Done),
        (vec![3, 4], RunState::Failed),
        (vec![10, 19], RunState::Failed),
        (vec![20, 21], RunState::RolledBack),
    ] {
        let model = Model::new(SMOKED);
        model.pages_that_fail.borrow_mut().extend(failing.clone());
        let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
        assert_eq!(run.state, expected, "{failing:?}: {}", run.reason);
        let asked = if expected == RunState::Done { 30 } else { failing[1] + 1 };
        assert_eq!(model.pages_asked.get(), asked, "{failing:?}");
        if expected != RunState::Done {
            assert!(run.reason.contains("of 10 requests failed, 1 may: / has status 500"), "{}", run.reason);
        }
        model.assert_ended_well(&run);
    }
    // The clock of the model goes on by a second whenever it is looked at.
    let model = Model::new(&SMOKED.replace("copies = true", "seconds_total_max = 5"));
    let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
    assert_eq!((run.state, model.pages_asked.get() < 10), (RunState::RolledBack, true));
    assert!(run.reason.contains("s already"), "{}", run.reason);
}

#[test]
fn a_check_that_sees_the_same_after_the_switch_is_not_made_again() {
    for (recipe, again) in [
        (POLITE.to_owned(), true),
        (POLITE.replace("{ run = \"check\" }", "{ run = \"check\", after_switch = false }"), false),
    ] {
        let model = Model::new(&recipe);
        let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
        model.assert_ended_well(&run);
        let output = model.output();
        assert!(output.contains("\ncheck for rehearse-checks\n") && output.contains("\ncheck for checks\n"));
        assert_eq!(output.contains("\ncheck for live-checks\n"), again, "{output}");
        assert!(output.contains("GET /: status 200"), "{output}");
    }
}

#[test]
fn a_hook_that_fails_is_a_step_that_fails() {
    for strategy in [Strategy::Switch, Strategy::InPlace] {
        let switch = strategy.steps().iter().position(|kind| *kind == StepKind::Switch).unwrap();
        for (place, kind) in strategy.steps().iter().enumerate() {
            for moment in [Moment::Before, Moment::After] {
                let mut model = Model::new(POLITE);
                model.request.strategy = strategy;
                model.failing_hook.set(Some((*kind, moment)));
                let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
                let expected = match (place.cmp(&switch), moment) {
                    _ if (*kind, moment) == (StepKind::Release, Moment::After) => RunState::Done,
                    (std::cmp::Ordering::Less, _) | (std::cmp::Ordering::Equal, Moment::Before) => {
                        RunState::Failed
                    }
                    _ => RunState::RolledBack,
                };
                assert_eq!(run.state, expected, "{strategy}: {moment} {kind}: {}", run.reason);
                assert!(model.output().contains(&format!("hook {moment} {kind}")));
                model.assert_ended_well(&run);
            }
        }
    }
}

#[test]
fn a_site_has_one_run_at_a_time() {
    let model = Model::new(POLITE);
    model.plan_faults(&[(20, Fault::Kill)]);
    assert!(model.attempt(|engine| engine.start(&model.request)).is_none());
    let error = model.attempt(|engine| engine.start(&model.request).unwrap_err()).unwrap();
    assert!(error.to_string().contains("--resume"), "{error}");
    assert!(matches!(model.refuse_if_busy(&site()), Err(UpdateError::Interrupted { .. })));
    Answer::Abort.give(&model).unwrap().unwrap();
    model.refuse_if_busy(&site()).unwrap();
    assert!(matches!(Answer::Abort.give(&model), Some(Err(UpdateError::NothingInterrupted { .. }))));
}

#[test]
fn a_plan_names_the_steps_and_changes_nothing() {
    let model = Model::new(POLITE);
    let plan = |model: &Model| model.attempt(|engine| engine.plan(&request())).unwrap().unwrap();
    let before = plan(&model);
    assert_eq!((before.from.as_str(), before.to.as_str()), ("one (1.0)", "two (2.0)"));
    assert_eq!(before.steps.len(), Strategy::Switch.steps().len());
    assert!(before.steps[1].title.contains("example.com--rehearsal-RUN on two"), "{}", before.steps[1].title);
    assert_eq!(before.window_seconds_expected, None);
    assert_eq!((model.live(), model.list(&site()).unwrap().len()), (1, 0));
    let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
    let after = plan(&model);
    assert_eq!(after.window_seconds_expected, run.window_seconds());
    assert!(after.steps.iter().all(|step| step.seconds_expected.is_some()));
}
