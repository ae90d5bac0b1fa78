//! What other users may do, here and in snapshots and clones.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use crate::both_ways;
use crate::common::{Served, as_nobody};

both_ways!(privileges_go_with_a_change);

/// The mode when it alone is asked for: of that the kernel may believe to know it.
fn mode(path: &Path) -> u32 {
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::MODE).unwrap();
    u32::from(found.stx_mode) & 0o7777
}

fn privileges_go_with_a_change(passthrough: bool) {
    let served = Served::start(passthrough);
    let path = served.work().join("file");
    let name = path.display();
    let with = |bits: u32| {
        fs::write(&path, "content").unwrap();
        chown(&path, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
    };
    for (change, before, after) in [
        (format!("echo more >> {name}"), 0o6777, 0o777),
        (format!("truncate -s 3 {name}"), 0o6777, 0o777),
        (format!(": > {name}"), 0o4755, 0o755),
        // Without the group's right to execute, the bit means something else and stays.
        (format!("echo more >> {name}"), 0o6767, 0o2767),
        (format!("fallocate -l 4096 {name}"), 0o6777, 0o777),
        (format!("cat {name}"), 0o6777, 0o6777),
        (format!("touch {name}"), 0o6777, 0o6777),
        (format!("chgrp nogroup {name}"), 0o6777, 0o777),
        // What is refused changes nothing: no file is so large.
        (format!("! truncate -s 17592186040321 {name}"), 0o6777, 0o6777),
    ] {
        with(before);
        as_nobody(&change, true);
        assert_eq!(mode(&path), after, "{change}");
    }
    // Unless by somebody who is not in the group, also by way of an open that was there before the bits were.
    with(0o666);
    chown(&path, None, Some(0)).unwrap();
    as_nobody(&format!("exec 3>> {name}; chmod 6766 {name}; echo more >&3"), true);
    assert_eq!(mode(&path), 0o766);
    fs::set_permissions(&path, Permissions::from_mode(0o2766)).unwrap();
    as_nobody(&format!("echo more >> {name}"), true);
    assert_eq!(mode(&path), 0o766);
    // Root may leave them, as on any disk.
    with(0o6777);
    fs::write(&path, "content").unwrap();
    assert_eq!(mode(&path), 0o6777);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
    assert_eq!(mode(&path), 0o6777);
    // But not with a change of owner, even to nobody.
    chown(&path, None, None).unwrap();
    assert_eq!(mode(&path), 0o777);
    // Who is not in the file's group may not give it its set-group-id bit.
    with(0o755);
    chown(&path, Some(65534), Some(0)).unwrap();
    as_nobody(&format!("chmod 2755 {name}"), true);
    assert_eq!(mode(&path), 0o755);
    // Capabilities of a program go as well.
    let none = rustix::fs::XattrFlags::empty();
    with(0o777);
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(&path, "security.capability", &capability, none).unwrap();
    as_nobody(&format!("echo more >> {name}"), true);
    assert_eq!(rustix::fs::getxattr(&path, "security.capability", &mut [0; 64]), Err(Errno::NODATA));
}

/// Programs of a site are nobody's way to more rights.
#[test]
fn set_user_id_has_no_effect_on_the_mount() {
    let served = Served::start(true);
    let program = served.work().join("id");
    fs::copy("/usr/bin/id", &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o6755)).unwrap();
    as_nobody(&format!("test \"$({} -u)\" = 65534", program.display()), true);
}

/// A list denies the group what the mode, whose group bits are the list's mask, seems to allow.
#[test]
fn what_an_access_list_denies_is_denied_where_there_are_none() {
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 1), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend([tag.to_le_bytes().as_slice(), &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let none = rustix::fs::XattrFlags::empty();
    let mut supported = true;
    let served = Served::start_with(true, |content| {
        let file = content.join("file");
        fs::write(&file, "secret").unwrap();
        chown(&file, Some(0), Some(65534)).unwrap();
        supported = rustix::fs::setxattr(&file, "system.posix_acl_access", &list, none).is_ok();
        assert!(!supported || mode(&file) == 0o640);
    });
    if !supported {
        eprintln!("skipped: the temporary directory is on a file system without access control lists");
        return;
    }
    for place in ["base", "copy"] {
        let file = served.root().join(place).join("file");
        assert_eq!(mode(&file), 0o600);
        as_nobody(&format!("cat {}", file.display()), false);
        let set = rustix::fs::setxattr(&file, "system.posix_acl_access", &list, none);
        assert_eq!(set, Err(Errno::OPNOTSUPP));
    }
    // The administrator's word replaces the list's.
    let file = served.root().join("copy/file");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    as_nobody(&format!("cat {}", file.display()), true);
}

/// Nobody gets at a snapshot or a clone of what was kept from them.
#[test]
fn what_a_user_may_not_read_is_not_readable_in_a_snapshot_or_a_clone() {
    let mut served = Served::start_with(true, |content| {
        fs::create_dir(content.join("closed")).unwrap();
        fs::write(content.join("closed/file"), "secret").unwrap();
        fs::write(content.join("secret"), "secret").unwrap();
        fs::write(content.join("large"), vec![7; 3 << 20]).unwrap();
        fs::write(content.join("open"), "public").unwrap();
        for (name, bits) in [("closed", 0o700), ("closed/file", 0o666), ("secret", 0o600), ("large", 0o640)] {
            fs::set_permissions(content.join(name), Permissions::from_mode(bits)).unwrap();
        }
    });
    let work = served.work();
    let script = r#"cp -a "$1/." "$2/""#;
    let content = served.directory().join("content");
    assert!(
        Command::new("sh").args(["-c", script, "sh"]).args([&content, &work]).status().unwrap().success()
    );
    served.freeze("snapshot", || ());
    // The original, a snapshot of it, an imported tree, and a clone of that.
    for place in ["work", "snapshot", "base", "copy"] {
        let place = served.root().join(place);
        let place = place.display();
        as_nobody(&format!("test \"$(cat {place}/open)\" = public"), true);
        for refused in ["cat closed/file", "ls closed", "cat secret", "cat large", "stat closed/file"] {
            as_nobody(&format!("cd {place} && {refused}"), false);
        }
        // Root has read them, so that the kernel has their pages.
        fs::read(format!("{place}/secret")).unwrap();
        fs::read(format!("{place}/closed/file")).unwrap();
        as_nobody(&format!("cat {place}/secret {place}/closed/file"), false);
        as_nobody(&format!("chmod 644 {place}/secret"), false);
    }
}
