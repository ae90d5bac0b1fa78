//! Loop devices with ext4 on them.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

/// How long an unmount waits for those who still use the file system.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it waits for other mount namespaces, which live as long as somebody's program does.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(150);

/// Runs a program that must succeed; its output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new("timeout").args(["--signal=KILL", "120", program]).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Where on the disk a file's bytes are, by what the file system says.
pub(crate) fn extents(path: &Path) -> Vec<Range<u64>> {
    let listed = run("filefrag", &["-e", "-b4096", path.to_str().unwrap()]);
    let extent = |line: &str| {
        // "   0:        0..       3:      34816..     34819:      4: ..."
        let (first, last) = line.split(':').nth(2)?.split_once("..")?;
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some(first * 4096..(last + 1) * 4096)
    };
    listed.lines().filter_map(extent).collect()
}

/// A mounted file system. It is unmounted when this is dropped.
pub(crate) struct Mounted {
    point: PathBuf,
    image: PathBuf,
    /// The loop device's name, as `loop0`.
    device: String,
}

impl Mounted {
    /// Mounts the ext4 in `image` on the existing directory `point`; makes it first if `make` says so.
    pub(crate) fn mount(image: &Path, point: &Path, make: bool) -> Mounted {
        // It tries the next device when somebody else was faster.
        let device = run("losetup", &["--find", "--show", image.to_str().unwrap()]);
        if make {
            let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
            // Blocks as on larger disks: in blocks of 1 KiB, of which four files share a page, a page that cannot be
            // read would be three files' more than the test means.
            run(
                "mkfs.ext4",
                &["-q", "-b", "4096", "-J", "size=4", "-m", "0", "-N", "3000", "-E", options, &device],
            );
        }
        let mounted =
            Command::new("mount").args(["-t", "ext4", "-o", "nodiscard", &device]).arg(point).status();
        // From now on the device goes with the mount, whatever becomes of this process.
        run("losetup", &["--detach", &device]);
        assert!(mounted.unwrap().success(), "the file system on the disk itself does not survive");
        let device = device.rsplit('/').next().unwrap().to_owned();
        Mounted { point: point.to_owned(), image: image.to_owned(), device }
    }

    /// Unmounts; waits until nobody uses it, and until the file system is gone from the kernel.
    ///
    /// Whoever makes a mount namespace meanwhile (a service with a `/tmp` of its own, a container) has a copy of the mount,
    /// and the file system lives, and writes to its image at its end, until that namespace goes. Were the image mounted
    /// again or written anew before, it would be damaged by that.
    pub(crate) fn unmount(self) {
        let begun = Instant::now();
        while let Err(error) = unmount(&self.point, UnmountFlags::empty()) {
            assert!(begun.elapsed() < PATIENCE, "cannot unmount {}: {error}", self.point.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        while self.is_attached() {
            let waited = begun.elapsed();
            assert!(
                waited < PATIENCE_WITH_OTHERS,
                "another mount namespace keeps {} on {}: see `lsns --type mnt`",
                self.image.display(),
                self.device
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        std::mem::forget(self);
    }

    /// Whether the kernel still has the image below the device.
    fn is_attached(&self) -> bool {
        let file = fs::read_to_string(format!("/sys/block/{}/loop/backing_file", self.device));
        file.is_ok_and(|file| Path::new(file.trim_end()) == self.image)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}

#[test]
fn an_image_is_let_go_of_when_no_namespace_has_it_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let (image, point) = (directory.path().join("image"), directory.path().join("disk"));
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    fs::create_dir(&point).unwrap();
    let disk = Mounted::mount(&image, &point, true);
    let mut other = Command::new("unshare")
        .args(["--mount", "sh", "-c", "echo; exec sleep 1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It has its copies when it says something.
    other.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    disk.unmount();
    let devices = run("losetup", &["--associated", image.to_str().unwrap()]);
    other.wait().unwrap();
    assert_eq!(devices, "", "the file system is still in another namespace");
}
