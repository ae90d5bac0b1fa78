//! What is imported is what is seen.

use std::fs;
use std::process::{Command, Stdio};

use crate::bench::{Bench, Running};

#[test]
fn a_site_is_seen_as_it_was() {
    let bench = Bench::with_site();
    let shown = bench.json(&["site", "show", "shop"]);
    assert_eq!(shown["data"], serde_json::json!(["files"]));
    let log = bench.json(&["log", "shop"]);
    let id = log["snapshots"][0]["id"].as_str().unwrap();
    let details = bench.json(&["show", &format!("shop@{id}")]);
    let snapshot = details["path"].as_str().unwrap();
    let snapshot = snapshot.strip_prefix(&bench.text("")).unwrap();
    // A snapshot is the site without any difference.
    bench.assert_same("original", snapshot);
    // A generation has a link in the place of its data directory, and is the same otherwise.
    bench.assert_same("original/files", "root/data/shop/files");
    let code = |name: &str| {
        let mut lines = bench.listing(name);
        lines.retain(|line| !line.starts_with("files"));
        lines
    };
    assert_eq!(code("original"), code("root/generations/shop/1"));
    let link = fs::read_link(bench.path("root/generations/shop/1/files")).unwrap();
    assert_eq!(link.to_str(), Some("../../../data/shop/files"));
    // Every way to the site leads there; through the link of the data directory too.
    for way in ["root/sites/shop", "platforms/one/web/sites/shop", "root/live/shop/sites/shop"] {
        assert!(bench.read(&format!("{way}/settings.php")).contains("$three = 3;"), "{way}");
        assert_eq!(bench.read(&format!("{way}/files/7.txt")), "upload 7\n", "{way}");
    }
    assert!(fs::write(bench.path(snapshot).join("new"), "x").is_err(), "a snapshot is read-only");
}

#[test]
fn a_database_is_imported_while_it_is_written_to() {
    let bench = Bench::new();
    bench.platform("one");
    bench.original();
    let database = bench.path("original/database/site.sqlite");
    let writer = Command::new("bash")
        .arg("-c")
        .arg(
            r#"while sqlite3 -bail -cmd '.timeout 60000' "$0" "BEGIN IMMEDIATE;
               INSERT INTO node(title) VALUES('more'); INSERT INTO user VALUES('more'); COMMIT;"; do :; done"#,
        )
        .arg(&database)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let writer = Running(writer);
    let count =
        |name: &str| bench.sql(name, "SELECT (SELECT count(*) FROM node) || ' ' || count(*) FROM user");
    let rows = |count: &str| {
        let (nodes, users) = count.split_once(' ').unwrap();
        (nodes.parse::<u64>().unwrap(), users.parse::<u64>().unwrap())
    };
    while rows(&count("original/database/site.sqlite")).0 < 20 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bench.json(&["site", "import", "shop", &bench.text("original"), "--platform=one", "--app=shop"]);
    let imported = rows(&count("root/sites/shop/database/site.sqlite"));
    // Each transaction writes to both tables: a state between two transactions, and not an old one.
    assert_eq!(imported.0, imported.1 + 2);
    assert!(imported.0 >= 20);
    assert_eq!(bench.sql("root/sites/shop/database/site.sqlite", "PRAGMA integrity_check"), "ok");
    // The original goes on for itself.
    while rows(&count("original/database/site.sqlite")).0 <= imported.0 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(writer);
    assert_eq!(rows(&count("root/sites/shop/database/site.sqlite")), imported);
    assert!(bench.says(&["database", "verify", "shop"]).contains("node"));
}
