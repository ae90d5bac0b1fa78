//! What happens between the parts of a freeze, which are called one by one here.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::plan::Plan;
use crate::live::node::Body;
use crate::live::tests::{READ, Store, WRITE, content, put};
use crate::live::{FrozenTree, Served, Volume};
use crate::trees::{NameKey, Node};

fn collect(volume: &Volume) -> Plan {
    let mut plan = Plan::default();
    let _gate = volume.gate.write();
    volume.collect(&mut plan).unwrap();
    plan
}

fn finish(volume: &Volume, plan: &mut Plan) -> FrozenTree {
    let frozen = volume.store(plan).unwrap();
    volume.unseal(plan, true);
    frozen
}

fn content_in(store: &Store, frozen: &FrozenTree, name: &str) -> Vec<u8> {
    let key = NameKey::new(name.as_bytes());
    let located = store.trees.lookup(frozen.root.tree, &key).unwrap().unwrap();
    let Node::File(stored) = located.entry.node else { panic!("a file") };
    let mut bytes = vec![0; stored.size() as usize];
    store.trees.objects.read_at(&stored, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_changes_after_the_instant_is_not_in_the_tree_and_is_in_the_next() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let written = put(&volume, root, "written", b"old");
    let open = put(&volume, root, "open", b"old");
    put(&volume, root, "unlinked", b"old");
    put(&volume, root, "replaced", b"old");
    let reader = volume.open(written, READ, false).unwrap().handle;
    let writer = volume.open(open, WRITE, false).unwrap().handle;
    volume.write(writer, 0, b"OLD").unwrap();

    let mut plan = collect(&volume);
    put(&volume, root, "written", b"new!");
    volume.write(writer, 0, b"new").unwrap();
    volume.unlink(root, b"unlinked").unwrap();
    put(&volume, root, "other", b"new");
    volume.rename(root, b"other", root, b"replaced", crate::live::RenameMode::Replace).unwrap();
    volume.sync_volume().unwrap();
    let mut bytes = [0; 8];
    assert_eq!(
        volume.read(reader, 0, &mut bytes).unwrap(),
        4,
        "a handle sees what is written after a copy-up"
    );

    let frozen = finish(&volume, &mut plan);
    assert_eq!(frozen.root.totals.nodes, 4);
    for (name, expected) in
        [("written", b"old"), ("open", b"OLD"), ("unlinked", b"old"), ("replaced", b"old")]
    {
        assert_eq!(content_in(&store, &frozen, name), expected, "{name}");
    }
    let next = volume.freeze().unwrap();
    assert_eq!(next.root.totals.nodes, 3);
    for (name, expected) in [("written", &b"new!"[..]), ("open", b"new"), ("replaced", b"new")] {
        assert_eq!(content_in(&store, &next, name), expected, "{name}");
    }
    volume.release(reader).unwrap();
    volume.release(writer).unwrap();
    volume.freeze().unwrap();
    volume.sync_volume().unwrap();
    assert_eq!(store.upper_files(), 0, "all of it is in the store");
}

#[test]
fn a_freeze_that_ends_early_is_done_by_the_next() {
    let mut store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let id = put(&volume, root, "a", b"one");
    let plan = collect(&volume);
    volume.unseal(&plan, false);
    let directory = volume.make_directory(root, b"d", 0o755, crate::live::tests::USER).unwrap().id;
    put(&volume, directory, "b", b"two");
    let mut plan = collect(&volume);
    volume.store_contents(&mut plan.contents).unwrap();
    volume.unseal(&plan, false);
    volume.sync_volume().unwrap();
    drop(volume);
    store.crash();
    let volume = store.volume();
    let frozen = volume.freeze().unwrap();
    assert_eq!(frozen.root.totals.nodes, 3);
    assert_eq!(content_in(&store, &frozen, "a"), b"one");
    assert_eq!(content(&volume, id), b"one");
}

#[test]
fn a_writer_waits_while_the_kernel_reads_from_a_sealed_file() {
    let store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "a", b"old");
    let reader = volume.open(id, READ, true).unwrap();
    let Served::Backing(file) = &reader.served else { panic!("an upper file can be passed") };
    let mut plan = collect(&volume);
    let entered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            entered.store(true, Ordering::SeqCst);
            volume.open(id, WRITE, true).unwrap()
        });
        while !entered.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let frozen = finish(&volume, &mut plan);
        assert_eq!(content_in(&store, &frozen, "a"), b"old");
        let writer = writer.join().unwrap();
        let Served::Backing(same) = &writer.served else { panic!("one manner at a time") };
        assert!(std::sync::Arc::ptr_eq(file, same), "the kernel takes one file for a node");
        same.write_all_at(b"new", 0).unwrap();
        volume.release(writer.handle).unwrap();
    });
    volume.release(reader.handle).unwrap();
    assert_eq!(content(&volume, id), b"new");
    assert_eq!(content_in(&store, &volume.freeze().unwrap(), "a"), b"new");
}

#[test]
fn the_upper_file_of_a_stored_file_goes_when_the_kernel_lets_go_of_it() {
    let store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "a", b"text");
    let reader = volume.open(id, READ, true).unwrap().handle;
    volume.freeze().unwrap();
    assert!(matches!(volume.state.lock().nodes[&id.local()].body, Body::Upper(_)));
    volume.release(reader).unwrap();
    assert!(matches!(volume.state.lock().nodes[&id.local()].body, Body::Stored(_)));
    volume.sync_volume().unwrap();
    assert_eq!((store.upper_files(), content(&volume, id)), (0, b"text".to_vec()));
}

#[test]
fn a_file_that_is_written_all_the_time_past_this_program_is_reported() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let directory = volume.make_directory(root, b"logs", 0o755, crate::live::tests::USER).unwrap().id;
    let busy = put(&volume, directory, "busy", b"");
    let calm = put(&volume, directory, "calm", b"");
    let open = |id| match volume.open(id, WRITE, true).unwrap() {
        crate::live::OpenedFile { handle, served: Served::Backing(file) } => (handle, file),
        other => panic!("{other:?}"),
    };
    let ((busy, file), (calm, calm_file)) = (open(busy), open(calm));
    calm_file.write_all_at(b"done", 0).unwrap();
    let stop = AtomicBool::new(false);
    let unstable = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                file.write_all_at(b"line", 0).unwrap();
            }
        });
        // Whether the writer happens to be at work while its file is copied is up to the scheduler, which lets it wait
        // for seconds on a busy machine.
        let until = Instant::now() + Duration::from_secs(60);
        let frozen = std::iter::repeat_with(|| volume.freeze().unwrap().unstable)
            .take_while(|_| Instant::now() < until)
            .find(|unstable| !unstable.is_empty());
        stop.store(true, Ordering::SeqCst);
        frozen
    });
    assert_eq!(unstable, Some(vec![PathBuf::from("logs/busy")]));
    volume.release(busy).unwrap();
    volume.release(calm).unwrap();
    assert!(volume.freeze().unwrap().unstable.is_empty());
}
