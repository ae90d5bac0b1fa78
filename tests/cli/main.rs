//! The command line as a person meets it: the real program, against a daemon that answers from a file.
//!
//! Each `*.txt` beside this file is a case: the arguments, the request they must become, what the daemon says, and what
//! then must be on standard output and standard error. `SITEFS_BLESS=1` writes down what came instead of comparing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod case;
mod daemon;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use case::Case;
use daemon::Daemon;
use rustix::process::{Pid, Signal};
use serde_json::Value;

struct Ran {
    exit: i32,
    stdout: String,
    stderr: String,
}

fn sitefs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sitefs"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").stdin(Stdio::null());
    command
}

fn run(mut command: Command, input: Option<&str>) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(input) = input {
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    Ran {
        exit: output.status.code().expect("no signal ends the program"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn cases() -> Vec<(PathBuf, Case)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let cases: Vec<_> = paths
        .into_iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            Case::parse_all(&text).into_iter().map(move |case| (path.clone(), case))
        })
        .collect();
    assert!(cases.len() > 30);
    cases
}

/// Runs a case in a directory of its own; what is different on every machine is replaced by words.
fn perform(case: &Case, json: bool) -> (Ran, Daemon) {
    let daemon = Daemon::start(case);
    let mut command = sitefs();
    command.current_dir(daemon.place()).arg("--store").arg(daemon.store());
    if json {
        command.arg("--json");
    }
    command.args(case.arguments());
    let mut ran = run(command, case.get("stdin"));
    ran.stdout = daemon.masked(&ran.stdout);
    ran.stderr = daemon.masked(&ran.stderr);
    (ran, daemon)
}

#[test]
fn every_case_comes_out_as_written_down() {
    let bless = std::env::var_os("SITEFS_BLESS").is_some();
    let mut written: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut wrong = String::new();
    for (path, case) in cases() {
        let (ran, daemon) = perform(&case, false);
        let mut came = case.clone();
        came.set("request", daemon.request().map(|request| daemon.masked(&request.to_string())));
        came.set("input", daemon.input());
        came.set("exit", Some(ran.exit.to_string()).filter(|code| code != "0"));
        came.set("stdout", Some(case.with_placeholders(&ran.stdout)));
        came.set("stderr", Some(case.with_placeholders(&ran.stderr)));
        let (expected, came) = (case.to_string(), came.to_string());
        if came != expected {
            let diff = similar::TextDiff::from_lines(&expected, &came);
            writeln!(wrong, "{}\n{}", path.display(), diff.unified_diff().context_radius(30)).unwrap();
        }
        let file = written.entry(path).or_default();
        if !file.is_empty() {
            file.push_str("\n\n");
        }
        file.push_str(came.trim_end());
    }
    if bless {
        for (path, text) in written {
            std::fs::write(path, text + "\n").unwrap();
        }
    } else {
        assert!(wrong.is_empty(), "{wrong}");
    }
}

#[test]
fn json_is_the_daemons_answer_itself() {
    for (path, case) in cases() {
        // Cases that name options of their own show their own document.
        if case.arguments().iter().any(|argument| argument == "--json") {
            continue;
        }
        let Some(answer) = case.answer() else { continue };
        let (ran, _daemon) = perform(&case, true);
        let place = format!("{}: {}\n{}", path.display(), case.get("args").unwrap(), ran.stderr);
        if case.get("data").is_some() && !ran.stdout.starts_with("{\n  \"error\": {") {
            let mut document: Value = serde_json::from_str(&ran.stdout).expect(&place);
            // The bytes are in the document, or in a file.
            let text = document.as_object_mut().unwrap().remove("text");
            assert_eq!(text.is_none(), case.get("args").unwrap().contains("--output"), "{place}");
            assert_eq!(document, answer.unwrap(), "{place}");
            continue;
        }
        let document: Value = serde_json::from_str(&ran.stdout).expect(&place);
        if case.get("data").is_some() {
            // Standard output cannot be both the document and the bytes.
            assert_eq!((ran.exit, &document["error"]["kind"]), (2, &"usage".into()), "{place}");
            continue;
        }
        match answer {
            Ok(response) => assert_eq!(document, response, "{place}"),
            Err(failure) => {
                let mut error = document["error"].clone();
                assert_eq!(error.as_object_mut().unwrap().remove("exit_code").unwrap(), ran.exit, "{place}");
                assert_eq!(error, failure, "{place}");
            }
        }
        let exit = case.get("exit").map_or(0, |code| code.parse().unwrap());
        assert_eq!(ran.exit, exit, "{place}");
        assert!(!ran.stderr.contains("error:"), "{place}");
    }
}

/// All verbs, as `--help` lists them: `log`, `platform add`.
fn verbs() -> Vec<Vec<String>> {
    let help = |verb: &[String]| run_help(verb).stdout;
    let listed = |help: &str| -> Vec<String> {
        let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        lines.map_while(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let mut all = Vec::new();
    for verb in listed(&help(&[])) {
        let below = listed(&help(std::slice::from_ref(&verb)));
        if below.is_empty() {
            all.push(vec![verb]);
        } else {
            all.extend(below.into_iter().map(|below| vec![verb.clone(), below]));
        }
    }
    all
}

fn run_help(verb: &[String]) -> Ran {
    let mut command = sitefs();
    command.args(verb).arg("--help");
    run(command, None)
}

#[test]
fn help_of_every_verb_explains_and_has_an_example() {
    let verbs = verbs();
    assert!(verbs.len() >= 27, "{verbs:?}");
    for verb in verbs {
        let ran = run_help(&verb);
        assert_eq!((ran.exit, ran.stderr.as_str()), (0, ""), "{verb:?}");
        let (_, examples) = ran.stdout.split_once("Example").expect("an example");
        assert!(examples.contains(&format!("sitefs {}", verb.join(" "))), "{verb:?}: {}", ran.stdout);
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 120), "{verb:?}: {}", ran.stdout);
    }
}

#[test]
fn every_verb_has_a_case() {
    let cases = cases();
    let shown: BTreeSet<Vec<String>> = cases
        .iter()
        .flat_map(|(_, case)| {
            let words: Vec<String> =
                case.arguments().into_iter().filter(|word| !word.starts_with('-')).take(2).collect();
            [words.iter().take(1).cloned().collect(), words]
        })
        .collect();
    for verb in verbs() {
        // These two run in this process; tests/serve.rs has them.
        if !matches!(verb[0].as_str(), "init" | "serve") {
            assert!(shown.contains(&verb), "{verb:?} has no case");
        }
    }
}

#[test]
fn a_closed_pipe_is_quiet() {
    let case = Case::parse_all(
        "args: log shop.example\nanswer:\n  {\"log\": {\"site\": \"shop.example\", \"snapshots\": []}}\n",
    )
    .remove(0);
    let many: Vec<Value> = (0..20_000).map(|_| daemon::snapshot()).collect();
    let daemon = Daemon::start_with(&case, |answer| answer["log"]["snapshots"] = many.into());
    let mut command = sitefs();
    command.arg("--store").arg(daemon.store()).args(["log", "shop.example"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"ID");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn who_interrupts_an_update_learns_that_it_goes_on() {
    let case = Case::parse_all(
        "args: update shop.example --resume\ndaemon: waits\n\
         event: {\"event\": \"step\", \"number\": 1, \"count\": 9, \"name\": \"look\", \"state\": \"started\"}\n",
    )
    .remove(0);
    let daemon = Daemon::start(&case);
    let mut command = sitefs();
    command.arg("--store").arg(daemon.store()).args(case.arguments());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, "[1/9] look\n");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
    assert!(said.contains("warning: the update goes on in the daemon"), "{said}");
}

#[test]
fn without_arguments_it_shows_what_there_is() {
    let mut command = sitefs();
    command.env("SITEFS_STORE", "/nonexistent");
    let ran = run(command, None);
    assert_eq!((ran.exit, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("rollback") && ran.stderr.contains("Example"), "{}", ran.stderr);
}

#[test]
fn the_version_is_the_packages() {
    let mut command = sitefs();
    command.arg("--version");
    assert_eq!(run(command, None).stdout, format!("sitefs {}\n", env!("CARGO_PKG_VERSION")));
}
