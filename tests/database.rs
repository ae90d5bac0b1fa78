//! Databases with real processes: writers that compete for locks and are killed, workers that run as the owner.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "common/bank.rs"]
mod bank;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bank::{BALANCE, PATIENCE, connection_of_child, ready, start};
use rusqlite::Connection;
use sitefs::base::accounts::User;
use sitefs::base::process::{Command, Ending};
use sitefs::database::worker::{VERB, Worker};
use sitefs::database::{
    Database, DatabaseError, DatabaseUrl, Difference, Problem, Summary, open_dump, try_dump,
};

struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        Site { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn database(&self, name: &str) -> Database {
        self.database_by(name, Worker::with_program(env!("CARGO_BIN_EXE_sitefs").into()))
    }

    fn database_by(&self, name: &str, worker: Worker) -> Database {
        Database::new(&url(name), self.directory.path(), worker).wait(PATIENCE)
    }

    /// Makes a bank: accounts of which every committed state has the same sum, and a ledger of transfers.
    fn bank(&self, name: &str, journal: &str) -> Database {
        bank::make(&self.path(name), journal);
        self.database(name)
    }
}

fn url(name: &str) -> DatabaseUrl {
    format!("sqlite:{name}").parse().unwrap()
}

#[test]
#[ignore = "a process of other tests: transfers for ever"]
fn child_that_writes() {
    bank::write_for_ever();
}

#[test]
#[ignore = "a process of other tests: stays in the middle of a transaction"]
fn child_that_stays_in_a_transaction() {
    let connection = connection_of_child();
    connection
        .execute_batch("BEGIN IMMEDIATE; UPDATE account SET balance = 0, filler = randomblob(500)")
        .unwrap();
    ready();
    std::thread::sleep(PATIENCE);
}

#[test]
#[ignore = "a process of other tests: holds writes as the daemon does"]
fn child_that_holds() {
    let path = PathBuf::from(std::env::var_os("TEST_DATABASE").unwrap());
    let worker = Worker::with_program(env!("CARGO_BIN_EXE_sitefs").into());
    let name = path.file_name().unwrap().to_str().unwrap();
    let _hold = Database::new(&url(name), path.parent().unwrap(), worker).hold(PATIENCE).unwrap();
    ready();
    std::thread::sleep(PATIENCE);
}

/// Copies the bytes of a database's files, as freezing the site's files does. By another process: were this one to
/// close them, it would lose its locks on them.
fn capture(database: &Path, into: &Site) {
    for suffix in ["", "-journal", "-wal"] {
        let mut from = database.as_os_str().to_owned();
        from.push(suffix);
        if Path::new(&from).exists() {
            Command::new("cp")
                .arguments([&from, into.directory.path().as_os_str()])
                .run()
                .unwrap()
                .success()
                .unwrap();
        }
    }
}

/// The captured database is sound, holds a committed state, and is what `expected` says, however it is opened.
fn assert_captured(captured: &Site, name: &str, expected: &Summary, what: &str) {
    let frozen = captured.database(name).frozen().verify().unwrap();
    assert_eq!(frozen.findings, Vec::<String>::new(), "{what}");
    assert_eq!(Difference::between(expected, &frozen.summary), Difference::default(), "{what}");
    let connection = Connection::open(captured.path(name)).unwrap();
    assert_eq!(bank::balance(&connection).unwrap(), BALANCE, "{what}");
    drop(connection);
    assert_eq!(captured.database(name).summary().unwrap(), *expected, "{what}");
}

fn captures_committed_states(journal: &str, rounds: u32) {
    let site = Site::new();
    let database = site.bank("db", journal);
    let path = site.path("db");
    let _writers = [start("child_that_writes", &path, journal), start("child_that_writes", &path, journal)];
    let mut states = std::collections::BTreeSet::new();
    for round in 0..rounds {
        let what = format!("{journal}, round {round}");
        let mut hold = database.hold(PATIENCE).unwrap();
        assert_eq!(hold.descriptions()[0].journal_mode == "wal", journal == "WAL");
        let captured = Site::new();
        capture(&path, &captured);
        let expected = if round % 2 == 0 {
            let summary = hold.summary().unwrap();
            // As late as can be: nothing has changed meanwhile.
            capture(&path, &captured);
            hold.release().unwrap();
            summary
        } else {
            hold.release_with_summary(|| ()).unwrap()
        };
        assert_captured(&captured, "db", &expected, &what);
        states.insert(expected.tables["account"].checksum);
    }
    assert!(states.len() > 1, "{journal}: nobody wrote between the rounds");
}

#[test]
fn what_is_captured_under_a_hold_is_committed_delete() {
    captures_committed_states("DELETE", 12);
}

#[test]
fn what_is_captured_under_a_hold_is_committed_truncate() {
    captures_committed_states("TRUNCATE", 12);
}

#[test]
fn what_is_captured_under_a_hold_is_committed_persist() {
    captures_committed_states("PERSIST", 12);
}

#[test]
fn what_is_captured_under_a_hold_is_committed_memory() {
    captures_committed_states("MEMORY", 12);
}

#[test]
fn what_is_captured_under_a_hold_is_committed_wal() {
    captures_committed_states("WAL", 12);
}

#[test]
fn the_transaction_of_a_killed_writer_is_rolled_back_by_the_hold() {
    for journal in ["DELETE", "TRUNCATE", "PERSIST", "WAL"] {
        let site = Site::new();
        let database = site.bank("db", journal);
        let before = database.summary().unwrap();
        drop(start("child_that_stays_in_a_transaction", &site.path("db"), journal));
        let left = site.path(if journal == "WAL" { "db-wal" } else { "db-journal" });
        assert!(fs::metadata(&left).unwrap().len() > 0, "{journal}: the writer left no journal");
        let naive = Site::new();
        fs::copy(site.path("db"), naive.path("db")).unwrap();
        if journal != "WAL" {
            let torn = Connection::open(naive.path("db")).unwrap();
            assert_ne!(
                bank::balance(&torn).ok(),
                Some(BALANCE),
                "{journal}: a copy without the hold should be torn"
            );
        }
        let hold = database.hold(PATIENCE).unwrap();
        let captured = Site::new();
        capture(&site.path("db"), &captured);
        hold.release().unwrap();
        assert_captured(&captured, "db", &before, journal);
    }
}

/// One write that does not wait.
fn write_once(path: &Path) -> rusqlite::Result<usize> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.execute("INSERT INTO ledger VALUES (1, 'x')", [])
}

#[test]
fn a_hold_stops_writers_alone_and_ends_with_who_holds() {
    for journal in ["DELETE", "WAL"] {
        let site = Site::new();
        let database = site.bank("db", journal);
        let path = site.path("db");
        let reader = Connection::open(&path).unwrap();
        let mut hold = database.hold(PATIENCE).unwrap();
        assert!(write_once(&path).is_err(), "{journal}");
        assert_eq!(bank::balance(&reader).unwrap(), BALANCE);
        hold.check().unwrap();
        hold.release().unwrap();
        write_once(&path).unwrap();
        drop(database.hold(PATIENCE).unwrap());
        write_once(&path).unwrap();
        let before = database.summary().unwrap();
        let mut released = false;
        let held = database.hold(PATIENCE).unwrap();
        let summary = held.release_with_summary(|| {
            released = true;
            // With a log, writers go on before the summary is made, which is of the state before.
            assert_eq!(write_once(&path).is_ok(), journal == "WAL");
        });
        assert!(released);
        assert_eq!(summary.unwrap(), before);
        // A daemon that is killed holds no longer.
        let daemon = start("child_that_holds", &path, journal);
        assert!(write_once(&path).is_err());
        let id = daemon.id().to_string();
        Command::new("kill").arguments(["-9", &id]).run().unwrap().success().unwrap();
        let freed = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            write_once(&path).is_ok()
        });
        assert!(freed, "{journal}: the lock outlived who held it");
    }
}

#[test]
fn a_hold_ends_when_its_time_is_up_and_says_so() {
    let site = Site::new();
    let database = site.bank("db", "DELETE");
    let hold = database.hold(Duration::from_millis(50)).unwrap();
    let freed = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        write_once(&site.path("db")).is_ok()
    });
    assert!(freed);
    let error = hold.release().unwrap_err();
    assert!(matches!(error, DatabaseError::HoldExpired { .. }), "{error}");
}

#[test]
fn additional_databases_are_held_too_and_may_be_missing() {
    let site = Site::new();
    site.bank("db", "DELETE");
    site.bank("jobs", "WAL");
    std::os::unix::fs::symlink(site.path("db"), site.path("again")).unwrap();
    let additional = ["jobs", "missing", "db", "again"].map(url);
    let database = site.database("db").with_additional(&additional, site.directory.path());
    let hold = database.hold(PATIENCE).unwrap();
    let held: Vec<_> = hold.descriptions().iter().map(|held| held.path.clone()).collect();
    assert_eq!(held, [site.path("db").canonicalize().unwrap(), site.path("jobs").canonicalize().unwrap()]);
    assert!(write_once(&site.path("jobs")).is_err() && write_once(&site.path("db")).is_err());
    hold.release().unwrap();
    write_once(&site.path("jobs")).unwrap();
}

#[test]
fn who_holds_a_lock_for_too_long_is_named() {
    let site = Site::new();
    let database = site.bank("db", "DELETE").wait(Duration::from_millis(1200));
    let other = start("child_that_stays_in_a_transaction", &site.path("db"), "DELETE");
    let error = database.hold(PATIENCE).err().unwrap();
    assert!(
        matches!(&error, DatabaseError::Problem(Problem::Locked { waited_ms: 1..=1200, .. })),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {} (", other.id())) && text.contains("for more than 1 s"),
        "{text}"
    );
}

#[test]
fn dumps_restores_and_clones_through_processes() {
    let site = Site::new();
    let database = site.bank("db", "WAL");
    let expected = database.summary().unwrap();
    let dump = fs::File::create(site.path("dump.sql")).unwrap();
    assert_eq!(database.dump(dump).unwrap(), expected);
    let worker = Worker::with_program(env!("CARGO_BIN_EXE_sitefs").into());
    assert_eq!(try_dump(open_dump(&site.path("dump.sql")).unwrap(), &worker).unwrap(), expected);
    let restored = site.database("restored");
    assert_eq!(restored.restore(open_dump(&site.path("dump.sql")).unwrap()).unwrap(), expected);
    assert_eq!(restored.verify().unwrap().summary, expected);
    let clone = site.database("clone");
    assert_eq!(database.clone_to(&clone).unwrap(), expected);
    assert_eq!(clone.summary().unwrap(), expected);
    assert!(clone.describe().unwrap().size_bytes >= 500_000);

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = database.dump(full).unwrap_err().to_string();
    assert!(error.contains("cannot write the dump") && error.contains("No space left"), "{error}");
    let error = site.database("missing").describe().unwrap_err();
    assert!(matches!(error, DatabaseError::Problem(Problem::Missing { .. })), "{error}");
    let in_use = Connection::open(site.path("db")).unwrap();
    in_use.execute_batch("INSERT INTO ledger VALUES (1, 'x')").unwrap();
    let error = open_dump(&site.path("db")).unwrap_err().to_string();
    assert!(error.contains("db-wal lies beside it"), "{error}");
}

#[test]
fn the_worker_refuses_what_it_does_not_know() {
    for request in ["", "{}", r#"{"protocol":0,"request":{"dump":{"path":"x","frozen":false,"wait_ms":1}}}"#]
    {
        let outcome = Command::new(env!("CARGO_BIN_EXE_sitefs")).arguments([VERB, request]).run().unwrap();
        assert_eq!(outcome.ending, Ending::Exited(2), "{request}");
        assert!(outcome.errors.text().contains("restart the daemon"));
    }
    let error = Database::new(&url("x"), Path::new("/"), Worker::with_program("/bin/true".into())).summary();
    assert!(matches!(error.unwrap_err(), DatabaseError::Protocol(_)));
}

/// A site of another user, with a copy of the program that this user cannot reach. `None` without the right to make
/// one.
fn site_of(user: &User) -> Option<(Site, Worker)> {
    if User::current().unwrap().uid != 0 {
        return None;
    }
    let site = Site::new();
    fs::set_permissions(site.directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(site.path("private")).unwrap();
    fs::set_permissions(site.path("private"), Permissions::from_mode(0o700)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_sitefs"), site.path("private/sitefs")).unwrap();
    fs::create_dir(site.path("data")).unwrap();
    chown(site.path("data"), Some(user.uid), Some(user.gid)).unwrap();
    let worker = Worker::with_program(site.path("private/sitefs"));
    Some((site, worker))
}

#[test]
fn journals_belong_to_the_owner_of_the_database() {
    let nobody = User::by_name("nobody").unwrap();
    // A group that is not the user's own, as when the web server's group is given to a site's files.
    let group = nobody.gid + 1;
    let Some((site, worker)) = site_of(&nobody) else { return };
    let owned_by_site = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o777),
            (nobody.uid, group, 0o660),
            "{}",
            path.display()
        );
    };
    for (name, worker) in [("data/a", worker.clone()), ("data/b", worker.as_owner(nobody.uid, group))] {
        site.bank(name, "WAL");
        chown(site.path(name), Some(nobody.uid), Some(group)).unwrap();
        fs::set_permissions(site.path(name), Permissions::from_mode(0o660)).unwrap();
        let hold = site.database_by(name, worker.clone()).hold(PATIENCE).unwrap();
        owned_by_site(&site.path(&format!("{name}-wal")));
        owned_by_site(&site.path(&format!("{name}-shm")));
        hold.release().unwrap();
        let clone = site.database_by(&format!("{name}-clone"), worker.clone());
        site.database_by(name, worker).clone_to(&clone).unwrap();
        owned_by_site(&site.path(name));
    }
    owned_by_site(&site.path("data/b-clone"));
}

#[test]
fn what_the_owner_may_not_do_is_said() {
    let nobody = User::by_name("nobody").unwrap();
    let Some((site, worker)) = site_of(&nobody) else { return };
    let worker = worker.as_owner(nobody.uid, nobody.gid);
    let database = site.database_by("data/db", worker.clone());
    site.bank("data/db", "DELETE");
    fs::set_permissions(site.path("data/db"), Permissions::from_mode(0o600)).unwrap();
    let error = database.summary().unwrap_err().to_string();
    assert!(error.contains("user nobody may not open") && error.contains("data/db"), "{error}");
    fs::set_permissions(site.path("data/db"), Permissions::from_mode(0o644)).unwrap();
    let error = database.hold(PATIENCE).err().unwrap().to_string();
    assert!(error.contains("user nobody may not write"), "{error}");
    site.bank("data/log", "WAL");
    chown(site.path("data/log"), Some(nobody.uid), Some(nobody.gid)).unwrap();
    chown(site.path("data"), Some(0), Some(0)).unwrap();
    let error = site.database_by("data/log", worker).hold(PATIENCE).err().unwrap().to_string();
    assert!(error.contains("of the file and of its directory"), "{error}");
}

/// A small file system of its own, gone when dropped.
struct SmallDisk<'a>(&'a Path);

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").argument("-l").argument(self.0).run();
    }
}

#[test]
fn a_full_disk_leaves_the_old_content() {
    let site = Site::new();
    let path = site.path("small");
    fs::create_dir(&path).unwrap();
    let mount = Command::new("mount").arguments(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).argument(&path);
    if !mount.run().unwrap().is_success() {
        return;
    }
    let _disk = SmallDisk(&path);
    let large = site.bank("large", "DELETE");
    for journal in ["DELETE", "WAL"] {
        let name = format!("small/{journal}");
        let connection = Connection::open(site.path(&name)).unwrap();
        connection.execute_batch(&format!("PRAGMA journal_mode = {journal}; CREATE TABLE t(a)")).unwrap();
        connection.close().unwrap();
        let target = site.database(&name);
        let before = target.summary().unwrap();
        let error = large.clone_to(&target).unwrap_err();
        assert!(matches!(error, DatabaseError::Problem(Problem::DiskFull { .. })), "{error}");
        assert_eq!(target.verify().unwrap().summary, before);
        let error = large.clone_to(&site.database("small/new")).unwrap_err();
        assert!(matches!(error, DatabaseError::Problem(Problem::DiskFull { .. })), "{error}");
        assert!(!site.path("small/new").exists() && !site.path("small/new.sitefs-new").exists());
    }
}
