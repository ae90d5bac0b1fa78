//! Stores that earlier versions have made are opened, verified, read and written by this one.
//!
//! `tests/compat/NAME.tar.zst` is a store as it was, `NAME.txt` what its snapshots showed. They are made by
//! `SITEFS_COMPAT=layout-1 cargo test --test verbs make_a_store_for_later -- --ignored`, once for each change of a format,
//! and never again: what has been released is what has to be read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::Bench;

fn compat() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

fn tar(arguments: &[&str]) {
    let output =
        Command::new("timeout").args(["--signal=KILL", "60", "tar"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Bytes that cannot be compressed, of which each 256 KiB are the same: kept plain, and small in an archive.
fn picture() -> Vec<u8> {
    let mut noise = vec![0; 32 << 10];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise.resize(256 << 10, 0);
    noise.repeat(5)
}

/// What a directory has: types, modes, owners, sizes, times, and what is in its files.
fn contents(bench: &Bench, directory: &str) -> String {
    let mut lines = bench.listing(directory);
    let prefix = bench.text(directory);
    for line in &mut lines {
        let path = PathBuf::from(&prefix).join(line.split(' ').next().unwrap());
        if path.is_file() {
            line.push_str(blake3::hash(&fs::read(&path).unwrap()).to_hex().as_str());
        }
    }
    lines.join("\n") + "\n"
}

/// A line that says what a directory has.
fn summary(directory: &str, contents: &str) -> String {
    format!("{} {directory}\n", blake3::hash(contents.as_bytes()))
}

#[test]
#[ignore = "makes a store for the test below"]
fn make_a_store_for_later() {
    let name = std::env::var("SITEFS_COMPAT").expect("SITEFS_COMPAT says what it is to be called");
    let bench = Bench::new();
    let recipe = bench.read("recipes/shop.toml") + "[update]\ncommands = ['true']\n";
    bench.write("recipes/shop.toml", &recipe);
    bench.platform("one");
    bench.platform("two");
    for directory in ["original/files/many", "original/files/empty", "original/database"] {
        fs::create_dir_all(bench.path(directory)).unwrap();
    }
    bench.write("original/settings.php", "<?php\n");
    fs::hard_link(bench.path("original/settings.php"), bench.path("original/second name.php")).unwrap();
    symlink("settings.php", bench.path("original/link")).unwrap();
    for number in 0..100 {
        bench.write(&format!("original/files/many/{number}"), &format!("{number}\n"));
    }
    let lines: Vec<String> = (0..20_000).map(|number| format!("line {number}")).collect();
    bench.write("original/files/chunks.txt", &lines.join("\n"));
    fs::write(bench.path("original/files/picture"), picture()).unwrap();
    bench.sql("original/database/site.sqlite", "create table note (text); insert into note values ('one')");
    bench.json(&["site", "import", "shop", &bench.text("original"), "--platform=one", "--app=shop"]);
    bench.json(&["tag", "shop@latest", "first"]);
    bench.write("root/sites/shop/files/many/7", "changed\n");
    fs::remove_file(bench.path("root/sites/shop/files/many/8")).unwrap();
    bench.sql("root/sites/shop/database/site.sqlite", "insert into note values ('two')");
    bench.json(&["snapshot", "shop", "--tag", "second", "-m", "with changes"]);
    bench.json(&["clone", "shop", "copy", "--from", "shop@first"]);
    bench.json(&["update", "shop", "--platform", "two"]);
    bench.json(&["rollback", "shop"]);
    // What no snapshot has.
    bench.write("root/sites/shop/files/many/new", "only live\n");
    fs::rename(bench.path("root/sites/shop/files/many/9"), bench.path("root/sites/shop/files/nine")).unwrap();
    let mut expected = String::new();
    for directory in seen(&bench) {
        expected.push_str(&summary(&directory, &contents(&bench, &directory)));
    }
    expected.push_str(&runs(&bench));
    bench.stop();
    let archive = bench.text("archive");
    let store = bench.text("store");
    let without =
        ["daemon.log", "staging", "temporary", "live/reserve"].map(|path| format!("--exclude=./{path}"));
    let mut arguments: Vec<&str> = without.iter().map(String::as_str).collect();
    arguments.extend(["--sort=name", "--numeric-owner", "-C", &store, "-cf", &archive, "."]);
    tar(&arguments);
    let packed = zstd::encode_all(&fs::read(&archive).unwrap()[..], 19).unwrap();
    fs::write(compat().join(format!("{name}.tar.zst")), packed).unwrap();
    fs::write(compat().join(format!("{name}.txt")), expected).unwrap();
}

/// The updates of the site, a line each.
fn runs(bench: &Bench) -> String {
    let site = bench.json(&["site", "show", "shop"]);
    let runs = site["runs"].as_array().unwrap();
    runs.iter().map(|run| format!("{} {}\n", run["what"], run["state"])).collect()
}

/// The directories that are compared.
fn seen(bench: &Bench) -> Vec<String> {
    let log = bench.json(&["log", "shop"]);
    let ids =
        log["snapshots"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()[..12].to_owned());
    let snapshots = ids.map(|id| format!("root/snapshots/shop/{id}"));
    let live = ["root/generations/shop/1", "root/data/shop", "root/generations/copy/1", "root/data/copy"];
    snapshots.chain(live.map(str::to_owned)).collect()
}

#[test]
fn a_store_of_each_earlier_format_is_read_verified_and_written() {
    let mut names: Vec<String> = fs::read_dir(compat())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".tar.zst").map(str::to_owned))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        let bench = Bench::new();
        bench.stop();
        fs::remove_dir_all(bench.path("store")).unwrap();
        fs::create_dir(bench.path("store")).unwrap();
        let packed = fs::read(compat().join(format!("{name}.tar.zst"))).unwrap();
        fs::write(bench.path("archive"), zstd::decode_all(&packed[..]).unwrap()).unwrap();
        tar(&["-C", &bench.text("store"), "-xf", &bench.text("archive")]);
        bench.serve();
        bench.json(&["verify"]);
        let expected = fs::read_to_string(compat().join(format!("{name}.txt"))).unwrap();
        let mut found = String::new();
        for directory in seen(&bench) {
            let contents = contents(&bench, &directory);
            let summary = summary(&directory, &contents);
            assert!(expected.contains(&summary), "{name}: {directory} is now\n{contents}");
            found.push_str(&summary);
        }
        found.push_str(&runs(&bench));
        assert_eq!(found, expected, "{name}");
        // It goes on as a store of its own.
        bench.write("root/data/shop/files/many/later", "later\n");
        bench.json(&["snapshot", "shop", "--tag", "later"]);
        bench.json(&["gc"]);
        fs::File::open(bench.path("root/data/shop/files")).unwrap().sync_all().unwrap();
        bench.kill();
        bench.serve();
        bench.json(&["verify"]);
        assert_eq!(bench.read("root/data/shop/files/many/later"), "later\n");
        let rows = bench.sql("root/generations/shop/1/database/site.sqlite", "select count(*) from note");
        assert_eq!(rows, "2", "{name}");
    }
}
