//! Databases and dumps within one process. Locks are tested with real processes: `tests/database.rs`.

use std::path::PathBuf;

use proptest::prelude::*;
use rusqlite::types::Value;

use super::*;
use crate::database::Difference;

const WAIT: Duration = Duration::from_millis(200);

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

    fn make(&self, name: &str, sql: &str) -> File {
        let connection = Connection::open(self.path(name)).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
        self.file(name)
    }

    fn file(&self, name: &str) -> File {
        File::new(&self.path(name), false, WAIT)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = crate::base::files::list(self.directory.path())
            .unwrap()
            .iter()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn summary(file: &File) -> Summary {
    file.examine(false).unwrap().summary
}

fn dumped(file: &File) -> (String, Summary) {
    let mut out = Vec::new();
    let summary = file.dump(&mut out).unwrap();
    (String::from_utf8(out).unwrap(), summary)
}

/// Everything that a schema can have and dumps have been seen to lose.
const RICH: &str = r#"
    PRAGMA user_version = 42; PRAGMA application_id = 7;
    CREATE TABLE plain(a, b TEXT, c REAL, d BLOB);
    INSERT INTO plain(rowid, a, b, c, d) VALUES
        (5, 1, 'it''s', 0.1, X'00ff'), (9, NULL, '', -0.0, X''), (10, 1, 'it''s', 0.1, X'00ff'),
        (11, 9e999, 'line' || char(10) || 'line;', 1e300, 'text in a blob'), (12, -9e999, 'a' || char(0) || 'b', 5, 7),
        (13, 9223372036854775807, 'é–😀', -9223372036854775808, CAST(X'80ff' AS TEXT)), (14, -0.0, 'x', 2.5e-310, 1);
    CREATE TABLE "odd "" name"("a ""column""" INTEGER PRIMARY KEY, "select" TEXT COLLATE NOCASE_UTF8 UNIQUE);
    INSERT INTO "odd "" name" VALUES (1, 'Ä'), (2, 'b');
    CREATE TABLE keyed(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    INSERT INTO keyed VALUES ('z', 1), ('a', 2);
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v);
    INSERT INTO counted(v) VALUES (1), (2), (3); DELETE FROM counted WHERE id = 3;
    CREATE TABLE derived(a INT, b INT AS (a * 2), c INT AS (a + 1) STORED);
    INSERT INTO derived(a) VALUES (1), (2);
    CREATE TABLE shadowed(rowid TEXT, _rowid_ TEXT, oid TEXT); INSERT INTO shadowed VALUES ('a', 'b', 'c');
    CREATE TABLE exact(a INTEGER, b ANY) STRICT; INSERT INTO exact VALUES (1, 'x'), (2, 2.0);
    CREATE TABLE down(id INTEGER PRIMARY KEY DESC, v); INSERT INTO down(rowid, id, v) VALUES (7, 3, 'x');
    CREATE INDEX by_b ON plain(b, lower(b)) WHERE b <> '';
    CREATE TABLE log(t); CREATE TRIGGER logging AFTER INSERT ON plain BEGIN
        INSERT INTO log VALUES (CASE WHEN new.a IS NULL THEN 'none; end' ELSE 'some' END); SELECT 1; END;
    CREATE VIEW seen AS SELECT a FROM plain -- the last word
    ;
    CREATE VIRTUAL TABLE words USING fts5(body); INSERT INTO words(body) VALUES ('hello world'), ('again hello');
    CREATE VIRTUAL TABLE old_words USING fts3(body); INSERT INTO old_words(body) VALUES ('hello');
    CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1); INSERT INTO boxes VALUES (1, 0.5, 2.5);
"#;

/// Makes the rich database. Its collation exists only on connections that have it.
fn rich(site: &Site, name: &str, first: &str) -> File {
    let connection = Connection::open(site.path(name)).unwrap();
    open::prepare(&connection, WAIT).unwrap();
    connection.pragma_update(None, "trusted_schema", true).unwrap();
    connection.execute_batch(first).unwrap();
    connection.execute_batch(RICH).unwrap();
    connection.execute_batch("ANALYZE").unwrap();
    connection.close().unwrap();
    site.file(name)
}

#[test]
fn a_dump_restored_and_a_clone_are_what_the_database_is() {
    for first in
        ["", "PRAGMA encoding = 'UTF-16le'", "PRAGMA encoding = 'UTF-16be'", "PRAGMA journal_mode = WAL"]
    {
        let site = Site::new();
        let file = rich(&site, "db", first);
        let examined = file.examine(true).unwrap();
        assert_eq!(examined.findings, Vec::<String>::new(), "{first}");
        let original = examined.summary;
        assert_eq!(original.tables["plain"].rows, 7);
        assert_eq!(original.tables["sqlite_sequence"].rows, 1);
        assert!(original.tables.contains_key("words_data") && !original.tables.contains_key("words"));
        let (text, of_dump) = dumped(&file);
        assert_eq!(of_dump, original);
        assert_eq!(try_dump(&mut text.as_bytes()).unwrap(), original, "{first}");
        let restored = site.file("restored");
        assert_eq!(restored.restore(&mut text.as_bytes()).unwrap(), original);
        assert_eq!(
            restored.examine(true).unwrap(),
            Examination { summary: original.clone(), findings: vec![] }
        );
        assert_eq!(dumped(&restored).0, text, "the dump of a restored dump is the dump");
        let clone = site.file("clone");
        assert_eq!(file.clone_to(&clone).unwrap(), original);
        assert_eq!(summary(&clone), original);
        assert_eq!(clone.describe().unwrap().journal_mode, file.describe().unwrap().journal_mode);
        // Full-text and spatial indexes work on the restored content.
        let connection = Connection::open(site.path("restored")).unwrap();
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM words WHERE words MATCH 'hello'"), 2);
        assert_eq!(count("SELECT count(*) FROM old_words WHERE old_words MATCH 'hello'"), 1);
        assert_eq!(count("SELECT count(*) FROM boxes WHERE x0 < 1"), 1);
        assert_eq!(count("SELECT max(rowid) FROM plain"), 14);
        assert_eq!(count("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'plain'"), 2);
        connection.execute_batch("INSERT INTO counted(v) VALUES (4)").unwrap();
        assert_eq!(count("SELECT max(id) FROM counted"), 4, "an id once given is not given again");
    }
}

#[test]
fn a_dump_is_read_by_the_sqlite3_shell() {
    use crate::base::process::{Command, exists};
    if !exists("sqlite3") {
        return;
    }
    let site = Site::new();
    let file = site.make(
        "db",
        "CREATE TABLE t(a UNIQUE, b); INSERT INTO t VALUES (1, 'x'), (2.5, NULL); CREATE VIEW v AS SELECT 1;",
    );
    let (text, original) = dumped(&file);
    let shell = Command::new("sqlite3").argument(site.path("shell")).input(text).run().unwrap();
    assert!(shell.success().unwrap().errors.text().is_empty());
    assert_eq!(summary(&site.file("shell")), original);
    let dump =
        Command::new("sqlite3").argument(site.path("db")).argument(".dump").run().unwrap().success().unwrap();
    assert_eq!(try_dump(&mut &*dump.output.bytes()).unwrap(), original, "and the shell's dump is read here");
}

#[test]
fn every_change_shows_in_the_summary_and_layout_does_not() {
    let site = Site::new();
    let make = |name: &str, sql: &str| {
        let file = rich(&site, name, "");
        let connection = Connection::open(site.path(name)).unwrap();
        open::prepare(&connection, WAIT).unwrap();
        connection.pragma_update(None, "trusted_schema", true).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
        summary(&file)
    };
    let original = make("original", "");
    for (name, sql) in [
        ("vacuum", "VACUUM"),
        ("pages", "PRAGMA page_size = 512; VACUUM"),
        ("wal", "PRAGMA journal_mode = WAL"),
        ("statistics", "DELETE FROM sqlite_stat1"),
        ("order", "UPDATE plain SET rowid = 100 - rowid"),
    ] {
        assert_eq!(make(name, sql), original, "{name}");
    }
    for (name, sql, lines) in [
        (
            "duplicate",
            "INSERT INTO keyed VALUES('q', 1); INSERT INTO exact SELECT * FROM exact",
            vec!["table exact: 4 rows, 2 before", "table keyed: 3 rows, 2 before"],
        ),
        (
            "type",
            "UPDATE plain SET a = '1' WHERE rowid = 5",
            vec!["table plain: other content, 7 rows as before"],
        ),
        (
            "swap",
            "UPDATE plain SET a = 'it''s', b = 1 WHERE rowid = 5",
            vec!["table plain: other content, 7 rows as before"],
        ),
        (
            "sign",
            "UPDATE plain SET a = 0.0 WHERE rowid = 14",
            vec!["table plain: other content, 7 rows as before"],
        ),
        (
            "sequence",
            "UPDATE sqlite_sequence SET seq = 9",
            vec!["table sqlite_sequence: other content, 1 rows as before"],
        ),
        ("index", "DROP INDEX by_b", vec!["the schema differs"]),
        ("version", "PRAGMA user_version = 43", vec!["the schema differs"]),
        ("drop", "DROP TABLE log", vec!["table log: gone, 0 rows before", "the schema differs"]),
    ] {
        assert_eq!(Difference::between(&original, &make(name, sql)).lines(), lines, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_value_survives_a_dump(rows in prop::collection::vec((value(), value(), any::<f64>()), 0..20)) {
        let site = Site::new();
        let file = site.make("db", "CREATE TABLE t(a, b TEXT, c REAL)");
        let connection = Connection::open(site.path("db")).unwrap();
        for row in &rows {
            connection.execute("INSERT INTO t VALUES (?, ?, ?)", rusqlite::params![row.0, row.1, row.2]).unwrap();
        }
        let (text, original) = dumped(&file);
        prop_assert_eq!(original.rows(), rows.len() as u64);
        prop_assert_eq!(try_dump(&mut text.as_bytes()).unwrap(), original);
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        any::<String>().prop_map(Value::Text),
        "[a-z';\\-\\*/\"\\[\\]`\n\\x00]{0,12}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
    ]
}

#[test]
fn what_is_not_a_whole_dump_changes_nothing() {
    let site = Site::new();
    let file = site.make("db", "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    let original = summary(&file);
    let (text, _) = dumped(&rich(&site, "other", ""));
    let try_text = |text: &str| file.restore(&mut text.as_bytes()).unwrap_err().to_string();
    let cut: String = text.chars().take(text.chars().count() - 3).collect();
    assert!(try_text(&cut).contains("ends within a statement"));
    let end = text.rfind("COMMIT").unwrap();
    assert!(try_text(&text[..end]).contains("COMMIT, is missing"));
    assert!(try_text("BEGIN; CREATE TABLE x(a); ROLLBACK; -- due to errors\n").contains("ROLLBACK"));
    assert!(try_text("").contains("holds no table"));
    assert!(try_text("-- nothing\n").contains("holds no table"));
    let error = try_text("CREATE TABLE x(a);\n\n-- comment\nINSERT INTO y VALUES (1);\n");
    assert!(error.contains("line 4") && error.contains("no such table: y"), "{error}");
    let error = try_text("CREATE TABLE x(a);\nATTACH 'elsewhere' AS e;\n");
    assert!(error.contains("too many attached databases"), "{error}");
    let error = try_text("CREATE TABLE x(a COLLATE unheard); CREATE INDEX i ON x(a);");
    assert!(error.contains("no such collation") && error.contains("only its application has"), "{error}");
    assert_eq!(summary(&file), original);
    assert_eq!(site.names(), ["db", "other"]);
}

#[test]
fn a_raw_file_is_restored_whatever_its_page_size() {
    for journal in ["DELETE", "WAL"] {
        let site = Site::new();
        let source = rich(&site, "source", "PRAGMA page_size = 1024");
        let original = summary(&source);
        let target = site.make("target", &format!("PRAGMA journal_mode = {journal}; CREATE TABLE t(a)"));
        let mut raw = crate::base::files::open(&site.path("source")).unwrap();
        assert_eq!(target.restore(&mut raw).unwrap(), original);
        assert_eq!(
            target.examine(true).unwrap(),
            Examination { summary: original.clone(), findings: vec![] }
        );
        assert_eq!(target.describe().unwrap().journal_mode, journal.to_lowercase());
        let mut damaged = crate::base::files::read(&site.path("source")).unwrap();
        damaged[5000..5900].fill(0x55);
        let error = target.restore(&mut damaged.as_slice()).unwrap_err();
        assert!(matches!(error, Problem::Damaged { .. }), "{error}");
        assert_eq!(summary(&target), original);
    }
}

#[test]
fn readers_see_the_old_content_or_the_new() {
    for journal in ["DELETE", "WAL"] {
        let site = Site::new();
        let rows = |count: u32, value: u32| {
            format!("CREATE TABLE t(a, b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
                INSERT INTO t SELECT {value}, randomblob(200) FROM n;")
        };
        let target = site.make("target", &format!("PRAGMA journal_mode = {journal}; {}", rows(2000, 1)));
        let old = site.make("old", &rows(2000, 1));
        let new = site.make("new", &rows(3000, 2));
        let path = site.path("target");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let connection = Connection::open(&path).unwrap();
                connection.busy_timeout(Duration::from_secs(60)).unwrap();
                let mut seen = std::collections::BTreeSet::new();
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    let pair = connection.query_row("SELECT count(*), sum(a) FROM t", [], |row| {
                        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
                    });
                    seen.insert(pair.unwrap());
                }
                seen
            });
            let patient = File::new(&path, false, Duration::from_secs(60));
            for _ in 0..5 {
                new.clone_to(&patient).unwrap();
                old.clone_to(&patient).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            for pair in reader.join().unwrap() {
                assert!([(2000, 2000), (3000, 6000)].contains(&pair), "{journal}: {pair:?}");
            }
        });
        assert!(target.examine(true).unwrap().findings.is_empty());
    }
}

#[test]
fn an_unusable_database_is_replaced_with_its_mode_and_without_its_journals() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let source = site.make("source", "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    let path = site.path("db");
    std::fs::write(&path, b"this was a database once, and more bytes follow").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::write(site.path("db-wal"), b"rest of a log").unwrap();
    std::fs::write(site.path("db.sitefs-new"), b"left by a crash").unwrap();
    let broken = site.file("db");
    assert!(matches!(broken.examine(true), Err(Problem::NotADatabase { looks_encrypted: false, .. })));
    let expected = source.clone_to(&broken).unwrap();
    assert_eq!(summary(&broken), expected);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(site.names(), ["db", "source"]);
    let fresh = site.file("fresh");
    source.clone_to(&fresh).unwrap();
    assert_eq!(std::fs::metadata(site.path("fresh")).unwrap().permissions().mode() & 0o777, 0o660);
}

#[test]
fn problems_are_told_apart() {
    let site = Site::new();
    let problem = |name: &str| site.file(name).examine(true).unwrap_err();
    assert!(matches!(problem("missing"), Problem::Missing { .. }));
    let noise: Vec<u8> = (0..4096_u32).map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[0]).collect();
    std::fs::write(site.path("noise"), noise).unwrap();
    assert!(matches!(problem("noise"), Problem::NotADatabase { looks_encrypted: true, .. }));
    std::fs::write(site.path("page.html"), "<!DOCTYPE html><title>not a database</title>").unwrap();
    assert!(matches!(problem("page.html"), Problem::NotADatabase { looks_encrypted: false, .. }));
    let empty = site.file("empty");
    std::fs::write(site.path("empty"), "").unwrap();
    assert!(
        empty.examine(true).unwrap().summary.tables.is_empty(),
        "an empty file is a database without tables"
    );

    site.make("db", "CREATE TABLE t(a PRIMARY KEY, b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        INSERT INTO t SELECT i, hex(randomblob(20)) FROM n;");
    let writer = Connection::open(site.path("db")).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = problem("db");
    assert!(matches!(error, Problem::Locked { .. }), "{error}");
    assert!(error.to_string().contains("is locked: another process held on to it"), "{error}");
    drop(writer);
    let mut bytes = std::fs::read(site.path("db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 3000].fill(0xaa);
    std::fs::write(site.path("damaged"), &bytes).unwrap();
    match site.file("damaged").examine(true) {
        Ok(examination) => assert!(!examination.findings.is_empty()),
        Err(problem) => assert!(matches!(problem, Problem::Damaged { .. }), "{problem}"),
    }
    let error = site.file("damaged").clone_to(&site.file("target")).unwrap_err();
    assert!(matches!(error, Problem::Damaged { .. }), "{error}");
    assert!(!site.names().contains(&"target".to_owned()));
}

#[test]
fn rules_that_old_rows_break_are_no_damage() {
    let site = Site::new();
    let file = site.make(
        "db",
        "CREATE TABLE t(a); INSERT INTO t VALUES (1), (-1);
         PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a CHECK (a > 0))';",
    );
    let examination = file.examine(true).unwrap();
    assert_eq!(examination.findings, Vec::<String>::new());
    assert_eq!(try_dump(&mut dumped(&file).0.as_bytes()).unwrap(), examination.summary);
}

#[test]
fn what_only_the_application_knows_does_not_hinder_a_check_or_a_clone() {
    let site = Site::new();
    let connection = Connection::open(site.path("db")).unwrap();
    connection.create_collation("THEIRS", |left: &str, right: &str| right.cmp(left)).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t(a TEXT COLLATE THEIRS, b); CREATE INDEX i ON t(a); INSERT INTO t VALUES ('a', 1), ('b', 2);
             PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql)
             VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING their_module(x)');",
        )
        .unwrap();
    connection.close().unwrap();
    let file = site.file("db");
    let examination = file.examine(true).unwrap();
    assert_eq!(examination.findings, Vec::<String>::new());
    assert_eq!(examination.summary.tables["t"].rows, 2);
    let clone = site.file("clone");
    assert_eq!(file.clone_to(&clone).unwrap(), examination.summary);
    assert_eq!(summary(&clone), examination.summary);
}

#[test]
fn a_frozen_database_is_read_with_its_log_and_without_a_trace() {
    let site = Site::new();
    let connection = Connection::open(site.path("db")).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES (1)")
        .unwrap();
    let expected = summary(&site.file("db"));
    let snapshot = Site::new();
    for name in ["db", "db-wal"] {
        std::fs::copy(site.path(name), snapshot.path(name)).unwrap();
    }
    drop(connection);
    let before = std::fs::read(snapshot.path("db")).unwrap();
    let frozen = File::new(&snapshot.path("db"), true, WAIT);
    assert_eq!(summary(&frozen), expected);
    assert_eq!(frozen.clone_to(&site.file("clone")).unwrap(), expected);
    assert_eq!(dumped(&frozen).1, expected);
    assert_eq!(std::fs::read(snapshot.path("db")).unwrap(), before);
    assert_eq!(snapshot.names(), ["db", "db-wal"]);
    std::fs::copy(site.path("db"), snapshot.path("odd ?#%.db")).unwrap();
    std::fs::write(snapshot.path("odd ?#%.db-journal"), [0; 512]).unwrap();
    let odd = File::new(&snapshot.path("odd ?#%.db"), true, WAIT);
    assert_eq!(summary(&odd), expected);
    assert_eq!(snapshot.names(), ["db", "db-wal", "odd ?#%.db", "odd ?#%.db-journal"]);
}
