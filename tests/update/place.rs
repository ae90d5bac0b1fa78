//! A daemon with two platforms and a recipe, and small sites to update.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// Longer than anything here takes; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// The commands ask `gate` before they do anything: in the step that the file `pause` names it never returns, in the
/// one that `fail` names it fails. The update command must not be repeated on what it has half changed.
const RECIPE: &str = r#"
title = "Notes"
data = ["files"]
programs = ["sqlite3"]
environment = { GATE = "@GATE@" }

[detect]
docroot = ["index.php"]
site = ["settings.php"]

[version]
file = "VERSION"
after = "version "

[database]
engine = "sqlite"
file = "database/site.sqlite"

[readonly]
on = '''"$GATE" && touch "$SITEFS_SITE_DIR/closed"'''
off = '''"$GATE" && rm -f "$SITEFS_SITE_DIR/closed"'''

[update]
commands = ['''
set -e
sqlite3 "$SITEFS_SITE_DIR/database/site.sqlite" 'create table added (text)'
"$GATE"
sqlite3 "$SITEFS_SITE_DIR/database/site.sqlite" "insert into added values ('done')"
cp "$SITEFS_DOCROOT/VERSION" "$SITEFS_SITE_DIR/updated"
''']
rebuild = ['''touch "$SITEFS_SITE_DIR/rebuilt"''']

[[check]]
title = "the update has been done"
run = '''
"$GATE" && test -f "$SITEFS_SITE_DIR/rebuilt" && cmp -s "$SITEFS_DOCROOT/VERSION" "$SITEFS_SITE_DIR/updated" &&
test "$(sqlite3 "$SITEFS_SITE_DIR/database/site.sqlite" 'select text from added')" = done'''
"#;

const GATE: &str = r#"#!/bin/sh
here=$(dirname "$0")
test -n "$SITEFS_STEP" || exit 0
if test "$(cat "$here/fail" 2>/dev/null)" = "$SITEFS_STEP"; then echo 'the gate is closed'; exit 1; fi
test "$(cat "$here/pause" 2>/dev/null)" = "$SITEFS_STEP" || exit 0
echo $$ > "$here/paused.new"
mv "$here/paused.new" "$here/paused"
exec sleep 600
"#;

/// Whatever runs or is mounted here ends with this.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    daemon: Cell<Option<Pid>>,
}

pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.exit, 0, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl Place {
    /// A daemon with the platforms `one` and `two`.
    pub(crate) fn new() -> Place {
        Place::with(str::to_owned)
    }

    /// As [`Place::new`], with another recipe made of the usual one.
    pub(crate) fn with(change: impl FnOnce(&str) -> String) -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap(), daemon: Cell::default() };
        fs::set_permissions(place.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(place.path("recipes")).unwrap();
        let gate = place.path("gate");
        let recipe = change(&RECIPE.replace("@GATE@", gate.to_str().unwrap()));
        fs::write(place.path("recipes/notes.toml"), recipe).unwrap();
        fs::write(&gate, GATE).unwrap();
        fs::set_permissions(&gate, fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "recipes = {:?}\nroot = {:?}\nweb = {:?}\ndrain_seconds = 0\n",
            place.path("recipes"),
            place.path("root"),
            place.path("daemon.sock")
        );
        fs::write(place.path("config.toml"), config).unwrap();
        assert_eq!(place.sitefs(&["init"]).exit, 0);
        place.serve();
        for (name, version) in [("one", "1.0"), ("two", "2.0")] {
            place.platform(name, version);
        }
        place
    }

    /// Makes and adds a platform.
    pub(crate) fn platform(&self, name: &str, version: &str) {
        let platform = self.path("platforms").join(name);
        fs::create_dir_all(platform.join("web/sites/all")).unwrap();
        fs::write(platform.join("web/index.php"), format!("<?php // {name}")).unwrap();
        fs::write(platform.join("web/VERSION"), format!("version {version}\n")).unwrap();
        self.done(&["platform", "add", name, platform.to_str().unwrap()]);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", &LIMIT.as_secs().to_string(), env!("CARGO_BIN_EXE_sitefs"), "--store"])
            .arg(self.path("store"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn sitefs(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed; its answer.
    pub(crate) fn done(&self, arguments: &[&str]) -> Value {
        self.sitefs(&[&["--json"], arguments].concat()).json()
    }

    pub(crate) fn serve(&self) {
        let pid = self.done(&["serve"])["pid"].as_i64().unwrap();
        self.daemon.set(Pid::from_raw(i32::try_from(pid).unwrap()));
    }

    /// What `status` says to be wrong.
    pub(crate) fn problems(&self) -> String {
        // With problems its exit code is not 0.
        let status = self.sitefs(&["--json", "status"]);
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        status["problems"].to_string()
    }

    /// Waits until sites that were interrupted take writes again.
    pub(crate) fn wait_until_settled(&self) {
        wait_until("the sites are settled", || !self.problems().contains("being made to take writes again"));
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn kill(&self) {
        let daemon = self.daemon.take().expect("the daemon runs");
        kill_process(daemon, Signal::KILL).unwrap();
        wait_until("the daemon is gone", || !runs(daemon));
    }

    /// A site `name` on platform `one`, with an upload and a row `first`.
    pub(crate) fn import(&self, name: &str) -> Site<'_> {
        let original = self.path("originals").join(name);
        fs::create_dir_all(original.join("files")).unwrap();
        fs::create_dir_all(original.join("database")).unwrap();
        fs::write(original.join("settings.php"), "<?php").unwrap();
        fs::write(original.join("files/first"), "first").unwrap();
        sqlite(
            &original.join("database/site.sqlite"),
            "create table note (text); insert into note values ('first')",
        )
        .unwrap();
        self.done(&["site", "import", name, original.to_str().unwrap(), "--platform", "one"]);
        Site { place: self, name: name.to_owned() }
    }

    /// The names of all sites, clones too.
    pub(crate) fn sites(&self) -> Vec<String> {
        let sites = self.done(&["site", "list"]);
        sites["sites"]
            .as_array()
            .unwrap()
            .iter()
            .map(|site| site["site"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Installs a hook, a shell script: `before-switch/name`.
    pub(crate) fn hook(&self, path: &str, script: &str) {
        let file = self.path("hooks").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Lets the commands of a step block, or fail; an empty name ends that.
    pub(crate) fn set(&self, what: &str, step: &str) {
        fs::write(self.path(what), step).unwrap();
    }

    /// The process that blocks, if the step that is to block has come to it.
    pub(crate) fn paused(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.path("paused")).ok()?;
        Pid::from_raw(text.trim().parse().unwrap())
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned);
        places.filter(|place| Path::new(place).starts_with(self.directory.path())).collect()
    }

    /// Stops the daemon cleanly: nothing stays mounted.
    pub(crate) fn stop(&self) {
        self.done(&["stop"]);
        self.daemon.set(None);
        assert_eq!(self.mounts(), Vec::<String>::new());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("store/daemon.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the daemon's log ends:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        if let Some(daemon) = self.daemon.take() {
            let _ = kill_process(daemon, Signal::KILL);
        }
        for mount in self.mounts().iter().rev() {
            let _ = Command::new("umount").args(["-l", mount]).status();
        }
    }
}

/// A site that is imported.
pub(crate) struct Site<'a> {
    pub(crate) place: &'a Place,
    pub(crate) name: String,
}

impl Site<'_> {
    /// The site's directory as the web server finds it: by the live link, resolved.
    pub(crate) fn directory(&self) -> PathBuf {
        let docroot = fs::canonicalize(self.place.path("root/live").join(&self.name)).unwrap();
        docroot.join("sites").join(&self.name)
    }

    /// A generation's directory.
    pub(crate) fn generation(&self, number: u64) -> PathBuf {
        self.place.path("root/generations").join(&self.name).join(number.to_string())
    }

    /// The platform that the live link leads to.
    pub(crate) fn platform(&self) -> String {
        let link = fs::read_link(self.place.path("root/live").join(&self.name)).unwrap();
        let platform = link.parent().unwrap().file_name().unwrap().to_str().unwrap();
        platform.trim_end_matches("@b").to_owned()
    }

    pub(crate) fn sql(&self, statement: &str) -> Result<String, String> {
        sqlite(&self.directory().join("database/site.sqlite"), statement)
    }

    /// Saves a note and an upload as a visitor: the application refuses notes when it is closed. Whether it took the
    /// note.
    pub(crate) fn write(&self, text: &str) -> bool {
        let uploads = self.directory().join("files");
        fs::write(uploads.join(text), text).unwrap();
        for name in [uploads.join(text), uploads] {
            fs::File::open(name).unwrap().sync_all().unwrap();
        }
        let open = !self.directory().join("closed").exists();
        if open {
            self.sql(&format!("insert into note values ('{text}')")).unwrap();
        }
        open
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let notes = self.sql("select text from note order by rowid").unwrap();
        notes.lines().map(str::to_owned).collect()
    }

    pub(crate) fn uploads(&self) -> Vec<String> {
        names(&self.directory().join("files"))
    }

    pub(crate) fn tables(&self) -> String {
        self.sql("select group_concat(name, ' ') from (select name from sqlite_master order by name)")
            .unwrap()
    }

    /// Number, state and platform of each generation, the newest first.
    pub(crate) fn generations(&self) -> Vec<(u64, String, String)> {
        let shown = self.place.done(&["site", "show", &self.name]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let generations = shown["generations"].as_array().unwrap().iter();
        generations
            .map(|each| (each["generation"].as_u64().unwrap(), text(&each["state"]), text(&each["platform"])))
            .collect()
    }

    /// State and step of the newest run.
    pub(crate) fn run(&self) -> (String, String) {
        let shown = self.place.done(&["site", "show", &self.name]);
        let run = &shown["runs"][0];
        (run["state"].as_str().unwrap().to_owned(), run["step"].as_str().unwrap_or_default().to_owned())
    }

    /// Starts an update to platform `two`.
    pub(crate) fn start_update(&self) -> Update {
        self.start(&["update", &self.name, "--platform", "two"])
    }

    /// Starts a command on a run.
    pub(crate) fn start(&self, arguments: &[&str]) -> Update {
        let mut command = self.place.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Update { child, lines, last: 0, told: String::new() }
    }

    /// Live on platform `two`, with what the update made, and nothing left over; the old generation is kept, read-only.
    pub(crate) fn assert_updated(&self) {
        assert_eq!(self.platform(), "two");
        assert_eq!(self.tables(), "added note");
        assert_eq!(self.sql("select text from added").unwrap(), "done");
        assert_eq!(fs::read_to_string(self.directory().join("updated")).unwrap(), "version 2.0\n");
        assert!(!self.directory().join("closed").exists(), "the site is still closed");
        assert!(self.write("after"), "the site takes no notes");
        let generations = self.generations();
        let [(_, live, two), (old, previous, one)] = generations.as_slice() else {
            panic!("{generations:?}")
        };
        assert_eq!((live.as_str(), two.as_str(), one.as_str()), ("live", "two", "one"));
        assert!(previous == "previous" || previous == "draining", "{previous}");
        assert_eq!(read_only(&self.generation(*old)), Some(30));
        assert_eq!(names(&self.place.path("root/generations").join(&self.name)).len(), 2);
        self.assert_no_clone();
    }

    /// Live on platform `one` in the generation it was, without what the update makes, and nothing left over.
    pub(crate) fn assert_untouched(&self) {
        self.assert_on_old_release();
        assert_eq!(self.generations()[0].0, 1);
    }

    /// As [`Site::assert_untouched`], in whatever generation.
    pub(crate) fn assert_on_old_release(&self) {
        assert_eq!(self.platform(), "one");
        assert_eq!(self.tables(), "note");
        for name in ["updated", "rebuilt", "closed"] {
            assert!(!self.directory().join(name).exists(), "{name} is there");
        }
        assert!(self.write("after"), "the site takes no notes");
        let generations = self.generations();
        let [(number, live, one)] = generations.as_slice() else { panic!("{generations:?}") };
        assert_eq!((live.as_str(), one.as_str()), ("live", "one"));
        let shown = names(&self.place.path("root/generations").join(&self.name));
        assert_eq!(shown, [number.to_string()]);
        assert!(!names(&self.place.path("platforms/two/web/sites")).contains(&self.name));
        self.assert_no_clone();
    }

    fn assert_no_clone(&self) {
        let is_clone = |name: &String| name.contains("--rehearsal-");
        assert!(!self.place.sites().iter().any(is_clone));
        for shown in ["generations", "data", "sites", "live"] {
            let names = names(&self.place.path("root").join(shown));
            assert!(!names.iter().any(is_clone), "{shown}: {names:?}");
        }
        assert_eq!(self.place.done(&["status"])["problems"], Value::Array(Vec::new()));
    }
}

/// An update that runs in the daemon.
pub(crate) struct Update {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
    /// The step that was begun last, by its place from 1.
    pub(crate) last: usize,
    /// What was told so far.
    pub(crate) told: String,
}

impl Update {
    /// Goes on until the step at `place` begins; whether it did before the update ended.
    pub(crate) fn wait_for(&mut self, place: usize) -> bool {
        while self.last < place {
            if !self.line() {
                return false;
            }
        }
        true
    }

    /// Goes on until it waits for another update; whether it did before it ended.
    pub(crate) fn waits(&mut self) -> bool {
        while !self.told.contains("waiting for another update") {
            if !self.line() {
                return false;
            }
        }
        true
    }

    fn line(&mut self) -> bool {
        let mut line = String::new();
        let length = self.lines.read_line(&mut line).unwrap();
        self.told.push_str(&line);
        // `[ 7/14] hold writes to site` when it begins, and the same with a time when it is done.
        let place = line.strip_prefix('[').and_then(|line| line.split_once('/')?.0.trim().parse().ok());
        self.last = place.map_or(self.last, |place: usize| place.max(self.last));
        length > 0
    }

    /// Waits for its end; the exit code.
    pub(crate) fn end(&mut self) -> i32 {
        while self.line() {}
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Update {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an attempt to write into a directory ends with.
pub(crate) fn read_only(directory: &Path) -> Option<i32> {
    fs::write(directory.join("settings.php"), "changed").err().and_then(|error| error.raw_os_error())
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether a process runs; one that has ended and that nobody has waited for does not.
pub(crate) fn runs(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    let ended = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
    !ended && test_kill_process(process).is_ok()
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "it never comes to this: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn sqlite(database: &Path, statement: &str) -> Result<String, String> {
    let output = Command::new("timeout")
        .args(["--signal=KILL", "30", "sqlite3", "-cmd", ".timeout 10000", "-cmd"])
        // Else SQLite does not make it durable that the journal is gone, and a crash may take back what was committed.
        .arg("pragma synchronous = extra")
        .arg(database)
        .arg(statement)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
