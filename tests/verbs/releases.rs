//! Switching to another generation and back, and putting files back.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::Bench;

#[test]
fn a_site_moves_to_another_platform_and_back_without_losing_uploads() {
    let bench = Bench::with_site();
    let live = |bench: &Bench| bench.read("root/live/shop/index.php");
    assert!(live(&bench).contains("'one'"));
    bench.sql("root/sites/shop/database/site.sqlite", "INSERT INTO node(title) VALUES('fourth')");
    bench.write("root/sites/shop/modules/late", "late");
    let moved = bench.json(&["cutover", "shop", "--platform=two"]);
    assert_eq!((&moved["from"]["platform"], &moved["to"]["platform"]), (&json!("one"), &json!("two")));
    assert!(live(&bench).contains("'two'"));
    let count = "SELECT count(*) FROM node";
    assert_eq!(bench.sql("root/sites/shop/database/site.sqlite", count), "4");
    assert_eq!(bench.read("root/sites/shop/modules/late"), "late");
    // The old generation is to be read, and takes no write.
    assert_eq!(bench.read("platforms/one/web/sites/shop/modules/late"), "late");
    assert!(fs::write(bench.path("platforms/one/web/sites/shop/modules/late"), "x").is_err());
    // Uploads belong to no generation; the database to one.
    bench.write("root/sites/shop/files/uploaded.txt", "uploaded on two");
    bench.sql("root/sites/shop/database/site.sqlite", "INSERT INTO node(title) VALUES('fifth')");
    assert_eq!(bench.read("platforms/one/web/sites/shop/files/uploaded.txt"), "uploaded on two");

    let back = bench.json(&["rollback", "shop"]);
    assert_eq!((&back["from"]["platform"], &back["to"]["platform"]), (&json!("two"), &json!("one")));
    assert!(live(&bench).contains("'one'"));
    assert_eq!(bench.read("root/sites/shop/files/uploaded.txt"), "uploaded on two");
    assert_eq!(bench.sql("root/sites/shop/database/site.sqlite", count), "4");
    bench.write("root/sites/shop/modules/late", "later");
    // Forward again, to the generation that is there already.
    let again = bench.json(&["cutover", "shop"]);
    assert_eq!(again["to"]["generation"], moved["to"]["generation"]);
    assert_eq!(bench.sql("root/sites/shop/database/site.sqlite", count), "5");
    let known = bench.json(&["site", "show", "shop"]);
    assert_eq!(known["generations"].as_array().unwrap().len(), 2);

    // To a snapshot: a generation of its own.
    bench.json(&["snapshot", "shop", "--tag", "five"]);
    bench.sql("root/sites/shop/database/site.sqlite", "DELETE FROM node");
    let to_snapshot = bench.json(&["rollback", "shop", "--to", "shop@five"]);
    assert_eq!(to_snapshot["to"]["generation"], 3);
    assert_eq!(bench.sql("root/sites/shop/database/site.sqlite", count), "5");
    // On the same platform it has a path of its own, so that no cache of PHP mixes the two.
    assert_ne!(to_snapshot["from"]["document_root"], to_snapshot["to"]["document_root"]);
    bench.says(&["rollback", "shop", "--to", "1"]);
    assert!(live(&bench).contains("'one'"));
    assert_eq!(bench.read("root/sites/shop/files/uploaded.txt"), "uploaded on two");
}

#[test]
fn whoever_is_writing_when_a_generation_is_left_can_finish() {
    let bench = Bench::with_site();
    bench.json(&["cutover", "shop", "--platform=two"]);
    let window = bench.path("root/windows/shop/hold");
    let mut upload = fs::File::create(bench.path("root/sites/shop/modules/late")).unwrap();
    thread::scope(|scope| {
        let rollback = scope.spawn(|| bench.json(&["rollback", "shop"]));
        let begun = Instant::now();
        while !window.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "new writes are not told to wait");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!rollback.is_finished());
        upload.write_all(b"all of it").unwrap();
        drop(upload);
        assert_eq!(rollback.join().unwrap()["to"]["platform"], "one");
    });
    assert!(!window.exists(), "writes wait still");
    assert_eq!(bench.read("platforms/two/web/sites/shop/modules/late"), "all of it");
    bench.write("root/sites/shop/modules/late", "of the one before");
}

#[test]
fn a_directory_is_deployed_beside_database_and_uploads() {
    let bench = Bench::with_site();
    fs::create_dir_all(bench.path("build/modules")).unwrap();
    bench.write("build/settings.php", "<?php // built\n");
    bench.write("root/sites/shop/files/uploaded.txt", "uploaded");
    let deployed = bench.json(&["deploy", "shop", "build", "-m", "release 2"]);
    assert_eq!(deployed["snapshot"]["message"], "release 2");
    let snapshot = format!("shop@{}", deployed["snapshot"]["id"].as_str().unwrap());
    fs::create_dir(bench.path("elsewhere")).unwrap();
    bench.json(&["restore", &snapshot, "files/uploaded.txt", "settings.php", "--into", "elsewhere"]);
    assert_eq!(bench.read("elsewhere/files/uploaded.txt"), "uploaded");
    assert_eq!(bench.read("root/sites/shop/settings.php"), "<?php // built\n");
    assert!(!bench.exists("root/sites/shop/modules/custom"));
    assert_eq!(bench.read("root/sites/shop/files/uploaded.txt"), "uploaded");
    assert_eq!(bench.sql("root/sites/shop/database/site.sqlite", "SELECT count(*) FROM node"), "3");
    bench.json(&["rollback", "shop"]);
    assert!(bench.exists("root/sites/shop/modules/custom"));
}

#[test]
fn files_and_directories_are_restored() {
    let bench = Bench::with_site();
    bench.json(&["snapshot", "shop", "--tag", "good"]);
    let site = bench.path("root/sites/shop");
    // A file that a process has looked at, changed; one removed; directories of code and of data changed.
    bench.write("root/sites/shop/modules/custom/custom.module", "broken");
    bench.write("root/sites/shop/modules/custom/extra", "extra");
    fs::remove_file(site.join("settings.php")).unwrap();
    fs::remove_dir_all(site.join("files/styles")).unwrap();
    bench.write("root/sites/shop/files/7.txt", "broken");
    bench.write("root/sites/shop/files/kept.txt", "kept");

    let restored = bench.json(&["restore", "shop@good", "settings.php", "modules/custom", "files/styles"]);
    assert!(restored["safety_snapshot"].is_string(), "{restored}");
    for name in ["settings.php", "modules/custom/custom.module", "files/styles/large/picture.png"] {
        let old = fs::read(bench.path("original").join(name)).unwrap();
        assert!(fs::read(site.join(name)).unwrap() == old, "{name}");
    }
    bench.assert_same("original/modules/custom", "root/sites/shop/modules/custom");
    bench.assert_same("original/files/styles", "root/sites/shop/files/styles");
    assert_eq!(bench.read("root/sites/shop/files/7.txt"), "broken");
    bench.write("root/sites/shop/modules/custom/after", "writable");
    bench.says(&["restore", "shop@good", "files/7.txt"]);
    assert_eq!(bench.read("root/sites/shop/files/7.txt"), "upload 7\n");

    // A whole data directory: what was added since is gone, and can be had back from the safety snapshot.
    let whole = bench.json(&["restore", "shop@good", "files"]);
    bench.assert_same("original/files", "root/data/shop/files");
    let safety = format!("shop@{}", whole["safety_snapshot"].as_str().unwrap());
    bench.json(&["restore", &safety, "files/kept.txt"]);
    assert_eq!(bench.read("root/sites/shop/files/kept.txt"), "kept");

    // Elsewhere.
    fs::create_dir(bench.path("elsewhere")).unwrap();
    bench.json(&["restore", "shop@good", "settings.php", "files", "database", "--into", "elsewhere"]);
    bench.assert_same("original/files", "elsewhere/files");
    assert_eq!(bench.read("elsewhere/settings.php"), bench.read("original/settings.php"));
    assert_eq!(bench.sql("elsewhere/database/site.sqlite", "SELECT count(*) FROM node"), "3");
    let again = bench.fails(3, &["restore", "shop@good", "settings.php", "--into", "elsewhere"]);
    assert!(again.contains("exists already"), "{again}");
    let database = bench.fails(3, &["restore", "shop@good", "database"]);
    assert!(database.contains("sitefs database restore shop"), "{database}");
    bench.fails(2, &["restore", "shop@good", "no/such/file"]);

    // Everything survives a restart.
    bench.stop();
    bench.serve();
    bench.assert_same("original/files/styles", "root/sites/shop/files/styles");
    assert_eq!(bench.read("root/sites/shop/modules/custom/after"), "writable");
}

#[test]
fn a_directory_with_uploads_in_it_is_restored_into_code_and_data() {
    let bench = Bench::new();
    bench.stop();
    bench.write("recipes/deep.toml", "title = 'Deep'\ndata = ['private/deep/files', 'private/cache']\n");
    bench.serve();
    bench.platform("one");
    fs::create_dir_all(bench.path("deep/private/deep/files")).unwrap();
    for (name, text) in [("note", "code"), ("deep/module", "module"), ("deep/files/paper", "paper")] {
        bench.write(&format!("deep/private/{name}"), text);
    }
    fs::hard_link(bench.path("deep/private/deep/files/paper"), bench.path("deep/private/deep/files/again"))
        .unwrap();
    bench.json(&["site", "import", "shop", "deep", "--platform=one", "--app=deep"]);
    let site = bench.path("root/sites/shop/private");
    bench.json(&["snapshot", "shop", "--tag", "good"]);
    bench.write("root/sites/shop/private/note", "broken");
    bench.write("root/sites/shop/private/deep/files/paper", "broken");
    bench.write("root/sites/shop/private/deep/files/late", "late");
    bench.write("root/sites/shop/private/cache/page", "page");
    bench.json(&["restore", "shop@good", "private"]);
    assert_eq!(bench.read("root/sites/shop/private/note"), "code");
    // The link is still there, and what is behind it is what the snapshot had, for every generation.
    assert!(fs::symlink_metadata(site.join("deep/files")).unwrap().is_symlink());
    assert_eq!(bench.read("root/data/shop/private/deep/files/paper"), "paper");
    assert_eq!(bench.read("root/data/shop/private/deep/files/again"), "paper");
    assert!(!bench.exists("root/data/shop/private/deep/files/late"));
    assert!(!bench.exists("root/data/shop/private/cache/page"), "it was empty in the snapshot");
    bench.write("root/sites/shop/private/deep/files/after", "after");
    assert_eq!(bench.read("root/data/shop/private/deep/files/after"), "after");

    // Directories that are gone come back with what is restored below them.
    fs::remove_dir_all(site.join("deep")).unwrap();
    bench.json(&["restore", "shop@good", "private/deep/module"]);
    assert_eq!(bench.read("root/sites/shop/private/deep/module"), "module");
    bench.json(&["restore", "shop@good", "private/deep"]);
    assert_eq!(bench.read("root/sites/shop/private/deep/files/paper"), "paper");

    // A state in which something else is where the data is now cannot be put there.
    fs::remove_file(site.join("deep/files")).unwrap();
    bench.write("root/sites/shop/private/deep/files", "no directory");
    bench.json(&["snapshot", "shop", "--tag", "odd"]);
    let refusal = bench.fails(3, &["restore", "shop@odd", "private"]);
    assert!(refusal.contains("private/deep/files"), "{refusal}");
    bench.json(&["restore", "shop@good", "private"]);
    assert_eq!(bench.read("root/sites/shop/private/deep/files/paper"), "paper");
}

#[test]
fn code_alone_goes_back_and_leaves_the_database_as_it_is() {
    let bench = Bench::with_site();
    bench.write("root/sites/shop/modules/code", "old");
    bench.json(&["snapshot", "shop", "--tag", "old"]);
    bench.json(&["cutover", "shop", "--platform=two"]);
    bench.write("root/sites/shop/modules/code", "new");
    bench.sql("root/sites/shop/database/site.sqlite", "INSERT INTO node(title) VALUES('since')");
    bench.write("root/sites/shop/files/since.txt", "since");
    let count = || bench.sql("root/sites/shop/database/site.sqlite", "SELECT count(*) FROM node");
    let back = bench.json(&["rollback", "shop", "--code-only"]);
    assert_eq!((&back["to"]["generation"], &back["to"]["platform"]), (&json!(3), &json!("one")));
    assert_eq!((bench.read("root/sites/shop/modules/code").as_str(), count().as_str()), ("old", "4"));
    assert_eq!(bench.read("root/sites/shop/files/since.txt"), "since");
    // The state it stands for is a snapshot as any other.
    let log = bench.json(&["log", "shop", "-n", "1"]);
    assert!(log["snapshots"][0]["message"].as_str().unwrap().contains("code of generation 1"), "{log}");
    bench.json(&["database", "verify", "shop@latest"]);

    bench.sql("root/sites/shop/database/site.sqlite", "INSERT INTO node(title) VALUES('later')");
    bench.json(&["rollback", "shop", "--code-only", "--to", "2"]);
    assert_eq!((bench.read("root/sites/shop/modules/code").as_str(), count().as_str()), ("new", "5"));
    bench.json(&["rollback", "shop", "--code-only", "--to", "shop@old"]);
    assert_eq!((bench.read("root/sites/shop/modules/code").as_str(), count().as_str()), ("old", "5"));
    assert_eq!(bench.read("root/sites/shop/files/since.txt"), "since");
    bench.fails(2, &["rollback", "shop", "--code-only", "--to", "5"]);
}

#[test]
fn a_place_that_was_live_shows_its_generation_until_its_requests_have_ended() {
    let bench = Bench::with_site();
    bench.stop();
    let config = bench.read("config.toml").replace("drain_seconds = 0", "drain_seconds = 2");
    bench.write("config.toml", &config);
    bench.serve();
    let deploy = |release: &str| {
        fs::create_dir_all(bench.path(release)).unwrap();
        bench.write(&format!("{release}/release"), release);
        let ran = bench.sitefs(&["deploy", "shop", release]);
        assert_eq!(ran.exit, 0, "{}", ran.stderr);
        ran.stderr
    };
    // Into the lane that nobody was in.
    assert!(!deploy("first").contains("waiting"));
    assert_eq!(bench.json(&["site", "show", "shop"])["generations"][1]["state"], "draining");
    // Back into the first one, where a request may be running: its file stays what it was, until it is closed.
    let place = bench.path("platforms/one/web/sites/shop/settings.php");
    let open = fs::File::open(&place).unwrap();
    let closer = thread::spawn(move || {
        thread::sleep(Duration::from_secs(4));
        assert!(
            fs::read_to_string(&place).unwrap().contains("$three"),
            "the place changed while it was used"
        );
        drop(open);
    });
    assert!(deploy("second").contains("waiting"));
    closer.join().unwrap();
    assert_eq!(bench.read("platforms/one/web/sites/shop/release"), "second");
    // Back to one that is shown nobody waits.
    let ran = bench.sitefs(&["rollback", "shop"]);
    assert!(ran.exit == 0 && !ran.stderr.contains("waiting"), "{}", ran.stderr);
    assert_eq!(bench.read("root/sites/shop/release"), "first");
    assert_eq!(bench.json(&["site", "show", "shop"])["generations"][2]["state"], "retired");
}
