//! What the layer below promises of databases on servers.

use std::io::Read;
use std::time::{Duration, Instant};

use sitefs::database::{DatabaseError, Problem, Secret, ServerDatabase, ServerUrl};

use crate::machines::{Server, Setup, said, wait_until};

const WAIT: Duration = Duration::from_secs(20);

const MARIADB: &str = "
CREATE DATABASE shop CHARACTER SET latin1 COLLATE latin1_german2_ci; USE shop;
CREATE TABLE node (id INT PRIMARY KEY AUTO_INCREMENT, title VARCHAR(100), picture BLOB, extra JSON, flags BIT(3),
  price DECIMAL(9,2), ratio DOUBLE, changed TIMESTAMP NULL, twice INT AS (id * 2) VIRTUAL, UNIQUE (title));
CREATE TABLE child (id INT PRIMARY KEY, node INT, FOREIGN KEY (node) REFERENCES node (id));
CREATE TABLE `odd``name (x)` (`a``b` VARCHAR(20) CHARACTER SET utf8mb4);
CREATE TABLE nothing (x INT);
CREATE TABLE large (id VARCHAR(40) PRIMARY KEY, data LONGBLOB);
INSERT INTO large SELECT MD5(seq), REPEAT(UNHEX(SHA2(seq, 512)), 20) FROM seq_1_to_1500;
INSERT INTO node (title, picture, extra, flags, price, ratio, changed) VALUES
  ('it''s \\\\ (quoted), \"really\";\\nyes', 0x00FF0A1A275C, '{\"a\": [1, 2]}', b'101', 1.50, 0.1, '2026-01-02 03:04:05');
INSERT INTO node (title) SELECT CONCAT('title ', seq) FROM seq_1_to_10000;
INSERT INTO child SELECT id, id FROM node;
INSERT INTO `odd``name (x)` VALUES (_utf8mb4 'gr\u{fc}n \u{1f600}');
CREATE VIEW titles AS SELECT title FROM node;
CREATE TRIGGER stamp BEFORE INSERT ON child FOR EACH ROW SET NEW.node = NEW.node;
DELIMITER ;;
CREATE PROCEDURE fill() BEGIN
INSERT INTO `nothing` VALUES (1);
END;;
DELIMITER ;
";

const POSTGRESQL: &str = "
CREATE DATABASE shop;
\\connect shop
CREATE TABLE node (id SERIAL PRIMARY KEY, title TEXT UNIQUE, picture BYTEA, extra JSONB, price NUMERIC(9,2), ratio FLOAT8);
CREATE TABLE child (id INT PRIMARY KEY, node INT REFERENCES node (id));
CREATE TABLE \"odd\"\"name (x)\" (\"a b\" TEXT);
CREATE TABLE nothing (x INT);
CREATE TABLE large (id VARCHAR(40) PRIMARY KEY, data BYTEA);
INSERT INTO large SELECT md5(n::text), decode(repeat(md5(n::text), 40), 'hex') FROM generate_series(1, 1500) n;
INSERT INTO node (title, picture, extra, price, ratio) VALUES
  (E'it''s \\\\ (quoted), \"really\";\\nyes', '\\x00FF0A1A275C', '{\"a\": [1, 2]}', 1.50, 0.1);
INSERT INTO node (title) SELECT 'title ' || n FROM generate_series(1, 10000) n;
INSERT INTO child SELECT id, id FROM node;
INSERT INTO \"odd\"\"name (x)\" VALUES ('gr\u{fc}n \u{1f600}'), ('\\.'), (NULL);
CREATE VIEW titles AS SELECT title FROM node;
CREATE FUNCTION fill() RETURNS void LANGUAGE sql AS 'INSERT INTO nothing VALUES (1)';
";

fn both(test: impl Fn(&Server, &str) + Sync) {
    Server::both(Setup::default(), MARIADB, POSTGRESQL, |server| test(&server, &server.url("shop")));
}

pub(crate) fn own(source: &ServerUrl, name: &str) -> ServerDatabase {
    ServerDatabase {
        at: ServerUrl { name: name.to_owned(), ..source.clone() },
        user: name.to_owned(),
        password: Secret::random().unwrap(),
        creation: source.creation().unwrap(),
        is_closed: false,
    }
}

#[test]
fn a_copy_through_a_dump_holds_the_same_and_belongs_to_its_own_account() {
    both(|server, _| {
        let source = server.at("shop");
        let copy = own(&source, "sf_copy");
        copy.create().unwrap();
        let loaded = copy.load(&mut source.dump().unwrap()).unwrap();
        assert_eq!(loaded, source.summary().unwrap());
        assert_eq!(loaded, copy.at.summary().unwrap());
        assert_eq!((loaded.tables["node"].rows, loaded.tables["nothing"].rows), (10001, 0));
        assert_eq!((loaded.tables.len(), loaded.tables["large"].rows), (5, 1500));
        assert_eq!(copy.at.creation().unwrap(), source.creation().unwrap());
        let ask =
            |database: &str, sql| said(server.application(database, &copy.user, copy.password.reveal()), sql);
        assert_eq!(ask("sf_copy", "SELECT count(*) FROM titles;").as_deref(), Ok("10001"));
        ask(
            "sf_copy",
            "CREATE TABLE more (x INT); INSERT INTO child VALUES (900000, NULL); DROP TABLE nothing;",
        )
        .unwrap();
        let changed = copy.at.summary().unwrap();
        assert_eq!(changed.tables["child"].rows, 10002);
        assert_ne!(changed.schema, loaded.schema);
        // No other database, and none at all once this one is gone.
        assert!(ask("shop", "SELECT count(*) FROM node;").is_err());
        assert_eq!(source.server.databases_with("sf_").unwrap(), ["sf_copy"]);
        copy.drop().unwrap();
        copy.drop().unwrap();
        assert!(source.server.databases_with("sf_").unwrap().is_empty());
        assert!(ask("sf_copy", "SELECT 1;").is_err());
    });
}

/// Drupal has its databases write binary values in a way of their own, and other applications find their tables by a search path:
/// no dump of the server's program has that.
#[test]
fn a_copy_on_postgresql_has_the_settings_of_the_database_and_of_its_owner() {
    let server = Server::postgresql();
    server.sql(
        "",
        "CREATE ROLE app LOGIN; CREATE DATABASE shop OWNER app TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE';",
    );
    server.sql(
        "shop",
        "CREATE SCHEMA \"odd, one\"; CREATE TABLE \"odd, one\".note (id INT, at TIMESTAMPTZ, data BYTEA, price MONEY);
         INSERT INTO \"odd, one\".note VALUES (1, '2026-07-01 12:00+00', 'a\\000b', '1.50');
         ALTER DATABASE shop SET bytea_output = 'escape'; ALTER DATABASE shop SET timezone = 'Asia/Tokyo';
         ALTER DATABASE shop SET log_min_messages = 'error'; ALTER DATABASE shop SET work_mem = '5MB';
         ALTER DATABASE shop SET app.greeting = 'it''s \\ me';
         ALTER ROLE app SET search_path = \"odd, one\", public; ALTER ROLE app SET work_mem = '6MB';
         ALTER ROLE app IN DATABASE shop SET work_mem = '7MB'; ALTER ROLE app SET default_transaction_read_only = on;",
    );
    let source = server.at("shop");
    let summary = source.summary().unwrap();
    let (copy, second) = (own(&source, "sf_copy"), own(&source, "sf_second"));
    for (from, to) in [(&source, &copy), (&copy.at, &second)] {
        to.create().unwrap();
        assert_eq!(to.load(&mut from.dump().unwrap()).unwrap(), summary);
        assert_eq!(to.at.summary().unwrap(), summary);
        assert!(to.at.creation().unwrap().contains("ICU_LOCALE 'de-DE'"));
        let ask =
            |sql: &str| said(server.application(&to.at.name, &to.user, to.password.reveal()), sql).unwrap();
        assert_eq!(ask("SELECT * FROM note;"), "1|2026-07-01 21:00:00+09|a\\000b|$1.50");
        assert_eq!(
            ["work_mem", "log_min_messages", "app.greeting", "default_transaction_read_only"]
                .map(|name| ask(&format!("SHOW {name};"))),
            ["7MB", "error", "it's \\ me", "off"]
        );
    }
    second.set_writable(false).unwrap();
    assert_eq!(second.at.summary().unwrap(), summary, "that it is closed is not its application's");
}

#[test]
fn a_dump_is_of_the_moment_at_which_it_was_begun() {
    both(|server, _| {
        let source = server.at("shop");
        let before = source.summary().unwrap();
        let mut dump = source.dump().unwrap();
        server.sql("shop", "INSERT INTO nothing VALUES (1); DELETE FROM child;");
        std::io::copy(&mut dump, &mut std::io::sink()).unwrap();
        assert_eq!(dump.finish().unwrap(), before);
        assert_eq!(source.summary().unwrap().tables["nothing"].rows, 1);
    });
}

#[test]
fn whoever_writes_waits_while_writes_are_held_and_reading_goes_on() {
    both(|server, _| {
        let source = server.at("shop");
        let mut hold = source.hold(WAIT, WAIT * 10).unwrap();
        assert_eq!(hold.tables(), 5);
        let held = source.summary().unwrap();
        assert_eq!(server.sql("shop", "SELECT count(*) FROM node;"), "10001");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| server.sql("shop", "INSERT INTO nothing VALUES (1);"));
            std::thread::sleep(Duration::from_millis(500));
            assert!(!writer.is_finished());
            hold.check().unwrap();
            assert_eq!(source.summary().unwrap(), held);
            hold.release().unwrap();
            writer.join().unwrap();
        });
        assert_eq!(source.summary().unwrap().tables["nothing"].rows, 1);
    });
}

#[test]
fn a_hold_waits_for_transactions_and_gives_up_in_time() {
    both(|server, _| {
        let source = server.at("shop");
        let mut writer = server.client("shop");
        writer.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut writer = writer.spawn().unwrap();
        let mut input = writer.stdin.take().unwrap();
        let begin = "START TRANSACTION; INSERT INTO nothing VALUES (1); SELECT 'begun';\n";
        std::io::Write::write_all(&mut input, begin.as_bytes()).unwrap();
        let mut begun = [0; 1];
        if !server.url("").starts_with("mariadb") {
            writer.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
        } else {
            std::thread::sleep(Duration::from_secs(1));
        }
        let since = Instant::now();
        let refused = source.hold(Duration::from_secs(1), WAIT).err().unwrap();
        assert!(matches!(refused, DatabaseError::Problem(Problem::NotHeld { .. })), "{refused}");
        assert!(since.elapsed() < WAIT);
        drop(input);
        writer.wait().unwrap();
        source.hold(WAIT, WAIT).unwrap().release().unwrap();
    });
}

#[test]
fn a_hold_whose_connection_is_ended_says_so() {
    both(|server, _| {
        let source = server.at("shop");
        let mut hold = source.hold(WAIT, WAIT).unwrap();
        if server.url("").starts_with("mariadb") {
            let find = "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist WHERE command = 'Sleep';";
            server.sql("", &server.sql("", find));
        } else {
            server.sql(
                "",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE 'idle in%';",
            );
        }
        let lost = hold.check().err().unwrap();
        assert!(matches!(lost, DatabaseError::Problem(Problem::HoldLost { .. })), "{lost}");
    });
}

#[test]
fn an_account_can_be_kept_from_writing_and_be_let_again() {
    both(|server, _| {
        let source = server.at("shop");
        let copy = own(&source, "sf_closed");
        copy.create().unwrap();
        copy.load(&mut source.dump().unwrap()).unwrap();
        let ask = |sql| said(server.application("sf_closed", &copy.user, copy.password.reveal()), sql);
        copy.set_writable(false).unwrap();
        assert!(ask("INSERT INTO nothing VALUES (1);").is_err());
        assert_eq!(ask("SELECT count(*) FROM node;").as_deref(), Ok("10001"));
        copy.set_writable(false).unwrap();
        copy.set_writable(true).unwrap();
        ask("INSERT INTO nothing VALUES (1);").unwrap();
        // Who waits for a lock is refused on request, and gone connections are no error.
        let hold = copy.at.hold(WAIT, WAIT).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| ask("INSERT INTO nothing VALUES (2);"));
            while !writer.is_finished() {
                copy.refuse_waiting().unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(writer.join().unwrap().is_err());
        });
        hold.release().unwrap();
        copy.end_sessions(&[999_999_999]);
        assert_eq!(copy.at.summary().unwrap().tables["nothing"].rows, 1);
        copy.drop().unwrap();
    });
}

#[test]
fn a_connection_that_is_only_kept_is_told_from_one_with_a_transaction() {
    both(|server, _| {
        let source = server.at("shop");
        let copy = own(&source, "sf_kept");
        copy.create().unwrap();
        copy.load(&mut source.dump().unwrap()).unwrap();
        let connect = |sql: &str| {
            let mut command = server.application("sf_kept", &copy.user, copy.password.reveal());
            let mut child = command
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            std::io::Write::write_all(&mut input, sql.as_bytes()).unwrap();
            (child, input)
        };
        let mut ends = vec![connect("SELECT count(*) FROM node;\n")];
        wait_until("it is connected", || copy.sessions().unwrap().len() == 1);
        wait_until("it is only kept", || copy.busy_sessions().unwrap().is_empty());
        ends.push(connect("START TRANSACTION; INSERT INTO nothing VALUES (1);\n"));
        wait_until("another one works", || copy.busy_sessions().unwrap().len() == 1);
        // Longer than a connection has to be idle; in MariaDB's client, the transaction is on its way until then.
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(copy.busy_sessions().unwrap().len(), 1, "its transaction is open");
        assert_eq!(copy.sessions().unwrap().len(), 2);
        for (mut child, input) in ends {
            drop(input);
            child.wait().unwrap();
        }
        copy.drop().unwrap();
    });
}

#[test]
fn what_would_fail_later_is_found_before() {
    both(|server, url| {
        let source = server.at("shop");
        let examination = source.examine().unwrap();
        assert!(examination.size_bytes >= 4 * 8192 && examination.without_transactions.is_empty());
        let missing = server.at("nowhere").examine().unwrap_err().to_string();
        assert!(missing.contains("has no database nowhere"), "{missing}");
        let elsewhere: ServerUrl = url.replace("?socket=", "?socket=/nonexistent").parse().unwrap();
        let unreachable = elsewhere.examine().unwrap_err().to_string();
        assert!(unreachable.contains("Is the server running"), "{unreachable}");
        let directory = tempfile::tempdir().unwrap();
        let options = directory.path().join("options");
        let is_mariadb = url.starts_with("mariadb");
        let make = if is_mariadb {
            "CREATE USER weak@localhost IDENTIFIED BY 'right';"
        } else {
            "CREATE ROLE weak LOGIN PASSWORD 'right';"
        };
        server.sql("", make);
        let with = |password: &str, mode| {
            let text = if is_mariadb {
                format!("[client]\npassword={password}\n")
            } else {
                format!("*:*:*:*:{password}\n")
            };
            std::fs::write(&options, text).unwrap();
            std::fs::set_permissions(&options, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let url = format!("{url}&admin=weak&options={}", options.display());
            url.parse::<ServerUrl>().unwrap().examine().unwrap_err().to_string()
        };
        let wrong = with("wrong", 0o600);
        assert!(wrong.contains("Name the administrator") && !wrong.contains("wrong\n"), "{wrong}");
        let open = with("right", 0o644);
        assert!(open.contains("chmod 600"), "{open}");
        // MariaDB shows nobody a database that he may not use.
        let weak = with("right", 0o600);
        assert!(weak.contains("lacks") || weak.contains("has no database"), "{weak}");
        if is_mariadb {
            server.sql("", "GRANT SELECT ON *.* TO weak@localhost;");
            let weak = with("right", 0o600);
            assert!(weak.contains("weak on mariadb") && weak.contains("lacks INSERT,"), "{weak}");
            server.sql("shop", "CREATE TABLE counters (n INT) ENGINE=MyISAM;");
            assert_eq!(source.examine().unwrap().without_transactions, ["counters"]);
        }
    });
}

#[test]
fn a_dump_that_was_cut_off_is_refused() {
    both(|server, _| {
        let source = server.at("shop");
        let copy = own(&source, "sf_cut");
        copy.create().unwrap();
        let mut text = Vec::new();
        source.dump().unwrap().read_to_end(&mut text).unwrap();
        let lines = text.split_inclusive(|byte| *byte == b'\n').count();
        let cut: Vec<u8> =
            text.split_inclusive(|byte| *byte == b'\n').take(lines - 5).flatten().copied().collect();
        let error = copy.load(&mut cut.as_slice()).unwrap_err().to_string();
        assert!(error.contains("not complete"), "{error}");
        let broken = String::from_utf8_lossy(&text).replace("CREATE TABLE", "CREATE NONSENSE");
        copy.create().unwrap();
        let error = copy.load(&mut broken.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("NONSENSE"), "{error}");
        // A server's complaint shows neither what it was told nor a password.
        let wrong = ServerDatabase { creation: "NONSENSE".to_owned(), ..copy.clone() };
        let error = wrong.create().unwrap_err().to_string();
        assert!(error.contains("NONSENSE") && !error.contains(copy.password.reveal()), "{error}");
        copy.drop().unwrap();
    });
}
