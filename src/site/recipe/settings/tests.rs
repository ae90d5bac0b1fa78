//! What is written into a site's tree, and by what it is included.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::{Lane, process};
use crate::objects::Objects;
use crate::site::{GenerationName, Library, Place, testing};
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

fn facts() -> Facts {
    let platform = testing::platform("two");
    Facts {
        generation: GenerationName { site: "example.com".parse().unwrap(), number: 12 },
        is_clone: false,
        place: Place::new(&platform, Lane::B, &"example.com".parse().unwrap()),
        platform: platform.name,
        uri: String::new(),
        run: String::new(),
        step: String::new(),
        php: "php".to_owned(),
    }
}

#[test]
fn the_text_names_the_generation_and_its_database() {
    let facts = facts();
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

/// As an installer does that finds no settings of its own, and as people do.
#[test]
fn what_was_written_behind_the_first_or_the_last_word_does_not_get_it() {
    let own = "$databases['default'] = ['database' => 'live'];";
    for (before, after) in [
        (format!("<?php\n\n{INCLUDE}\n{own}\n"), format!("<?php\n\n\n{own}\n\n{INCLUDE}\n")),
        (
            format!("<?php\n\n{INCLUDE}\n{own}\n{INCLUDE}\n?>\n"),
            format!("<?php\n\n\n{own}\n\n\n\n{INCLUDE}\n?>\n"),
        ),
    ] {
        let text = including(before.as_bytes(), INCLUDE, IncludeAt::End).unwrap();
        assert_eq!(String::from_utf8(text.clone()).unwrap(), after);
        assert_eq!(including(&text, INCLUDE, IncludeAt::End), None);
    }
    let before = format!("<?php\ndefine('DB_NAME', 'live');\n{INCLUDE}\nrun();\n");
    let text = including(before.as_bytes(), INCLUDE, IncludeAt::Start).unwrap();
    let after = format!("<?php\n{INCLUDE}\n\ndefine('DB_NAME', 'live');\n\nrun();\n");
    assert_eq!(String::from_utf8(text.clone()).unwrap(), after);
    assert_eq!(including(&text, INCLUDE, IncludeAt::Start), None);
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

/// What PHP makes of the settings of a wiki, as MediaWiki's installer writes them, with those of the built-in recipe below.
fn wiki(
    is_clone: bool,
    file: Option<&str>,
    server: Option<&DatabaseFacts>,
    is_held: bool,
) -> serde_json::Value {
    let library = Library::built_in();
    let recipe = library.iter().find(|recipe| recipe.name == "mediawiki").unwrap();
    let settings = recipe.settings.as_ref().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = file.map(|path| path.parse().unwrap());
    let text = settings.render(&Facts { is_clone, ..facts() }, file.as_ref(), server);
    fs::write(directory.path().join(settings.file.as_str()), text).unwrap();
    let own = "<?php\n$wgServer = 'https://example.com';\n$wgDBname = 'old';\n$wgDBprefix = 'w_';\n\
        $wgDBserver = 'old.internal';\n$wgSQLiteDataDir = '/old/data';\n\
        $wgJobTypeConf['default'] = [ 'server' => [ 'dbDirectory' => $wgSQLiteDataDir, 'dbname' => \"{$wgDBname}_jobqueue\" ] ];";
    let own = including(own.as_bytes(), settings.include.as_ref().unwrap(), settings.include_at).unwrap();
    fs::write(directory.path().join("LocalSettings.php"), own).unwrap();
    if is_held {
        fs::write(directory.path().join("readonly.txt"), "soon").unwrap();
    }
    let program = "const CACHE_NONE = 0; const CACHE_DB = 1; const CACHE_ACCEL = 3; $IP = '/platform'; \
        $wgCachePrefix = false; $wgUploadDirectory = false; $wgReadOnlyFile = false; $wgEnableEmail = true; \
        $wgMainCacheType = CACHE_ACCEL; $wgObjectCaches = [ 1 => [] ]; $wgLocalisationCacheConf = []; \
        require 'LocalSettings.php'; unset( $GLOBALS['GLOBALS'] ); echo json_encode( get_defined_vars() );";
    let outcome = process::Command::new("php").arguments(["-r", program]).directory(directory.path()).run();
    let printed = outcome.unwrap().success().unwrap().output.text();
    let place = directory.path().to_str().unwrap();
    serde_json::from_str(&printed.replace('\\', "").replace(place, "HERE"))
        .unwrap_or_else(|_| panic!("{printed}"))
}

#[test]
fn a_wiki_finds_the_database_of_its_generation_wherever_the_installer_put_it() {
    let mut server = DatabaseFacts {
        engine: "mariadb".to_owned(),
        host: String::new(),
        port: String::new(),
        socket: "/run/mysqld/mysqld.sock".to_owned(),
        name: "own".to_owned(),
        user: "owner".to_owned(),
        password: "secret".to_owned(),
    };
    let on_socket = wiki(false, None, Some(&server), false);
    assert_eq!(on_socket["wgDBtype"], "mysql");
    assert_eq!(on_socket["wgDBserver"], "localhost:/run/mysqld/mysqld.sock");
    assert_eq!(
        [&on_socket["wgDBname"], &on_socket["wgDBuser"], &on_socket["wgDBpassword"]],
        ["own", "owner", "secret"]
    );
    // Sessions stay valid in a database that got another name; what is in memory belongs to one generation.
    assert_eq!(on_socket["wgObjectCaches"]["1"]["keyspace"], "old-w_");
    assert_eq!(on_socket["wgCachePrefix"], "example.com-12");
    server = DatabaseFacts {
        host: "db.internal".to_owned(),
        port: "3307".to_owned(),
        socket: String::new(),
        ..server
    };
    assert_eq!(wiki(false, None, Some(&server), false)["wgDBserver"], "db.internal:3307");
    server = DatabaseFacts { engine: "postgresql".to_owned(), ..server };
    let on_postgresql = wiki(false, None, Some(&server), false);
    assert_eq!([&on_postgresql["wgDBtype"], &on_postgresql["wgDBserver"]], ["postgres", "db.internal"]);
    assert_eq!(on_postgresql["wgDBport"], 3307);

    let in_file = wiki(false, Some("database/old.sqlite"), None, false);
    assert_eq!([&in_file["wgDBtype"], &in_file["wgDBname"]], ["sqlite", "old"]);
    assert_eq!(in_file["wgSQLiteDataDir"], "HERE/database");
    assert_eq!(in_file["wgJobTypeConf"]["default"]["server"]["dbDirectory"], "HERE/database");
    assert_eq!(in_file["wgUploadDirectory"], "HERE/images");
}

#[test]
fn a_copy_of_a_wiki_neither_mails_nor_finds_the_original() {
    let copy = wiki(true, None, None, false);
    for key in ["wgDBserver", "wgDBname", "wgDBuser"] {
        assert_eq!(copy[key], "none");
    }
    assert_eq!(copy["wgEnableEmail"], false);
    assert_eq!(copy["wgServer"], "http://example.com");
    let live = wiki(false, None, None, false);
    assert_eq!([&live["wgDBname"], &live["wgServer"]], ["old", "https://example.com"]);
}

#[test]
fn a_wiki_that_is_held_caches_nothing_in_its_database() {
    let file = Some("database/old.sqlite");
    let [held, free] = [true, false].map(|is_held| wiki(false, file, None, is_held));
    assert_eq!(held["wgReadOnlyFile"], "HERE/readonly.txt");
    assert_eq!(free["wgReadOnlyFile"], false);
    assert_eq!([&held["wgMainCacheType"], &free["wgMainCacheType"]], [0, 3]);
    assert_eq!(held["wgParserCacheType"], 0);
}
