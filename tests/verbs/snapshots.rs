//! Snapshots, their names, their differences, and clones of them.

use serde_json::{Value, json};

use crate::bench::Bench;

fn id(value: &Value) -> String {
    value["snapshot"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn snapshots_are_listed_shown_named_and_compared() {
    let bench = Bench::with_site();
    let first = id(&bench.json(&["snapshot", "shop", "-m", "the first", "--tag", "release-1"]));
    bench.write("root/sites/shop/modules/custom/new.inc", "one\ntwo\n");
    std::fs::remove_file(bench.path("root/sites/shop/modules/empty")).unwrap();
    bench.write("root/sites/shop/files/7.txt", "upload 7\nchanged\n");
    bench.sql("root/sites/shop/database/site.sqlite", "INSERT INTO node(title) VALUES('fourth')");
    let second = id(&bench.json(&["snapshot", "shop", "-m", "the second"]));

    let log = bench.json(&["log", "shop"]);
    let messages: Vec<&str> =
        log["snapshots"].as_array().unwrap().iter().map(|one| one["message"].as_str().unwrap()).collect();
    assert_eq!(messages[..2], ["the second", "the first"]);
    assert_eq!(messages.len(), 3);
    assert_eq!(bench.json(&["log", "shop", "-n", "1"])["snapshots"][0]["id"], second.as_str());
    assert!(bench.says(&["log", "shop"]).contains("release-1"));
    let shown = bench.json(&["show", "shop@release-1"]);
    assert_eq!(shown["snapshot"]["id"], first.as_str());
    assert_eq!(shown["snapshot"]["database"]["rows"], 4);
    bench.says(&["show", &format!("shop@{}", &second[..12])]);

    let by_tag = bench.json(&["tag", &format!("shop@{}", &second[..10]), "release-2"]);
    assert_eq!(by_tag["snapshot"], second.as_str());
    let moved = bench.fails(3, &["tag", "shop@release-2", "release-1"]);
    assert!(moved.contains("release-1"), "{moved}");
    assert_eq!(bench.json(&["show", "shop@release-1"])["snapshot"]["id"], first.as_str());
    // The same again is no move.
    bench.json(&["tag", "shop@release-2", "release-2"]);

    let files = json!([
        ["files/7.txt", "modified"],
        ["modules/custom/new.inc", "added"],
        ["modules/empty", "removed"]
    ]);
    for new in ["shop@release-2", "shop", "shop@live"] {
        let diff = bench.json(&["diff", "shop@release-1", new, "--names"]);
        let mut found: Vec<Value> = diff["files"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|file| file["change"] != "attributes" && file["path"] != "database/site.sqlite")
            .map(|file| json!([file["path"], file["change"]]))
            .collect();
        found.sort_by_key(Value::to_string);
        assert_eq!(json!(found), files, "{new}");
        let tables = diff["tables"].as_array().unwrap();
        assert_eq!(tables.len(), 1, "{new}: {tables:?}");
        let table =
            (&tables[0]["table"], &tables[0]["change"], &tables[0]["old_rows"], &tables[0]["new_rows"]);
        assert_eq!(table, (&json!("node"), &json!("modified"), &json!(3), &json!(4)), "{new}");
    }
    let stat = bench.says(&["diff", "shop@release-1", "shop@release-2", "--stat"]);
    assert!(stat.contains("modules/custom/new.inc") && stat.contains("+2 -0"), "{stat}");
    let text = bench.says(&["diff", "shop@release-1", "shop@release-2", "--text"]);
    for part in [
        "--- a/files/7.txt\n+++ b/files/7.txt\n",
        "\n+changed\n",
        "--- /dev/null\n+++ b/modules/custom/new.inc\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let same = bench.sitefs(&["diff", "shop@release-2", "shop"]);
    assert_eq!((same.exit, same.stdout.as_str()), (0, ""), "{}", same.stderr);
    assert!(same.stderr.contains("no difference"), "{}", same.stderr);
    // A snapshot is what it was, whatever happens to the site.
    bench.json(&["site", "show", "shop"]);
    let details = bench.json(&["show", "shop@release-1"]);
    let path = details["path"].as_str().unwrap().strip_prefix(&bench.text("")).unwrap();
    bench.assert_same("original", path);
}

#[test]
fn what_is_done_to_a_clone_stays_there() {
    let bench = Bench::with_site();
    bench.json(&["snapshot", "shop", "--tag", "before"]);
    bench.write("root/sites/shop/files/late.txt", "late");
    let listed = bench.json(&["log", "shop"])["snapshots"].as_array().unwrap().len();
    let cloned = bench.json(&["clone", "shop", "test", "--expires", "7d"]);
    assert_eq!((&cloned["site"]["clone_of"], &cloned["snapshot"]), (&json!("shop"), &Value::Null));
    // Neither a clone nor a difference is history.
    bench.json(&["diff", "shop", "test"]);
    assert_eq!(bench.json(&["log", "shop"])["snapshots"].as_array().unwrap().len(), listed);
    let original = bench.json(&["clone", "shop", "old", "--from", "shop@before", "--platform=two"]);
    assert_eq!(original["site"]["platform"], "two");
    assert_eq!(bench.read("root/sites/test/files/late.txt"), "late");
    assert!(!bench.exists("root/sites/old/files/late.txt"));
    assert!(bench.exists("platforms/two/web/sites/old/settings.php"));

    let live = |name: &str| {
        let count =
            bench.sql(&format!("root/sites/{name}/database/site.sqlite"), "SELECT count(*) FROM node");
        (bench.read(&format!("root/sites/{name}/files/7.txt")), count)
    };
    let before = live("shop");
    bench.write("root/sites/test/files/7.txt", "of the clone");
    bench.write("root/sites/test/modules/new", "of the clone");
    std::fs::remove_dir_all(bench.path("root/sites/test/files/styles")).unwrap();
    bench.sql("root/sites/test/database/site.sqlite", "DELETE FROM node; CREATE TABLE extra(a);");
    assert_eq!(live("test"), ("of the clone".to_owned(), "0".to_owned()));
    assert_eq!(live("shop"), before);
    assert!(bench.exists("root/sites/shop/files/styles/large/picture.png"));
    assert!(!bench.exists("root/sites/shop/modules/new"));
    // Nor the other way round.
    bench.write("root/sites/shop/files/8.txt", "of the site");
    bench.sql("root/sites/shop/database/site.sqlite", "INSERT INTO user VALUES('another')");
    assert_eq!(bench.read("root/sites/test/files/8.txt"), "upload 8\n");
    assert_eq!(bench.sql("root/sites/test/database/site.sqlite", "SELECT count(*) FROM user"), "1");
    let diff = bench.json(&["diff", "shop", "test"]);
    assert_eq!(diff["summary"]["tables_added"], 1, "{diff}");

    let removed = bench.json(&["site", "remove", "test"]);
    assert_eq!(removed["site"], "test");
    for gone in ["root/sites/test", "root/data/test", "root/generations/test", "platforms/one/web/sites/test"]
    {
        assert!(!bench.exists(gone), "{gone}");
    }
    assert_eq!(live("shop").1, "3");
    bench.json(&["site", "remove", "old"]);
    assert_eq!(bench.json(&["site", "list"])["sites"].as_array().unwrap().len(), 1);
    // Its name is free.
    bench.json(&["clone", "shop", "test"]);
    assert_eq!(bench.read("root/sites/test/files/8.txt"), "of the site");
}

#[test]
fn a_damaged_database_is_cloned_but_not_when_it_is_to_be_verified() {
    let bench = Bench::with_site();
    bench.sql(
        "root/sites/shop/database/site.sqlite",
        "CREATE TABLE big(text); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO big SELECT printf('%0100d', i) FROM n; CREATE INDEX big_text ON big(text);",
    );
    bench.says(&["clone", "shop", "sound", "--verify"]);
    // An index that says something else than its table.
    bench.sql(
        "root/sites/shop/database/site.sqlite",
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'user')
         WHERE name = 'big_text';",
    );
    bench.says(&["clone", "shop", "copy"]);
    let refused = bench.fails(1, &["clone", "shop", "verified", "--verify"]);
    assert!(refused.contains("damaged") || refused.contains("malformed"), "{refused}");
    assert!(!bench.says(&["site", "list"]).contains("verified"));
    bench.fails(1, &["snapshot", "shop"]);
}

#[test]
fn a_clone_is_removed_when_its_time_is_over_and_nobody_writes_to_it() {
    let bench = Bench::with_site();
    bench.json(&["clone", "shop", "kept", "--expires", "7d"]);
    bench.json(&["clone", "shop", "used", "--expires", "1s"]);
    let mut file = std::fs::File::create(bench.path("root/sites/used/files/open")).unwrap();
    bench.json(&["clone", "shop", "left", "--expires", "1s"]);
    let status = bench.says(&["status"]);
    assert!(
        status.contains("clone of shop, expires in 6 days") || status.contains("expires in 7 days"),
        "{status}"
    );
    let names = || bench.json(&["site", "list"]).to_string();
    let wait_until_gone = |name: &str| {
        while names().contains(name) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    wait_until_gone("\"left\"");
    assert!(!bench.exists("root/sites/left"));
    // It expired before the other.
    assert!(names().contains("\"used\""));
    assert!(bench.says(&["status"]).contains("the clone used has expired and is removed when nobody writes"));
    std::io::Write::write_all(&mut file, b"until it is closed").unwrap();
    drop(file);
    wait_until_gone("\"used\"");
    let log = bench.read("store/daemon.log");
    assert!(log.contains("the clone left has expired and is removed"), "{log}");
    assert_eq!(bench.read("root/sites/kept/files/7.txt"), "upload 7\n");
}

#[test]
fn a_clone_is_sanitized_before_anybody_is_shown_it() {
    let bench = Bench::with_site();
    let refused = bench.fails(3, &["clone", "shop", "clean", "--sanitize"]);
    assert!(refused.contains("[sanitize]"), "{refused}");
    bench.stop();
    let recipe = bench.read("recipes/shop.toml");
    let commands = r#"
[sanitize]
commands = ["""
test "$SITEFS_STEP" = sanitize && test ! -e "$SITEFS_SITE_DIR/../../../../../root/live/$SITEFS_SITE" || exit 1
sqlite3 "$SITEFS_SITE_DIR/database/site.sqlite" "UPDATE user SET name = 'nobody'; VACUUM"
rm "$SITEFS_SITE_DIR/files/7.txt"
"""]
"#;
    bench.write("recipes/shop.toml", &format!("{recipe}{commands}"));
    bench.serve();
    bench.json(&["clone", "shop", "clean", "--sanitize"]);
    let users = |site: &str| {
        bench.sql(&format!("root/sites/{site}/database/site.sqlite"), "SELECT group_concat(name) FROM user")
    };
    assert_eq!((users("clean").as_str(), users("shop").as_str()), ("nobody", "admin"));
    assert!(!bench.exists("root/sites/clean/files/7.txt") && bench.exists("root/sites/shop/files/7.txt"));

    bench.stop();
    bench.write("recipes/shop.toml", &format!("{recipe}[sanitize]\ncommands = ['echo not today; exit 7']\n"));
    bench.serve();
    let failed = bench.fails(1, &["clone", "shop", "unclean", "--sanitize"]);
    assert!(failed.contains("status 7") && failed.contains("not today"), "{failed}");
    assert!(!bench.exists("root/data/unclean") && !bench.exists("root/generations/unclean"));
    assert_eq!(bench.json(&["site", "list"])["sites"].as_array().unwrap().len(), 2);
}
