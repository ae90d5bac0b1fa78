//! What is written into a site's tree, and by what it is included.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::Lane;
use crate::objects::Objects;
use crate::site::{GenerationName, Place, testing};
use crate::trees::ImportOptions;

const INCLUDE: &str = "// By sitefs.\ninclude __DIR__ . '/sitefs.php';";

fn settings() -> Settings {
    Settings {
        file: "sitefs.php".parse().unwrap(),
        text: "<?php return ['@SITE@', @GENERATION@, '@PLATFORM@', '@KIND@', '@DATABASE@'];".to_owned(),
        included_by: Some("settings.php".parse().unwrap()),
        include: Some(INCLUDE.to_owned()),
        include_at: IncludeAt::End,
    }
}

/// A site's directory, imported.
fn imported(fill: impl FnOnce(&Path)) -> (Trees, Root, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (store, site) = (directory.path().join("store"), directory.path().join("site"));
    fs::create_dir(&store).unwrap();
    fs::create_dir(&site).unwrap();
    fill(&site);
    Objects::create(&store).unwrap();
    let trees = Trees::new(Arc::new(Objects::open(&store).unwrap()), 8 << 20);
    let (root, _) = trees.import(&site, &ImportOptions::default(), &|_| {}).unwrap();
    (trees, root, directory)
}

fn file(trees: &Trees, root: &Root, path: &str) -> (String, Attributes) {
    let entry = trees.entry_at(root, &path.parse().unwrap()).unwrap().unwrap();
    let Node::File(content) = entry.node else { panic!("{entry:?}") };
    (String::from_utf8(read(trees, &content).unwrap()).unwrap(), entry.attributes)
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_parts(seconds, 0)
}

#[test]
fn the_text_names_the_generation_and_its_database() {
    let platform = testing::platform("two");
    let facts = Facts {
        generation: GenerationName { site: "example.com".parse().unwrap(), number: 12 },
        is_clone: false,
        place: Place::new(&platform, Lane::B, &"example.com".parse().unwrap()),
        platform: platform.name,
        uri: String::new(),
        run: String::new(),
        step: String::new(),
        php: "php".to_owned(),
    };
    assert_eq!(facts.environment(&[].into())["SITEFS_SITE_DIR"], "/platforms/two@b/web/sites/example.com");
    let render = |database: Option<&str>| {
        let database = database.map(|path| path.parse().unwrap());
        settings().render(&facts, database.as_ref(), None)
    };
    assert_eq!(
        render(Some("database/.ht.sqlite")),
        "<?php return ['example.com', 12, 'two', 'live', 'database/.ht.sqlite'];"
    );
    for none in [None, Some("a'b"), Some("a\\b"), Some("a\nb"), Some("$a")] {
        assert!(render(none).ends_with("'live', ''];"), "{none:?}");
    }
}

#[test]
fn the_application_includes_the_file_and_can_read_it_as_its_own() {
    let (trees, root, _directory) = imported(|site| {
        fs::write(site.join("settings.php"), "<?php\n$one = 1;").unwrap();
        fs::set_permissions(site.join("settings.php"), fs::Permissions::from_mode(0o444)).unwrap();
    });
    let written = settings().write(&trees, &root, "first", time(1)).unwrap();
    assert_eq!(written.not_included, None);
    let (text, attributes) = file(&trees, &written.root, "settings.php");
    assert_eq!(text, format!("<?php\n$one = 1;\n\n{INCLUDE}\n"));
    assert_eq!((attributes.mode, attributes.mtime), (0o444, time(1)));
    let (text, attributes) = file(&trees, &written.root, "sitefs.php");
    assert_eq!((text.as_str(), attributes.mode), ("first", 0o444));
    // Again: nothing changes, not even a time.
    let again = settings().write(&trees, &written.root, "first", time(2)).unwrap();
    assert_eq!(again.root, written.root);
    // Another generation: its own file alone.
    let next = settings().write(&trees, &written.root, "second", time(3)).unwrap();
    assert_eq!(file(&trees, &next.root, "settings.php"), file(&trees, &written.root, "settings.php"));
    assert_eq!(file(&trees, &next.root, "sitefs.php").0, "second");
}

#[test]
fn nothing_is_added_behind_the_end_of_php() {
    for (before, after) in [
        ("<?php\n$a = 1;\n?>\n", format!("<?php\n$a = 1;\n\n\n{INCLUDE}\n?>\n")),
        ("<?php $a = 1; // so ?>", format!("<?php $a = 1; // so \n\n{INCLUDE}\n?>\n")),
        ("<?php $a = '?>';\n\n\n", format!("<?php $a = '?>';\n\n{INCLUDE}\n")),
        ("", format!("\n\n{INCLUDE}\n")),
    ] {
        let text = including(before.as_bytes(), INCLUDE, IncludeAt::End).unwrap();
        assert_eq!(String::from_utf8(text.clone()).unwrap(), after);
        assert_eq!(including(&text, INCLUDE, IncludeAt::End), None);
    }
}

#[test]
fn constants_are_told_before_the_applications_own() {
    for (before, after) in [
        (
            "<?php\n/** Own. */\ndefine('A', 1);\n",
            format!("<?php\n{INCLUDE}\n\n/** Own. */\ndefine('A', 1);\n"),
        ),
        ("<?PHP define('A', 1);", format!("<?PHP\n{INCLUDE}\n\ndefine('A', 1);")),
        ("#!/usr/bin/php\n<?php\nrun();\n", format!("#!/usr/bin/php\n<?php\n{INCLUDE}\n\nrun();\n")),
        ("\u{feff}<?php\nrun();\n", format!("\u{feff}<?php\n{INCLUDE}\n\nrun();\n")),
        ("#!/bin/sh\nrun\n", format!("#!/bin/sh\n{INCLUDE}\n\nrun\n")),
        ("[section]\nkey = 1\n", format!("{INCLUDE}\n\n[section]\nkey = 1\n")),
        ("", format!("{INCLUDE}\n\n")),
    ] {
        let text = including(before.as_bytes(), INCLUDE, IncludeAt::Start).unwrap();
        assert_eq!(String::from_utf8(text.clone()).unwrap(), after);
        assert_eq!(including(&text, INCLUDE, IncludeAt::Start), None);
    }
}

#[test]
fn settings_that_cannot_include_anything_are_told() {
    let (trees, root, _directory) =
        imported(|site| symlink("/etc/app.php", site.join("settings.php")).unwrap());
    let written = settings().write(&trees, &root, "text", time(1)).unwrap();
    assert!(written.not_included.unwrap().contains("not a regular file"));
    assert_eq!(file(&trees, &written.root, "sitefs.php").1.mode, 0o640);
    let (trees, root, _directory) = imported(|_| {});
    let written = settings().write(&trees, &root, "text", time(1)).unwrap();
    assert!(written.not_included.unwrap().contains("there is no settings.php"));
    // A recipe whose application looks for the file by itself.
    let alone = Settings { included_by: None, include: None, ..settings() };
    assert_eq!(alone.write(&trees, &root, "text", time(1)).unwrap().not_included, None);
}
