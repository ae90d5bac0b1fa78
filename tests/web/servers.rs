//! nginx and PHP-FPM of a test's own: everything below one directory, on Unix sockets, ended with the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::place::wait_until;

/// A server that runs in the foreground; it is ended when dropped.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it, and waits until it accepts connections on `socket`.
    pub(crate) fn start(command: &mut Command, log: &Path, socket: &Path) -> Server {
        let output = fs::File::options().create(true).append(true).open(log).unwrap();
        let errors = output.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}: see scripts/test"));
        let mut server = Server { child, log: log.to_owned() };
        wait_until("the server listens", || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} has ended: {}", server.log());
            UnixStream::connect(socket).is_ok()
        });
        server
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
        // The master ends its workers too. They wait for nothing but the mount, which then still answers.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        for _ in 0..500 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// PHP-FPM with opcache and `settings` (`-d` on its command line), listening on `directory/php.sock`.
pub(crate) fn php(directory: &Path, settings: &[&str]) -> Server {
    let (socket, log) = (directory.join("php.sock"), directory.join("php.log"));
    let configuration = format!(
        "[global]\nerror_log = {log}\n[sites]\nuser = www-data\ngroup = www-data\nlisten = {socket}\n\
         listen.owner = www-data\npm = static\npm.max_children = 6\ncatch_workers_output = yes\n",
        log = log.display(),
        socket = socket.display(),
    );
    let file = directory.join("php.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(php_program());
    command.args(["--nodaemonize", "--fpm-config"]).arg(file).args(["-d", "opcache.enable=1"]);
    for setting in settings {
        command.args(["-d", setting]);
    }
    Server::start(&mut command, &log, &socket)
}

/// The newest PHP-FPM there is.
fn php_program() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/sbin")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("php-fpm8"))
        .collect();
    found.sort();
    found.pop().expect("PHP-FPM is installed: see scripts/test")
}

/// nginx with these `server` blocks, each listening on a Unix socket; `ready` is one of them.
pub(crate) fn nginx(directory: &Path, name: &str, servers: &str, ready: &Path) -> Server {
    let home = directory.join(name);
    fs::create_dir_all(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", home.display()))
        .concat();
    let configuration = format!(
        "user www-data;\nworker_processes 2;\ndaemon off;\npid {home}/pid;\nerror_log {home}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{\n  include /etc/nginx/mime.types;\n  access_log off;\n\
         {paths}{servers}}}\n",
        home = home.display(),
    );
    let file = home.join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-e").arg(home.join("error.log"));
    Server::start(&mut command, &home.join("error.log"), ready)
}
