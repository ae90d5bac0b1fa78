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

#[test]
fn a_catalog_that_is_damaged_or_gone_is_made_anew_from_the_snapshots() {
    let bench = Bench::with_site();
    bench.write("root/sites/shop/files/new.txt", "new");
    let taken = bench.json(&["snapshot", "shop", "-m", "the last"]);
    let refused = bench.fails(1, &["init", "--rebuild-catalog"]);
    assert!(refused.contains("locked") || refused.contains("another"), "{refused}");
    bench.stop();
    let refused = bench.fails(3, &["init", "--rebuild-catalog"]);
    assert!(refused.contains("sound"), "{refused}");
    for is_gone in [false, true] {
        if is_gone {
            fs::remove_file(bench.path("store/catalog.redb")).unwrap();
        } else {
            damage(&bench, "store/catalog.redb");
        }
        let said = refuses_to_serve(&bench);
        assert!(said.contains("catalog.redb") && said.contains("init --rebuild-catalog"), "{said}");
        let rebuilt = bench.json(&["init", "--rebuild-catalog"]);
        assert_eq!(rebuilt["snapshots"], 2, "{rebuilt}");
        bench.serve();
        bench.json(&["verify"]);
        let log = bench.json(&["log", "shop"]);
        assert_eq!(log["snapshots"][0]["id"], taken["snapshot"]["id"]);
        let id = &log["snapshots"][0]["id"].as_str().unwrap()[..12];
        assert_eq!(bench.read(&format!("root/snapshots/shop/{id}/files/new.txt")), "new");
        bench.stop();
    }
    // The site is made again from its snapshot.
    bench.serve();
    bench.json(&["platform", "add", "one", &bench.text("platforms/one")]);
    fs::create_dir(bench.path("out")).unwrap();
    let paths = ["settings.php", "modules", "files", "database"];
    bench.json(&[&["restore", "shop@latest"], &paths[..], &["--into", &bench.text("out")]].concat());
    bench.json(&["site", "import", "shop", &bench.text("out"), "--platform=one", "--app=shop"]);
    assert_eq!(bench.read("root/sites/shop/files/new.txt"), "new");
}

#[test]
fn overlays_that_are_damaged_or_gone_are_never_taken_for_empty_ones() {
    let bench = Bench::with_site();
    bench.write("root/sites/shop/files/new.txt", "new");
    bench.json(&["snapshot", "shop"]);
    bench.stop();
    damage(&bench, "store/live/live.redb");
    let said = refuses_to_serve(&bench);
    assert!(said.contains("live.redb") && said.contains("cutover"), "{said}");
    fs::rename(bench.path("store/live"), bench.path("store/live.aside")).unwrap();
    fs::create_dir(bench.path("store/live")).unwrap();
    let said = refuses_to_serve(&bench);
    assert!(said.contains("missing") && said.contains("cutover"), "{said}");
    // What it says is what helps.
    fs::write(bench.path("store/live/live.redb"), "").unwrap();
    bench.serve();
    assert!(!bench.exists("root/sites/shop/modules/new.txt"));
    bench.json(&["cutover", "shop", "--to", "shop@latest"]);
    bench.json(&["restore", "shop@latest", "files"]);
    assert_eq!(bench.read("root/sites/shop/files/new.txt"), "new");
    bench.json(&["verify"]);
}
