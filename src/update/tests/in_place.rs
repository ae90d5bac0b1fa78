//! Runs in place: on a database that is a part of each generation, and on one beside them.

use super::model::{Fault, Model, site};
use super::*;

fn in_place(recipe: &str, on_server: bool) -> Model {
    let mut model = Model::new(recipe);
    model.request.strategy = Strategy::InPlace;
    model.on_server = on_server;
    model
}

/// Every kind of application, and both kinds of databases.
const KINDS: [(&str, bool); 6] =
    [(POLITE, false), (POLITE, true), (PLAIN, true), (BUSY, true), (CLOSED, false), (CHATTY, true)];

/// Does `work` with every kind, and the number of points its run without a fault has.
fn for_all(work: impl Fn(&dyn Fn() -> Model, u64)) {
    for (recipe, on_server) in KINDS {
        let new = || in_place(recipe, on_server);
        work(&new, points_without_fault(&new()));
    }
}

#[test]
fn the_pointer_moves_before_the_update_and_the_database_stays() {
    for_all(|new, _| {
        let model = new();
        let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
        let place = |kind| run.steps.iter().position(|step| step.kind == kind).unwrap();
        assert!(place(StepKind::Switch) < place(StepKind::Update));
        assert_eq!((run.state, model.live()), (RunState::Done, 2));
        assert_eq!((&run.restored, run.left_behind), (&None, None));
        assert!(run.window_seconds().unwrap() > 0.0);
        let parts: Vec<&str> = run.rehearsed().unwrap().iter().map(|(name, _)| *name).collect();
        assert_eq!(parts, ["snapshot", "update", "checks"], "nothing is copied while writes are held");
    });
}

#[test]
fn an_error_anywhere_ends_with_the_site_as_it_was_or_updated() {
    for_all(|new, points| {
        let mut ends = std::collections::BTreeMap::new();
        for point in 0..points {
            let model = new();
            model.plan_faults(&[(point, Fault::Error)]);
            if let Some(run) = drive(&model, Answer::Abort) {
                *ends.entry(format!("{:?}", run.state)).or_insert(0) += 1;
            }
        }
        assert!(ends["Failed"] > 20 && ends["RolledBack"] > 5 && ends["Aborted"] > 10, "{ends:?}");
    });
}

#[test]
fn a_kill_anywhere_can_be_resumed_and_aborted() {
    for_all(|new, points| {
        for answer in [Answer::Resume, Answer::Abort] {
            for point in 0..points {
                let model = new();
                model.plan_faults(&[(point, Fault::Kill)]);
                let Some(run) = drive(&model, answer) else { continue };
                let expected = if answer == Answer::Resume { RunState::Done } else { RunState::Aborted };
                assert!(run.state == expected || point + 1 == model.points(), "{point}: {:?}", run.state);
            }
        }
    });
}

#[test]
fn a_site_settled_after_a_kill_is_on_one_release_and_takes_writes() {
    for_all(|new, points| {
        for point in 0..points {
            let model = new();
            model.plan_faults(&[(point, Fault::Kill)]);
            model.attempt(|engine| engine.start(&model.request));
            if model.unfinished(&site()).unwrap().is_none() {
                continue;
            }
            let settled = model.attempt(|engine| engine.settle(&site()).unwrap()).unwrap();
            assert_eq!(settled.state, RunState::Interrupted);
            assert!(!settled.is_half_updated() && model.is_sound(), "{point}");
            let run = Answer::Resume.give(&model).unwrap().unwrap();
            assert_eq!(run.state, RunState::Done);
            model.assert_ended_well(&run);
        }
    });
}

#[test]
fn two_faults_anywhere_lose_nothing() {
    for (recipe, on_server) in [(POLITE, true), (PLAIN, false)] {
        let points = points_without_fault(&in_place(recipe, on_server));
        for faults in [[Fault::Kill, Fault::Kill], [Fault::Error, Fault::Kill], [Fault::Kill, Fault::Error]] {
            for answer in [Answer::Resume, Answer::Abort] {
                for first in 0..points {
                    for second in (first + 1 + first % 45..first + 91).step_by(45) {
                        let model = in_place(recipe, on_server);
                        model.plan_faults(&[(first, faults[0]), (second, faults[1])]);
                        drive(&model, answer);
                    }
                }
            }
        }
    }
}

#[test]
fn a_hold_that_ends_anywhere_loses_nothing() {
    for_all(end_the_hold_anywhere);
}

#[test]
fn a_failure_after_the_switch_restores_what_was_held() {
    for_all(|new, _| {
        let model = new();
        model.live_checks_fail.set(true);
        let run = model.attempt(|engine| engine.start(&model.request).unwrap()).unwrap();
        assert_eq!((run.state, model.live()), (RunState::RolledBack, 3));
        assert!(run.left_behind.is_some(), "what was there is kept");
        model.assert_ended_well(&run);
    });
}

#[test]
fn a_site_in_read_only_mode_is_refused() {
    let mut model = in_place(POLITE, false);
    model.set_read_only();
    let refused = model.attempt(|engine| engine.plan(&model.request).unwrap_err()).unwrap();
    assert!(refused.to_string().contains("in read-only mode"), "{refused}");
}

#[test]
fn a_plan_says_what_each_strategy_means() {
    for (strategy, on_server, said) in [
        (Strategy::Switch, false, "copies share it"),
        (Strategy::Switch, true, "1 MiB on its server"),
        (Strategy::InPlace, true, "the snapshot taken when writes were held is restored"),
    ] {
        let mut model = in_place(POLITE, on_server);
        model.request.strategy = strategy;
        let plan = model.attempt(|engine| engine.plan(&model.request).unwrap()).unwrap();
        assert!(
            plan.choice.starts_with(&strategy.to_string()) && plan.choice.contains(said),
            "{}",
            plan.choice
        );
    }
}
