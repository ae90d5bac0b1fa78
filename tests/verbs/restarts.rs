//! What a restart of the daemon, clean or not, leaves as it is.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use crate::bench::{Bench, assert_listings};

/// Every inode number and its path below the places where a site is seen.
fn numbers(bench: &Bench) -> Vec<String> {
    let mut found = Vec::new();
    for place in ["root/generations/shop", "root/data/shop", "root/snapshots/shop", "root/generations/test"] {
        let mut directories = vec![bench.path(place)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
                let metadata = entry.path().symlink_metadata().unwrap();
                assert_eq!(metadata.ino(), std::os::unix::fs::DirEntryExt::ino(&entry), "{:?}", entry.path());
                found.push(format!("{:?} {}", entry.path(), metadata.ino()));
                if metadata.is_dir() {
                    directories.push(entry.path());
                }
            }
        }
    }
    found.sort();
    found
}

fn prepare(bench: &Bench) {
    bench.json(&["clone", "shop", "test"]);
    bench.json(&["cutover", "shop", "--platform=two"]);
    bench.write("root/sites/shop/modules/new", "new");
    bench.write("root/sites/shop/files/8.txt", "changed");
    fs::rename(bench.path("root/sites/shop/files/9.txt"), bench.path("root/sites/shop/files/nine.txt"))
        .unwrap();
    fs::remove_file(bench.path("root/sites/shop/files/10.txt")).unwrap();
    bench.sql("root/sites/shop/database/site.sqlite", "INSERT INTO node(title) VALUES('fourth')");
    let mut log = File::create(bench.path("root/sites/shop/files/synced")).unwrap();
    log.write_all(b"synced").unwrap();
    log.sync_all().unwrap();
    File::open(bench.path("root/data/shop/files")).unwrap().sync_all().unwrap();
    File::open(bench.path("root/sites/shop/modules")).unwrap().sync_all().unwrap();
}

/// What is known of sites, and all that is seen of them.
fn state(bench: &Bench) -> (String, Vec<Vec<String>>, Vec<String>) {
    let sites =
        bench.json(&["site", "list"]).to_string() + &bench.json(&["site", "show", "shop"]).to_string();
    // The directories of the namespace itself are made anew by each daemon, with its times.
    let places =
        ["root/generations/shop/1", "root/generations/shop/2", "root/generations/test/1", "root/data/shop"];
    let listings = places.map(|place| bench.listing(place)).to_vec();
    (sites, listings, numbers(bench))
}

fn check(bench: &Bench, before: &(String, Vec<Vec<String>>, Vec<String>)) {
    let after = state(bench);
    assert_eq!(before.0, after.0);
    for (before, after) in before.1.iter().zip(&after.1) {
        assert_listings(before, after);
    }
    assert_listings(&before.2, &after.2);
    assert_eq!(bench.json(&["status"])["problems"], serde_json::json!([]));
    assert_eq!(bench.read("root/sites/shop/files/synced"), "synced");
    assert_eq!(bench.read("root/sites/shop/files/8.txt"), "changed");
    assert_eq!(bench.read("root/live/shop/sites/shop/modules/new"), "new");
    assert_eq!(bench.sql("root/sites/shop/database/site.sqlite", "SELECT count(*) FROM node"), "4");
    assert!(fs::write(bench.path("root/generations/shop/1/modules/new"), "x").is_err());
    bench.write("root/sites/shop/files/afterwards", "afterwards");
    fs::remove_file(bench.path("root/sites/shop/files/afterwards")).unwrap();
    bench.json(&["rollback", "shop"]);
    assert!(bench.read("root/live/shop/index.php").contains("'one'"));
}

#[test]
fn a_clean_restart_changes_nothing() {
    let bench = Bench::with_site();
    prepare(&bench);
    let before = state(&bench);
    bench.stop();
    // The native directories are free.
    assert!(!bench.exists("platforms/two/web/sites/shop"));
    assert!(!bench.exists("platforms/two@b"));
    bench.serve();
    check(&bench, &before);
}

#[test]
fn a_killed_daemon_loses_nothing_that_was_synced_and_uncovers_nothing() {
    let bench = Bench::with_site();
    prepare(&bench);
    let before = state(&bench);
    bench.kill();
    // The kernel may still know what it was told; all else ends at the dead mount, and not below it.
    for dead in ["root", "root/sites/shop", "platforms/two/web/sites", "platforms/two@b/web/sites"] {
        let error = fs::write(bench.path(dead).join("unheard-of"), "x").unwrap_err().raw_os_error();
        assert_eq!(error, Some(Errno::NOTCONN.raw_os_error()), "{dead}");
    }
    bench.serve();
    check(&bench, &before);
}
