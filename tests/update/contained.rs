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
