//! Snapshots between two stores, through pipes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::bench::Bench;

/// Runs sitefs with a file, or nothing, as standard input; its exit code, what it prints, what it says.
fn piped(bench: &Bench, arguments: &[&str], input: Option<&Path>) -> (Option<i32>, Vec<u8>, String) {
    let input = input.map_or_else(Stdio::null, |path| fs::File::open(path).unwrap().into());
    let output = Command::new("timeout")
        .args(["--signal=KILL", "120", env!("CARGO_BIN_EXE_sitefs"), "--store"])
        .arg(bench.path("store"))
        .args(arguments)
        .stdin(input)
        .output()
        .unwrap();
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn send(bench: &Bench, arguments: &[&str]) -> Vec<u8> {
    let (code, stream, said) = piped(bench, &[&["send"], arguments].concat(), None);
    assert_eq!(code, Some(0), "{said}");
    stream
}

fn receive(bench: &Bench, stream: &[u8]) -> (Option<i32>, String) {
    let path = bench.path("stream");
    fs::write(&path, stream).unwrap();
    let (code, _, said) = piped(bench, &["receive"], Some(&path));
    (code, said)
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_snapshot_travels_whole_or_not_at_all() {
    let (here, there) = (Bench::with_site(), Bench::new());
    fs::write(here.path("root/sites/shop/files/plain.bin"), noise(2 << 20)).unwrap();
    fs::write(here.path("root/sites/shop/files/chunks.bin"), noise(900_000)).unwrap();
    let snapshot = |tag: &str| {
        let taken = here.json(&["snapshot", "shop", "--tag", tag]);
        taken["snapshot"]["id"].as_str().unwrap().to_owned()
    };
    let first = snapshot("first");
    let stream = send(&here, &["shop@first"]);

    // Broken off: nothing is visible, and the rest is enough.
    let (code, said) = receive(&there, &stream[..stream.len() - 500_000]);
    assert_eq!(code, Some(1), "{said}");
    assert!(there.fails(2, &["log", "shop"]).contains("shop"));
    let skip = said.split("--skip ").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(skip.parse::<u64>().unwrap() > 3, "{said}");
    // What has arrived waits for the rest.
    let collected = there.json(&["gc"]);
    assert_eq!(collected["objects_removed"], 0, "{collected}");
    let rest = send(&here, &["shop@first", "--skip", skip]);
    assert!(rest.len() < stream.len());
    // More was left out than has arrived.
    let (code, said) = receive(&there, &send(&here, &["shop@first", "--skip", "9999"]));
    assert_eq!(code, Some(3), "{said}");
    let (code, said) = receive(&there, &rest);
    assert_eq!(code, Some(0), "{said}");
    let log = there.json(&["log", "shop"]);
    assert_eq!(log["snapshots"][0]["id"], first.as_str());
    let seen = |bench: &Bench| bench.listing(&format!("root/snapshots/shop/{}", &first[..12]));
    assert_eq!(seen(&here), seen(&there));

    // On that base, only what changed.
    here.write("root/sites/shop/files/new.txt", "new");
    let second = snapshot("second");
    let increment = send(&here, &["shop@second", "--base", "shop@first"]);
    assert!(increment.len() < 200_000, "{} bytes", increment.len());
    let mut damaged = increment.clone();
    let place = damaged.len() / 2;
    damaged[place] ^= 1;
    let (code, said) = receive(&there, &damaged);
    assert!(code == Some(1) && said.contains("damaged"), "{said}");
    assert_eq!(there.json(&["log", "shop"])["snapshots"].as_array().unwrap().len(), 1);
    let (code, said) = receive(&there, &increment);
    assert_eq!(code, Some(0), "{said}");
    let path = there.json(&["show", &format!("shop@{}", &second[..12])])["path"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(format!("{path}/files/new.txt")).unwrap(), "new");
    assert!(fs::read(format!("{path}/files/plain.bin")).unwrap() == noise(2 << 20));

    // It stays when space is reclaimed and the daemon is killed, and can be taken out.
    there.json(&["gc"]);
    there.kill();
    there.serve();
    fs::create_dir(there.path("out")).unwrap();
    there.json(&["restore", "shop@latest", "files", "--into", there.path("out").to_str().unwrap()]);
    assert!(fs::read(there.path("out/files/chunks.bin")).unwrap() == noise(900_000));

    // A base that is not there is refused.
    let other = Bench::new();
    let (code, said) = receive(&other, &increment);
    assert!(code == Some(3) && said.contains(&first[..12]), "{said}");
}

#[test]
fn a_site_is_made_from_a_snapshot_that_comes_through_a_pipe() {
    let (here, there) = (Bench::with_site(), Bench::new());
    there.platform("new");
    here.write("root/sites/shop/files/new.txt", "new");
    here.sql("root/sites/shop/database/site.sqlite", "INSERT INTO node(title) VALUES('fourth')");
    here.json(&["snapshot", "shop", "--tag", "moved"]);
    // What is refused is refused before anything comes.
    let none = here.path("none");
    fs::write(&none, "").unwrap();
    for (arguments, said) in [
        (["--platform", "nowhere", "--app", "shop"], "nowhere"),
        (["--platform", "new", "--app", "nothing"], "nothing"),
    ] {
        let (code, _, stderr) =
            piped(&there, &[&["receive", "--site", "shop"], &arguments[..]].concat(), Some(&none));
        assert!(code == Some(2) && stderr.contains(said), "{code:?} {stderr}");
    }
    // As `ssh here sitefs send … | sitefs receive …` does.
    let program = env!("CARGO_BIN_EXE_sitefs");
    let line = format!(
        "{program} --store {} send shop@moved | {program} --store {} receive --site web --platform new --app shop --tag moved",
        here.text("store"),
        there.text("store")
    );
    let output = Command::new("timeout").args(["--signal=KILL", "120", "sh", "-c", &line]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("made the site web"));

    assert_eq!(there.read("root/sites/web/files/new.txt"), "new");
    assert_eq!(there.sql("root/sites/web/database/site.sqlite", "SELECT count(*) FROM node"), "4");
    assert_eq!(there.read("platforms/new/web/sites/web/files/59.txt"), "upload 59\n");
    assert_eq!(fs::read_link(there.path("root/live/web")).unwrap(), there.path("platforms/new/web"));
    // It is a site like any other.
    there.write("root/sites/web/files/later.txt", "later");
    there.sql("root/sites/web/database/site.sqlite", "INSERT INTO node(title) VALUES('fifth')");
    there.json(&["snapshot", "web", "--tag", "first"]);
    there.json(&["clone", "web", "copy"]);
    assert_eq!(there.sql("root/sites/copy/database/site.sqlite", "SELECT count(*) FROM node"), "5");
    there.kill();
    there.serve();
    assert_eq!(there.read("root/sites/web/files/later.txt"), "later");
    there.json(&["verify"]);
    there.json(&["gc"]);
    assert_eq!(there.json(&["status"])["problems"], serde_json::json!([]));

    // A name that is taken is refused; the snapshot is there under the other, and can be the base of the next.
    let (code, _, said) = piped(&there, &["receive", "--site", "web", "--platform", "new"], Some(&none));
    assert!(code == Some(3) && said.contains("web"), "{code:?} {said}");
    here.write("root/sites/shop/files/new.txt", "newer");
    here.json(&["snapshot", "shop", "--tag", "next"]);
    let stream = send(&here, &["shop@next", "--base", "shop@moved"]);
    fs::write(there.path("stream"), stream).unwrap();
    let arguments = ["receive", "--site", "shop", "--platform", "new", "--app", "shop"];
    let (code, _, said) = piped(&there, &arguments, Some(&there.path("stream")));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(there.read("root/sites/shop/files/new.txt"), "newer");
    assert_eq!(there.json(&["log", "shop"])["snapshots"].as_array().unwrap().len(), 2);
}

/// A snapshot comes back to where it is from, and the pipe breaks: what has arrived are names of pages that snapshots have, too.
#[test]
fn what_has_arrived_of_a_stream_takes_nothing_from_snapshots() {
    let bench = Bench::with_site();
    let many = bench.path("root/sites/shop/files/many");
    fs::create_dir(&many).unwrap();
    let write_all = |what: &str| {
        for number in 0..2000 {
            fs::write(many.join(format!("file {number}")), format!("{what} {number}")).unwrap();
        }
    };
    write_all("first");
    let first = bench.json(&["snapshot", "shop"])["snapshot"]["id"].as_str().unwrap().to_owned();
    fs::write(many.join("file 7"), "another").unwrap();
    bench.json(&["snapshot", "shop", "--tag", "second"]);
    // Pages that both have are not in it.
    let stream = send(&bench, &["shop@second", "--base", &format!("shop@{first}")]);
    let (code, said) = receive(&bench, &stream[..stream.len() - 1]);
    assert_eq!(code, Some(1), "{said}");
    write_all("third");
    bench.json(&["snapshot", "shop", "--tag", "third"]);
    // Until now the volume itself refers to the second one's.
    fs::File::open(&many).unwrap().sync_all().unwrap();
    bench.json(&["prune", "shop", "--keep-hourly", "1"]);
    let whole = send(&bench, &["shop@second"]);
    bench.json(&["gc"]);
    let verified = bench.sitefs(&["verify"]);
    assert_eq!(verified.exit, 0, "{}{}", verified.stdout, verified.stderr);
    assert!(send(&bench, &["shop@second"]) == whole);
}
