use std::io::{Read, Seek};

use super::*;

fn sh(script: &str) -> Outcome {
    Command::script(script).run().unwrap()
}

/// Whether a process with this id is there and not a zombie.
fn is_alive(id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", id.trim()))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

#[test]
fn outputs_status_and_environment_are_those_of_the_program() {
    let outcome = Command::script("printf out; printf err >&2; printf \"$A$B$PATH\"; exit 3")
        .clear_env()
        .env("A", "1")
        .env("A", "2")
        .run()
        .unwrap();
    assert_eq!(outcome.ending, Ending::Exited(3));
    assert_eq!(outcome.output.text(), format!("out2{DEFAULT_PATH}"));
    assert_eq!(outcome.errors.text(), "err");
    let error = outcome.success().unwrap_err().to_string();
    assert!(error.ends_with("ended with exit status 3:\nerr"), "{error}");
    assert_eq!(sh("kill -9 $$").ending, Ending::Signalled(9));
    assert_eq!(sh("cat; echo end").output.text(), "end\n", "without input a program reads nothing");
}

#[test]
fn lines_arrive_in_order_while_the_program_runs() {
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    assert!(Command::new("mkfifo").argument(&gate).run().unwrap().is_success());
    let mut seen = Vec::new();
    // The program goes on only once its first line was handed on.
    let outcome = Command::script("echo one; cat gate; echo three >&2; printf four")
        .directory(directory.path())
        .time_limit(Duration::from_secs(20))
        .run_with(&mut |stream, line| {
            seen.push((stream, line.to_owned()));
            if line == "one" {
                std::fs::write(&gate, "two\n").unwrap();
            }
        })
        .unwrap();
    assert!(outcome.is_success(), "{outcome:?}");
    let lines =
        |wanted| seen.iter().filter(|(s, _)| *s == wanted).map(|(_, l)| l.as_str()).collect::<Vec<_>>();
    assert_eq!(lines(Stream::Output), ["one", "two", "four"]);
    assert_eq!(lines(Stream::Errors), ["three"]);
}

#[test]
fn much_input_and_output_do_not_block_each_other() {
    let input = vec![b'x'; 3 << 20];
    let outcome = Command::new("cat").input(input.clone()).capture_bytes_max(8 << 20).run().unwrap();
    assert_eq!(*outcome.output.bytes(), *input);
    let unread = Command::new("true").input(input.clone()).run().unwrap();
    assert!(unread.is_success(), "a program need not read its input");
    let bounded = Command::new("cat").input(input).capture_bytes_max(1000).run().unwrap();
    assert_eq!(bounded.output.omitted_bytes(), (3 << 20) - 1000);
}

#[test]
fn a_time_limit_ends_everything_the_program_started() {
    let outcome = Command::script("trap '' TERM; sleep 1000 & echo $!; echo $$; while :; do sleep 1; done")
        .time_limit(Duration::from_millis(1500))
        .grace(Duration::from_millis(100))
        .run()
        .unwrap();
    assert_eq!(outcome.ending, Ending::TimedOut(Duration::from_millis(1500)));
    let text = outcome.output.text();
    let ids: Vec<&str> = text.lines().collect();
    assert_eq!(ids.len(), 2);
    // The grandchild is reaped by init, or whoever adopted it, and may be a zombie until then.
    for _ in 0..500 {
        if ids.iter().all(|id| !is_alive(id)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("something of {ids:?} is still alive");
}

#[test]
fn a_terminated_program_may_clean_up() {
    let outcome = Command::script("trap 'echo cleaned; exit 0' TERM; sleep 1000 & wait")
        .time_limit(Duration::from_millis(1500))
        .grace(Duration::from_secs(20))
        .run()
        .unwrap();
    assert!(matches!(outcome.ending, Ending::TimedOut(_)));
    assert_eq!(outcome.output.text(), "cleaned\n");
}

#[test]
fn what_a_program_leaves_behind_does_not_hold_up_its_result() {
    let started = std::time::Instant::now();
    let outcome = sh("sleep 30 & echo $!");
    assert!(outcome.is_success());
    assert!(started.elapsed() < Duration::from_secs(25), "the result waited for the process left behind");
    let left = outcome.output.text();
    assert!(is_alive(&left), "a program may leave a process behind");
    assert!(Command::new("kill").argument(left.trim()).run().unwrap().is_success());
}

#[test]
fn errors_say_what_is_missing() {
    let error = Command::new("no-such-program").env("PATH", "/bin:relative").run().unwrap_err();
    assert_eq!(
        error.to_string(),
        "program no-such-program is not found in PATH (/bin:relative): install it, or correct PATH"
    );
    let outcome = Command::new("/nonexistent/program").run().unwrap();
    assert_eq!(outcome.ending, Ending::Exited(127));
    let outcome = Command::new("pwd").directory("/nonexistent").run().unwrap();
    assert_eq!(outcome.ending, Ending::Exited(126));
    assert!(outcome.errors.text().contains("/nonexistent"));
    assert!(exists("sh") && !exists("no-such-program"));
    let directory = tempfile::tempdir().unwrap();
    let shown = Command::new("pwd").directory(directory.path()).run().unwrap();
    assert_eq!(shown.output.text().trim(), directory.path().canonicalize().unwrap().to_str().unwrap());
}

#[test]
fn messages_name_scripts_by_their_first_line_and_never_show_secrets() {
    let command = Command::script("exit 4\n# more").env("PASSWORD", "secret").input("secret");
    assert!(!format!("{command:?}").contains("secret"));
    let error = command.run().unwrap().success().unwrap_err();
    assert_eq!(error.to_string(), "`exit 4 ...` ended with exit status 4");
}

#[test]
fn runs_as_another_user_with_its_groups_and_home() {
    let current = User::current().unwrap();
    let nobody = User::by_name("nobody").unwrap();
    let command = Command::script("id -u; id -g; echo $HOME $USER; id -G").user(&nobody);
    if current.uid != 0 {
        assert!(matches!(command.run(), Err(ProcessError::Privilege { .. })));
        return;
    }
    let outcome = command.run().unwrap();
    let expected =
        format!("{}\n{}\n{} nobody\n{}\n", nobody.uid, nobody.gid, nobody.home.display(), nobody.gid);
    assert_eq!(outcome.output.text(), expected, "{}", outcome.errors.text());
    let stranger = User::by_id(4_000_001, 4_000_002).unwrap();
    let outcome = Command::script("id -u; id -g; id -G").user(&stranger).run().unwrap();
    assert_eq!(outcome.output.text(), "4000001\n4000002\n4000002\n", "{}", outcome.errors.text());
}

#[test]
fn files_are_read_and_written_directly_and_no_descriptor_is_inherited() {
    let mut input = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut input, b"content").unwrap();
    input.rewind().unwrap();
    let mut output = tempfile::tempfile().unwrap();
    let outcome =
        Command::new("cat").input_file(input).output_file(output.try_clone().unwrap()).run().unwrap();
    assert!(outcome.is_success() && outcome.output.text().is_empty());
    output.rewind().unwrap();
    let mut copied = String::new();
    output.read_to_string(&mut copied).unwrap();
    assert_eq!(copied, "content");
    let directory = tempfile::tempdir().unwrap();
    let _open = File::create(directory.path().join("held-open")).unwrap();
    let listed = Command::new("ls").arguments(["-l", "/proc/self/fd"]).run().unwrap().output.text();
    assert!(listed.contains("pipe:") && !listed.contains("held-open"), "{listed}");
}

#[test]
fn a_conversation_answers_line_by_line_and_ends_with_its_input() {
    let mut talk =
        Command::script("while read -r line; do echo \"<$line>\"; echo; done; exit 5").converse().unwrap();
    let limit = Duration::from_secs(20);
    for word in ["one", "two"] {
        talk.send(word).unwrap();
        assert_eq!(talk.receive(limit).unwrap(), format!("<{word}>"));
        assert_eq!(talk.receive(limit).unwrap(), "");
    }
    let silent = talk.receive(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(silent, ProcessError::Silent { .. }), "{silent}");
    assert_eq!(talk.finish(limit).unwrap(), Ending::Exited(5));

    let mut ends = Command::script("read -r line; exit 6").converse().unwrap();
    ends.send("x").unwrap();
    let error = ends.receive(limit).unwrap_err();
    assert!(matches!(error, ProcessError::Ended { ending: Ending::Exited(6), .. }), "{error}");
}

#[test]
fn a_dropped_conversation_is_killed() {
    let mut talk = Command::script("trap '' TERM; echo $$; sleep 1000; sleep 1000").converse().unwrap();
    let id = talk.receive(Duration::from_secs(20)).unwrap();
    assert!(is_alive(&id));
    drop(talk);
    assert!(!is_alive(&id));
}
