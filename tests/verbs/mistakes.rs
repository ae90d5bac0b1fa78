//! What a person is told who asks for what cannot be.

use std::fs;

use crate::bench::Bench;

#[test]
fn unknown_and_unfit_names_are_refused_with_advice() {
    let bench = Bench::with_site();
    bench.json(&["clone", "shop", "test"]);
    let original = bench.text("original");
    let one = bench.text("platforms/one");
    let inside = bench.text("platforms/one/web");
    fs::create_dir(bench.path("empty")).unwrap();
    let empty = bench.text("empty");
    let served = bench.text("root/sites/shop");
    // Exit code, arguments, and what the message must name.
    let cases: &[(i32, &[&str], &str)] = &[
        (2, &[], "Usage"),
        (2, &["frobnicate"], "frobnicate"),
        (2, &["snapshot"], "SITE"),
        (2, &["snapshot", "../shop"], "../shop"),
        (2, &["snapshot", "nosuch"], "nosuch"),
        (2, &["log", "nosuch"], "nosuch"),
        (2, &["site", "show", "nosuch"], "nosuch"),
        (2, &["site", "remove", "nosuch"], "nosuch"),
        (2, &["show", "shop"], "SITE@ID"),
        (2, &["show", "shop@nosuch"], "nosuch"),
        (2, &["show", "shop@{1000d}"], "shop"),
        (2, &["diff", "shop@nosuch", "shop"], "nosuch"),
        (2, &["diff", "shop", "shop", "--names", "--text"], "--names"),
        (2, &["tag", "shop@nosuch", "a"], "nosuch"),
        (2, &["clone", "nosuch", "other"], "nosuch"),
        (3, &["clone", "shop", "test"], "test"),
        (2, &["clone", "shop", "other", "--platform=nosuch"], "nosuch"),
        (2, &["clone", "shop", "other", "--from=test@live"], "test"),
        (2, &["cutover", "shop", "--platform=nosuch"], "nosuch"),
        (2, &["cutover", "shop", "--platform=one"], "already"),
        (2, &["cutover", "shop", "--to=77"], "77"),
        (2, &["cutover", "shop"], "--platform"),
        (2, &["rollback", "shop"], "sitefs log shop"),
        (2, &["restore", "shop@nosuch", "settings.php"], "nosuch"),
        (2, &["update", "shop"], "--platform"),
        (2, &["update", "shop", "--platform=nosuch"], "nosuch"),
        (2, &["platform", "show", "nosuch"], "nosuch"),
        (2, &["platform", "remove", "nosuch"], "nosuch"),
        (3, &["platform", "remove", "one"], "shop"),
        (2, &["platform", "add", "three", &empty], "--sites"),
        (3, &["platform", "add", "three", &one], "one"),
        (3, &["platform", "add", "three", &inside], "one"),
        (3, &["site", "import", "shop", &original, "--platform=one"], "already"),
        (2, &["site", "import", "other", &original, "--platform=nosuch"], "nosuch"),
        (2, &["site", "import", "other", &original, "--platform=one", "--app=nosuch"], "known:"),
        (2, &["site", "import", "other", &empty, "--platform=one", "--app=shop"], "--database"),
        (3, &["site", "import", "other", &served, "--platform=one", "--app=shop"], "sitefs clone"),
        (3, &["site", "remove", "shop"], "--force"),
        (2, &["site", "set", "shop", "nosuch", "x"], "uri"),
        (2, &["database", "verify", "shop@nosuch"], "nosuch"),
        (2, &["database", "restore", "shop"], "FILE"),
        (3, &["serve"], "serves the store"),
    ];
    for (exit, arguments, part) in cases {
        let ran = bench.sitefs(arguments);
        assert_eq!((ran.exit, ran.stdout.as_str()), (*exit, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{arguments:?}: {part:?} is not in: {}", ran.stderr);
    }
    // A directory that is not there is named.
    let missing = bench.text("missing");
    for arguments in [
        &["platform", "add", "three", &missing][..],
        &["site", "import", "other", &missing, "--platform=one", "--app=shop"],
        &["deploy", "shop", &missing],
    ] {
        let ran = bench.sitefs(arguments);
        assert!(ran.exit == 1 || ran.exit == 2, "{arguments:?}: {}", ran.exit);
        assert!(ran.stderr.contains(&missing), "{arguments:?}: {}", ran.stderr);
    }
    // None of that left anything.
    let status = bench.json(&["status"]);
    assert_eq!(status["problems"], serde_json::json!([]));
    assert_eq!(status["sites"].as_array().unwrap().len(), 2);
    assert_eq!(status["platforms"].as_array().unwrap().len(), 2);
    assert_eq!(bench.json(&["site", "show", "shop"])["generations"].as_array().unwrap().len(), 1);
}

#[test]
fn the_last_site_leaves_nothing_and_without_a_daemon_every_verb_says_how_to_start_it() {
    let bench = Bench::with_site();
    bench.json(&["site", "set", "shop", "uri", "https://shop.example"]);
    bench.json(&["snapshot", "shop"]);
    bench.says(&["site", "remove", "shop", "--force"]);
    for directory in ["sites", "generations", "data", "snapshots", "live"] {
        assert_eq!(bench.listing(&format!("root/{directory}")), Vec::<String>::new(), "{directory}");
    }
    assert!(!bench.exists("platforms/one/web/sites/shop"));
    assert!(bench.exists("platforms/one/web/sites/all/modules/one.module"));
    bench.json(&["platform", "remove", "one"]);
    bench.says(&["status"]);
    bench.stop();
    for arguments in [&["status"][..], &["stop"], &["site", "list"], &["snapshot", "shop"], &["log", "shop"]]
    {
        let said = bench.fails(1, arguments);
        assert!(said.contains("start it: sitefs --store"), "{said}");
    }
    let ran = bench.sitefs(&["--json", "status"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.exit, &document["error"]["exit_code"]), (1, &serde_json::json!(1)));
}

#[test]
fn a_database_that_is_not_there_is_found_before_the_files_are_read() {
    let bench = Bench::with_site();
    let recipe = "title = 'Elsewhere'\n[database]\nengine = 'sqlite'\nfile = 'nowhere/*.sqlite'\n[settings]\nfile = 'own.php'\n\
        text = '@DATABASE_NAME@ @DATABASE_USER@ @DATABASE_PASSWORD@'\n";
    bench.write("recipes/elsewhere.toml", recipe);
    let original = bench.text("original");
    let import = ["site", "import", "other", &original, "--platform=one", "--app=elsewhere"];
    let told = bench.sitefs(&import);
    assert!(told.exit == 2 && told.stderr.contains("--database mariadb:///NAME"), "{}", told.stderr);
    let nobody = "mariadb://127.0.0.1:1/other?admin=nobody";
    let told = bench.sitefs(&[&import[..], &["--database", nobody]].concat());
    assert!(told.exit != 0 && !told.stderr.contains("importing files"), "{}", told.stderr);
    assert!(!bench.says(&["site", "list"]).contains("other"));
}
