//! What other users may do, here and in snapshots and clones.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
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

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// A list for the owner, one user, the owning group, the mask and the others, as the kernel has it.
fn access_list(owner: u16, user: (u32, u16), group: u16, mask: u16, others: u16) -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] = [
        (1, owner, u32::MAX),
        (2, user.1, user.0),
        (4, group, u32::MAX),
        (16, mask, u32::MAX),
        (32, others, u32::MAX),
    ];
    let entries = entries.iter().flat_map(|(tag, rights, id)| {
        [tag.to_le_bytes().as_slice(), &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

fn set_list(path: &Path, name: &str, list: &[u8]) -> Result<(), Errno> {
    rustix::fs::setxattr(path, name, list, rustix::fs::XattrFlags::empty())
}

fn lists(path: &Path) -> Vec<String> {
    let mut names = [0; 256];
    let length = rustix::fs::listxattr(path, &mut names).unwrap();
    let names = String::from_utf8(names[..length].to_vec()).unwrap();
    names.split_terminator('\0').map(str::to_owned).collect()
}

/// Lists that were taken in and lists that are set here, in heads, snapshots and clones, before and after a restart.
#[test]
fn access_lists_give_and_deny() {
    const NOBODY: u32 = 65534;
    let gives = access_list(6, (NOBODY, 4), 0, 4, 0);
    // The mode, whose group bits are the list's mask, seems to give this to the group.
    let denies = access_list(6, (1, 4), 0, 4, 0);
    let mut supported = true;
    let put = |directory: &Path| {
        for name in ["gives", "denies"] {
            fs::write(directory.join(name), "secret").unwrap();
        }
        chown(directory.join("denies"), Some(0), Some(NOBODY)).unwrap();
        set_list(&directory.join("gives"), ACCESS, &gives)?;
        set_list(&directory.join("denies"), ACCESS, &denies)
    };
    let mut served = Served::start_with(true, |content| supported = put(content).is_ok());
    put(&served.work()).unwrap();
    served.freeze("snapshot", || ());
    for round in 0..2 {
        for place in ["base", "copy", "work", "snapshot"] {
            if (place == "base" || place == "copy") && !supported || place == "snapshot" && round == 1 {
                continue;
            }
            let place = served.root().join(place);
            for (name, given) in [("gives", true), ("denies", false)] {
                assert_eq!(mode(&place.join(name)), 0o640);
                as_nobody(&format!("cat {}/{name}", place.display()), given);
            }
        }
        if round == 0 {
            served.stop();
            served.start_again();
        }
    }

    // The mode is the mask, whoever sets it.
    let (file, name) = (served.work().join("gives"), served.work().join("gives").display().to_string());
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    as_nobody(&format!("cat {name}"), false);
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    as_nobody(&format!("cat {name}"), true);
    as_nobody(&format!("echo more >> {name}"), false);
    set_list(&file, ACCESS, &access_list(6, (NOBODY, 6), 0, 6, 0)).unwrap();
    as_nobody(&format!("echo more >> {name}"), true);
    assert_eq!((mode(&file), lists(&file)), (0o660, vec![ACCESS.to_owned()]));
    // A list that says no more than the mode is none.
    let plain = access_list(6, (0, 0), 4, 0, 4);
    let plain = [&plain[..12], &plain[20..28], &plain[36..]].concat();
    set_list(&file, ACCESS, &plain).unwrap();
    assert_eq!((mode(&file), lists(&file)), (0o644, Vec::new()));
    assert_eq!(set_list(&file, ACCESS, b"no list"), Err(Errno::OPNOTSUPP));
    assert_eq!(set_list(&file, DEFAULT, &gives), Err(Errno::ACCESS));

    // What is made in a directory begins with the directory's default, whatever the umask.
    let shared = served.work().join("shared");
    fs::create_dir(&shared).unwrap();
    set_list(&shared, DEFAULT, &access_list(7, (NOBODY, 7), 0, 7, 0)).unwrap();
    let script = "umask 077; echo text > file; mkdir -p directory/deeper; echo text > directory/deeper/file; ln -s x link";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&shared).status().unwrap().success());
    fs::set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(lists(&shared.join("directory/deeper")), [ACCESS, DEFAULT]);
    assert_eq!(mode(&shared.join("file")), 0o660);
    let shared = shared.display();
    as_nobody(&format!("cat {shared}/file && echo more >> {shared}/directory/deeper/file"), true);
    as_nobody(&format!("touch {shared}/directory/new && touch {shared}/new"), false);
    as_nobody(&format!("test -e {shared}/directory/new"), true);
}

/// The kernel asks for the root's access control list with each path of another user, unless its group has no permissions.
#[test]
fn everybody_may_list_the_root_and_no_group_has_a_say_there() {
    let served = Served::start(true);
    let root = served.root();
    let found = fs::metadata(&root).unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o705);
    assert_ne!(found.gid(), 0, "whoever is in root's group has what all have");
    let list = format!("ls {} && test -d {}", root.display(), served.work().display());
    as_nobody(&list, true);
    let in_roots_group = ["--reuid=65534", "--regid=0", "--clear-groups", "sh", "-c", &list];
    assert!(Command::new("setpriv").args(in_roots_group).output().unwrap().status.success());
    as_nobody(&format!("touch {}/file", root.display()), false);
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
