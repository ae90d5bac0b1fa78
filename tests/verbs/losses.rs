//! A store that has lost one of its files of records.

use std::fs;

use crate::bench::Bench;

/// Tries to start a daemon that must not start; what it says.
fn refuses_to_serve(bench: &Bench) -> String {
    let root = format!("--root={}", bench.text("root"));
    let said = bench.fails(1, &["serve", &root]);
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Damages the pages of a file of tables, all but the first.
fn damage(bench: &Bench, name: &str) {
    let mut bytes = fs::read(bench.path(name)).unwrap();
    bytes[4096..].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
    fs::write(bench.path(name), bytes).unwrap();
}

/// A store with a site of which a snapshot was taken, with a tag; the snapshot's id.
fn with_snapshot() -> (Bench, String) {
    let bench = Bench::with_site();
    bench.write("root/sites/shop/files/new.txt", "new");
    let taken = bench.json(&["snapshot", "shop", "--tag", "release-1"]);
    (bench, taken["snapshot"]["id"].as_str().unwrap().to_owned())
}

#[test]
fn a_catalog_that_is_damaged_or_gone_is_restored_with_all_that_was_in_it() {
    let (bench, taken) = with_snapshot();
    bench.json(&["cutover", "shop", "--platform", "two"]);
    bench.json(&["clone", "shop", "copy"]);
    bench.write("root/sites/shop/files/later.txt", "later");
    let sites = bench.json(&["site", "list"])["sites"].clone();
    let refused = bench.fails(1, &["init", "--rebuild-catalog"]);
    assert!(refused.contains("locked") || refused.contains("another"), "{refused}");
    bench.stop();
    let refused = bench.fails(3, &["init", "--rebuild-catalog"]);
    assert!(refused.contains("sound"), "{refused}");
    for round in 0..3 {
        if round == 1 {
            fs::remove_file(bench.path("store/catalog.redb")).unwrap();
        } else {
            damage(&bench, "store/catalog.redb");
        }
        if round == 2 {
            let rebuilt = bench.json(&["init", "--rebuild-catalog"]);
            assert_eq!((&rebuilt["sites"], &rebuilt["damaged"]), (&2.into(), &0.into()), "{rebuilt}");
        }
        bench.serve();
        assert_eq!(bench.json(&["site", "list"])["sites"], sites);
        assert_eq!(bench.read("root/sites/shop/files/later.txt"), "later");
        let link = fs::read_link(bench.path("root/live/shop")).unwrap();
        assert!(link.starts_with(bench.path("platforms/two")), "{}", link.display());
        assert_eq!(bench.json(&["show", "shop@release-1"])["snapshot"]["id"], taken);
        let status = bench.json(&["status"]);
        assert_eq!(status["problems"], serde_json::json!([]));
        assert!(status["notices"].to_string().contains("catalog.redb.damaged-1"), "{}", status["notices"]);
        bench.json(&["verify"]);
        bench.stop();
    }
}

#[test]
fn a_catalog_that_is_gone_with_its_copy_is_made_anew_from_the_snapshots() {
    let (bench, taken) = with_snapshot();
    for is_gone in [false, true] {
        bench.stop();
        fs::remove_file(bench.path("store/catalog.copy")).unwrap();
        if is_gone {
            fs::remove_file(bench.path("store/catalog.redb")).unwrap();
        } else {
            damage(&bench, "store/catalog.redb");
        }
        let said = refuses_to_serve(&bench);
        assert!(said.contains("catalog.redb") && said.contains("init --rebuild-catalog"), "{said}");
        let rebuilt = bench.json(&["init", "--rebuild-catalog"]);
        assert_eq!((&rebuilt["sites"], &rebuilt["snapshots"]), (&0.into(), &2.into()), "{rebuilt}");
        bench.serve();
        bench.json(&["verify"]);
        let log = bench.json(&["log", "shop"]);
        assert_eq!(log["snapshots"][0]["id"], taken);
        assert_eq!(bench.read(&format!("root/snapshots/shop/{}/files/new.txt", &taken[..12])), "new");
    }
    // The site is made again from its snapshot.
    bench.json(&["platform", "add", "one", &bench.text("platforms/one")]);
    fs::create_dir(bench.path("out")).unwrap();
    let paths = ["settings.php", "modules", "files", "database"];
    bench.json(&[&["restore", "shop@latest"], &paths[..], &["--into", &bench.text("out")]].concat());
    bench.json(&["site", "import", "shop", &bench.text("out"), "--platform=one", "--app=shop"]);
    assert_eq!(bench.read("root/sites/shop/files/new.txt"), "new");
}

#[test]
fn a_record_that_cannot_be_read_keeps_no_other_site_down() {
    let (bench, _) = with_snapshot();
    bench.json(&["clone", "shop", "copy"]);
    bench.stop();
    fs::remove_file(bench.path("store/catalog.copy")).unwrap();
    // The beginning of the record: the site's name, that it is no clone, the name of its recipe.
    let mut bytes = fs::read(bench.path("store/catalog.redb")).unwrap();
    let begins = b"\x04shop\x00\x04shop";
    let places: Vec<usize> =
        (0..bytes.len() - begins.len()).filter(|at| bytes[*at..].starts_with(begins)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[at + 6] ^= 4);
    fs::write(bench.path("store/catalog.redb"), bytes).unwrap();

    bench.serve();
    assert_eq!(bench.read("root/sites/copy/files/new.txt"), "new");
    for shown in ["sites", "live", "data", "generations"] {
        assert!(!bench.exists(&format!("root/{shown}/shop")), "{shown}");
    }
    assert!(!bench.exists("platforms/one/web/sites/shop/settings.php"));
    let status: serde_json::Value = serde_json::from_str(&bench.says_with(1, &["--json", "status"])).unwrap();
    let problems = status["problems"].to_string();
    assert!(problems.contains("site shop") && !problems.contains("copy"), "{problems}");
    assert_eq!(status["sites"].as_array().unwrap().len(), 1);
    let report: serde_json::Value = serde_json::from_str(&bench.says_with(1, &["--json", "verify"])).unwrap();
    assert_eq!((&report["affected"][0]["site"], &report["affected_count"]), (&"shop".into(), &1.into()));
    // What it may refer to is kept, and nothing else takes its name.
    assert!(bench.fails(3, &["gc"]).contains("verify"));
    assert!(bench.fails(1, &["snapshot", "shop"]).contains("cannot be read"));
    let import = ["site", "import", "shop", &bench.text("original"), "--platform=one", "--app=shop"];
    assert!(bench.fails(1, &import).contains("cannot be read"));
    // Its snapshots are there, and it can be made anew.
    let repaired = bench.says_with(1, &["verify", "--repair"]);
    assert!(repaired.contains("1 record forgotten"), "{repaired}");
    bench.json(&["verify"]);
    bench.json(&["gc"]);
    assert_eq!(bench.json(&["status"])["problems"], serde_json::json!([]));
    assert!(bench.says(&["log", "shop"]).contains("release-1"));
    let program = env!("CARGO_BIN_EXE_sitefs");
    let line = format!(
        "{program} --store {store} send shop@release-1 | {program} --store {store} receive --site shop --platform one --app shop",
        store = bench.text("store")
    );
    let output = std::process::Command::new("timeout")
        .args(["--signal=KILL", "120", "sh", "-c", &line])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bench.read("root/sites/shop/files/59.txt"), "upload 59\n");
    assert!(bench.says(&["log", "shop"]).contains("release-1"));
    assert_eq!(bench.read("root/sites/copy/files/new.txt"), "new");
}

/// A store with a site that has been changed since its newest snapshot, and a clone that has none.
fn changed() -> Bench {
    let (bench, _) = with_snapshot();
    bench.json(&["clone", "shop", "copy"]);
    bench.write("root/sites/copy/files/copied.txt", "copied");
    bench.write("root/sites/shop/files/later.txt", "later");
    bench.stop();
    bench
}

#[test]
fn overlays_that_are_damaged_or_gone_are_never_taken_for_empty_ones() {
    let bench = changed();
    let refused = bench.fails(3, &["init", "--rebuild-live"]);
    assert!(refused.contains("sound"), "{refused}");
    for is_gone in [false, true] {
        if is_gone {
            fs::remove_file(bench.path("store/live/live.redb")).unwrap();
        } else {
            damage(&bench, "store/live/live.redb");
        }
        let said = refuses_to_serve(&bench);
        assert!(said.contains("live.redb") && said.contains("init --rebuild-live"), "{said}");
        // What it says is what helps: sites go back to their snapshots, or to what they were made from.
        let rebuilt = bench.json(&["init", "--rebuild-live"]);
        assert_eq!(rebuilt["lost"].as_array().unwrap().len(), 4, "{rebuilt}");
        bench.serve();
        assert_eq!(bench.read("root/sites/shop/files/new.txt"), "new");
        assert!(!bench.exists("root/sites/shop/files/later.txt"));
        assert!(!bench.exists("root/sites/copy/files/copied.txt"));
        assert_eq!(bench.sql("root/sites/shop/database/site.sqlite", "SELECT count(*) FROM node"), "3");
        bench.json(&["verify"]);
        bench.write("root/sites/shop/files/later.txt", "later");
        bench.write("root/sites/copy/files/copied.txt", "copied");
        bench.json(&["gc"]);
        bench.stop();
    }
    assert!(bench.exists("store/live/live.redb.damaged-1"));
    // Nor is the whole directory: gone, or a link that leads nowhere.
    for leads_nowhere in [false, true] {
        fs::remove_dir_all(bench.path("store/live")).unwrap();
        if leads_nowhere {
            std::os::unix::fs::symlink("/nonexistent/live", bench.path("store/live")).unwrap();
        }
        let said = refuses_to_serve(&bench);
        assert!(said.contains("init --rebuild-live"), "{said}");
        bench.json(&["init", "--rebuild-live"]);
        bench.serve();
        assert_eq!(bench.read("root/sites/shop/files/new.txt"), "new");
        bench.json(&["verify"]);
        bench.stop();
    }
    assert!(fs::symlink_metadata(bench.path("store/live.damaged-1")).unwrap().is_symlink());
}

#[test]
fn records_and_changes_of_two_times_are_never_shown_together() {
    let bench = changed();
    for name in ["store/live/live.redb", "store/catalog.redb", "store/catalog.copy"] {
        fs::copy(bench.path(name), bench.path(&name.replace('/', "-"))).unwrap();
    }
    bench.serve();
    bench.write("root/sites/shop/files/newest.txt", "newest");
    bench.stop();
    let newer = fs::read(bench.path("store/live/live.redb")).unwrap();
    fs::copy(bench.path("store-live-live.redb"), bench.path("store/live/live.redb")).unwrap();
    let said = refuses_to_serve(&bench);
    assert!(said.contains("not of the same time") && said.contains("init --rebuild-live"), "{said}");
    // Emptied, as some file systems do.
    fs::write(bench.path("store/live/live.redb"), "").unwrap();
    let said = refuses_to_serve(&bench);
    assert!(said.contains("not of the same time"), "{said}");
    fs::write(bench.path("store/live/live.redb"), newer).unwrap();
    bench.serve();
    assert_eq!(bench.read("root/sites/shop/files/newest.txt"), "newest");
    bench.stop();
    let uppers = || walk(&bench.path("store/live/upper"));
    let before = uppers();
    for name in ["store/catalog.redb", "store/catalog.copy"] {
        fs::copy(bench.path(&name.replace('/', "-")), bench.path(name)).unwrap();
    }
    let said = refuses_to_serve(&bench);
    assert!(said.contains("not of the same time"), "{said}");
    // A catalog that has been emptied, with its copy, knows of no site: nobody's changes are taken for garbage.
    fs::write(bench.path("store/catalog.redb"), "").unwrap();
    fs::remove_file(bench.path("store/catalog.copy")).unwrap();
    let said = refuses_to_serve(&bench);
    assert!(said.contains("catalog.redb is empty") && said.contains("init --rebuild-catalog"), "{said}");
    assert_eq!(uppers(), before);
    bench.json(&["init", "--rebuild-catalog"]);
    bench.serve();
    assert_eq!(bench.json(&["log", "shop"])["snapshots"].as_array().unwrap().len(), 3);
}

/// All files below a directory.
fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn changes_that_are_whole_stay_beside_one_that_is_damaged() {
    let bench = changed();
    // One value of one row: the node of the file that was added last to the site.
    let mut bytes = fs::read(bench.path("store/live/live.redb")).unwrap();
    let name = b"copied.txt";
    let places: Vec<usize> =
        (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at] ^= 2);
    fs::write(bench.path("store/live/live.redb"), bytes).unwrap();
    let said = refuses_to_serve(&bench);
    assert!(said.contains("init --rebuild-live"), "{said}");
    let rebuilt = bench.json(&["init", "--rebuild-live"]);
    let lost = rebuilt["lost"].as_array().unwrap();
    assert_eq!(
        (lost.len(), &lost[0]["site"], &lost[0]["generation"]),
        (1, &"copy".into(), &().into()),
        "{rebuilt}"
    );
    assert_eq!(rebuilt["kept"], 3);
    bench.serve();
    assert_eq!(bench.read("root/sites/shop/files/later.txt"), "later");
    assert_eq!(bench.read("root/sites/copy/files/1.txt"), "upload 1\n");
    assert!(!bench.exists("root/sites/copy/files/copied.txt"));
    let notices = bench.json(&["status"])["notices"].to_string();
    assert!(notices.contains("live.redb.damaged-1") && notices.contains("upper-"), "{notices}");
    bench.json(&["verify"]);
    bench.json(&["snapshot", "shop"]);
    assert_eq!(bench.read("root/sites/shop/files/later.txt"), "later");
}
