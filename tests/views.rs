//! Views that cover platforms' sites directories, second lanes, and taking over what a killed daemon left.

#![allow(clippy::unwrap_used, reason = "a test ends with what is wrong")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use common::Served;
use sitefs::fuse::mounts::{MountEntry, Mounts, MountsError, PlatformView, list, users};
use sitefs::live::NamespaceEntry;

#[test]
fn serving_process() {
    common::serve();
}

/// A platform beside a served file system, on a mount of its own that is shared, as the whole system is under
/// systemd.
struct Platform {
    served: Served,
    mounts: Mounts,
    platform: PathBuf,
}

impl Platform {
    fn new() -> Platform {
        let served = Served::start(true);
        let host = served.directory().join("host");
        fs::create_dir(&host).unwrap();
        rustix::mount::mount_bind(&host, &host).unwrap();
        let private = rustix::mount::MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change(&host, private).unwrap();
        rustix::mount::mount_change(&host, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        let platform = host.join("platform");
        let sites = platform.join("sites");
        fs::create_dir_all(sites.join("all/modules")).unwrap();
        fs::create_dir_all(sites.join("default")).unwrap();
        fs::write(sites.join("all/modules/module"), "native").unwrap();
        fs::write(sites.join("sites.php"), "sites").unwrap();
        fs::write(platform.join("index.php"), "index").unwrap();
        symlink("default", sites.join("alias")).unwrap();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sitefs"));
        let mounts = Mounts::with_program(program, &served.directory().join("staging")).unwrap();
        Platform { served, mounts, platform }
    }

    /// Shows the entries in the namespace, with a site beside them.
    fn show(&mut self, lane: &str, own: &BTreeMap<String, NamespaceEntry>) {
        self.served.tell(&format!("view {lane} site>../work {}", common::words(own)));
    }

    fn attach(&mut self, lane: &str, platform: &Path) -> PlatformView {
        let view = PlatformView::open(&platform.join("sites")).unwrap();
        let own = view.own_entries().unwrap();
        self.show(lane, &own);
        view.attach(&self.mounts, &self.served.root().join(lane), &own).unwrap();
        view
    }
}

/// Every path below a directory with its inode number.
fn contents(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(contents(&path));
        }
        found.push((path, metadata.ino()));
    }
    found.sort();
    found
}

fn names(directory: &Path) -> Vec<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The mounts of one test: others mount at the same time.
fn mounts_of(platform: &Platform) -> Vec<MountEntry> {
    let mut found = list().unwrap();
    found.retain(|entry| entry.mount_point.starts_with(platform.served.directory()));
    found
}

fn mount_points(below: &Path) -> Vec<PathBuf> {
    let points = list().unwrap().into_iter().map(|entry| entry.mount_point);
    points.filter(|point| point.starts_with(below)).collect()
}

#[test]
fn a_view_shows_sites_beside_the_platforms_own_entries_and_goes_without_a_trace() {
    let mut platform = Platform::new();
    let sites = platform.platform.join("sites");
    let native = contents(&sites);
    let mounts_before = mounts_of(&platform);
    let view = platform.attach("a", &platform.platform.clone());

    assert_eq!(names(&sites), ["alias", "all", "default", "site", "sites.php"]);
    assert_eq!(fs::read_link(sites.join("site")).unwrap(), Path::new("../work"));
    assert_eq!(fs::read_link(sites.join("alias")).unwrap(), Path::new("default"));
    let of = |path: &str| native.iter().find(|(found, _)| *found == sites.join(path)).unwrap().1;
    for own in ["all", "all/modules/module", "sites.php"] {
        let found = fs::metadata(sites.join(own)).unwrap();
        assert_eq!(found.ino(), of(own), "{own} is the native one");
        assert_eq!(found.dev(), fs::metadata(&platform.platform).unwrap().dev());
    }
    fs::write(sites.join("all/new"), "new").unwrap();
    assert_eq!(
        mount_points(&platform.served.root()),
        [platform.served.root()],
        "nothing appears in the source"
    );
    assert_eq!(mount_points(&sites).len(), 4, "the view and three entries");
    assert!(matches!(PlatformView::open(&sites), Err(MountsError::Covered { .. })));

    view.detach(&platform.mounts).unwrap();
    assert_eq!(mounts_of(&platform), mounts_before);
    fs::remove_file(sites.join("all/new")).unwrap();
    assert_eq!(contents(&sites), native);
}

#[test]
fn a_view_follows_the_platforms_own_entries() {
    let mut platform = Platform::new();
    let sites = platform.platform.join("sites");
    let view = platform.attach("a", &platform.platform.clone());
    let before = view.own_entries().unwrap();
    // What an administrator does to the directory below, through another mount of it.
    let below = platform.served.directory().join("below");
    fs::create_dir(&below).unwrap();
    platform.mounts.bind(&platform.platform, &below).unwrap();
    fs::create_dir(below.join("sites/profiles")).unwrap();
    fs::write(below.join("sites/profiles/file"), "new").unwrap();
    fs::remove_dir(below.join("sites/default")).unwrap();

    let after = view.own_entries().unwrap();
    platform.show("a", &after);
    view.refresh(&platform.mounts, &before, &after).unwrap();
    assert_eq!(names(&sites), ["alias", "all", "profiles", "site", "sites.php"]);
    assert_eq!(fs::read(sites.join("profiles/file")).unwrap(), b"new");
    assert_eq!(fs::read(sites.join("all/modules/module")).unwrap(), b"native");
    view.detach(&platform.mounts).unwrap();
    assert_eq!(names(&sites), ["alias", "all", "profiles", "sites.php"]);
}

#[test]
fn a_second_lane_is_the_same_platform_with_a_view_of_its_own() {
    let mut platform = Platform::new();
    let (one, other) = (platform.platform.clone(), platform.platform.with_file_name("platform@b"));
    let first = platform.attach("a", &one);
    fs::create_dir(&other).unwrap();
    platform.mounts.bind(&one, &other).unwrap();
    assert_eq!(fs::read(other.join("index.php")).unwrap(), b"index");
    assert_eq!(
        names(&other.join("sites")),
        ["alias", "all", "default", "sites.php"],
        "not the other lane's view"
    );
    let second = platform.attach("b", &other);
    assert_eq!(names(&other.join("sites")), ["alias", "all", "default", "site", "sites.php"]);

    first.detach(&platform.mounts).unwrap();
    assert_eq!(names(&one.join("sites")), ["alias", "all", "default", "sites.php"]);
    assert_eq!(names(&other.join("sites")), ["alias", "all", "default", "site", "sites.php"]);
    second.detach(&platform.mounts).unwrap();
    platform.mounts.unmount(&other).unwrap();
    assert!(names(&other).is_empty());
    assert_eq!(fs::read(one.join("index.php")).unwrap(), b"index");
}

#[test]
fn a_service_with_a_mount_namespace_of_its_own_sees_the_views() {
    let mut platform = Platform::new();
    let one = platform.platform.clone();
    let other = platform.platform.with_file_name("platform@b");
    fs::create_dir(&other).unwrap();
    let mut service = common::in_mount_namespace("slave");
    let seen_root = PathBuf::from(format!("/proc/{}/root", service.id()));
    let seen = |path: &Path| seen_root.join(path.strip_prefix("/").unwrap());

    let first = platform.attach("a", &one);
    platform.mounts.bind(&one, &other).unwrap();
    let second = platform.attach("b", &other);
    for path in [&one, &other] {
        let sites = seen(path).join("sites");
        assert_eq!(names(&sites), ["alias", "all", "default", "site", "sites.php"]);
        assert_eq!(fs::read(sites.join("all/modules/module")).unwrap(), b"native");
    }
    first.detach(&platform.mounts).unwrap();
    second.detach(&platform.mounts).unwrap();
    platform.mounts.unmount(&other).unwrap();
    assert_eq!(names(&seen(&one).join("sites")), ["alias", "all", "default", "sites.php"]);
    assert!(names(&seen(&other)).is_empty());
    service.kill().unwrap();
    service.wait().unwrap();
}

#[test]
fn a_view_that_cannot_be_completed_does_not_appear() {
    let mut platform = Platform::new();
    let sites = platform.platform.join("sites");
    let mounts_before = mounts_of(&platform);
    let view = PlatformView::open(&sites).unwrap();
    let own = view.own_entries().unwrap();
    // The namespace has no place for one of them.
    let mut fewer = own.clone();
    fewer.remove("sites.php");
    platform.show("a", &fewer);
    let refused = view.attach(&platform.mounts, &platform.served.root().join("a"), &own);
    assert!(matches!(refused, Err(MountsError::Refused(_))), "{refused:?}");
    assert_eq!(mounts_of(&platform), mounts_before);
}

#[test]
fn what_a_killed_daemon_left_is_taken_over() {
    let mut platform = Platform::new();
    let (root, sites) = (platform.served.root(), platform.platform.join("sites"));
    platform.attach("a", &platform.platform.clone());
    let directories = [root.as_path(), sites.as_path()];
    let refused = platform.mounts.take_over(&directories);
    assert!(matches!(refused, Err(MountsError::Served { .. })), "{refused:?}");
    assert_eq!(mount_points(&sites).len(), 4);

    let open = fs::File::create(root.join("work/open")).unwrap();
    platform.served.kill();
    let found = users(&directories).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].process, &found[0].paths[..]), (std::process::id(), &[root.join("work/open")][..]));
    drop(open);
    // Never the directory below.
    assert!(fs::read(sites.join("site/file")).is_err());
    assert!(platform.mounts.is_dead(&sites).unwrap());
    let taken = platform.mounts.take_over(&directories).unwrap();
    assert_eq!(taken, [root.clone(), sites.clone()]);
    assert!(mount_points(&sites).is_empty());
    assert_eq!(names(&sites), ["alias", "all", "default", "sites.php"]);
    assert!(platform.mounts.take_over(&directories).unwrap().is_empty());

    platform.served.start_again();
    platform.attach("a", &platform.platform.clone());
    assert_eq!(names(&sites), ["alias", "all", "default", "site", "sites.php"]);
}
