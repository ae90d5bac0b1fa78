//! Reading recipes, and finding the one that fits.

use std::fs;

use super::*;

fn parse(text: &str) -> Result<Recipe, RecipeError> {
    Recipe::parse("own", text, "/etc/sitefs/recipes/own.toml")
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn every_built_in_recipe_can_be_read() {
    let names: Vec<String> = Library::built_in().iter().map(|recipe| recipe.name.clone()).collect();
    assert_eq!(names, ["backdrop", "drupal", "drupal7", "generic", "mediawiki", "wordpress"]);
}

#[test]
fn the_whole_format_is_understood() {
    let recipe = parse(
        r#"
        title = "Guestbook"
        data = ["uploads", "private/files"]
        programs = ["php"]
        user = "www-data"
        timeout_seconds = 600
        environment = { APP_ENV = "prod" }
        readonly = { on = "touch x", off = { run = "rm x", timeout_seconds = 5 }, lock_database = false }
        maintenance = { on = "a", off = "b" }
        [detect]
        platform = ["composer.json"]
        docroot = ["index.php"]
        site = ["config.php"]
        [version]
        file = "version.php"
        after = "VERSION = '"
        [database]
        engine = "sqlite"
        file = "db/*.sqlite3"
        [settings]
        file = "generated.php"
        text = "<?php"
        included_by = "config.php"
        include = "require 'generated.php';"
        include_at = "start"
        [web]
        directories = ["assets"]
        hidden = ["private", "notes.txt"]
        [update]
        commands = ["one", { run = "two", timeout_seconds = 7200 }]
        rebuild = ["three"]
        hold_after_switch = false
        [[check]]
        run = "true"
        [[check]]
        title = "front page"
        page = "/"
        status = 204
        contains = ["hello"]
        lacks = ["error"]
        seconds_max = 3
        "#,
    )
    .unwrap();
    assert_eq!(recipe.user, User::Named("www-data".to_owned()));
    assert_eq!(recipe.settings.as_ref().unwrap().include_at, IncludeAt::Start);
    assert_eq!((recipe.web.directories.len(), recipe.web.hidden.len()), (1, 2));
    let timeouts: Vec<u32> =
        recipe.update.commands.iter().map(|command| recipe.timeout_seconds_of(command)).collect();
    assert_eq!(timeouts, [600, 7200]);
    assert_eq!(recipe.readonly.as_ref().unwrap().off.timeout_seconds, Some(5));
    assert_eq!(recipe.holding_mode(), recipe.readonly.as_ref());
    assert!(!recipe.update.hold_after_switch && !recipe.readonly.unwrap().lock_database);
    assert!(recipe.maintenance.unwrap().lock_database);
    assert_eq!((recipe.checks[0].title.as_str(), recipe.checks[0].seconds_max), ("true", 30));
    let Expectation::Page(page) = &recipe.checks[1].expectation else { panic!("{:?}", recipe.checks[1]) };
    assert_eq!((page.path.as_str(), page.status, recipe.checks[1].seconds_max), ("/", 204, 3));
}

#[test]
fn what_is_left_out_has_a_default() {
    let recipe = parse("title = 'x'").unwrap();
    assert_eq!((&recipe.user, recipe.timeout_seconds), (&User::SiteOwner, 3600));
    assert!(recipe.update.hold_after_switch && recipe.data.is_empty() && recipe.holding_mode().is_none());
}

#[test]
fn mistakes_are_shown_with_their_line_and_the_known_keys() {
    let text = error("title = 'x'\n[update]\ncomands = []");
    for part in ["/etc/sitefs/recipes/own.toml", "line 3", "comands", "`commands`", "`rebuild`"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    for (mistake, part) in [
        ("", "missing field `title`"),
        ("title = 'x'\ndata = ['/etc']", "it must be relative"),
        ("title = 'x'\n[update]\ncommands = [{ runs = 'x' }]", "`run`"),
        ("title = 'x'\n[update]\ncommands = [3]", "a shell line, or a table"),
        ("title = 'x'\n[[check]]\ntitle = 'y'", "either `run` or `page`"),
        ("title = 'x'\n[[check]]\nrun = 'y'\nstatus = 200", "only a check with `page` has"),
        ("title = 'x'\n[[check]]\npage = '/'\nafter_switch = true", "only a check with `run` has"),
        ("title = 'x'\n[[check]]\npage = '/'\nrequests = 5\nfailures_max = 5", "less than that"),
        ("title = 'x'\n[[check]]\npage = 'http://a/'", "must start with a slash"),
        ("title = 'x'\n[database]\nengine = 'oracle'\nfile = 'x'", "sqlite"),
        ("title = 'x'\n[database]\nengine = 'sqlite'\nfile = 3", "a path, or a list of paths"),
        ("title = 'x'\n[database]\nengine = 'sqlite'\nfile = []", "is empty"),
        ("title = 'x'\n[database]\nengine = 'sqlite'\nfile = ['../x']", "must not contain"),
    ] {
        let text = error(mistake);
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn contradictions_are_refused() {
    for (mistake, part) in [
        ("data = ['files']\ndatabase = { engine = 'sqlite', file = 'files/.ht.sqlite' }", "all generations"),
        (
            "data = ['files']\ndatabase = { engine = 'sqlite', file = 'x', directory = 'files/x' }\n\
             settings = { file = 'y', text = '@DATABASE@' }",
            "the directory files/x for databases",
        ),
        ("settings = { file = 'x', text = '', include = 'y' }", "without the other"),
        ("settings = { file = 'x', text = '', include = 'y', included_by = 'x' }", "itself"),
        ("data = ['files']\nsettings = { file = 'files/x', text = '' }", "data directory"),
        ("data = ['files', 'files/css']", "named by files already"),
        ("data = ['files', 'files']", "named by files already"),
        ("data = ['files']\nmoved = { 'files/a' = 'files/b' }", "files/b is in the data directory"),
        ("moved = { '*/a' = 'b' }", "only the last component"),
        ("moved = { 'a' = 'b_*' }", "cannot have a '*'"),
        ("database = { engine = 'sqlite', file = '*/x.sqlite' }", "only the last component"),
        ("database = { engine = 'sqlite', file = '*.*' }", "only one"),
        ("environment = { SITEFS_SITE = 'x' }", "a fact"),
    ] {
        let text = error(&format!("title = 'x'\n{mistake}"));
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn own_recipes_are_added_and_replace_those_built_in() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("guestbook.toml"), "title = 'Guestbook'").unwrap();
    fs::write(directory.path().join("drupal.toml"), "title = 'Our Drupal'").unwrap();
    fs::write(directory.path().join("README"), "not a recipe").unwrap();
    let library = Library::load(directory.path()).unwrap();
    assert_eq!(library.get("guestbook").unwrap().title, "Guestbook");
    assert_eq!(library.get("drupal").unwrap().title, "Our Drupal");
    let unknown = library.get("joomla").unwrap_err().to_string();
    assert!(unknown.contains("drupal, drupal7, generic, guestbook, mediawiki"), "{unknown}");
    assert!(Library::load(&directory.path().join("missing")).unwrap().get("guestbook").is_err());
}

#[test]
fn an_application_is_recognised_by_the_recipe_that_names_most_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (docroot, site) = (directory.path().join("web"), directory.path().join("web/sites/example.com"));
    let library = Library::built_in();
    let name =
        || library.detect(directory.path(), &docroot, &site).unwrap().map(|recipe| recipe.name.as_str());
    fs::create_dir_all(&site).unwrap();
    assert_eq!(name(), Some("generic"));
    fs::create_dir_all(docroot.join("core/lib")).unwrap();
    fs::create_dir_all(docroot.join("core/includes")).unwrap();
    fs::write(docroot.join("core/lib/Drupal.php"), "<?php\nclass Drupal {\n  const VERSION = '10.3.1';\n")
        .unwrap();
    fs::write(docroot.join("core/includes/update.inc"), "").unwrap();
    assert_eq!(name(), Some("generic"), "the site has no settings.php");
    fs::write(site.join("settings.php"), "").unwrap();
    assert_eq!(name(), Some("drupal"));
    let drupal = library.get("drupal").unwrap();
    assert_eq!(drupal.version_of(&docroot).unwrap().as_deref(), Some("10.3.1"));
    let missing = library.get("drupal7").unwrap().missing_from_platform(directory.path(), &docroot).unwrap();
    assert!(missing.contains(&docroot.join("modules/system/system.module")), "{missing:?}");
    assert_eq!(library.get("mediawiki").unwrap().version_of(&docroot).unwrap(), None);
}

#[test]
fn the_main_database_is_the_one_that_is_no_additional_one() {
    let directory = tempfile::tempdir().unwrap();
    let library = Library::built_in();
    let database = library.get("mediawiki").unwrap().database.as_ref().unwrap();
    let names = || -> Result<Vec<String>, DatabaseFilesError> {
        let files = database.files_in(directory.path(), None)?;
        Ok(files.into_iter().map(String::from).collect())
    };
    assert_eq!(names().unwrap(), Vec::<String>::new());
    fs::create_dir(directory.path().join("database")).unwrap();
    for name in ["wikicache.sqlite", "wiki_jobqueue.sqlite", "wiki.sqlite", "wiki.sqlite-journal"] {
        fs::write(directory.path().join("database").join(name), "").unwrap();
    }
    assert_eq!(
        names().unwrap(),
        ["database/wiki.sqlite", "database/wiki_jobqueue.sqlite", "database/wikicache.sqlite"]
    );
    fs::write(directory.path().join("database/other.sqlite"), "").unwrap();
    let ambiguous = names().unwrap_err().to_string();
    assert!(ambiguous.contains("database/other.sqlite, database/wiki.sqlite"), "{ambiguous}");
}

/// Found, and where they are kept.
fn placed(recipe: &Recipe, site: &Path) -> Result<Vec<(String, String)>, DatabaseFilesError> {
    let found = recipe.database.as_ref().unwrap().files_in(site, None)?;
    let placed = recipe.place_database(site, found)?;
    Ok(placed.into_iter().map(|file| (file.found.into(), file.kept.into())).collect())
}

#[test]
fn a_database_among_the_uploads_is_kept_out_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path();
    let own = |settings: &str| {
        parse(&format!(
            "title = 'x'\ndata = ['files']\n{settings}\n[database]\nengine = 'sqlite'\n\
             file = ['database/*.sqlite', 'files/.ht.sqlite', 'site.db']\nadditional = ['files/*.queue']"
        ))
        .unwrap()
    };
    let recipe = own("settings = { file = 'x', text = '@DATABASE@' }");
    assert_eq!(placed(&recipe, site).unwrap(), []);
    fs::create_dir(site.join("files")).unwrap();
    for name in [".ht.sqlite", ".ht.sqlite-wal", ".ht.sqlite-shm", "jobs.queue", "jobs.queue-journal"] {
        fs::write(site.join("files").join(name), "").unwrap();
    }
    let pair = |found: &str, kept: &str| (found.to_owned(), kept.to_owned());
    assert_eq!(
        placed(&recipe, site).unwrap(),
        [pair("files/.ht.sqlite", "database/.ht.sqlite"), pair("files/jobs.queue", "database/jobs.queue")]
    );
    // Named by the administrator, and in no data directory.
    let named = recipe.place_database(site, vec!["site.db".parse().unwrap()]).unwrap();
    assert_eq!((named[0].is_moved(), named[0].kept.as_str()), (false, "site.db"));
    // A path that would end the quotes around it.
    let quoted = recipe.place_database(site, vec!["it's.db".parse().unwrap()]).unwrap_err();
    assert!(matches!(quoted, DatabaseFilesError::Unquotable { .. }), "{quoted}");
    // What is there already is never taken for the database, nor lost.
    fs::create_dir(site.join("database")).unwrap();
    fs::write(site.join("database/.ht.sqlite"), "").unwrap();
    let several = placed(&recipe, site).unwrap_err().to_string();
    assert!(several.contains("database/.ht.sqlite, files/.ht.sqlite"), "{several}");
    let occupied = recipe.place_database(site, vec!["files/.ht.sqlite".parse().unwrap()]).unwrap_err();
    assert!(matches!(occupied, DatabaseFilesError::Occupied { .. }), "{occupied}");
    // Without a way to tell the application, nothing is moved.
    let mut silent = recipe.clone();
    silent.settings = None;
    let shared = silent.place_database(site, vec!["files/.ht.sqlite".parse().unwrap()]).unwrap_err();
    assert!(shared.to_string().contains("all generations"), "{shared}");
}

/// The TOML in the documentation, which people copy.
#[test]
fn the_documentation_shows_recipes_that_can_be_read() {
    let text = include_str!("../../../docs/recipes.md");
    let blocks: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let titles: Vec<String> = blocks.iter().map(|block| parse(block).unwrap().title).collect();
    assert_eq!(
        titles,
        [
            "A shop that keeps its database among its uploads",
            "A shop with its database on a server",
            "An example of commands",
            "Guestbook"
        ]
    );
}

/// Every key that the format has is explained.
#[test]
fn the_documentation_explains_every_key() {
    let text = include_str!("../../../docs/recipes.md");
    let text = &text[text.find("## The keys").unwrap()..text.find("## An example").unwrap()];
    for table in [
        "",
        "[detect]\n",
        "[version]\n",
        "[database]\n",
        "[readonly]\n",
        "[settings]\n",
        "[web]\n",
        "[update]\n",
        "[[check]]\n",
    ] {
        let message = error(&format!("title = 'x'\n{table}no_such_key = 1"));
        let (_, known) = message.split_once("expected").unwrap();
        let keys: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() > 1, "{message}");
        for key in keys {
            assert!(text.contains(&format!("`{key}`")) || text.contains(&format!("[{key}]")), "{table}{key}");
        }
    }
}
