//! Pruning snapshots and reclaiming their space, beside sites that are in use.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::bench::Bench;

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What the files of the store's objects take, in bytes.
fn on_disk(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            match metadata.is_dir() {
                true => on_disk(&entry.path()),
                false if entry.path().extension().is_some_and(|name| name == "redb") => 0,
                false => metadata.len(),
            }
        })
        .sum()
}

fn snapshot(bench: &Bench, message: &str) -> String {
    bench.json(&["snapshot", "shop", "-m", message])["snapshot"]["id"].as_str().unwrap().to_owned()
}

fn removed(pruned: &Value) -> Vec<&str> {
    let snapshots = pruned["snapshots"].as_array().unwrap().iter();
    snapshots
        .filter(|snapshot| snapshot["kept_as"].as_array().unwrap().is_empty())
        .map(|snapshot| snapshot["message"].as_str().unwrap())
        .collect()
}

#[test]
fn the_space_of_pruned_snapshots_comes_back_and_nothing_else_goes() {
    let bench = Bench::with_site();
    let objects = bench.path("store/objects");
    let big = |seed| noise(seed, 3 << 20);
    fs::write(bench.path("root/sites/shop/files/kept.bin"), big(1)).unwrap();
    // Chunks in packs, and a plain file.
    let mut ids = Vec::new();
    for (round, name) in ["one", "two", "three"].iter().enumerate() {
        fs::write(bench.path("root/sites/shop/files/changing.bin"), big(10 + round as u64)).unwrap();
        let small = noise(20 + round as u64, 900_000);
        fs::write(bench.path("root/sites/shop/modules/changing"), small).unwrap();
        ids.push(snapshot(&bench, name));
    }
    bench.json(&["tag", "shop@latest", "release-7"]);
    fs::remove_file(bench.path("root/sites/shop/files/changing.bin")).unwrap();
    snapshot(&bench, "newest");
    bench.json(&["clone", "shop", "test"]);
    // Removed, and still open: its content is in the store alone.
    let mut open = File::open(bench.path("root/sites/test/modules/changing")).unwrap();
    fs::remove_file(bench.path("root/sites/test/modules/changing")).unwrap();

    assert!(bench.fails(2, &["prune", "shop"]).contains("--keep-daily"));
    let before = on_disk(&objects);
    let told = bench.json(&["prune", "shop", "--keep-daily", "1", "--dry-run"]);
    let count = bench.json(&["log", "shop"])["snapshots"].as_array().unwrap().len();
    let would_free = told["would_free_bytes"].as_u64().unwrap();
    // Two versions of the large file and two of the small one.
    assert!((7_800_000..8_400_000).contains(&would_free), "{would_free}");

    let log = bench.json(&["log", "shop", "--space"]);
    for message in ["one", "two"] {
        let snapshot = log["snapshots"].as_array().unwrap().iter().find(|one| one["message"] == message);
        let alone = snapshot.unwrap()["alone_bytes"].as_u64().unwrap();
        assert!((3_900_000..4_200_000).contains(&alone), "{log}");
    }
    let space = |name: &str| log["space"][name].as_u64().unwrap();
    assert!(
        space("snapshots_bytes") >= would_free && space("own_bytes") >= space("snapshots_bytes"),
        "{log}"
    );
    // The clone has it too.
    assert!((4_000_000..4_600_000).contains(&space("shared_bytes")), "{log}");

    let pruned = bench.json(&["prune", "shop", "--keep-daily", "1"]);
    assert!(["one", "two"].iter().all(|gone| removed(&pruned).contains(gone)), "{pruned}");
    assert_eq!(pruned["removed"], count - 2, "{pruned}");
    assert_eq!(bench.json(&["log", "shop"])["snapshots"].as_array().unwrap().len(), 2);
    assert!(!bench.exists(&format!("root/snapshots/shop/{}", &ids[0][..12])));
    assert_eq!(on_disk(&objects), before, "nothing is freed before the collection");

    let writing = AtomicBool::new(true);
    let collected = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while writing.load(Ordering::SeqCst) {
                bench.write("root/sites/shop/files/busy.txt", &format!("round {round}"));
                round += 1;
                snapshot(&bench, "beside");
            }
        });
        let collected: Vec<Value> = (0..3).map(|_| bench.json(&["gc"])).collect();
        writing.store(false, Ordering::SeqCst);
        collected
    });
    let sum = |key: &str| collected.iter().map(|one| one[key].as_u64().unwrap()).sum::<u64>();
    assert!(sum("garbage_bytes") >= would_free && sum("objects_removed") > 20, "{collected:?}");
    assert!(sum("freed_bytes") >= would_free / 2, "{collected:?}");
    assert!(on_disk(&objects) < before - would_free / 2, "{} of {before}", on_disk(&objects));

    let mut content = Vec::new();
    open.read_to_end(&mut content).unwrap();
    assert!(content == noise(22, 900_000), "the file that was open has another content");
    let read = |name: &str| fs::read(bench.path(name)).unwrap();
    let tagged = bench.json(&["show", "shop@release-7"])["path"].as_str().unwrap().to_owned();
    assert!(fs::read(format!("{tagged}/files/changing.bin")).unwrap() == big(12));
    assert!(
        read("root/sites/shop/files/kept.bin") == big(1) && read("root/sites/test/files/kept.bin") == big(1)
    );
    assert!(read("root/sites/shop/modules/changing") == noise(22, 900_000));
    bench.json(&["database", "verify", "shop@release-7"]);
    drop(open);

    // Soon there is nothing left to take, and all of it is there after a restart too. What the live site frees is garbage
    // once its rows are committed, up to a second later.
    bench.json(&["prune", "shop", "--keep-daily", "1"]);
    let removed = |_| bench.json(&["gc"])["objects_removed"].as_u64().unwrap();
    assert!((0..50).map(removed).any(|count| count == 0), "there is always more");
    bench.kill();
    bench.serve();
    assert!(read("root/sites/test/files/kept.bin") == big(1));
    assert!(fs::read(format!("{tagged}/modules/changing")).unwrap() == noise(22, 900_000));
    bench.json(&["database", "verify", "shop"]);
}

#[test]
fn what_a_removed_site_had_is_reclaimed() {
    let bench = Bench::with_site();
    bench.json(&["gc"]);
    let before = bench.json(&["gc"])["stored_bytes"].as_u64().unwrap();
    bench.json(&["clone", "shop", "test"]);
    fs::write(bench.path("root/sites/test/files/own.bin"), noise(5, 2 << 20)).unwrap();
    bench.json(&["snapshot", "test"]);
    bench.json(&["site", "remove", "test"]);
    let collected = bench.json(&["gc"]);
    assert!(collected["freed_bytes"].as_u64().unwrap() >= 2 << 20, "{collected}");
    // What the clone was made of is a snapshot of the original, and stays.
    let after = collected["stored_bytes"].as_u64().unwrap();
    assert!(after < before + 200_000, "{before} {after}");
    bench.json(&["snapshot", "shop"]);
    bench.json(&["database", "verify", "shop@latest"]);
}
