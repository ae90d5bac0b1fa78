//! Loop devices with ext4 on them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

/// How long an unmount waits for those who still use the file system.
const PATIENCE: Duration = Duration::from_secs(20);

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
}

impl Mounted {
    /// Mounts the ext4 in `image` on the existing directory `point`; makes it first if `make` says so.
    pub(crate) fn mount(image: &Path, point: &Path, make: bool) -> Mounted {
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
        Mounted { point: point.to_owned() }
    }

    /// Unmounts; waits until nobody uses it.
    pub(crate) fn unmount(self) {
        let begun = Instant::now();
        while let Err(error) = unmount(&self.point, UnmountFlags::empty()) {
            assert!(begun.elapsed() < PATIENCE, "cannot unmount {}: {error}", self.point.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        std::mem::forget(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}
