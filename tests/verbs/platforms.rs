//! Platforms are native directories, and stay so.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::bench::Bench;

#[test]
fn a_platform_is_as_it_was_once_it_is_removed() {
    let bench = Bench::new();
    bench.native_platform("one");
    let before = (bench.listing("platforms/one"), bench.listing("platforms"));
    let directory = bench.text("platforms/one");
    let added = bench.json(&["platform", "add", "one", &directory]);
    assert_eq!(added["directory"], directory.as_str());
    assert_eq!(bench.json(&["platform", "list"])["platforms"][0]["platform"], "one");
    let shown = bench.json(&["platform", "show", "one"]);
    assert!(shown["mounts"].as_array().unwrap().iter().all(|mount| mount["mounted"] == true), "{shown}");
    bench.says(&["platform", "show", "one"]);
    bench.json(&["platform", "verify", "one"]);
    // While covered, the platform's own entries are the native ones, in both lanes.
    let device = fs::metadata(&directory).unwrap().dev();
    assert_ne!(fs::metadata(bench.path("platforms/one/web/sites")).unwrap().dev(), device);
    for lane in ["platforms/one", "platforms/one@b"] {
        for name in ["all", "default", "sites.php", "all/modules/one.module", "main/."] {
            let metadata = fs::metadata(bench.path(&format!("{lane}/web/sites/{name}"))).unwrap();
            assert_eq!(metadata.dev(), device, "{lane}: {name}");
        }
    }
    bench.json(&["platform", "remove", "one"]);
    assert_eq!(before, (bench.listing("platforms/one"), bench.listing("platforms")));
    assert_eq!(bench.mounts(), [bench.text("root")]);
    // What is written through the view meanwhile is in the platform.
    bench.json(&["platform", "add", "one", &directory]);
    bench.write("platforms/one/web/sites/all/modules/two.module", "<?php // two\n");
    bench.json(&["platform", "remove", "one"]);
    assert_eq!(bench.read("platforms/one/web/sites/all/modules/two.module"), "<?php // two\n");
}

#[test]
fn a_directory_that_a_site_covers_is_seen_again_without_the_site() {
    let bench = Bench::new();
    bench.platform("one");
    bench.json(&["platform", "remove", "one"]);
    bench.original();
    fs::rename(bench.path("original"), bench.path("platforms/one/web/sites/shop")).unwrap();
    let directory = bench.text("platforms/one");
    bench.json(&["platform", "add", "one", &directory]);
    let native = bench.text("platforms/one/web/sites/shop");
    let number = fs::metadata(&native).unwrap().dev();
    bench.json(&["site", "import", "shop", &native, "--platform=one", "--app=shop"]);
    assert_ne!(fs::metadata(&native).unwrap().dev(), number, "the site is in its own place now");
    bench.write("platforms/one/web/sites/shop/new", "new");
    assert_eq!(bench.read("root/sites/shop/new"), "new");
    let refused = bench.fails(3, &["platform", "remove", "one"]);
    assert!(refused.contains("shop"), "{refused}");
    bench.json(&["site", "remove", "shop", "--force"]);
    assert_eq!(
        fs::metadata(&native).unwrap().dev(),
        number,
        "the directory it was imported from is seen again"
    );
    assert!(!bench.exists("platforms/one/web/sites/shop/new"));
    bench.json(&["platform", "remove", "one"]);
    assert_eq!(bench.read("platforms/one/web/sites/shop/files/7.txt"), "upload 7\n");
}
