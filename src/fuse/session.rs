//! One mount: made, watched and ended.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, InitFlags, KernelConfig, SessionACL};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::adapter::Adapter;
use super::invalidator::Invalidator;
use super::mounts;
use crate::base::FileError;
use crate::base::files::{self, At};
use crate::live::{FileSystem, Invalidations, NodeId};

/// How long the kernel keeps what it was told, unless it is told otherwise: a day.
pub(super) const TTL: Duration = Duration::from_secs(86_400);

/// How long the kernel keeps a name of `node`: not at all where it is to ask whether the daemon still answers.
pub(super) fn time_to_live(node: NodeId) -> Duration {
    if node == NodeId::SIGN_OF_LIFE { Duration::ZERO } else { TTL }
}

/// The longest write in one call; the kernel's own limit without raising `fs.fuse.max_pages_limit`.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// How many read-aheads may be under way at once.
const BACKGROUND_COUNT_MAX: u16 = 64;

/// With one thread, a slow call (a first read of a packed file) holds up everybody; more than two gain nothing.
const THREAD_COUNT: usize = 2;

/// How long the threads may take to notice that the connection is no more.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// The type of the mount, as /proc/self/mountinfo shows it.
pub(super) const FILE_SYSTEM_TYPE: &str = "fuse.sitefs";

/// How a session serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Files of which all bytes are in one plain file are read and written by the kernel, past this program, where
    /// the kernel can do that (Linux 6.9).
    pub passthrough: bool,
    /// Processors with nothing to do stay awake while calls come in quick succession.
    pub wakeful: bool,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions { passthrough: true, wakeful: true }
    }
}

/// Why a file system is not mounted, or not unmounted.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A directory or device cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Entries of the directory would be covered.
    #[error("{} is not empty: what is in it would be covered", root.display())]
    NotEmpty {
        /// Where the mount was to be.
        root: PathBuf,
    },
    /// The kernel and this program did not come to terms.
    #[error("cannot serve {}: {source}", root.display())]
    Serve {
        /// Where the mount is.
        root: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A mounted file system. Dropping it unmounts it.
pub struct Session {
    root: PathBuf,
    /// As [`mounts::MountEntry::device`] has it.
    device: String,
    invalidator: Arc<Invalidator>,
    /// Both `None` once the session was ended.
    background: Option<BackgroundSession>,
    invalidator_thread: Option<JoinHandle<()>>,
}

impl Session {
    /// Mounts `filesystem` on the empty directory `root`, for all users, with the permission checks of the kernel.
    pub fn mount(
        filesystem: Arc<FileSystem>,
        root: &Path,
        options: SessionOptions,
    ) -> Result<Session, SessionError> {
        if !files::list(root)?.is_empty() {
            return Err(SessionError::NotEmpty { root: root.to_owned() });
        }
        let root = files::canonical(root)?;
        let device = files::open_device(Path::new("/dev/fuse"))?;
        mount_device(&device, &root)?;
        Session::serve(filesystem, root.clone(), options, device).inspect_err(|_| {
            if let Err(error) = rustix::mount::unmount(&root, UnmountFlags::DETACH) {
                log::warn!("cannot unmount {}: {error}", root.display());
            }
        })
    }

    fn serve(
        filesystem: Arc<FileSystem>,
        root: PathBuf,
        options: SessionOptions,
        device: File,
    ) -> Result<Session, SessionError> {
        let invalidator = Arc::new(Invalidator::default());
        let adapter = Adapter::new(filesystem, Arc::clone(&invalidator), options);
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(THREAD_COUNT);
        let start = || {
            let session = fuser::Session::from_fd(adapter, OwnedFd::from(device), SessionACL::All, config)?;
            let background = session.spawn()?;
            let invalidator_thread = invalidator.start(background.notifier())?;
            Ok((background, invalidator_thread))
        };
        match start() {
            Ok((background, invalidator_thread)) => Ok(Session {
                device: device_number(&root)?,
                root,
                invalidator,
                background: Some(background),
                invalidator_thread: Some(invalidator_thread),
            }),
            Err(source) => Err(SessionError::Serve { root, source }),
        }
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where to say what the kernel must forget.
    pub fn invalidations(&self) -> Arc<dyn Invalidations> {
        Arc::clone(&self.invalidator) as Arc<dyn Invalidations>
    }

    /// Whether the kernel has ended the session: it was unmounted or aborted from outside.
    pub fn has_ended(&self) -> bool {
        self.background.as_ref().is_none_or(|background| background.guard.is_finished())
    }

    /// Unmounts it, bind mounts included, and waits until everything was answered. Whoever still uses it has
    /// `patience` to stop; after that their calls fail.
    pub fn unmount(mut self, patience: Duration) -> Result<(), SessionError> {
        self.end(patience)
    }

    fn end(&mut self, patience: Duration) -> Result<(), SessionError> {
        let Some(background) = self.background.take() else { return Ok(()) };
        let deadline = Instant::now() + patience;
        let mut result = Ok(());
        // Bind mounts come after what they were made of.
        for entry in mounts::list()?.iter().rev().filter(|entry| entry.device == self.device) {
            result = result.and(unmount_patiently(&entry.mount_point, deadline));
        }
        if !ends_soon(&background) {
            // Mount namespaces that take part in no propagation have their own copies.
            abort_connection(&self.device);
        }
        self.invalidator.close();
        if ends_soon(&background) {
            if let Err(error) = background.join() {
                log::warn!("serving {} ended with: {error}", self.root.display());
            }
            if let Some(thread) = self.invalidator_thread.take() {
                let _ = thread.join();
            }
        } else {
            log::warn!("{} is still mounted elsewhere; it dies with this process", self.root.display());
        }
        Ok(result?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.end(Duration::ZERO) {
            log::warn!("{error}");
        }
    }
}

fn mount_device(device: &File, root: &Path) -> Result<(), SessionError> {
    let owner = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let data = format!(
        "fd={},rootmode=40000,user_id={owner},group_id={group},allow_other,default_permissions",
        device.as_raw_fd()
    );
    let data = CString::new(data).expect("numbers and names have no zero byte");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    rustix::mount::mount("sitefs", root, FILE_SYSTEM_TYPE, flags, data.as_c_str()).at("mount on", root)?;
    Ok(())
}

/// The device number of what is mounted at `root`. Not looked up there: that would be a call to ourselves.
fn device_number(root: &Path) -> Result<String, FileError> {
    let found = mounts::list()?.into_iter().rev().find(|entry| entry.mount_point == root);
    found.map(|entry| entry.device).ok_or(Errno::NOENT).at("find the mount", root)
}

/// Unmounts `point`; when its users are out of patience, aborts the connection and detaches it.
fn unmount_patiently(point: &Path, deadline: Instant) -> Result<(), FileError> {
    loop {
        match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
            // `INVAL`: somebody else was faster.
            Ok(()) | Err(Errno::INVAL) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(Errno::BUSY) => break,
            Err(error) => return Err(error).at("unmount", point),
        }
    }
    log::warn!("{} is still in use: its users' calls fail from now on", point.display());
    // Force aborts the connection, detach takes the name away whoever uses it.
    let flags = UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(point, flags).at("unmount", point)
}

fn ends_soon(background: &BackgroundSession) -> bool {
    let deadline = Instant::now() + END_TIME_MAX;
    while !background.guard.is_finished() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Ends the connection by the control file system, where that is mounted.
fn abort_connection(device: &str) {
    let Some((_, minor)) = device.split_once(':') else { return };
    let path = PathBuf::from(format!("/sys/fs/fuse/connections/{minor}/abort"));
    let aborted = files::open_device(&path).and_then(|mut file| file.write_all(b"1").at("write", &path));
    if let Err(error) = aborted {
        log::debug!("{error}");
    }
}

/// Agrees with the kernel on what it does by itself. Each feature is asked for alone, since kernels differ.
pub(super) fn configure(options: &mut SessionOptions, config: &mut KernelConfig) {
    for (feature, name) in [
        (InitFlags::FUSE_DO_READDIRPLUS, "attributes with listings"),
        (InitFlags::FUSE_PARALLEL_DIROPS, "several lookups in a directory at once"),
        (InitFlags::FUSE_CACHE_SYMLINKS, "keeping targets of links"),
        (InitFlags::FUSE_EXPLICIT_INVAL_DATA, "keeping pages until told otherwise"),
        (InitFlags::FUSE_DONT_MASK, "leaving the umask to the program"),
        (InitFlags::FUSE_ATOMIC_O_TRUNC, "opening and emptying in one call"),
        (InitFlags::FUSE_HANDLE_KILLPRIV_V2, "leaving set-user-id to the program"),
        (InitFlags::FUSE_NO_OPENDIR_SUPPORT, "listing without opening"),
        (InitFlags::FUSE_EXPORT_SUPPORT, "finding nodes by file handles"),
        (InitFlags::FUSE_POSIX_ACL, "access control lists"),
    ] {
        if config.add_capabilities(feature).is_err() {
            log::info!("the kernel cannot do: {name}");
        }
    }
    if options.passthrough {
        options.passthrough = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            // 1: the store itself is not on a stacked file system (overlayfs).
            && config.set_max_stack_depth(1).is_ok();
        if !options.passthrough {
            log::info!("the kernel cannot read and write past the program: all bytes pass through it");
        }
    }
    if let Err(nearest) = config.set_max_write(WRITE_BYTES_MAX) {
        log::debug!("longest write: {nearest}");
    }
    if let Err(nearest) = config.set_max_background(BACKGROUND_COUNT_MAX) {
        log::debug!("calls in the background: {nearest}");
    }
}
