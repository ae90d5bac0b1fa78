//! A site's whole life with its database on a server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::machines::{Server, Setup, wait_until};
use crate::place::Place;

fn both(test: impl Fn(&Place) + Sync) {
    Server::both(Setup::default(), "", "", |server| test(&Place::new(server)));
}

#[test]
fn an_imported_site_has_a_database_and_an_account_of_its_own() {
    both(|place| {
        place.import();
        assert_eq!(place.notes("site"), ["first"]);
        place.visit("site", &["add", "second"]).unwrap();
        assert_eq!(place.notes("site"), ["first", "second"]);
        assert_eq!(place.server.sql("notes", "SELECT count(*) FROM note;"), "1", "the original is only read");
        assert_eq!(place.databases().len(), 1);
        let shown = place.done(&["site", "show", "site"]);
        assert_eq!(shown["database"]["name"], place.databases()[0].as_str());
        assert_eq!(place.problems(), Vec::<String>::new());

        // The password is in the settings and in the catalog, both closed to others, and nowhere else.
        let settings = place.path("root/sites/site/sitefs.database.php");
        let text = fs::read_to_string(&settings).unwrap();
        let password = text.split("'password' => '").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        assert_eq!(password.len(), 40);
        assert_eq!(fs::metadata(&settings).unwrap().permissions().mode() & 0o007, 0);
        assert_eq!(fs::metadata(place.path("store/catalog.redb")).unwrap().permissions().mode() & 0o077, 0);
        assert!(!place.log().contains(&password) && !shown.to_string().contains(&password));

        place.done(&["site", "remove", "site", "--force"]);
        assert!(place.databases().is_empty());
        assert_eq!(place.server.sql("notes", "SELECT count(*) FROM note;"), "1");
    });
}

#[test]
fn snapshots_hold_the_database_and_share_what_is_the_same() {
    both(|place| {
        let fill = if place.server.url("").starts_with("mariadb") {
            "INSERT INTO note (text) SELECT CONCAT(MD5(seq), MD5(seq + 1), MD5(seq + 2)) FROM seq_1_to_20000;"
        } else {
            "INSERT INTO note (text) SELECT md5(n::text) || md5((n + 1)::text) FROM generate_series(1, 40000) n;"
        };
        place.server.sql("notes", fill);
        place.import();
        let first = place.done(&["snapshot", "site", "--tag", "one"]);
        place.visit("site", &["add", "second"]).unwrap();
        let second = place.done(&["snapshot", "site", "--tag", "two"]);
        assert!(first["added_bytes"].as_u64().or(first["snapshot"]["added_bytes"].as_u64()).is_some());
        let added = second["snapshot"]["added_bytes"].as_u64().or(second["added_bytes"].as_u64()).unwrap();
        assert!(added < 600_000, "a dump with one more row took {added} bytes");
        let verified = place.done(&["database", "verify", "site@two"]);
        assert_eq!(verified["problems"].as_array().unwrap().len(), 0, "{verified}");
        let difference = place.done(&["diff", "site@one", "site@two"]).to_string();
        assert!(difference.contains("\"note\""), "{difference}");

        // Back to the first, and what was there is not lost.
        let restored = place.done(&["database", "restore", "site", "--from", "site@one"]);
        assert!(!place.notes("site").contains(&"second".to_owned()));
        place.done(&["rollback", "site"]);
        assert!(place.notes("site").contains(&"second".to_owned()));
        assert!(restored["safety_snapshot"].as_str().is_some());

        // A dump of one's own.
        let (exit, dump, _) = place.sitefs(&["database", "dump", "site"]);
        assert!(exit == 0 && dump.contains("second"), "{exit}");
        let file = place.path("own.sql");
        fs::write(&file, dump.replace("second", "edited")).unwrap();
        place.done(&["database", "restore", "site", file.to_str().unwrap()]);
        assert!(place.notes("site").contains(&"edited".to_owned()));
        assert_eq!(place.problems(), Vec::<String>::new());
    });
}

#[test]
fn a_clone_has_its_own_database_and_takes_it_along() {
    both(|place| {
        place.import();
        place.done(&["clone", "site", "copy"]);
        place.visit("copy", &["add", "only in the copy"]).unwrap();
        assert_eq!(place.notes("site"), ["first"]);
        assert_eq!(place.notes("copy"), ["first", "only in the copy"]);
        place.visit("site", &["add", "second"]).unwrap();
        place.done(&["database", "clone", "site", "copy"]);
        assert_eq!(place.notes("copy"), ["first", "second"]);
        place.done(&["site", "remove", "copy"]);
        assert_eq!(place.databases().len(), 1);
        assert_eq!(place.notes("site"), ["first", "second"]);
    });
}

#[test]
fn a_site_that_comes_through_a_pipe_has_a_database_of_its_own() {
    both(|place| {
        place.import();
        place.visit("site", &["add", "second"]).unwrap();
        fs::write(place.path("root/sites/site/files/upload.txt"), "upload").unwrap();
        place.done(&["snapshot", "site", "--tag", "moved"]);
        place.visit("site", &["add", "too late"]).unwrap();
        let receive = |more: &[&str]| {
            let mut sender =
                place.command(&["-q", "send", "site@moved"]).stdout(Stdio::piped()).spawn().unwrap();
            let came = sender.stdout.take().unwrap();
            let said = place
                .fed(&[&["receive", "--site", "other", "--platform", "two"], more].concat(), came.into());
            sender.wait().unwrap();
            said
        };
        // Without a server to be on, and with one that has no such database: nothing is left.
        let nowhere = place.server.url("nowhere");
        for more in [&[][..], &["--database", &nowhere]] {
            let (exit, _, said) = receive(more);
            assert!(exit != 0 && said.contains("database"), "{exit}: {said}");
            assert_eq!(place.databases().len(), 1, "{said}");
            assert!(fs::symlink_metadata(place.path("root/sites/other")).is_err());
        }
        let (exit, _, said) = receive(&["--database", &place.server.url("notes")]);
        assert_eq!(exit, 0, "{said}{}", place.log());
        assert_eq!(place.notes("other"), ["first", "second"]);
        assert_eq!(fs::read_to_string(place.path("root/sites/other/files/upload.txt")).unwrap(), "upload");
        place.visit("other", &["add", "there"]).unwrap();
        assert_eq!(place.notes("site"), ["first", "second", "too late"]);
        assert_eq!((place.databases().len(), place.problems()), (2, Vec::new()));
        // It goes on as any other.
        place.done(&["snapshot", "other", "--tag", "one"]);
        place.done(&["clone", "other", "copy"]);
        assert_eq!(place.notes("copy"), ["first", "second", "there"]);
        place.kill();
        place.serve();
        assert_eq!(place.notes("other"), ["first", "second", "there"]);
        place.done(&["site", "remove", "other", "--force"]);
        assert_eq!(place.databases().len(), 2);
        assert_eq!(
            place.server.sql("notes", "SELECT count(*) FROM note;"),
            "1",
            "what it was made like is only read"
        );
    });
}

#[test]
fn an_update_loses_no_accepted_write_and_can_be_rolled_back() {
    both(|place| {
        place.import();
        let over = AtomicBool::new(false);
        let accepted = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut accepted = Vec::new();
                for number in 0.. {
                    let note = format!("note {number}");
                    if place.visit("site", &["add", &note]).is_ok() {
                        accepted.push(note);
                    }
                    if over.load(Ordering::SeqCst) {
                        return accepted;
                    }
                }
                accepted
            });
            let updated = place.sitefs(&["update", "site", "--platform", "two"]);
            over.store(true, Ordering::SeqCst);
            let accepted = writer.join().unwrap();
            assert_eq!(updated.0, 0, "{}{}{}", updated.1, updated.2, place.log());
            accepted
        });
        let notes = place.notes("site");
        let missing: Vec<&String> = accepted.iter().filter(|note| !notes.contains(note)).collect();
        assert!(missing.is_empty() && !accepted.is_empty(), "accepted and lost: {missing:?}");
        assert_eq!(place.visit("site", &["version"]).as_deref(), Ok("0"), "the new table is there");
        assert!(place.log().contains("made of the same dump"), "the rehearsal has no copy of its own");
        assert_eq!(place.databases().len(), 2, "the rehearsal's is gone: {:?}", place.databases());
        assert_eq!(place.problems(), Vec::<String>::new());
        // The old generation can be read and not written.
        let old = place.path("root/generations/site/1");
        assert!(place.visit_directory(&old, &["list"]).is_ok());
        wait_until("the old database is let go", || {
            place.visit_directory(&old, &["add", "too late"]).is_err()
        });
        place.done(&["rollback", "site"]);
        assert!(place.visit("site", &["version"]).is_err(), "the old schema is back");
        assert!(!place.notes("site").contains(&"too late".to_owned()));
        place.visit("site", &["add", "after the rollback"]).unwrap();
    });
}

#[test]
fn an_update_that_fails_leaves_nothing_behind() {
    both(|place| {
        place.import();
        for fail in ["fail-rehearse-update", "fail-update", "fail-check-checks", "fail-check-live-checks"] {
            let mark = place.path("platforms/two/web").join(fail);
            fs::write(&mark, "").unwrap();
            place.refused(&["update", "site", "--platform", "two"]);
            fs::remove_file(&mark).unwrap();
            assert_eq!(place.notes("site"), ["first"], "{fail}");
            assert!(place.visit("site", &["version"]).is_err(), "{fail}");
            wait_until("only the live database is left", || place.databases().len() == 1);
            assert_eq!(place.problems(), Vec::<String>::new(), "{fail}");
        }
        place.visit("site", &["add", "second"]).unwrap();
    });
}

#[test]
fn an_update_in_place_keeps_the_database_or_restores_it() {
    both(|place| {
        place.import();
        let update = ["update", "site", "--platform", "two", "--strategy", "in-place"];
        let own = place.databases();
        for fail in ["fail-update", "fail-check-checks", "fail-check-live-checks"] {
            let mark = place.path("platforms/two/web").join(fail);
            fs::write(&mark, "").unwrap();
            let (exit, _, stderr) = place.sitefs(&update);
            assert_eq!(exit, 4, "{fail}: {stderr}{}", place.log());
            fs::remove_file(&mark).unwrap();
            assert!(place.visit("site", &["version"]).is_err(), "{fail}: the old schema is back");
            place.visit("site", &["add", fail]).unwrap();
            wait_until("only the live database is left", || place.databases().len() == 1);
            assert_ne!(place.databases(), own, "{fail}: it was made from the snapshot");
            assert_eq!(place.problems(), Vec::<String>::new(), "{fail}");
        }
        let own = place.databases();
        let notes = place.notes("site");
        assert_eq!(notes, ["first", "fail-update", "fail-check-checks", "fail-check-live-checks"]);
        place.done(&update);
        assert_eq!(place.databases(), own, "no copy is left, and it is the same");
        assert_eq!(place.visit("site", &["version"]).as_deref(), Ok("0"), "the new table is there");
        place.visit("site", &["add", "on two"]).unwrap();
        assert_eq!(place.notes("site").len(), 5);
        // The database that was updated is not given to old code: the snapshot is, by whatever verb.
        let is_mariadb = place.server.url("notes").starts_with("mariadb");
        place.done(if is_mariadb {
            &["rollback", "site"][..]
        } else {
            &["cutover", "site", "--platform", "one"]
        });
        assert!(place.visit("site", &["version"]).is_err(), "the old schema is back");
        assert_eq!(place.notes("site"), notes);
        place.visit("site", &["add", "after the rollback"]).unwrap();
        assert_eq!(place.problems(), Vec::<String>::new());
    });
}

#[test]
fn an_update_in_place_that_is_killed_half_way_is_restored() {
    both(|place| {
        place.import();
        let update = ["update", "site", "--platform", "two", "--strategy", "in-place"];
        for verb in ["--abort", "--resume"] {
            let is_switched = || {
                fs::read_link(place.path("root/live/site"))
                    .is_ok_and(|to| to.to_string_lossy().contains("two"))
            };
            std::thread::scope(|scope| {
                let running = scope.spawn(|| place.sitefs(&update).0);
                wait_until("the pointer has moved", is_switched);
                place.kill();
                assert_ne!(running.join().unwrap(), 0);
            });
            place.serve();
            wait_until("the site is settled", || {
                !place.problems().iter().any(|one| one.contains("being made to take writes again"))
            });
            place.visit("site", &["add", verb]).unwrap();
            place.done(&["update", "site", verb]);
            wait_until("no more databases than generations are left", || place.databases().len() == 1);
            assert!(place.notes("site").contains(&verb.to_owned()));
            assert_eq!(place.problems(), Vec::<String>::new());
        }
        assert_eq!(place.visit("site", &["version"]).as_deref(), Ok("0"), "the new table is there");
    });
}

#[test]
fn the_database_of_a_read_only_site_takes_no_writes() {
    both(|place| {
        place.import();
        let closed = |when: &str| {
            assert!(place.visit("site", &["add", when]).is_err(), "{when}");
            assert_eq!(place.notes("site"), ["first"], "{when}");
        };
        place.done(&["readonly", "site", "on"]);
        closed("while it is read-only");
        place.kill();
        // As a crash in the middle of `readonly` leaves it.
        let own = place.databases().remove(0);
        place.server.sql(
            "",
            &if place.server.url("").starts_with("mariadb") {
                format!("GRANT ALL PRIVILEGES ON `{own}`.* TO `{own}`@localhost;")
            } else {
                format!("ALTER ROLE {own} RESET default_transaction_read_only;")
            },
        );
        place.serve();
        closed("after a crash");
        place.done(&["update", "site", "--platform", "two"]);
        closed("after an update");
        place.done(&["rollback", "site"]);
        closed("after a rollback");
        place.done(&["readonly", "site", "off"]);
        place.visit("site", &["add", "second"]).unwrap();

        // The daemon dies while it waits for a transaction that is under way, before the server was told.
        let (go_on, begun) = (place.path("go-on"), place.path("go-on.begun"));
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| place.visit("site", &["add-slowly", "third", go_on.to_str().unwrap()]));
            wait_until("a transaction is under way", || begun.exists());
            let closing = scope.spawn(|| place.sitefs(&["readonly", "site", "on"]).0);
            wait_until("the window is open", || place.path("root/windows/site/refuse").exists());
            place.kill();
            assert_ne!(closing.join().unwrap(), 0);
            place.serve();
            fs::write(&go_on, "").unwrap();
            assert!(slow.join().unwrap().is_err(), "it was refused, and told so");
        });
        assert_eq!(place.notes("site"), ["first", "second"]);
        assert!(place.visit("site", &["add", "fourth"]).is_err());
        place.done(&["readonly", "site", "off"]);
        place.visit("site", &["add", "fifth"]).unwrap();
        assert_eq!(place.notes("site"), ["first", "second", "fifth"]);
        assert_eq!(place.problems(), Vec::<String>::new());
    });
}

#[test]
fn what_a_crash_leaves_is_dropped_and_what_is_unknown_is_told() {
    both(|place| {
        place.import();
        let mark = place.databases()[0].split('_').next().unwrap().to_owned();
        place.server.sql("", &format!("CREATE DATABASE {mark}_999_stray;"));
        let problems = place.problems();
        assert!(
            problems.len() == 1 && problems[0].contains("belongs to nothing in this store"),
            "{problems:?}"
        );
        place.server.sql("", &format!("DROP DATABASE {mark}_999_stray;"));
        // In the middle of an update: its databases are there and no generation has them yet.
        std::thread::scope(|scope| {
            let update = scope.spawn(|| place.sitefs(&["update", "site", "--platform", "two"]).0);
            wait_until("a second database", || place.databases().len() > 1);
            place.kill();
            assert_ne!(update.join().unwrap(), 0);
        });
        place.serve();
        place.visit("site", &["add", "second"]).unwrap();
        let (_, _, _) = place.sitefs(&["update", "site", "--abort"]);
        wait_until("only the live database is left", || place.databases().len() == 1);
        assert_eq!(place.notes("site"), ["first", "second"]);
        assert_eq!(place.problems(), Vec::<String>::new());
    });
}

#[test]
fn what_stands_in_the_way_is_found_before_anything_begins() {
    both(|place| {
        let original = place.path("original");
        let import = |url: &str, recipe: &str| {
            place.refused(&[
                "site",
                "import",
                "site",
                original.to_str().unwrap(),
                "--platform",
                "one",
                "--database",
                url,
                "--app",
                recipe,
            ])
        };
        let url = place.server.url("notes");
        assert!(import(&url, "generic").contains("does not tell the application its database"));
        assert!(import(&place.server.url("nowhere"), "notes").contains("has no database nowhere"));
        let secret = import(&url.replace(":///", "://root:secret@localhost/"), "notes");
        assert!(secret.contains("every user of the machine can read"), "{secret}");
        assert!(place.databases().is_empty());
        place.import();
        // Programs that know less than the server.
        let dry_run = ["update", "site", "--platform", "two", "--dry-run"];
        fs::create_dir(place.path("programs")).unwrap();
        for (program, version) in [
            ("mariadb-dump", "mariadb-dump  Ver 10.19 Distrib 10.3.39-MariaDB, for Linux (x86_64)"),
            ("pg_dump", "pg_dump (PostgreSQL) 9.6.24"),
        ] {
            let program = place.path("programs").join(program);
            fs::write(&program, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let refusal = place.refused(&dry_run);
        assert!(refusal.contains("cannot be relied on to dump the server, whose version is 1"), "{refusal}");
        fs::remove_dir_all(place.path("programs")).unwrap();
        place.done(&dry_run);
        let lost = if url.starts_with("mariadb") {
            "REVOKE CREATE USER ON *.* FROM root@localhost;"
        } else {
            "CREATE ROLE other SUPERUSER LOGIN; SET ROLE other; ALTER ROLE postgres NOSUPERUSER;"
        };
        place.server.sql("", lost);
        let refusal = place.refused(&dry_run);
        assert!(refusal.contains("is not ready for an update") && refusal.contains("lacks"), "{refusal}");
        assert_eq!(place.notes("site"), ["first"]);
    });
}

#[test]
fn tables_without_transactions_are_of_the_same_moment_as_the_rest() {
    let place = Place::new(Server::mariadb());
    // In the order in which they are dumped: between the first and the last one, reading takes a while.
    place.server.sql(
        "notes",
        "CREATE TABLE aria (n INT) ENGINE=Aria; CREATE TABLE myisam (n INT) ENGINE=MyISAM; CREATE TABLE bulk AS SELECT seq, \
         REPEAT(MD5(seq), 20) AS text FROM seq_1_to_8000;",
    );
    place.import();
    let plan = place.done(&["update", "site", "--platform", "two", "--dry-run"]).to_string();
    assert!(plan.contains("tables aria, myisam have no transactions"), "{plan}");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writer = place.server.client(&place.databases()[0]).stdin(Stdio::piped()).spawn().unwrap();
        let mut statements = writer.stdin.take().unwrap();
        let over = &over;
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let next = "INSERT INTO note (text) VALUES ('x'); INSERT INTO aria VALUES (1); INSERT INTO myisam VALUES (1);\n";
                statements.write_all(next.as_bytes()).unwrap();
            }
            drop(statements);
            writer.wait().unwrap();
        });
        let mut seen = Vec::new();
        for tag in ["one", "two", "three"] {
            place.done(&["snapshot", "site", "--tag", tag]);
            let verified = place.done(&["database", "verify", &format!("site@{tag}")]);
            assert_eq!(verified["problems"].as_array().unwrap().len(), 0, "{verified}");
            let tables = verified["tables"].as_array().unwrap();
            let rows = |name: &str| {
                tables.iter().find(|table| table["table"] == name).unwrap()["rows"].as_u64().unwrap()
            };
            seen.push((rows("note") - 1, rows("aria"), rows("myisam")));
        }
        over.store(true, Ordering::SeqCst);
        let is_one_moment = |(first, second, third): &(u64, u64, u64)| {
            first >= second && second >= third && first - third <= 1
        };
        assert!(seen.iter().all(is_one_moment) && seen[0].0 < seen[2].0, "{seen:?}");
    });
}
