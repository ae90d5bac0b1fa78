//! What commands start and leave behind ends with them, however it hides.

use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::place::{Place, runs, wait_until};

/// Leaves a process in a session of its own, without any variable of its parent's, that adds its id to `"$GATE.left"`.
const LEAVE: &str = r#"set -e
before=$(cat "$GATE.left" 2>/dev/null | wc -l)
setsid env -i PATH=/usr/bin:/bin sh -c 'echo $$ >> "$0"; exec sleep 600' "$GATE.left" >/dev/null 2>&1 &
while test "$(cat "$GATE.left" 2>/dev/null | wc -l)" = "$before"; do sleep 0.05; done
"#;

fn left(place: &Place) -> Vec<Pid> {
    let text = fs::read_to_string(place.path("gate.left")).unwrap_or_default();
    text.lines().map(|line| Pid::from_raw(line.parse().unwrap()).unwrap()).collect()
}

#[test]
fn a_process_that_a_command_leaves_ends_with_it_and_with_the_daemon() {
    let place = Place::with(|recipe| recipe.replace("set -e\n", LEAVE));
    let site = place.import("site");
    place.done(&["update", "site", "--platform", "two"]);
    let ended = left(&place);
    assert_eq!(ended.len(), 2, "one of the rehearsal, one of the update");
    assert!(!ended.iter().any(|process| runs(*process)), "{ended:?}");
    place.done(&["rollback", "site"]);

    place.set("pause", "rehearse-update");
    let mut update = site.start(&["update", "site", "--platform", "two"]);
    wait_until("the update blocks", || place.paused().is_some());
    let running = [left(&place).pop().unwrap(), place.paused().unwrap()];
    assert!(running.iter().all(|process| runs(*process)), "{running:?}");
    place.kill();
    update.end();
    wait_until("nothing outlives the daemon", || !running.iter().any(|process| runs(*process)));
    place.set("pause", "");
    place.serve();
    place.wait_until_settled();
    place.done(&["update", "site", "--abort"]);
    place.stop();
}

/// A script in the process that contains commands, which leads a group of its own as under the daemon.
fn contained(grace_ms: &str, script: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sitefs"));
    command.args(["internal-contain", &std::process::id().to_string(), grace_ms, "sh", "-c", script]);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_contained_command_ends_as_it_would_by_itself() {
    assert_eq!(contained("0", "exit 7").wait().unwrap().code(), Some(7));
    for signal in [Signal::KILL, Signal::TERM, Signal::USR1] {
        let ended = contained("0", &format!("kill -{} $$", signal.as_raw())).wait().unwrap();
        assert_eq!(ended.signal(), Some(signal.as_raw()));
    }
}

#[test]
fn a_contained_command_has_the_grace_time_and_no_more() {
    // One that cleans up, and leaves something that hears nothing.
    let script = "setsid env -i /bin/sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' &
        trap 'echo cleaned; exit 3' TERM; echo $$; while :; do sleep 0.1; done";
    let deaf = script.replace("echo cleaned; exit 3", "");
    for (script, grace_ms, code) in [(script, "60000", Some(3)), (&deaf, "300", None)] {
        let mut child = contained(grace_ms, script);
        let mut output = child.stdout.take().unwrap();
        let (mut said, mut buffer) = (String::new(), [0; 64]);
        while said.lines().count() < 2 || !said.ends_with('\n') {
            let count = output.read(&mut buffer).unwrap();
            said.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let processes: Vec<Pid> =
            said.lines().map(|line| Pid::from_raw(line.parse().unwrap()).unwrap()).collect();
        assert!(processes.iter().all(|process| runs(*process)), "{processes:?}");
        kill_process_group(Pid::from_child(&child), Signal::TERM).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!((ended.code(), ended.signal()), (code, code.is_none().then_some(Signal::KILL.as_raw())));
        assert!(!processes.iter().any(|process| runs(*process)), "{processes:?}");
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.trim(), if code.is_some() { "cleaned" } else { "" });
    }
}

/// A hook's line that leaves a process in a session of its own, whose id it writes to `left`.
fn leave(place: &Place) -> String {
    let left = place.path("gate.left");
    format!(
        "setsid sh -c 'echo $$ > {left}.new; mv {left}.new {left}; exec sleep 600' >/dev/null 2>&1 &\n\
         until test -e {left}; do sleep 0.05; done\n",
        left = left.display()
    )
}

/// A hook, what becomes of the update, and what is said about it.
const HOOKS: [(&str, i32, &str); 4] = [
    // Hangs, having printed more than anybody is going to read.
    ("yes 0123456789012345678901234567890123456789 | head -c 3000000; sleep 600", 1, "took longer than 2 s"),
    ("trap '' TERM; sleep 600", 1, "took longer than 2 s"),
    ("kill -KILL $$", 1, "was ended by signal 9"),
    ("exit 0", 0, ""),
];

#[test]
fn a_hook_has_bounds_and_leaves_nothing() {
    let place = Place::new();
    let hooks = place.path("hooks");
    place.stop();
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(place.path("config.toml"), format!("{config}hooks = {hooks:?}\nhook_seconds = 2\n")).unwrap();
    place.serve();
    let site = place.import("site");
    for (script, exit, said) in HOOKS {
        let _ = fs::remove_file(place.path("gate.left"));
        place.hook("after-hold/hook", &(leave(&place) + script));
        let ran = place.sitefs(&["update", "site", "--platform", "two"]);
        assert_eq!(ran.exit, exit, "{script}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{script}: {}", ran.stderr);
        assert!(left(&place).iter().all(|process| !runs(*process)), "{script}: something is left");
        assert!(site.write(script), "{script}: writes are held still");
        if exit != 0 {
            assert_eq!(site.platform(), "one");
        }
    }
    // What is kept of the first one's output has an end.
    for file in fs::read_dir(place.path("store/runs")).unwrap() {
        let file = file.unwrap();
        assert!(file.metadata().unwrap().len() < 1 << 18, "{:?}", file.path());
    }
    place.done(&["rollback", "site"]);

    // One that is running when the daemon is killed goes with it.
    let _ = fs::remove_file(place.path("gate.left"));
    place.hook("after-hold/hook", &(leave(&place) + "sleep 600"));
    let mut update = site.start_update();
    wait_until("the hook runs", || place.path("gate.left").exists());
    let running = left(&place);
    place.kill();
    update.end();
    wait_until("nothing of the hook is left", || running.iter().all(|process| !runs(*process)));
    fs::remove_file(place.path("hooks/after-hold/hook")).unwrap();
    place.serve();
    place.wait_until_settled();
    let shown = place.done(&["run", "show", "site"]);
    assert_eq!(shown["state"], "interrupted", "{shown}");
    assert!(shown["step"].as_str().unwrap().ends_with("hold writes"), "{shown}");
    place.done(&["update", "site", "--abort"]);
    assert_eq!(place.done(&["run", "show", "site"])["state"], "aborted");
    assert!(site.write("after"));
    place.stop();
}
