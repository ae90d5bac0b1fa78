//! Generated operations against the reference, and every case that ever failed, by name.

use proptest::prelude::*;

use super::driver::Driver;
use super::model::{Id, Kind, ModelNode, ROOT};
use super::*;
use crate::base::Timestamp;

/// Directories, files and handles are taken modulo how many there are; names are one of a few, so that they meet.
#[derive(Clone, Debug)]
enum Operation {
    Make { directory: usize, name: usize, kind: usize },
    Put { directory: usize, name: usize, size: usize },
    Truncate { node: usize, size: usize },
    Link { node: usize, directory: usize, name: usize },
    Remove { directory: usize, name: usize, is_directory: bool },
    Rename { from: (usize, usize), to: (usize, usize), mode: usize },
    SetMode { node: usize, mode: u32 },
    SetTime { node: usize, seconds: i64 },
    SetXattr { node: usize, name: usize, size: Option<usize> },
    Open { node: usize, write: bool, past_program: bool },
    WriteHandle { handle: usize, offset: usize, size: usize, append: bool },
    Release { handle: usize },
    Sync { handle: usize },
    Freeze,
    Clone,
    Crash,
    Reopen,
    Evict,
    Forget { node: usize },
    WriteFile { directory: usize, name: usize, size: usize },
    RemoveAll { directory: usize, name: usize },
    Graft { from: usize, directory: usize, name: usize },
}
use Operation::*;

const NAMES: [&str; 5] = ["a", "b", "c", "dir", "files"];

fn name(at: usize) -> &'static str {
    NAMES[at % NAMES.len()]
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + size) as u8).collect()
}

fn run(operations: &[Operation]) {
    let mut driver = Driver::new();
    for operation in operations {
        apply(&mut driver, operation);
        driver.step();
    }
    driver.check();
    driver.freeze();
    driver.reopen();
    driver.freeze();
}

fn directory(driver: &Driver, at: usize) -> Id {
    let directories = driver.model.directories();
    directories[at % directories.len()]
}

fn node(driver: &Driver, at: usize) -> Id {
    let all = driver.model.reachable();
    all[at % all.len()]
}

fn made(
    driver: &mut Driver,
    result: Result<NodeAttributes, LiveError>,
    parent: Id,
    key: &str,
    new: ModelNode,
) {
    let expected = driver.model.make(parent, key, new);
    let id = expected.as_ref().ok().copied();
    let real = result.as_ref().ok().map(|attributes| attributes.id);
    driver.same(result, expected);
    if let (Some(id), Some(real)) = (id, real) {
        driver.learn(id, real);
    }
}

fn apply(driver: &mut Driver, operation: &Operation) {
    if matches!(operation, Sync { .. } | Freeze | Clone | Crash | Reopen | Evict | Graft { .. }) {
        return apply_to_whole(driver, operation);
    }
    let volume = driver.volume();
    match *operation {
        Make { directory: at, name: key, kind } => {
            let (parent, key) = (directory(driver, at), name(key));
            let id = driver.node(parent);
            let key_bytes = key.as_bytes();
            let (result, new) = match kind % 4 {
                0 => (
                    volume.make_node(id, key_bytes, FileKind::File, 0o644, USER),
                    ModelNode::new(Kind::File(Vec::new()), 0o644),
                ),
                1 => (
                    volume.make_symlink(id, key_bytes, b"target", USER),
                    ModelNode::new(Kind::Symlink("target".to_owned()), 0o777),
                ),
                2 => (
                    volume.make_node(id, key_bytes, FileKind::Fifo, 0o600, USER),
                    ModelNode::new(Kind::Fifo, 0o600),
                ),
                _ => (
                    volume.make_directory(id, key_bytes, 0o755, USER),
                    ModelNode::new(Kind::Directory(Default::default()), 0o755),
                ),
            };
            made(driver, result, parent, key, new);
        }
        Put { directory: at, name: key, size } => {
            let (parent, key) = (directory(driver, at), name(key));
            match driver.model.lookup(parent, key) {
                Some(id) if driver.model.nodes[&id].content().is_none() => return,
                Some(id) => {
                    driver.model.truncate(id, 0);
                    driver.model.write(id, 0, &bytes(size));
                }
                None => {
                    let result =
                        volume.make_node(driver.node(parent), key.as_bytes(), FileKind::File, 0o644, USER);
                    made(driver, result, parent, key, ModelNode::new(Kind::File(bytes(size)), 0o644));
                }
            }
            put(&volume, driver.node(parent), key, &bytes(size));
        }
        Truncate { node: at, size } => {
            let id = node(driver, at);
            let changes = SetAttributes { size: Some(size as u64), ..SetAttributes::default() };
            let real = volume.set_attributes(driver.node(id), &changes);
            let expected = match &driver.model.nodes[&id].kind {
                Kind::Directory(_) => Err(LiveError::IsADirectory),
                Kind::File(_) => {
                    driver.model.truncate(id, size);
                    Ok(())
                }
                _ => Err(LiveError::Invalid),
            };
            driver.same(real, expected);
        }
        Link { node: at, directory: to, name: key } => {
            let (id, parent, key) = (node(driver, at), directory(driver, to), name(key));
            let real = volume.link(driver.node(id), driver.node(parent), key.as_bytes());
            let expected = driver.model.link(id, parent, key);
            driver.same(real, expected);
        }
        Remove { directory: at, name: key, is_directory } => {
            let (parent, key) = (directory(driver, at), name(key));
            let id = driver.node(parent);
            let real = match is_directory {
                true => volume.remove_directory(id, key.as_bytes()),
                false => volume.unlink(id, key.as_bytes()),
            };
            let expected = driver.model.remove(parent, key, is_directory);
            driver.same(real, expected);
        }
        Rename { from, to, mode } => {
            let (from, to) =
                ((directory(driver, from.0), name(from.1)), (directory(driver, to.0), name(to.1)));
            let mode =
                [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange, RenameMode::Replace]
                    [mode % 4];
            let real = volume.rename(
                driver.node(from.0),
                from.1.as_bytes(),
                driver.node(to.0),
                to.1.as_bytes(),
                mode,
            );
            let expected = driver.model.rename(from, to, mode);
            driver.same(real, expected);
        }
        _ => apply_to_node(driver, &volume, operation),
    }
}

fn apply_to_node(driver: &mut Driver, volume: &Volume, operation: &Operation) {
    match *operation {
        SetMode { node: at, mode } => {
            let id = node(driver, at);
            let changes = SetAttributes { mode: Some(mode), uid: Some(mode), ..SetAttributes::default() };
            volume.set_attributes(driver.node(id), &changes).unwrap();
            let node = driver.model.node(id);
            (node.mode, node.uid) = (mode, mode);
        }
        SetTime { node: at, seconds } => {
            let id = node(driver, at);
            let time = Timestamp::from_parts(seconds, 987_654_321);
            let changes = SetAttributes { modified: Some(TimeChange::To(time)), ..SetAttributes::default() };
            volume.set_attributes(driver.node(id), &changes).unwrap();
            driver.model.node(id).modified = Some(time);
        }
        SetXattr { node: at, name: key, size } => {
            let id = node(driver, at);
            let key = format!("user.{}", name(key));
            let symlink = matches!(driver.model.nodes[&id].kind, Kind::Symlink(_));
            match size {
                Some(size) => {
                    let real =
                        volume.set_xattr(driver.node(id), key.as_bytes(), &bytes(size), XattrMode::Set);
                    let expected = if symlink { Err(LiveError::NotSupported) } else { Ok(()) };
                    if driver.same(real, expected) {
                        driver.model.node(id).xattrs.insert(key, bytes(size));
                    }
                }
                None => {
                    let real = volume.remove_xattr(driver.node(id), key.as_bytes());
                    let expected = driver.model.node(id).xattrs.remove(&key).ok_or(LiveError::NoAttribute);
                    driver.same(real, expected);
                }
            }
        }
        Open { node: at, write, past_program } => driver.open(node(driver, at), write, past_program),
        WriteHandle { handle, offset, size, append } => {
            driver.write_handle(handle, offset, &bytes(size), append);
        }
        Release { handle } => driver.release(handle),
        Forget { node: at } => {
            let orphans = driver.model.nodes.iter().filter(|(_, node)| node.names == 0);
            let orphans: Vec<Id> = orphans.map(|(id, _)| *id).collect();
            if let Some(id) = orphans.get(at % orphans.len().max(1)).filter(|id| **id != ROOT) {
                volume.forget(driver.node(*id));
            }
        }
        WriteFile { directory: at, name: key, size } => {
            let (parent, key) = (directory(driver, at), name(key));
            let path = driver.path_below(parent, key);
            let real = volume.write_file(&path, &bytes(size), 0o640, USER);
            let before = driver.model.lookup(parent, key);
            let expected = match before {
                Some(id) if driver.model.nodes[&id].is_directory() => Err(LiveError::IsADirectory),
                _ => Ok(()),
            };
            if driver.same(real, expected) {
                driver.model.remove_all(parent, key);
                let id = driver.model.add(parent, key, ModelNode::new(Kind::File(bytes(size)), 0o640));
                let found = volume.lookup(driver.node(parent), key.as_bytes()).unwrap();
                driver.learn(id, found.id);
            }
        }
        RemoveAll { directory: at, name: key } => {
            let (parent, key) = (directory(driver, at), name(key));
            volume.remove_all(&driver.path_below(parent, key)).unwrap();
            driver.model.remove_all(parent, key);
        }
        _ => unreachable!("handled by one of the others"),
    }
}

fn apply_to_whole(driver: &mut Driver, operation: &Operation) {
    match *operation {
        Sync { handle } => driver.sync(handle),
        Freeze => drop(driver.freeze()),
        Clone => driver.clone_and_go_on(),
        Crash => driver.crash(),
        Reopen => driver.reopen(),
        Evict => {
            driver.volume().evict();
            driver.check();
        }
        Graft { from, directory: at, name: key } => {
            let parent = directory(driver, at);
            driver.graft(from, parent, name(key));
        }
        _ => unreachable!("handled by one of the others"),
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let small = 0..16_usize;
    let size = 0..600_usize;
    let at = || (small.clone(), small.clone());
    prop_oneof![
        6 => (at(), small.clone()).prop_map(|((directory, name), kind)| Make { directory, name, kind }),
        6 => (at(), size.clone()).prop_map(|((directory, name), size)| Put { directory, name, size }),
        2 => (small.clone(), size.clone()).prop_map(|(node, size)| Truncate { node, size }),
        3 => (small.clone(), at()).prop_map(|(node, (directory, name))| Link { node, directory, name }),
        5 => (at(), any::<bool>())
            .prop_map(|((directory, name), is_directory)| Remove { directory, name, is_directory }),
        6 => (at(), at(), small.clone()).prop_map(|(from, to, mode)| Rename { from, to, mode }),
        2 => (small.clone(), 0..0o1000_u32).prop_map(|(node, mode)| SetMode { node, mode }),
        2 => (small.clone(), -10..2_000_000_000_i64).prop_map(|(node, seconds)| SetTime { node, seconds }),
        2 => (at(), proptest::option::of(size.clone()))
            .prop_map(|((node, name), size)| SetXattr { node, name, size }),
        4 => (small.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(node, write, past_program)| Open { node, write, past_program }),
        4 => (small.clone(), size.clone(), size.clone(), any::<bool>())
            .prop_map(|(handle, offset, size, append)| WriteHandle { handle, offset, size, append }),
        2 => small.clone().prop_map(|handle| Release { handle }),
        1 => small.clone().prop_map(|handle| Sync { handle }),
        2 => Just(Freeze),
        2 => Just(Clone),
        1 => Just(Crash),
        1 => Just(Reopen),
        2 => Just(Evict),
        1 => small.clone().prop_map(|node| Forget { node }),
        1 => (at(), size.clone()).prop_map(|((directory, name), size)| WriteFile { directory, name, size }),
        2 => at().prop_map(|(directory, name)| RemoveAll { directory, name }),
        2 => (small.clone(), at()).prop_map(|(from, (directory, name))| Graft { from, directory, name }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_volume_is_what_the_reference_says(operations in prop::collection::vec(operation(), 1..60)) {
        run(&operations);
    }
}

/// `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}
