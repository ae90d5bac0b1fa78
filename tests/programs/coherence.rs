//! One change, seen through every path: the head, a link to it, a view of it; and after hundreds of switches nothing
//! that was before.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::both_ways;
use crate::common::{Served, errno};
use rustix::io::Errno;

/// How often is switched; `SITEFS_TEST_SWITCHES` says otherwise.
const SWITCHES: u64 = 60;

both_ways!(what_one_path_changes_all_paths_show_at_once, nothing_from_before_a_switch_is_seen_after_it,);

fn what_one_path_changes_all_paths_show_at_once(passthrough: bool) {
    let mut served = Served::start(passthrough);
    // As a site on its platform: a view with a link to the generation, bind-mounted, and data behind a link.
    served.tell("view lane site>../work");
    let bound = served.directory().join("sites");
    fs::create_dir(&bound).unwrap();
    rustix::mount::mount_bind(served.root().join("lane"), &bound).unwrap();
    let direct = served.directory().join("direct");
    fs::create_dir(&direct).unwrap();
    rustix::mount::mount_bind(served.work(), &direct).unwrap();
    fs::create_dir(served.work().join("data")).unwrap();
    symlink("data", served.work().join("files")).unwrap();
    // `../work` in the bound view is beside the view's own place, as on a platform: shown by a link there.
    symlink(served.work(), served.directory().join("work")).unwrap();
    let paths: Vec<PathBuf> = [served.work(), served.root().join("lane/site"), bound.join("site"), direct]
        .iter()
        .flat_map(|path| [path.join("data"), path.join("files")])
        .collect();

    for round in 0..60_usize {
        let by = &paths[round % paths.len()];
        let name = format!("file-{round}");
        let all = |check: &dyn Fn(PathBuf)| paths.iter().for_each(|path| check(path.join(&name)));
        // All of them hold that there is none.
        all(&|path| assert!(!path.exists()));
        let mut writer = OpenOptions::new().write(true).create_new(true).open(by.join(&name)).unwrap();
        all(&|path| assert_eq!(fs::metadata(path).unwrap().len(), 0));
        writer.write_all(b"first").unwrap();
        all(&|path| assert_eq!(fs::read(path).unwrap(), b"first"));
        let readers: Vec<File> = paths.iter().map(|path| File::open(path.join(&name)).unwrap()).collect();
        writer.write_all_at(b"FIRST, and more", 0).unwrap();
        for reader in &readers {
            let mut content = [0; 15];
            reader.read_exact_at(&mut content, 0).unwrap();
            assert_eq!(&content, b"FIRST, and more");
            assert_eq!(reader.metadata().unwrap().len(), 15);
        }
        writer.set_len(3).unwrap();
        all(&|path| assert_eq!(fs::read(path).unwrap(), b"FIR"));
        drop((writer, readers));
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600 + round as u32 % 8);
        fs::set_permissions(by.join(&name), permissions).unwrap();
        all(&|path| assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600 + round as u32 % 8));
        let other = &paths[(round + 3) % paths.len()];
        fs::write(other.join("new"), "replaced").unwrap();
        fs::rename(other.join("new"), other.join(&name)).unwrap();
        all(&|path| assert_eq!(fs::read(path).unwrap(), b"replaced"));
        fs::remove_file(by.join(&name)).unwrap();
        all(&|path| assert_eq!(errno(fs::metadata(path)), Some(Errno::NOENT.raw_os_error())));
        for path in &paths {
            assert_eq!(fs::read_dir(path).unwrap().count(), 0);
        }
    }
    crate::common::unmount_below(&bound);
    crate::common::unmount_below(&served.directory().join("direct"));
}

/// What one look through the live link sees: the state of one snapshot as a whole, or of an earlier one for a look
/// that began before the switch.
fn nothing_from_before_a_switch_is_seen_after_it(passthrough: bool) {
    let switches = std::env::var("SITEFS_TEST_SWITCHES").map_or(SWITCHES, |text| text.parse().unwrap());
    let mut served = Served::start(passthrough);
    let (root, work) = (served.root(), served.work());
    let state = |number: u64| {
        fs::write(work.join("number"), format!("{number}")).unwrap();
        fs::write(work.join("size"), vec![b'x'; number as usize]).unwrap();
        fs::write(work.join(format!("only-{number}")), "").unwrap();
        if number > 0 {
            fs::remove_file(work.join(format!("only-{}", number - 1))).unwrap();
        }
    };
    state(0);
    served.freeze("s-0", || ());
    served.tell("switch ../s-0");
    let released = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let site = root.join("live/site");
    std::thread::scope(|scope| {
        let hammers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut looks = 0_u64;
                    while !done.load(Ordering::SeqCst) {
                        let before = released.load(Ordering::SeqCst);
                        let number: u64 = fs::read_to_string(site.join("number")).unwrap().parse().unwrap();
                        assert!(number >= before, "{number} is seen after {before} was released");
                        // Size and names are never older than what was released before they were looked at.
                        let before = released.load(Ordering::SeqCst);
                        assert!(fs::metadata(site.join("size")).unwrap().len() >= before);
                        let before = released.load(Ordering::SeqCst);
                        let gone = before.checked_sub(1).map(|gone| site.join(format!("only-{gone}")));
                        assert!(gone.is_none_or(|gone| !gone.exists()), "{before}");
                        looks += 1;
                    }
                    looks
                })
            })
            .collect();
        for number in 1..=switches {
            let name = format!("s-{number}");
            // The kernel holds that there is none yet.
            assert!(!root.join(&name).exists() && !site.join(format!("only-{number}")).exists());
            state(number);
            served.freeze(&name, || ());
            assert_eq!(fs::read_to_string(root.join(&name).join("number")).unwrap(), format!("{number}"));
            served.tell(&format!("switch ../{name}"));
            released.store(number, Ordering::SeqCst);
            assert_eq!(fs::read_link(&site).unwrap().as_os_str(), format!("../{name}").as_str());
            assert_eq!(fs::read_to_string(site.join("number")).unwrap(), format!("{number}"));
            assert!(site.join(format!("only-{number}")).exists());
            let mut names: Vec<_> = fs::read_dir(&site)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, ["number".to_owned(), format!("only-{number}"), "size".to_owned()]);
            if let Some(old) = number.checked_sub(3) {
                served.tell(&format!("remove s-{old}"));
                assert_eq!(
                    errno(fs::metadata(root.join(format!("s-{old}")))),
                    Some(Errno::NOENT.raw_os_error())
                );
                assert_eq!(
                    errno(fs::metadata(root.join(format!("s-{old}/number")))),
                    Some(Errno::NOENT.raw_os_error())
                );
            }
        }
        done.store(true, Ordering::SeqCst);
        for hammer in hammers {
            assert!(hammer.join().unwrap() > 0);
        }
    });
}
