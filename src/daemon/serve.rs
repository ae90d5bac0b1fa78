//! Starting, serving and stopping.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Daemon, Schedule, Store, locks};
use crate::base::process::{allow_open_files, kill_by_environment};
use crate::base::{Lane, Timestamp, files};
use crate::control::{Failure, Handler, Server, socket_path};
use crate::fuse::mounts::Mounts;
use crate::fuse::{Session, SessionOptions};
use crate::live::FileSystem;
use crate::site::{Library, Platform};
use crate::update;
use crate::web::{Address, Http};

/// How often it is looked whether the daemon is to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// How long commands under way may take to end when the daemon stops; an update run stops between two steps.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// How long processes that use the mount may take to leave it when the daemon stops; then their calls fail.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(5);

/// How many files may be open in it, where the administrator allows as many: what the service file says, too.
const OPEN_FILES: u64 = 65_536;

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The store's directory.
    pub store: PathBuf,
    /// Where the namespace is mounted: an existing empty directory, or one to be created.
    pub root: PathBuf,
    /// The directory of recipes beside those that are built in; it may be missing.
    pub recipes: PathBuf,
    /// The directory of hooks; it may be missing.
    pub hooks: PathBuf,
    /// How long each of them may take.
    pub hook_limit: Duration,
    /// How many updates run at once; others wait.
    pub updates_max: usize,
    /// The program that runs PHP on the command line.
    pub php: String,
    /// Where web servers and load balancers are answered; nowhere unless told.
    pub web: Option<Address>,
    /// A directory with templates of web servers' configuration, preferred to those that are built in.
    pub templates: Option<PathBuf>,
    /// Whether files may be served by the kernel past this program, where it can.
    pub passthrough: bool,
    /// Whether processors with nothing to do stay awake while files are used in quick succession.
    pub wakeful: bool,
    /// What is done without anybody asking.
    pub schedule: Schedule,
    /// How long requests to a generation that is no longer live may take, before its place shows another.
    pub drain: Duration,
}

/// Creates a store.
pub fn init_store(directory: &Path) -> Result<(), Failure> {
    Store::create(directory)
}

/// Serves a store until it is asked to stop by a command, or `stop` becomes true (a signal). `ready` is called once
/// everything is mounted and commands are answered.
pub fn serve(options: ServeOptions, stop: Arc<AtomicBool>, ready: impl FnOnce(&Path)) -> Result<(), Failure> {
    // Each changed file that is open takes one here, and a shell gives 1,024.
    if let Err(error) = allow_open_files(OPEN_FILES) {
        log::warn!("{error}");
    }
    let socket = socket_path(&options.store);
    let daemon = Arc::new(Daemon::start(options, stop)?);
    daemon.settle_databases()?;
    let to_settle = daemon.sites_to_settle()?;
    let answering = Server::bind(&socket).and_then(|server| Ok((server.stopper()?, server)));
    let (stopper, server) = match answering {
        Ok(answering) => answering,
        Err(error) => {
            daemon.shut_down()?;
            return Err(
                Failure::failed(format!("cannot answer commands on {}", socket.display())).because(&error)
            );
        }
    };
    if let Some(address) = &daemon.options.web {
        match Http::start(address, Arc::clone(&daemon) as _) {
            Ok(http) => {
                log::info!("answering web servers at {}", http.address());
                *daemon.http.lock() = Some(http);
            }
            // The sites are served all the same; who asks for their health is told by the silence.
            Err(error) => log::error!("{error}"),
        }
    }
    let handler: Arc<dyn Handler> = Arc::clone(&daemon) as _;
    let serving = std::thread::spawn(move || server.run(&handler, STOP_GRACE));
    let settling = daemon.settle(to_settle);
    let expiry = daemon.watch_expiry();
    let maintaining = daemon.maintain();
    ready(&daemon.root);
    while !daemon.is_stopping() && daemon.is_mounted() {
        std::thread::sleep(STOP_POLL);
    }
    if !daemon.is_stopping() {
        log::error!("{} was unmounted by somebody else: stopping", daemon.root.display());
        daemon.stop();
    }
    stopper.stop();
    match serving.join() {
        Ok(0) => {}
        Ok(abandoned) => log::warn!("{abandoned} commands did not end in time and are abandoned"),
        Err(_) => log::error!("the thread that answered commands panicked"),
    }
    settling.stop();
    if expiry.is_some_and(|thread| thread.join().is_err()) {
        log::error!("the thread that removed expired clones panicked");
    }
    if maintaining.is_some_and(|thread| thread.join().is_err()) {
        log::error!("the thread for what is done on schedule panicked");
    }
    daemon.shut_down()
}

impl Daemon {
    /// Opens the store, mounts everything and takes up what a crash left.
    fn start(options: ServeOptions, stopping: Arc<AtomicBool>) -> Result<Daemon, Failure> {
        if let Err(error) = Library::load(&options.recipes) {
            log::warn!("{error}");
        }
        // The store first: its lock keeps a second daemon from touching the mounts of the first.
        let store = Store::open(&options.store)?;
        let platforms: Vec<Platform> =
            store.catalog.list::<Platform>("")?.into_iter().map(|(_, platform)| platform).collect();
        for run in update::interrupt_running(&store.catalog)? {
            log::warn!("the update of {0} was interrupted: sitefs update {0} --resume, or --abort", run.site);
            // Before anything is mounted for them to go on in. A run that was interrupted before may have commands,
            // too: those that settled its site.
            let killed = kill_by_environment("SITEFS_RUN", run.id.as_str());
            if killed > 0 {
                log::warn!("killed {killed} processes of the commands of run {}", run.id);
            }
        }
        let mounts = Mounts::new(&store.directory().join("staging"))?;
        let lanes = platforms.iter().flat_map(|platform| Lane::ALL.map(|lane| platform.directory_in(lane)));
        let ours: Vec<PathBuf> = std::iter::once(options.root.clone()).chain(lanes).collect();
        let ours: Vec<&Path> = ours.iter().map(PathBuf::as_path).collect();
        for path in mounts.take_over(&ours)? {
            log::info!("took over the dead mount {}", path.display());
        }
        for platform in &platforms {
            mounts.unmount(&platform.directory_in(Lane::B))?;
        }
        files::create_public_directories(&options.root)?;
        let root = files::canonical(&options.root)?;
        if root.starts_with(store.directory()) {
            return Err(Failure::usage(format!("{} is inside the store", root.display()))
                .hint("mount elsewhere: --root DIR"));
        }
        let filesystem = FileSystem::new(Arc::clone(&store.volumes));
        let session_options = SessionOptions { passthrough: options.passthrough, wakeful: options.wakeful };
        let session = Session::mount(Arc::clone(&filesystem), &root, session_options)?;
        let daemon = Daemon {
            turns: locks::Turns::new(options.updates_max),
            store,
            options,
            root,
            filesystem,
            invalidations: session.invalidations(),
            session: Mutex::new(Some(session)),
            mounts,
            started: Timestamp::now(),
            volumes: Mutex::default(),
            views: Mutex::default(),
            locks: locks::Locks::default(),
            holds: Mutex::default(),
            spares: Mutex::default(),
            publishing: Mutex::new(()),
            windows: super::windows::Windows::default(),
            http: Mutex::default(),
            stopping,
        };
        daemon.show_all_volumes()?;
        daemon.publish()?;
        for platform in &platforms {
            // One platform that is gone must not keep the sites of the others down.
            if let Err(failure) = daemon.attach_views(platform) {
                log::error!("platform {} cannot be shown: {}", platform.name, failure.message);
            }
        }
        Ok(daemon)
    }

    /// Unmounts everything and makes everything durable.
    fn shut_down(&self) -> Result<(), Failure> {
        drop(self.http.lock().take());
        self.holds.lock().clear();
        for (_, platform) in &self.store.catalog.list::<Platform>("")? {
            if let Err(failure) = self.detach_views(platform) {
                log::error!("platform {}: {}", platform.name, failure.message);
            }
        }
        if let Some(session) = self.session.lock().take() {
            session.unmount(UNMOUNT_PATIENCE)?;
        }
        self.store.volumes.sync_all()?;
        self.store.trees.objects.flush()?;
        self.stopping.store(true, Ordering::SeqCst);
        Ok(())
    }
}
