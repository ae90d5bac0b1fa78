//! Code that is not what it was, and programs where there are to be none.

use std::fs;
use std::os::unix::fs::chown;

use serde_json::{Value, json};

use crate::bench::Bench;

/// The user that web servers run as, on Debian.
const WEB_USER: u32 = 33;

fn answer(bench: &Bench, exit: i32, arguments: &[&str]) -> Value {
    let ran = bench.sitefs(&[&["--json"], arguments].concat());
    assert_eq!(ran.exit, exit, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn named(changes: &Value) -> Vec<Value> {
    changes.as_array().unwrap().iter().map(|one| json!([one["path"], one["change"], one["uid"]])).collect()
}

#[test]
fn each_file_of_a_platform_that_is_not_what_it_was_is_named() {
    let bench = Bench::new();
    bench.platform("one");
    bench.write("platforms/one/web/index.php", "<?php // not what was added");
    bench.write("platforms/one/web/cgi.php", "<?php");
    chown(bench.path("platforms/one/web/cgi.php"), Some(WEB_USER), Some(WEB_USER)).unwrap();
    // What it was is known to the store alone, and garbage to nobody.
    bench.json(&["gc"]);
    let found = answer(&bench, 1, &["platform", "verify", "one"]);
    let expected = [json!(["web/cgi.php", "added", WEB_USER]), json!(["web/index.php", "modified", 0])];
    assert_eq!(named(&found["changes"]), expected);
    assert!(found["changes"][0]["changed"].is_string(), "{found}");
    bench.json(&["platform", "verify", "one", "--accept"]);
    bench.json(&["platform", "verify", "one"]);
    fs::remove_file(bench.path("platforms/one/web/cgi.php")).unwrap();
    let found = answer(&bench, 1, &["platform", "verify", "one"]);
    assert_eq!(named(&found["changes"]), [json!(["web/cgi.php", "removed", null])]);
    bench.json(&["verify"]);
}

#[test]
fn programs_that_appeared_among_the_uploads_are_named_with_when_and_whose_they_are() {
    let bench = Bench::with_site();
    let id = |taken: Value| taken["snapshot"]["id"].as_str().unwrap().to_owned();
    let release = id(bench.json(&["snapshot", "shop", "--tag", "release-7"]));
    bench.json(&["verify", "shop", "--against", "release-7"]);
    // What sites do every day.
    bench.write("root/sites/shop/files/upload.txt", "words");
    bench.sql("root/sites/shop/database/site.sqlite", "INSERT INTO node(title) VALUES('more')");
    let before = id(bench.json(&["snapshot", "shop"]));
    bench.json(&["verify", "shop", "--against", "release-7"]);
    // What they do not.
    for (name, content) in [
        ("files/shell.php", "<?php system($_GET[0]);"),
        ("files/photo.jpg", "GIF89a <?PHP eval(0);"),
        ("files/.htaccess", "AddType application/x-httpd-php .jpg"),
    ] {
        bench.write(&format!("root/sites/shop/{name}"), content);
        chown(bench.path(&format!("root/sites/shop/{name}")), Some(WEB_USER), Some(WEB_USER)).unwrap();
    }
    let after = id(bench.json(&["snapshot", "shop"]));
    bench.json(&["snapshot", "shop"]);
    bench.write("root/sites/shop/modules/custom/custom.module", "<?php // changed");
    let found = answer(&bench, 1, &["verify", "shop", "--against", "release-7"]);
    assert_eq!(found["against"], release);
    assert_eq!(named(&found["code"]), [json!(["modules/custom/custom.module", "modified", 0])], "{found}");
    assert_eq!(found["code"][0]["first_as_it_is"], Value::Null, "no snapshot has it yet");
    let expected = ["files/.htaccess", "files/photo.jpg", "files/shell.php"];
    assert_eq!(named(&found["executables"]), expected.map(|path| json!([path, "added", WEB_USER])));
    for file in found["executables"].as_array().unwrap() {
        assert_eq!((&file["last_as_it_was"], &file["first_as_it_is"]), (&json!(before), &json!(after)));
    }
    assert_eq!(bench.sitefs(&["verify", "shop"]).exit, 2, "against what?");
}
