//! Databases by themselves.

use std::fs;

use crate::bench::Bench;

const LIVE: &str = "root/sites/shop/database/site.sqlite";
const TITLES: &str = "SELECT group_concat(title) FROM node";

#[test]
fn a_dump_is_read_by_sqlite_and_restored() {
    let bench = Bench::with_site();
    bench.json(&["snapshot", "shop", "--tag", "three"]);
    let dumped = bench.json(&["database", "dump", "shop", "--output", "shop.sql"]);
    assert_eq!((&dumped["tables"], &dumped["rows"]), (&2.into(), &4.into()));
    let piped = bench.says(&["database", "dump", "shop@three"]);
    assert_eq!(piped, bench.read("shop.sql"), "the same state is the same dump");
    bench.sql("elsewhere.sqlite", &piped);
    assert_eq!(bench.sql("elsewhere.sqlite", TITLES), "first,second,third");
    assert_eq!(bench.sql("elsewhere.sqlite", "PRAGMA integrity_check"), "ok");
    // A dump is never written over something.
    bench.fails(1, &["database", "dump", "shop", "--output", "shop.sql"]);
    bench.sql(LIVE, "DELETE FROM node; CREATE TABLE extra(a);");
    let restored = bench.json(&["database", "restore", "shop", "shop.sql"]);
    assert_eq!((&restored["tables"], &restored["rows"]), (&2.into(), &4.into()));
    assert_eq!(bench.sql(LIVE, TITLES), "first,second,third");
    assert_eq!(bench.sql(LIVE, "SELECT count(*) FROM sqlite_master WHERE name = 'extra'"), "0");
    // So is what SQLite's own program dumps.
    let own = bench.sql(LIVE, ".dump");
    bench.write("own.sql", &own.replace("third", "thirty"));
    bench.json(&["database", "restore", "shop", "own.sql"]);
    assert_eq!(bench.sql(LIVE, TITLES), "first,second,thirty");
}

#[test]
fn databases_are_restored_cloned_and_verified() {
    let bench = Bench::with_site();
    bench.json(&["snapshot", "shop", "--tag", "three"]);
    bench.json(&["clone", "shop", "test"]);
    let verified = bench.json(&["database", "verify", "shop@three"]);
    assert_eq!(verified["problems"], serde_json::json!([]));
    bench.sql(LIVE, "UPDATE node SET title = 'changed'; DROP TABLE user;");
    let owner = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(bench.path(name)).unwrap();
        (found.uid(), found.gid(), found.mode())
    };
    let before = owner(LIVE);
    let restored = bench.json(&["database", "restore", "shop", "--from", "shop@three"]);
    assert_eq!(bench.sql(LIVE, TITLES), "first,second,third");
    assert_eq!(bench.sql(LIVE, "SELECT name FROM user"), "admin");
    assert_eq!(owner(LIVE), before);
    let safety = format!("shop@{}", restored["safety_snapshot"].as_str().unwrap());
    let lost = bench.json(&["show", &safety]);
    assert_eq!(lost["tables"].as_array().unwrap().len(), 1);
    // It is a release like any other.
    bench.json(&["rollback", "shop"]);
    assert_eq!(bench.sql(LIVE, TITLES), "changed,changed,changed");
    bench.json(&["cutover", "shop", "--to", "2"]);
    assert_eq!(bench.sql(LIVE, TITLES), "first,second,third");

    bench.sql("root/sites/test/database/site.sqlite", "DELETE FROM node");
    bench.sql(LIVE, "INSERT INTO node(title) VALUES('fourth')");
    bench.json(&["database", "clone", "shop", "test"]);
    assert_eq!(bench.sql("root/sites/test/database/site.sqlite", TITLES), "first,second,third,fourth");
    bench.json(&["database", "clone", "shop@three", "test"]);
    assert_eq!(bench.sql("root/sites/test/database/site.sqlite", TITLES), "first,second,third");
    assert_eq!(bench.sql(LIVE, TITLES), "first,second,third,fourth");
    let live = bench.fails(3, &["database", "clone", "test", "shop"]);
    assert!(live.contains("sitefs database restore shop"), "{live}");

    // What is no dump leaves the database as it is.
    bench.write("wrong.sql", "CREATE TABLE half(a); this is no SQL;");
    bench.fails(1, &["database", "restore", "shop", "wrong.sql"]);
    assert_eq!(bench.sql(LIVE, TITLES), "first,second,third,fourth");
    assert_eq!(bench.sql(LIVE, "SELECT count(*) FROM sqlite_master WHERE name = 'half'"), "0");
    bench.stop();
    bench.serve();
    assert_eq!(bench.sql(LIVE, TITLES), "first,second,third,fourth");
}
