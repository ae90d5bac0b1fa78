//! A daemon, two platforms of a small PHP application, and a site whose database is on a server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::machines::{Server, postgresql_programs};

/// Longer than anything here takes; what takes longer hangs.
const LIMIT: &str = "90";

const RECIPE: &str = r#"
title = "Notes on a server"
data = ["files"]
programs = ["php"]

[detect]
docroot = ["notes.php"]
site = ["settings.php"]

[version]
file = "VERSION"
after = "version "

[settings]
file = "sitefs.database.php"
text = '''<?php return [
  'engine' => '@DATABASE_ENGINE@', 'socket' => '@DATABASE_SOCKET@', 'name' => '@DATABASE_NAME@',
  'user' => '@DATABASE_USER@', 'password' => '@DATABASE_PASSWORD@',
];
'''

[update]
commands = ['''"$SITEFS_PHP" "$SITEFS_DOCROOT/notes.php" update && ! test -e "$SITEFS_DOCROOT/fail-$SITEFS_STEP"''']

[[check]]
title = "the notes can be read"
run = '''"$SITEFS_PHP" "$SITEFS_DOCROOT/notes.php" list | grep -q first && ! test -e "$SITEFS_DOCROOT/fail-check-$SITEFS_STEP"'''
"#;

const NOTES: &str = r#"<?php
$settings = require getenv('SITEFS_SITE_DIR') . '/settings.php';
$database = new PDO(
  $settings['engine'] === 'mariadb'
    ? "mysql:unix_socket={$settings['socket']};dbname={$settings['name']}"
    : "pgsql:host={$settings['socket']};dbname={$settings['name']}",
  $settings['user'], $settings['password'], [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
switch ($argv[1]) {
  case 'add': $database->prepare('INSERT INTO note (text) VALUES (?)')->execute([$argv[2]]); break;
  case 'add-slowly':
    $database->beginTransaction();
    $database->prepare('INSERT INTO note (text) VALUES (?)')->execute([$argv[2]]);
    touch("$argv[3].begun");
    while (!file_exists($argv[3])) { usleep(10000); clearstatcache(); }
    $database->commit();
    break;
  case 'list':
    foreach ($database->query('SELECT text FROM note ORDER BY id') as $note) { echo $note['text'], "\n"; }
    break;
  case 'update':
    $database->exec('ALTER TABLE note ADD COLUMN written VARCHAR(20)');
    $database->exec("UPDATE note SET written = 'before 2.0'");
    $database->exec('CREATE TABLE added (x INT)');
    break;
  case 'version': echo $database->query('SELECT count(*) FROM added')->fetchColumn(), "\n"; break;
}
"#;

/// Whatever runs or is mounted here ends with this.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    daemon: Mutex<Option<Pid>>,
    pub(crate) server: Server,
}

impl Place {
    pub(crate) fn new(server: Server) -> Place {
        let id = if server.url("").starts_with("mariadb") { "INT AUTO_INCREMENT" } else { "SERIAL" };
        server.sql("", "CREATE DATABASE notes;");
        server.sql(
            "notes",
            &format!("CREATE TABLE note (id {id} PRIMARY KEY, text TEXT); INSERT INTO note (text) VALUES ('first');"),
        );
        let place = Place { directory: tempfile::tempdir().unwrap(), daemon: Mutex::default(), server };
        fs::set_permissions(place.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(place.path("recipes")).unwrap();
        fs::write(place.path("recipes/notes.toml"), RECIPE).unwrap();
        let config = format!(
            "recipes = {:?}\nroot = {:?}\ndrain_seconds = 0\n",
            place.path("recipes"),
            place.path("root")
        );
        fs::write(place.path("config.toml"), config).unwrap();
        place.done(&["init"]);
        place.serve();
        for (name, version) in [("one", "1.0"), ("two", "2.0")] {
            let web = place.path("platforms").join(name).join("web");
            fs::create_dir_all(web.join("sites/all")).unwrap();
            fs::write(web.join("notes.php"), NOTES).unwrap();
            fs::write(web.join("VERSION"), format!("version {version}\n")).unwrap();
            place.done(&["platform", "add", name, web.parent().unwrap().to_str().unwrap()]);
        }
        let original = place.path("original");
        fs::create_dir_all(original.join("files")).unwrap();
        fs::write(original.join("settings.php"), "<?php return require __DIR__ . '/sitefs.database.php';\n")
            .unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Exit code, output and messages of a command.
    pub(crate) fn sitefs(&self, arguments: &[&str]) -> (i32, String, String) {
        self.fed(arguments, Stdio::null())
    }

    /// As [`Place::sitefs`], with something to be read.
    pub(crate) fn fed(&self, arguments: &[&str], input: Stdio) -> (i32, String, String) {
        let output = self.command(arguments).stdin(input).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", LIMIT, env!("CARGO_BIN_EXE_sitefs"), "--store"])
            .arg(self.path("store"));
        command.arg("--config").arg(self.path("config.toml")).args(arguments);
        let (own, postgresql) = (self.path("programs"), postgresql_programs());
        let path = format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", own.display(), postgresql.display());
        command.env_clear().env("PATH", path).env("TZ", "UTC");
        command
    }

    pub(crate) fn done(&self, arguments: &[&str]) -> Value {
        let (exit, stdout, stderr) = self.sitefs(&[&["--json"], arguments].concat());
        assert_eq!(exit, 0, "{arguments:?}: {stdout}{stderr}{}", self.log());
        serde_json::from_str(&stdout).unwrap()
    }

    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let (exit, stdout, stderr) = self.sitefs(arguments);
        assert_ne!(exit, 0, "{arguments:?}: {stdout}{stderr}");
        stderr
    }

    pub(crate) fn serve(&self) {
        let pid = self.done(&["serve"])["pid"].as_i64().unwrap();
        *self.daemon.lock().unwrap() = Pid::from_raw(i32::try_from(pid).unwrap());
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn kill(&self) {
        let daemon = self.daemon.lock().unwrap().take().expect("the daemon runs");
        kill_process(daemon, Signal::KILL).unwrap();
        while is_alive(daemon) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(crate) fn import(&self) {
        let original = self.path("original");
        let (directory, url) = (original.to_str().unwrap(), self.server.url("notes"));
        self.done(&["site", "import", "site", directory, "--platform", "one", "--database", &url]);
    }

    /// What `status` says to be wrong.
    pub(crate) fn problems(&self) -> Vec<String> {
        let (_, stdout, _) = self.sitefs(&["--json", "status"]);
        let status: Value = serde_json::from_str(&stdout).unwrap();
        status["problems"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    }

    /// The databases that sitefs has on the server.
    pub(crate) fn databases(&self) -> Vec<String> {
        self.server.at("x").server.databases_with("sf").unwrap()
    }

    /// Runs the application of a site as a visitor's request does: in the live site's directory, resolved once.
    pub(crate) fn visit(&self, site: &str, arguments: &[&str]) -> Result<String, String> {
        let docroot = fs::canonicalize(self.path("root/live").join(site)).unwrap();
        let directory = fs::canonicalize(docroot.join("sites").join(site)).unwrap();
        self.visit_directory(&directory, arguments)
    }

    pub(crate) fn visit_directory(&self, directory: &Path, arguments: &[&str]) -> Result<String, String> {
        let notes = self.path("platforms/one/web/notes.php");
        let mut command = Command::new("timeout");
        command.args([LIMIT, "php"]).arg(notes).args(arguments).env("SITEFS_SITE_DIR", directory);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stdout)) }
    }

    pub(crate) fn notes(&self, site: &str) -> Vec<String> {
        self.visit(site, &["list"]).unwrap().lines().map(str::to_owned).collect()
    }

    /// What the daemon has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("store/daemon.log")).unwrap_or_default()
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned);
        places.filter(|place| Path::new(place).starts_with(self.directory.path())).collect()
    }
}

/// Whether a thread of it is left: files and sockets are closed with the last one.
fn is_alive(process: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())) else { return false };
    threads.flatten().any(|thread| {
        fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
    })
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.lock().ok().and_then(|mut daemon| daemon.take()) {
            let _ = kill_process(daemon, Signal::KILL);
        }
        for mount in self.mounts().iter().rev() {
            let _ = Command::new("umount").args(["-l", mount]).stderr(Stdio::null()).status();
        }
    }
}
