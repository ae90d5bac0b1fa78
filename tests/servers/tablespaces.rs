//! Large tables of MariaDB, copied as files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use sitefs::database::{CopiedAsFiles, ServerDump, Summary};

use crate::contract::own;
use crate::machines::{Server, Setup, wait_until};
use crate::place::Place;

const WAIT: Duration = Duration::from_secs(20);

/// Each large table but the last four is one that a file can be made of; so are neither views nor triggers lost on the way.
const SHOP: &str = "
CREATE DATABASE shop; USE shop;
CREATE TABLE kind (id INT PRIMARY KEY, name TEXT);
INSERT INTO kind SELECT seq, MD5(seq) FROM seq_1_to_100;
CREATE TABLE node (id INT PRIMARY KEY AUTO_INCREMENT, kind INT, title VARCHAR(100), body TEXT, KEY (title),
  FOREIGN KEY (kind) REFERENCES kind (id));
INSERT INTO node (kind, title, body) SELECT 1 + seq % 100, MD5(seq), REPEAT(MD5(seq), 20) FROM seq_1_to_9000;
ALTER TABLE node ADD COLUMN added INT NOT NULL DEFAULT 7 FIRST, ALGORITHM=INSTANT;
INSERT INTO node (kind, title, body, added) VALUES (1, 'last', 'it''s \\\\ (quoted);', 8);
CREATE TABLE revision (id INT PRIMARY KEY, node INT, data LONGBLOB, FOREIGN KEY (node) REFERENCES node (id)) ROW_FORMAT=COMPACT MAX_ROWS=1000000;
INSERT INTO revision SELECT seq, seq, REPEAT(UNHEX(SHA2(seq, 512)), 10) FROM seq_1_to_9000;
CREATE TABLE words (id INT PRIMARY KEY, text TEXT, FULLTEXT (text));
CREATE TABLE generated (id INT PRIMARY KEY, text TEXT, size INT AS (LENGTH(text)) VIRTUAL);
CREATE TABLE parted (id INT PRIMARY KEY, text TEXT) PARTITION BY HASH (id) PARTITIONS 2;
CREATE TABLE `na-me` (id INT PRIMARY KEY, text TEXT);
INSERT INTO words SELECT seq, REPEAT(MD5(seq), 20) FROM seq_1_to_9000;
INSERT INTO generated (id, text) SELECT id, text FROM words;
INSERT INTO parted SELECT id, text FROM words;
INSERT INTO `na-me` SELECT id, text FROM words;
CREATE VIEW titles AS SELECT title FROM node;
CREATE TABLE seen (x INT);
CREATE TRIGGER note AFTER INSERT ON node FOR EACH ROW INSERT INTO seen VALUES (NEW.id);
";

fn shop() -> Server {
    Server::mariadb_with(Setup { content: SHOP, ..Setup::default() })
}

#[test]
fn a_copy_whose_large_tables_came_as_files_holds_the_same() {
    let server = shop();
    let source = server.at("shop");
    let large = source.large_tables().unwrap().expect("there are some");
    assert_eq!(large.extent().0, 2);
    let CopiedAsFiles::Tables { count: 2, bytes } = source.copied_as_files().unwrap() else {
        panic!("two tables")
    };
    assert_eq!(bytes, large.extent().1);
    assert!(
        large.share() > 0.2 && large.share() < 0.8,
        "half of the rows are in other tables: {}",
        large.share()
    );
    let copy = own(&source, "sf_copy");
    let tables = copy.expect(large).unwrap().expect("the server's directory is here");
    let hold = source.hold(WAIT, WAIT * 10).unwrap();
    let (dump, moment) = (source.dump().unwrap(), tables.keep_moment().unwrap());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| server.sql("shop", "INSERT INTO node (title) VALUES ('too late');"));
        let waits =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO node%';";
        wait_until("the writer waits", || server.sql("", waits) == "1");
        tables.fetch(WAIT).unwrap();
        assert_eq!(server.sql("shop", "SELECT COUNT(*) FROM node;"), "9001");
        assert!(!writer.is_finished());
        hold.release().unwrap();
        writer.join().unwrap();
    });
    let rest = tables.load_and_compare(moment, tempfile::tempfile().unwrap()).unwrap();
    assert_eq!((rest.tables["node"].rows, rest.tables["words"].rows), (0, 9000));
    let copied = copy.at.summary().unwrap();
    assert_eq!(copied, whole(dump));
    assert_eq!((copied.tables["node"].rows, copied.tables["words"].rows), (9001, 9000));
    assert_eq!(source.summary().unwrap().tables["node"].rows, 9002);
    let copied = "CHECK TABLE node, revision EXTENDED;";
    assert_eq!(server.sql("sf_copy", copied).matches("status\tOK").count(), 2);
    server.sql("sf_copy", "INSERT INTO node (title) VALUES ('mine');");
    assert_eq!(
        server.sql("sf_copy", "SELECT MAX(x) - MAX(id) FROM seen, node;"),
        "0",
        "the trigger is there"
    );
    let orphan = "INSERT INTO revision VALUES (90000, 90000, '');";
    assert!(!server.client("sf_copy").args(["-e", orphan]).output().unwrap().status.success());
    let left = std::fs::read_dir(server.directory().join("data/sf_copy")).unwrap();
    assert!(left.flatten().all(|file| !file.file_name().to_string_lossy().ends_with(".cfg")));
    copy.drop().unwrap();
}

/// What is in a dump.
fn whole(mut dump: ServerDump) -> Summary {
    std::io::copy(&mut dump, &mut std::io::sink()).unwrap();
    dump.finish().unwrap()
}

#[test]
fn a_copy_of_another_moment_than_that_of_its_source_is_refused() {
    let server = shop();
    let source = server.at("shop");
    let copy = own(&source, "sf_copy");
    let tables = copy.expect(source.large_tables().unwrap().unwrap()).unwrap().unwrap();
    let moment = tables.keep_moment().unwrap();
    server.sql("shop", "UPDATE node SET title = 'another' WHERE id = 4711;");
    tables.fetch(WAIT).unwrap();
    let refused = tables.load_and_compare(moment, tempfile::tempfile().unwrap()).unwrap_err().to_string();
    assert!(refused.contains("table node: another checksum"), "{refused}");
    assert!(!refused.contains("revision"), "{refused}");
    copy.drop().unwrap();
}

#[test]
fn a_copy_is_not_made_of_files_that_do_not_fit_and_nothing_of_it_stays() {
    let server = shop();
    let source = server.at("shop");
    let copy = own(&source, "sf_copy");
    let tables = copy.expect(source.large_tables().unwrap().unwrap()).unwrap().unwrap();
    server.sql("shop", "ALTER TABLE node DROP COLUMN body, ALGORITHM=COPY;");
    let moment = tables.keep_moment().unwrap();
    tables.fetch(WAIT).unwrap();
    let refused = tables.load_and_compare(moment, tempfile::tempfile().unwrap()).unwrap_err().to_string();
    assert!(refused.contains("node") || refused.contains("chema"), "{refused}");
    copy.drop().unwrap();
    assert!(!server.directory().join("data/sf_copy").exists());

    // Files that were put there and not taken in are as little in the way.
    let tables = copy.expect(source.large_tables().unwrap().unwrap()).unwrap().unwrap();
    tables.fetch(WAIT).unwrap();
    copy.drop().unwrap();
    assert!(!server.directory().join("data/sf_copy").exists());

    // Somebody else's lock is not waited for longer than asked.
    let tables = copy.expect(source.large_tables().unwrap().unwrap()).unwrap().unwrap();
    let mut writer = server.client("shop");
    let locked = "LOCK TABLES revision WRITE; SELECT SLEEP(30);";
    let mut writer = writer.args(["-e", locked]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let is_locked = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%';";
    wait_until("the lock is there", || server.sql("", is_locked) == "1");
    assert!(tables.fetch(Duration::from_secs(1)).is_err());
    writer.kill().unwrap();
    writer.wait().unwrap();

    server.sql("", "SET GLOBAL innodb_file_per_table = OFF;");
    assert!(source.large_tables().unwrap().is_none());
    let CopiedAsFiles::Nothing(reason) = source.copied_as_files().unwrap() else {
        panic!("the setting is against it")
    };
    assert!(reason.contains("innodb_file_per_table=OFF"), "{reason}");
}

#[test]
fn an_update_copies_large_tables_as_files_while_writes_are_held() {
    let place = Place::new(Server::mariadb());
    let fill = "INSERT INTO note (text) SELECT REPEAT(MD5(seq), 10) FROM seq_1_to_20000;";
    place.server.sql("notes", fill);
    place.import();
    let plan = place.done(&["update", "site", "--platform", "two", "--dry-run"]).to_string();
    assert!(plan.contains("1 large table is copied as files"), "{plan}");
    let over = AtomicBool::new(false);
    let accepted = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut accepted = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let note = format!("note {}", accepted.len());
                if place.visit("site", &["add", &note]).is_ok() {
                    accepted.push(note);
                }
            }
            accepted
        });
        let updated = place.sitefs(&["update", "site", "--platform", "two"]);
        over.store(true, Ordering::SeqCst);
        assert_eq!(updated.0, 0, "{}{}{}", updated.1, updated.2, place.log());
        assert!(!updated.2.contains("not copied as files"), "{}", updated.2);
        writer.join().unwrap()
    });
    assert!(place.log().contains("got 1 tables of"), "{}", place.log());
    // The dump that went on beside the update is a whole one, of what was held.
    let log = place.done(&["log", "site"]);
    let is_frozen = |snapshot: &&Value| {
        snapshot["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("what the update to two began with"))
    };
    let frozen = log["snapshots"].as_array().unwrap().iter().find(is_frozen).expect("it is in the log");
    assert!(frozen["database"]["rows"].as_u64().unwrap() > 20000, "{frozen}");
    let of = format!("site@{}", frozen["id"].as_str().unwrap());
    let verified = place.done(&["database", "verify", &of]);
    assert_eq!(verified["problems"], serde_json::json!([]), "{verified}");
    let live = place.done(&["site", "show", "site"]);
    assert!(
        live.to_string().contains(frozen["id"].as_str().unwrap()),
        "the generation was made of it: {live}"
    );
    let notes = place.notes("site");
    let missing: Vec<&String> = accepted.iter().filter(|note| !notes.contains(note)).collect();
    assert!(missing.is_empty() && !accepted.is_empty(), "accepted and lost: {missing:?}");
    assert!(notes.len() > 20000);
    assert_eq!(place.visit("site", &["version"]).as_deref(), Ok("0"), "the new table is there");
    place.done(&["rollback", "site"]);
    assert!(place.visit("site", &["version"]).is_err(), "the old schema is back");
    wait_until("the rehearsal's database is gone", || place.databases().len() == 2);
    assert_eq!(place.problems(), Vec::<String>::new());
    place.done(&["cutover", "site", "--to", "site@live", "--platform", "two"]);
    assert_eq!(place.log().matches("got 1 tables of").count(), 2);
    assert_eq!(place.notes("site").len(), notes.len());
    place.done(&["rollback", "site"]);

    // So does a clone, which is of one moment too, and whose origin is free again when it is there.
    place.done(&["clone", "site", "copy"]);
    assert_eq!(place.log().matches("got 1 tables of").count(), 3);
    assert_eq!(place.notes("copy"), place.notes("site"));
    place.visit("copy", &["add", "only in the copy"]).unwrap();
    assert_eq!(place.notes("site").len(), notes.len());
    place.done(&["site", "remove", "copy"]);

    // As files they cannot come now; so they come as rows, and whoever runs the update is told before.
    place.server.sql("", "SET GLOBAL innodb_file_per_table = OFF;");
    let plan = place.done(&["update", "site", "--platform", "two", "--dry-run"]).to_string();
    assert!(plan.contains("innodb_file_per_table=OFF"), "{plan}");
    place.done(&["update", "site", "--platform", "two"]);
    assert_eq!(place.log().matches("got 1 tables of").count(), 3);
    assert_eq!(place.notes("site").len(), notes.len());
}
