//! What the application keeps among its uploads, and belongs to one generation: a database, a directory of configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::bench::Bench;

/// Applications such as Drupal: the database is below `files`, which all generations share.
const RECIPE: &str = r#"
title = "Blog"
data = ["files"]
[database]
engine = "sqlite"
file = ["database/*.sqlite", "files/.ht.sqlite"]
[settings]
file = "sitefs.php"
text = "<?php $database = __DIR__ . '/@DATABASE@'; $kind = '@KIND@';"
included_by = "settings.php"
include = "include __DIR__ . '/sitefs.php';"
"#;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("recipes/blog.toml", RECIPE);
    bench.platform("one");
    bench.platform("two");
    bench.original();
    fs::rename(bench.path("original/database/site.sqlite"), bench.path("original/files/.ht.sqlite")).unwrap();
    fs::remove_dir(bench.path("original/database")).unwrap();
    fs::set_permissions(bench.path("original/files"), fs::Permissions::from_mode(0o2775)).unwrap();
    bench
}

fn mode(bench: &Bench, name: &str) -> u32 {
    fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o7777
}

#[test]
fn it_belongs_to_one_generation_whatever_becomes_of_the_site() {
    let bench = bench();
    // Committed transactions that are in the log alone.
    bench.sql(
        "original/files/.ht.sqlite",
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; INSERT INTO node(title) VALUES('fourth')",
    );
    let before = bench.listing("original");
    let imported =
        bench.json(&["site", "import", "blog", &bench.text("original"), "--platform=one", "--app=blog"]);
    assert_eq!(imported["moved"][0]["from"], "files/.ht.sqlite");
    assert_eq!(imported["moved"][0]["to"], "database/.ht.sqlite");
    let names = |listing: Vec<String>| -> Vec<String> {
        let names = listing.iter().map(|line| line.split(' ').take(5).collect::<Vec<_>>().join(" "));
        names.filter(|name| !name.contains(".ht.sqlite-")).collect()
    };
    assert_eq!(names(bench.listing("original")), names(before), "the original was changed");

    let count = |site: &str| {
        bench.sql(&format!("root/sites/{site}/database/.ht.sqlite"), "SELECT count(*) FROM node")
    };
    assert_eq!(count("blog"), "4");
    assert_eq!(mode(&bench, "root/sites/blog/database"), 0o2775);
    assert_eq!(mode(&bench, "root/sites/blog/settings.php"), 0o440);
    assert_eq!(mode(&bench, "root/sites/blog/sitefs.php"), 0o440);
    let uploads = fs::read_dir(bench.path("root/data/blog/files")).unwrap();
    let databases = uploads.flatten().filter(|entry| entry.file_name().to_string_lossy().contains(".ht."));
    assert_eq!(databases.count(), 0);
    let settings = bench.read("root/sites/blog/settings.php");
    assert!(settings.ends_with("$three = 3;\n\ninclude __DIR__ . '/sitefs.php';\n"), "{settings}");
    assert!(bench.read("root/sites/blog/sitefs.php").contains("'/database/.ht.sqlite'; $kind = 'live'"));

    // The first snapshot is a whole site: nothing differs from what is shown.
    let first = imported["snapshot"]["id"].as_str().unwrap().to_owned();
    let said = bench.says(&["diff", &format!("blog@{first}"), "blog", "--names"]);
    assert!(!said.contains("settings.php") && !said.contains("sitefs.php"), "{said}");

    // A clone has its own, and is told so.
    bench.json(&["clone", "blog", "test"]);
    bench.sql("root/sites/test/database/.ht.sqlite", "DELETE FROM node");
    assert_eq!((count("test"), count("blog")), ("0".to_owned(), "4".to_owned()));
    assert!(bench.read("root/sites/test/sitefs.php").contains("'clone'"));

    // A move to another platform, and back: the database goes along, the uploads stay.
    bench.json(&["cutover", "blog", "--platform=two"]);
    bench.sql("root/sites/blog/database/.ht.sqlite", "INSERT INTO node(title) VALUES('fifth')");
    bench.write("root/sites/blog/files/new.txt", "new");
    assert_eq!(count("blog"), "5");
    bench.json(&["rollback", "blog"]);
    assert_eq!(
        (count("blog"), bench.read("root/sites/blog/files/new.txt")),
        ("4".to_owned(), "new".to_owned())
    );
    assert_eq!(bench.read("root/sites/blog/settings.php"), settings);

    // New code that knows nothing of it.
    fs::create_dir(bench.path("release")).unwrap();
    bench.write("release/settings.php", "<?php\n// released\n");
    bench.json(&["deploy", "blog", &bench.text("release")]);
    assert_eq!((count("blog"), mode(&bench, "root/sites/blog/database")), ("4".to_owned(), 0o2775));
    let settings = bench.read("root/sites/blog/settings.php");
    assert_eq!(settings, "<?php\n// released\n\ninclude __DIR__ . '/sitefs.php';\n");
    bench.json(&["database", "verify", "blog"]);
    assert_eq!(bench.json(&["status"])["problems"], serde_json::json!([]));
}

#[test]
fn it_is_refused_where_the_application_could_not_be_told() {
    let bench = bench();
    let original = bench.text("original");
    let import = |more: &[&str]| {
        let arguments = [&["site", "import", "blog", &original, "--platform=one"][..], more].concat();
        bench.sitefs(&arguments)
    };
    let shop = import(&["--app=shop", "--database=sqlite:files/.ht.sqlite"]);
    assert_eq!(shop.exit, 3, "{}", shop.stderr);
    for part in ["all generations", "@DATABASE@", "docs/recipes.md"] {
        assert!(shop.stderr.contains(part), "{part:?} is not in: {}", shop.stderr);
    }
    // What is in the way is not written over.
    fs::write(bench.path("original/database"), "not a directory").unwrap();
    let blocked = import(&["--app=blog"]);
    assert_eq!(blocked.exit, 3, "{}", blocked.stderr);
    assert!(blocked.stderr.contains("`directory` in [database]"), "{}", blocked.stderr);
    fs::remove_file(bench.path("original/database")).unwrap();
    fs::create_dir(bench.path("original/database")).unwrap();
    bench.sql("original/database/other.sqlite", "CREATE TABLE node(title)");
    let several = import(&["--app=blog"]);
    assert_eq!(several.exit, 2, "{}", several.stderr);
    assert!(several.stderr.contains("database/other.sqlite, files/.ht.sqlite"), "{}", several.stderr);
    assert_eq!(bench.json(&["site", "list"])["sites"], serde_json::json!([]));
    // As it says: the one in use is named.
    let named = import(&["--app=blog", "--database=sqlite:files/.ht.sqlite"]);
    assert_eq!(named.exit, 0, "{}", named.stderr);
    assert_eq!(bench.sql("root/sites/blog/database/.ht.sqlite", "SELECT count(*) FROM node"), "3");
}

#[test]
fn a_directory_goes_with_the_generation_it_belongs_to() {
    let bench = bench();
    let recipe = RECIPE.replace("[database]", "moved = { \"files/config_*\" = \"config\" }\n[database]");
    bench.write("recipes/blog.toml", &recipe);
    for name in ["active", "staging"] {
        fs::create_dir_all(bench.path(&format!("original/files/config_3f2a/{name}"))).unwrap();
    }
    bench.write("original/files/config_3f2a/active/site.json", "first");
    fs::hard_link(
        bench.path("original/files/config_3f2a/active/site.json"),
        bench.path("original/files/config_3f2a/staging/site.json"),
    )
    .unwrap();
    let imported =
        bench.json(&["site", "import", "blog", &bench.text("original"), "--platform=one", "--app=blog"]);
    assert_eq!(imported["moved"][1]["from"], "files/config_3f2a");
    assert_eq!(imported["moved"][1]["to"], "config");
    let configuration = || bench.read("root/sites/blog/config/active/site.json");
    assert_eq!(
        (configuration(), bench.read("root/sites/blog/config/staging/site.json")),
        ("first".into(), "first".into())
    );
    assert!(!bench.path("root/data/blog/files/config_3f2a").exists(), "it is shared by all generations");
    assert!(bench.path("original/files/config_3f2a").exists(), "the original was changed");

    bench.json(&["cutover", "blog", "--platform=two"]);
    bench.write("root/sites/blog/config/active/site.json", "second");
    bench.json(&["rollback", "blog"]);
    assert_eq!(configuration(), "first");
    // It goes with the database: neither new code nor going back to older code replaces it.
    bench.write("root/sites/blog/config/active/site.json", "third");
    fs::create_dir(bench.path("release")).unwrap();
    bench.write("release/settings.php", "<?php\n// released\n");
    bench.json(&["deploy", "blog", &bench.text("release")]);
    assert_eq!(configuration(), "third");
    bench.write("root/sites/blog/config/active/site.json", "fourth");
    bench.json(&["rollback", "blog", "--code-only"]);
    assert_eq!(configuration(), "fourth");

    // Which of two is meant cannot be known.
    fs::create_dir(bench.path("original/files/config_old")).unwrap();
    let original = bench.text("original");
    let two = bench.sitefs(&["site", "import", "other", &original, "--platform=one", "--app=blog"]);
    assert_eq!(two.exit, 3, "{}", two.stderr);
    assert!(two.stderr.contains("files/config_3f2a, files/config_old"), "{}", two.stderr);
}

#[test]
fn a_site_that_lacks_what_its_platform_asks_for_is_no_directory_of_any_files() {
    let bench = bench();
    bench.write(
        "recipes/blog.toml",
        &format!("{RECIPE}\n[detect]\ndocroot = ['index.php']\nsite = ['blog.ini']"),
    );
    let original = bench.text("original");
    let import = |more: &[&str]| {
        let arguments = [&["site", "import", "blog", &original, "--platform=one"][..], more].concat();
        bench.sitefs(&arguments)
    };
    let lacking = import(&[]);
    assert_eq!(lacking.exit, 2, "{}", lacking.stderr);
    for part in ["Blog", "blog.ini", "--app generic"] {
        assert!(lacking.stderr.contains(part), "{part:?} is not in: {}", lacking.stderr);
    }
    assert_eq!(import(&["--app=blog"]).exit, 0);
}
