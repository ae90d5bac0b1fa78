//! The recipes for Drupal, as they are built in, on sites as Drupal's installer leaves them: owned by a user who must not
//! write to the site's directory, with the database among the uploads. What Drupal and Drush themselves do is played by
//! the programs in `drupal/`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::place::{Place, wait_until};

/// A user of every machine, who owns nothing.
const OWNER: u32 = 65534;

const SETTINGS: &str = "<?php\n$databases['default']['default'] = array('driver' => 'sqlite', 'prefix' => '', \
     'database' => 'sites/example.org/files/.ht.sqlite');\n$drupal_hash_salt = '';\n\
     $settings['trusted_host_patterns'] = array('^example\\.org$');\n\
     $settings['file_private_path'] = '/elsewhere/sites/example.org/private';\n";

/// A daemon with a site `example.org` on the platform `first`, and the platform `second` to update it to.
fn drupal(fill: impl Fn(&Path, u8)) -> Place {
    let place = Place::new();
    for (number, name) in [(1, "first"), (2, "second")] {
        let platform = place.path(name);
        fs::create_dir_all(platform.join("sites/all")).unwrap();
        fill(&platform, number);
        place.done(&[
            "platform",
            "add",
            name,
            platform.to_str().unwrap(),
            "--sites",
            "sites",
            "--docroot",
            ".",
        ]);
    }
    let original = place.path("original/example.org");
    fs::create_dir_all(original.join("files")).unwrap();
    fs::create_dir_all(original.join("private")).unwrap();
    fs::write(original.join("settings.php"), SETTINGS).unwrap();
    let sql = "CREATE TABLE node (title TEXT); CREATE TABLE cache (name TEXT PRIMARY KEY, value); \
               CREATE TABLE system (name TEXT PRIMARY KEY, version INTEGER); \
               INSERT INTO node VALUES ('first'); INSERT INTO system VALUES ('notes', 0);";
    sqlite(&original.join("files/.ht.sqlite"), sql);
    for (name, mode) in [("", 0o555), ("files", 0o755), ("private", 0o755), ("settings.php", 0o444)] {
        let path = original.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(OWNER), Some(OWNER)).unwrap();
    }
    chown(original.join("files/.ht.sqlite"), Some(OWNER), Some(OWNER)).unwrap();
    place.done(&["site", "import", "example.org", original.to_str().unwrap(), "--platform", "first"]);
    place
}

fn drupal7() -> Place {
    drupal(|platform, number| {
        for directory in ["includes", "modules/system"] {
            fs::create_dir_all(platform.join(directory)).unwrap();
        }
        let bootstrap = include_str!("drupal/bootstrap.inc").replace("'7.1'", &format!("'7.{number}'"));
        fs::write(platform.join("includes/bootstrap.inc"), bootstrap).unwrap();
        fs::write(platform.join("includes/update.inc"), include_str!("drupal/update.inc")).unwrap();
        for name in ["common", "file", "entity", "unicode", "install"] {
            fs::write(platform.join(format!("includes/{name}.inc")), "<?php\n").unwrap();
        }
        fs::write(platform.join("modules/system/system.module"), "<?php\n").unwrap();
        let updates = if number == 2 { include_str!("drupal/notes.install") } else { "<?php\n" };
        fs::write(platform.join("notes.install"), updates).unwrap();
        fs::write(platform.join("index.php"), include_str!("drupal/index.php")).unwrap();
    })
}

fn drupal9() -> Place {
    drupal(|platform, number| {
        for directory in ["core/lib", "core/includes", "vendor/bin"] {
            fs::create_dir_all(platform.join(directory)).unwrap();
        }
        let version = format!("<?php\n  const VERSION = '9.{number}.0';\n");
        fs::write(platform.join("core/lib/Drupal.php"), version).unwrap();
        fs::write(platform.join("core/includes/update.inc"), "<?php\n").unwrap();
        fs::write(platform.join("sites/sites.php"), "<?php\n").unwrap();
        if number == 2 {
            fs::write(platform.join("updates"), "").unwrap();
        }
        let drush = platform.join("vendor/bin/drush");
        fs::write(&drush, include_str!("drupal/drush")).unwrap();
        fs::set_permissions(&drush, fs::Permissions::from_mode(0o755)).unwrap();
    })
}

fn sqlite(database: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg(database).arg(sql).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn live(place: &Place, site: &str) -> PathBuf {
    place.path("root/sites").join(site)
}

fn titles(place: &Place, site: &str) -> String {
    sqlite(&live(place, site).join("database/.ht.sqlite"), "SELECT group_concat(title) FROM node")
}

/// What a person runs on the command line.
fn run(place: &Place, read: bool) -> Output {
    let mut command = Command::new("php");
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(place.path("first"));
    if read {
        command.env("SITEFS_READ", "1");
    }
    let site = live(place, "example.org").join("settings.php");
    let code = format!("$conf = array(); include '{}'; echo $drupal_hash_salt;", site.display());
    command.args(["-r", &code]).output().unwrap()
}

/// PHP's own web server on the docroot of the live site, as the site's owner.
struct WebServer {
    process: Child,
    address: String,
}

impl WebServer {
    fn start(docroot: &Path) -> WebServer {
        for _ in 0..5 {
            // Free a moment ago; taken meanwhile, it is tried again.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let mut command = Command::new("setpriv");
            command.args([
                &format!("--reuid={OWNER}"),
                &format!("--regid={OWNER}"),
                "--clear-groups",
                "--",
                "php",
            ]);
            command.args(["-S", &address, "-t"]).arg(docroot).current_dir("/");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut server = WebServer { process: command.spawn().unwrap(), address };
            let mut ended = false;
            wait_until("PHP serves", || {
                ended = server.process.try_wait().unwrap().is_some();
                ended || TcpStream::connect(&server.address).is_ok()
            });
            if !ended {
                return server;
            }
        }
        panic!("PHP finds no port");
    }

    /// The status and the text of the answer.
    fn ask(&self, method: &str) -> (String, String) {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request =
            format!("{method} /index.php HTTP/1.0\r\nHost: example.org\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), format!("{body}{head}"))
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn drupal_7_is_updated_by_php_alone_and_rolled_back() {
    let place = drupal7();
    let before = run(&place, false).stdout;
    assert!(!before.is_empty(), "an empty salt stays empty");
    place.done(&["update", "example.org", "--platform", "second"]);
    assert_eq!(titles(&place, "example.org"), "first,pass 1,pass 2,pass 3");
    let database = live(&place, "example.org").join("database/.ht.sqlite");
    assert_eq!(sqlite(&database, "SELECT version FROM system"), "7002");
    assert_eq!(sqlite(&database, "SELECT added FROM node LIMIT 1"), "by the update");
    assert_eq!(run(&place, false).stdout, before, "the salt has changed");
    for generation in [1, 2] {
        let metadata = fs::metadata(place.path("root/generations/example.org").join(generation.to_string()));
        assert_eq!(metadata.unwrap().mode() & 0o7777, 0o555);
    }
    assert!(!live(&place, "example.org").join("sitefs.readonly").exists());
    place.done(&["rollback", "example.org"]);
    assert_eq!(titles(&place, "example.org"), "first");
    assert!(!live(&place, "example.org").join("sitefs.readonly").exists());
    assert_eq!(place.problems(), "[]");
    place.stop();
}

#[test]
fn an_update_of_drupal_7_that_fails_says_why_and_leaves_the_site_as_it_was() {
    let place = drupal7();
    let reasons =
        [("throws", "the update does not like this site"), ("ends", "the update ends in the middle")];
    for (file, reason) in reasons {
        let file = place.path("second").join(file);
        fs::write(&file, "").unwrap();
        let update = place.sitefs(&["update", "example.org", "--platform", "second"]);
        assert_eq!(update.exit, 1, "{}", update.stderr);
        assert!(update.stderr.contains(reason), "{}", update.stderr);
        assert!(!update.stderr.contains("drupal_bootstrap("), "the whole script is shown: {}", update.stderr);
        fs::remove_file(&file).unwrap();
        assert_eq!(titles(&place, "example.org"), "first");
    }
    place.stop();
}

/// Visitors who were shown the new release when the update was switched back are served to the end: pages of Drupal are
/// written to its caches on the way.
#[test]
fn who_got_the_release_that_was_switched_back_from_gets_his_page_to_the_end() {
    let place = drupal7();
    let drain = |from: &str, to: &str| {
        place.kill();
        let config = fs::read_to_string(place.path("config.toml")).unwrap();
        let [from, to] = [from, to].map(|seconds| format!("drain_seconds = {seconds}\n"));
        fs::write(place.path("config.toml"), config.replace(&from, &to)).unwrap();
        place.serve();
    };
    drain("0", "3600");
    let states = || -> Vec<(u64, String)> {
        let shown = place.done(&["site", "show", "example.org"]);
        let state = |each: &Value| each["state"].as_str().unwrap().to_owned();
        let generations = shown["generations"].as_array().unwrap().iter();
        generations.map(|each| (each["generation"].as_u64().unwrap(), state(each))).collect()
    };
    let update = ["update", "example.org", "--platform", "second"];
    place.hook("sites/example.org/after-switch/no", "exit 3");
    assert_eq!(place.sitefs(&update).exit, 4);
    assert_eq!(states(), [(2, "draining".to_owned()), (1, "live".to_owned())]);
    let left = place.path("root/generations/example.org/2/database/.ht.sqlite");
    sqlite(&left, "INSERT INTO node (title) VALUES ('cached')");
    assert_eq!(titles(&place, "example.org"), "first");
    assert!(place.path("second/sites/example.org/settings.php").exists());
    for refused in [&["rollback", "example.org"][..], &["cutover", "example.org"]] {
        assert_eq!(place.sitefs(refused).exit, 2, "there is no other release");
    }
    for refused in [&["cutover", "example.org", "--to", "2"][..], &["platform", "remove", "second"]] {
        let refused = place.sitefs(refused);
        assert_eq!(refused.exit, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains("was switched back"), "{}", refused.stderr);
    }

    place.hook("sites/example.org/after-switch/no", "exit 0");
    place.done(&update);
    place.hook("sites/example.org/after-switch/no", "exit 3");
    let back = ["update", "example.org", "--platform", "first", "--allow-downgrade"];
    assert_eq!(place.sitefs(&back).exit, 4);
    assert_eq!(
        place.done(&["rollback", "example.org"])["to"]["generation"],
        1,
        "not to what was switched back from"
    );
    drain("3600", "0");
    wait_until("what was switched back from is discarded", || states().len() == 2);
    assert_eq!(states(), [(3, "previous".to_owned()), (1, "live".to_owned())]);
    assert_eq!(place.problems(), "[]");
    place.stop();
}

#[test]
fn a_site_that_writes_for_every_page_is_read_while_it_is_read_only() {
    let place = drupal7();
    let server = WebServer::start(&place.path("first"));
    assert_eq!(server.ask("GET").0, "200");
    place.done(&["readonly", "example.org", "on"]);
    let (status, text) = server.ask("GET");
    assert_eq!(status, "200", "{text}");
    let (status, text) = server.ask("POST");
    assert_eq!(status, "503", "{text}");
    assert!(text.contains("being updated") && text.contains("Retry-After"), "{text}");
    let refused = run(&place, false);
    assert_eq!(refused.status.code(), Some(75));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("SITEFS_READ=1"));
    assert!(run(&place, true).status.success());
    place.done(&["readonly", "example.org", "off"]);
    assert_eq!(server.ask("POST").0, "200");
    assert_eq!(titles(&place, "example.org"), "first,posted");
    assert!(run(&place, false).status.success());
    drop(server);
    place.stop();
}

/// As Drupal's installer does when it is asked to install a site that sitefs has: the rehearsal must not update the live one.
#[test]
fn settings_that_lead_a_copy_to_the_live_database_are_overruled_or_told() {
    let place = drupal9();
    let database = place.path("root/generations/example.org/1/database/.ht.sqlite");
    let settings = place.path("root/generations/example.org/1/settings.php");
    let add = |line: &str| {
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, format!("{text}\n{line}\n")).unwrap();
    };
    add(&format!(
        "$databases['default']['default'] = ['driver' => 'sqlite', 'database' => '{}'];",
        database.display()
    ));
    add("return;");
    let update = place.sitefs(&["update", "example.org", "--platform", "second"]);
    assert_eq!(update.exit, 1, "{}", update.stderr);
    assert!(update.stderr.contains("the settings of this copy lead to the database"), "{}", update.stderr);
    assert_eq!(titles(&place, "example.org"), "first", "the live site was updated by its rehearsal");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("return;", "")).unwrap();
    place.done(&["update", "example.org", "--platform", "second"]);
    assert_eq!(sqlite(&database, "SELECT group_concat(title) FROM node"), "first");
    assert!(titles(&place, "example.org").contains("php_mail"));
    place.stop();
}

#[test]
fn a_platform_of_drupal_without_drush_is_told() {
    let place = drupal9();
    fs::remove_file(place.path("second/vendor/bin/drush")).unwrap();
    let update = place.sitefs(&["update", "example.org", "--platform", "second"]);
    assert_eq!(update.exit, 1, "{}", update.stderr);
    let told = format!("composer require drush/drush in {}", place.path("second").display());
    assert!(update.stderr.contains(&told), "{}", update.stderr);
    assert_eq!(titles(&place, "example.org"), "first");
    place.stop();
}

#[test]
fn a_clone_of_drupal_keeps_to_itself_and_its_mail_too() {
    let place = drupal9();
    place.done(&["update", "example.org", "--platform", "second", "--keep-test"]);
    let clone = place.sites().into_iter().find(|name| name.contains("--rehearsal-")).unwrap();
    let settings = |site: &str| -> Value {
        let drush = place.path("second/vendor/bin/drush");
        let root = format!("--root={}", place.path("second").display());
        let output =
            Command::new(drush).args([&root, &format!("--uri={site}"), "settings"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let mail = |site: &str| titles(&place, site).split_once(',').unwrap().1.to_owned();
    assert_eq!(mail(&clone), r#"["\/bin\/true","test_mail_collector"]"#);
    assert!(mail("example.org").ends_with(r#","php_mail"]"#) && !mail("example.org").contains("true"));
    let (own, copied) = (settings("example.org"), settings(&clone));
    let generation = |site: &str, number: u8| {
        let path = place.path(&format!("root/generations/{site}/{number}/database/.ht.sqlite"));
        Value::String(path.to_str().unwrap().to_owned())
    };
    assert_eq!(
        (&own["database"], &copied["database"]),
        (&generation("example.org", 2), &generation(&clone, 1))
    );
    assert_eq!(own["file_private_path"], "sites/example.org/private");
    assert_eq!(copied["file_private_path"], format!("sites/{clone}/private").as_str());
    assert_eq!(
        (&own["deployment_identifier"], &copied["deployment_identifier"]),
        (&"second-2".into(), &"second-1".into())
    );
    assert_eq!(own["trusted_host_patterns"].as_array().unwrap().len(), 1);
    let patterns = copied["trusted_host_patterns"].to_string();
    assert!(patterns.contains("rehearsal") && patterns.contains("example\\\\.org$"), "{patterns}");
    place.stop();
}
