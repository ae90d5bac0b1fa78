//! Never a mix: under load, over many cutovers, every answer is entirely of one release, and none fails.
//!
//! `SITEFS_CUTOVERS` and `SITEFS_REQUESTS` ask for at least so many; see `scripts/test`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Address, Answer, ask};
use crate::place::Place;
use crate::servers::{self, Server};

/// The clients' pauses between what a request looks at first and what it looks at last, in milliseconds.
const PAUSES: [u32; 6] = [0, 0, 0, 20, 150, 600];

/// How long a lane must be left alone before it shows another release: the longest request, and what PHP remembers of
/// paths: `realpath_cache_ttl` is compared in whole seconds, so 2 is up to 3.
const DRAIN: Duration = Duration::from_millis(600 + 3000);

/// A page that says which platform and which release it finds at its beginning and at its end: in files that are
/// compiled, and cached by opcache, and in files that are read; by its own place, by the directory it runs in (as
/// Drupal 7 does) and by what the web server calls the document root.
const PAGE: &str = r#"<?php
$site = __DIR__ . '/sites/' . $_SERVER['SITEFS_SITE'];
$seen = [include __DIR__ . '/platform.php', include "$site/first.php", trim(file_get_contents("$site/read.txt"))];
usleep(1000 * (int) ($_GET['pause'] ?? 0));
include_once "$site/code/once.php";
$site = $_SERVER['DOCUMENT_ROOT'] . '/sites/' . $_SERVER['SITEFS_SITE'];
array_push($seen, include getcwd() . '/again.php', include "$site/code/last.php", once(), trim(file_get_contents("$site/read.txt")));
echo implode(' ', $seen);
"#;

struct Load<'a> {
    front: &'a Address,
    stop: &'a AtomicBool,
    count: &'a AtomicUsize,
    answers: &'a Mutex<Vec<Seen>>,
}

/// What a client made of an answer.
struct Seen {
    pause: u32,
    begun: Instant,
    ended: Instant,
    found: Result<String, String>,
}

/// Ends the load, also when a cutover fails: the scope waits for its threads.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load<'_> {
    fn run(&self, pause: u32) {
        let path = format!("/index.php?pause={pause}");
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let answer = ask(self.front, "GET", "site", &path);
            let ended = Instant::now();
            let found = answer.and_then(|answer| release_of(&answer));
            self.count.fetch_add(1, Ordering::Relaxed);
            self.answers.lock().unwrap().push(Seen { pause, begun, ended, found });
        }
    }
}

/// The one platform and release that an answer was made of.
fn release_of(answer: &Answer) -> Result<String, String> {
    let seen: Vec<&str> = answer.body.split(' ').collect();
    let [platform, first, read, platform_again, last, once, read_again] = seen[..] else {
        return Err(format!("failed: {}: {}", answer.head, answer.body));
    };
    let releases = BTreeSet::from([first, read, last, once, read_again]);
    if answer.status != 200 || releases.len() != 1 || platform != platform_again {
        return Err(format!("mixed: {}", answer.body));
    }
    Ok(format!("{platform} {first}"))
}

fn wanted(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// A place with the test's page in both platforms.
fn place() -> Place {
    let place = Place::new();
    for name in ["one", "two"] {
        let docroot = place.path("platforms").join(name).join("web");
        fs::write(docroot.join("index.php"), PAGE).unwrap();
        for file in ["platform.php", "again.php"] {
            fs::write(docroot.join(file), format!("<?php return '{name}';")).unwrap();
        }
    }
    place
}

/// A directory to deploy: everything in it says `release`.
fn write_release(place: &Place, release: &str) -> PathBuf {
    let directory = place.path("release");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("code")).unwrap();
    fs::write(directory.join("settings.php"), "<?php").unwrap();
    let code = format!("<?php return '{release}';");
    fs::write(directory.join("first.php"), &code).unwrap();
    fs::write(directory.join("code/last.php"), &code).unwrap();
    fs::write(directory.join("code/once.php"), format!("<?php function once() {{ return '{release}'; }}"))
        .unwrap();
    fs::write(directory.join("read.txt"), release).unwrap();
    fs::write(directory.join(format!("style-{release}.css")), release).unwrap();
    directory
}

/// The server, with what `sitefs vhost` makes for it.
fn server(place: &Place, program: &str) -> (Server, Address) {
    place.done(&["site", "set", "site", "php-socket", place.path("php.sock").to_str().unwrap()]);
    let vhost = |listen: &str| {
        place.done(&["site", "set", "site", "listen", listen]);
        place.done(&["vhost", "site", "--server", program])["text"].as_str().unwrap().to_owned()
    };
    if program == "apache" {
        return servers::apache(&place.path(""), |port| vhost(&port.to_string()));
    }
    let socket = place.path("web.sock");
    let text = vhost(&format!("unix:{}", socket.display()));
    (servers::nginx(&place.path(""), "nginx", &text, &socket), Address::Socket(socket))
}

/// The share `part` of `whole` is not above this.
fn percentile(values: &mut [Duration], part: f64) -> f64 {
    values.sort_unstable();
    let at = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(at).map_or(0.0, |value| value.as_secs_f64() * 1000.0)
}

fn never_a_mix(program: &str, validate_timestamps: &str) {
    let place = place();
    place.import("site");
    place.done(&["deploy", "site", write_release(&place, "r0").to_str().unwrap()]);
    let _php = servers::php(place.path("").as_path(), &[validate_timestamps]);
    let (_server, front) = server(&place, program);
    assert_eq!(release_of(&ask(&front, "GET", "site", "/index.php").unwrap()), Ok("one r0".to_owned()));

    let (stop, count, answers) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let load = Load { front: &front, stop: &stop, count: &count, answers: &answers };
    let (cutovers_min, requests_min) = (wanted("SITEFS_CUTOVERS", 24), wanted("SITEFS_REQUESTS", 2000));
    let mut cutovers: Vec<(Instant, Instant, String)> = Vec::new();
    let mut switches = Vec::new();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for pause in PAUSES {
            let load = &load;
            scope.spawn(move || load.run(pause));
        }
        let mut platform = "one";
        let mut release = "r0".to_owned();
        while cutovers.len() < cutovers_min || count.load(Ordering::Relaxed) < requests_min {
            // Deployments, which change the lane, and moves to the other platform take turns: the fourth cutover
            // after one uses its lane again, which was left at the first after it.
            if let Some((_, left, _)) = cutovers.len().checked_sub(3).map(|at| &cutovers[at]) {
                std::thread::sleep((*left + DRAIN).saturating_duration_since(Instant::now()));
            }
            let begun = Instant::now();
            let seconds = if cutovers.len() % 2 == 1 {
                platform = if platform == "one" { "two" } else { "one" };
                // Every second one goes back to an older platform.
                let to = ["--to", "site@live", "--platform", platform, "--allow-downgrade"];
                let moved = place.done(&[&["cutover", "site"], &to[..]].concat());
                moved["switch_seconds"].as_f64()
            } else {
                release = format!("r{}", cutovers.len() + 1);
                let directory = write_release(&place, &release);
                let deployed = place.done(&["deploy", "site", directory.to_str().unwrap()]);
                deployed["switched"]["switch_seconds"].as_f64()
            };
            let (seconds, expected) = (seconds.unwrap(), format!("{platform} {release}"));
            switches.push(Duration::from_secs_f64(seconds));
            cutovers.push((begun, Instant::now(), expected));
        }
    });

    let answers = answers.into_inner().unwrap();
    let mut wrong = Vec::new();
    for seen in &answers {
        match &seen.found {
            Err(problem) => wrong.push(format!("{} ms pause: {problem}", seen.pause)),
            // Of the releases that were live at some time between its beginning and its end.
            Ok(found) => {
                let last_before = cutovers.iter().rposition(|(_, done, _)| *done < seen.begun);
                let possible = cutovers
                    .iter()
                    .skip(last_before.unwrap_or(0))
                    .take_while(|(begun, _, _)| *begun < seen.ended)
                    .map(|(_, _, release)| release.as_str());
                let mut possible = possible.chain(last_before.is_none().then_some("one r0"));
                if !possible.any(|release| release == found) {
                    wrong.push(format!("{} ms pause: stale: {found}", seen.pause));
                }
            }
        }
    }
    let during =
        |seen: &&Seen| cutovers.iter().any(|(begun, done, _)| seen.begun < *done && seen.ended > *begun);
    let quick = || answers.iter().filter(|seen| seen.pause == 0);
    let mut all: Vec<Duration> = quick().map(|seen| seen.ended - seen.begun).collect();
    let mut beside: Vec<Duration> = quick().filter(during).map(|seen| seen.ended - seen.begun).collect();
    eprintln!(
        "{program}, {validate_timestamps}: {} cutovers, {} requests, {} wrong; switch p50 {:.1} p99 {:.1} ms; \
         answers p99 {:.1} ms, beside a cutover {:.1} ms",
        cutovers.len(),
        answers.len(),
        wrong.len(),
        percentile(&mut switches, 0.5),
        percentile(&mut switches, 0.99),
        percentile(&mut all, 0.99),
        percentile(&mut beside, 0.99),
    );
    let shown = wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} answers are wrong, the first:\n{shown}", wrong.len());
    place.stop();
}

#[test]
fn no_answer_mixes_releases_with_timestamps() {
    never_a_mix("nginx", "opcache.validate_timestamps=1");
}

#[test]
fn no_answer_mixes_releases_without_timestamps() {
    never_a_mix("nginx", "opcache.validate_timestamps=0");
}

#[test]
fn no_answer_of_apache_mixes_releases() {
    never_a_mix("apache", "opcache.validate_timestamps=0");
}
