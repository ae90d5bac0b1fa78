//! Servers that are elsewhere, full, or changed under one's hands.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sitefs::database::ServerUrl;

use crate::contract::own;
use crate::machines::{Server, Setup, free_port, said};

/// A table that takes a while to read, and one that comes behind it.
const MARIADB: &str = "CREATE DATABASE shop; USE shop; CREATE TABLE bulk AS SELECT seq AS x, REPEAT(MD5(seq), 5) AS t FROM \
     seq_1_to_20000; CREATE TABLE nothing (x INT, y INT);";

const POSTGRESQL: &str = "CREATE DATABASE shop;
\\connect shop
CREATE TABLE bulk AS SELECT x, repeat(md5(x::text), 5) AS t FROM generate_series(1, 20000) x;
CREATE TABLE nothing (x INT, y INT);";

fn both_with(setup: Setup, test: impl Fn(&Server, bool) + Sync) {
    Server::both(setup, MARIADB, POSTGRESQL, |server| test(&server, server.url("").starts_with("mariadb")));
}

/// A file with an administrator's password, as the engine has such.
fn password_file(directory: &Path, is_mariadb: bool, password: &str) -> PathBuf {
    let path = directory.join("password");
    let text =
        if is_mariadb { format!("[client]\npassword={password}\n") } else { format!("*:*:*:*:{password}\n") };
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_server_is_reached_over_tcp_by_its_administrator_and_by_applications() {
    both_with(Setup { listens: true, ..Setup::default() }, |server, is_mariadb| {
        let directory = tempfile::tempdir().unwrap();
        let options = password_file(directory.path(), is_mariadb, "right");
        let source = server.tcp_url("shop", "dba", &options);
        let examine = |url: &ServerUrl| url.examine().unwrap_err().to_string();
        let stranger = examine(&source);
        assert!(stranger.contains("Name the administrator"), "{stranger}");
        // Whoever may do everything himself may not make an account for an application.
        if is_mariadb {
            server.sql(
                "",
                "CREATE USER dba@'127.0.0.1' IDENTIFIED BY 'right'; GRANT ALL ON *.* TO dba@'127.0.0.1';",
            );
            let weak = examine(&source);
            assert!(weak.contains("dba on mariadb") && weak.contains("lacks GRANT OPTION:"), "{weak}");
            server.sql("", "GRANT ALL ON *.* TO dba@'127.0.0.1' WITH GRANT OPTION; REVOKE DELETE HISTORY ON *.* FROM dba@'127.0.0.1';");
            let weak = examine(&source);
            assert!(weak.contains("lacks DELETE HISTORY:"), "{weak}");
            server.sql("", "GRANT ALL ON *.* TO dba@'127.0.0.1' WITH GRANT OPTION;");
        } else {
            server.sql("", "CREATE ROLE dba LOGIN CREATEDB CREATEROLE PASSWORD 'right';");
            let weak = examine(&source);
            assert!(weak.contains("lacks SUPERUSER"), "{weak}");
            server.sql("", "ALTER ROLE dba SUPERUSER;");
        }
        source.examine().unwrap();
        let copy = own(&source, "sf_far");
        copy.create().unwrap();
        let loaded = copy.load(&mut source.dump().unwrap()).unwrap();
        assert_eq!(loaded, copy.at.summary().unwrap());
        let hold = copy.at.hold(Duration::from_secs(20), Duration::from_secs(60)).unwrap();
        let application = || server.application_by_tcp("sf_far", &copy.user, copy.password.reveal());
        assert_eq!(said(application(), "SELECT count(*) FROM bulk;").as_deref(), Ok("20000"));
        hold.release().unwrap();
        said(application(), "INSERT INTO nothing VALUES (1, 2);").unwrap();
        copy.drop().unwrap();

        password_file(directory.path(), is_mariadb, "wrong");
        let wrong = examine(&source);
        assert!(wrong.contains("Name the administrator") && !wrong.contains("wrong\n"), "{wrong}");
        let mut nobody = source.clone();
        nobody.server.port = Some(free_port());
        let unreachable = examine(&nobody);
        assert!(unreachable.contains("Is the server running"), "{unreachable}");
    });
}

#[test]
fn a_disk_without_space_for_copies_is_found_before() {
    both_with(Setup { disk_mib: Some(500), ..Setup::default() }, |server, _| {
        let source = server.at("shop");
        let size_bytes = source.examine().unwrap().size_bytes;
        let space = rustix::fs::statvfs(server.directory()).unwrap();
        let filler = server.directory().join("filler");
        // What is left is enough for one copy, and an update has two.
        let bytes = (space.f_bavail * space.f_frsize - size_bytes * 3 / 2).to_string();
        let filled = Command::new("fallocate").args(["-l", &bytes]).arg(&filler).status().unwrap();
        assert!(filled.success());
        let full = source.examine().unwrap_err().to_string();
        assert!(full.contains("MiB left, and copies of the database may take"), "{full}");
        fs::remove_file(&filler).unwrap();
        source.examine().unwrap();
    });
}

/// Each change is of a table that the dump has not come to yet.
#[test]
fn a_table_that_is_changed_while_it_is_dumped_waits_or_ends_the_dump() {
    both_with(Setup::default(), |server, is_mariadb| {
        let source = server.at("shop");
        let changes = [
            "ALTER TABLE nothing ADD COLUMN more INT",
            "ALTER TABLE nothing DROP COLUMN y",
            "CREATE INDEX fast ON nothing (x)",
            "TRUNCATE TABLE nothing",
            "ALTER TABLE nothing RENAME TO something",
            "DROP TABLE nothing",
        ];
        // PostgreSQL lets none of them in, for one reason.
        for change in &changes[..if is_mariadb { changes.len() } else { 1 }] {
            let clean = "DROP TABLE IF EXISTS nothing, something;";
            server.sql(
                "shop",
                &format!("{clean} CREATE TABLE nothing (x INT, y INT); INSERT INTO nothing VALUES (1, 2);"),
            );
            let before = (!is_mariadb).then(|| source.summary().unwrap());
            let mut dump = source.dump().unwrap();
            std::thread::scope(|scope| {
                let changing = scope.spawn(|| server.sql("shop", &format!("{change};")));
                if is_mariadb {
                    changing.join().unwrap();
                    std::io::copy(&mut dump, &mut std::io::sink()).unwrap();
                    let refused = dump.finish().map_err(|error| error.to_string());
                    let refused = refused.expect_err(change);
                    assert!(refused.contains("was changed"), "{change}: {refused}");
                } else {
                    std::io::copy(&mut dump, &mut std::io::sink()).unwrap();
                    assert_eq!(dump.finish().ok(), before, "{change}");
                }
            });
        }
        // One that is made meanwhile changes nothing of what is dumped.
        let before = source.summary().unwrap();
        let mut dump = source.dump().unwrap();
        server.sql("shop", "CREATE TABLE zz (x INT); INSERT INTO zz VALUES (1);");
        std::io::copy(&mut dump, &mut std::io::sink()).unwrap();
        assert_eq!(dump.finish().unwrap(), before);
    });
}

#[test]
fn a_dump_of_a_newer_server_is_refused() {
    both_with(Setup::default(), |server, is_mariadb| {
        let mut text = Vec::new();
        server.at("shop").dump().unwrap().read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mark = if is_mariadb { "-- Server version" } else { "-- Dumped from database version" };
        let line = text.lines().find(|line| line.starts_with(mark)).expect("the server's program says so");
        let newer = text.replace(line, &format!("{mark} 99.1-MariaDB"));
        let copy = own(&server.at("shop"), "sf_newer");
        copy.create().unwrap();
        let refused = copy.load(&mut newer.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains("version 99.1-MariaDB, which is newer"), "{refused}");
        copy.create().unwrap();
        copy.load(&mut text.as_bytes()).unwrap();
        copy.drop().unwrap();
    });
}

#[test]
fn what_tables_once_held_is_copied_too_or_refused() {
    let server = Server::mariadb();
    let make = "CREATE DATABASE shop; USE shop;
        CREATE TABLE price (id INT PRIMARY KEY, euro INT) WITH SYSTEM VERSIONING;
        CREATE TABLE named (id INT PRIMARY KEY, since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, until TIMESTAMP(6)
          GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (since, until)) WITH SYSTEM VERSIONING;
        INSERT INTO price VALUES (1, 10), (2, 20); INSERT INTO named (id) VALUES (1);
        UPDATE price SET euro = 11 WHERE id = 1; DELETE FROM price WHERE id = 2; DELETE FROM named;";
    server.sql("", make);
    let source = server.at("shop");
    source.examine().unwrap();
    let copy = own(&source, "sf_history");
    copy.create().unwrap();
    let loaded = copy.load(&mut source.dump().unwrap()).unwrap();
    assert_eq!(loaded, copy.at.summary().unwrap());
    let all = "SELECT *, row_start, row_end FROM price FOR SYSTEM_TIME ALL ORDER BY id, row_end; SELECT * FROM named FOR \
         SYSTEM_TIME ALL;";
    let kept = server.sql("sf_history", all);
    assert_eq!(kept, server.sql("shop", all));
    assert_eq!(kept.lines().count(), 4, "{kept}");
    let application = server.application("sf_history", &copy.user, copy.password.reveal());
    said(application, "UPDATE price SET euro = 12;").unwrap();
    assert_eq!(server.sql("sf_history", all).lines().count(), 5, "it goes on");
    copy.drop().unwrap();

    let by_transactions = "CREATE TABLE ledger (id INT PRIMARY KEY, since BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, \
         until BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (since, until)) WITH SYSTEM VERSIONING;";
    server.sql("shop", by_transactions);
    let refused = source.examine().unwrap_err().to_string();
    assert!(refused.contains("the history of ledger cannot be dumped"), "{refused}");
    assert!(source.dump().is_err());
}

#[test]
fn views_that_cannot_be_read_are_found_before() {
    let server = Server::mariadb();
    let make = "CREATE DATABASE shop; USE shop; CREATE TABLE price (id INT PRIMARY KEY, euro INT);
        CREATE TABLE rate (id INT); CREATE USER gone@localhost; GRANT SELECT ON shop.* TO gone@localhost;
        CREATE VIEW sound AS SELECT id FROM price;
        CREATE DEFINER=gone@localhost VIEW orphan AS SELECT euro FROM price;
        CREATE VIEW broken AS SELECT id FROM rate;";
    server.sql("", make);
    let source = server.at("shop");
    source.examine().unwrap();
    server.sql("shop", "DROP USER gone@localhost;");
    let refused = source.examine().unwrap_err().to_string();
    assert!(refused.contains("views shop.orphan cannot be read"), "{refused}");
    server.sql("shop", "DROP TABLE rate;");
    let refused = source.examine().unwrap_err().to_string();
    assert!(refused.contains("views shop.broken, shop.orphan cannot be read"), "{refused}");
    server.sql("shop", "DROP VIEW orphan, broken;");
    source.examine().unwrap();
}
