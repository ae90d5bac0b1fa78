//! nginx, Apache and PHP-FPM of a test's own: everything below one directory, ended with the test. All but Apache, which
//! cannot, listen on Unix sockets.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Address, Reach};
use crate::place::wait_until;

/// A server that runs in the foreground; it is ended when dropped.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it, and waits until it accepts connections at `ready`.
    pub(crate) fn start<R: Reach + ?Sized>(command: &mut Command, log: &Path, ready: &R) -> Server {
        Server::try_start(command, log, ready).unwrap_or_else(|said| panic!("{command:?} has ended: {said}"))
    }

    /// As [`Server::start`]; what it said if it has ended.
    fn try_start<R: Reach + ?Sized>(command: &mut Command, log: &Path, ready: &R) -> Result<Server, String> {
        let output = fs::File::options().create(true).append(true).open(log).unwrap();
        let errors = output.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}: see scripts/test"));
        let mut server = Server { child, log: log.to_owned() };
        let mut ended = false;
        wait_until("the server listens", || {
            ended = server.child.try_wait().unwrap().is_some();
            ended || ready.connect().is_ok()
        });
        if ended { Err(server.log()) } else { Ok(server) }
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

/// How often another port is tried: somebody else may take one before Apache has.
const PORTS_MAX: usize = 5;

/// The modules that the template needs, and those that no Apache is without.
pub(crate) const APACHE_MODULES: [&str; 11] = [
    "mpm_event",
    "authz_core",
    "rewrite",
    "headers",
    "proxy",
    "proxy_http",
    "proxy_fcgi",
    "setenvif",
    "env",
    "dir",
    "mime",
];

/// Lines that load [`APACHE_MODULES`].
pub(crate) fn apache_modules() -> String {
    APACHE_MODULES
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat()
}

/// Apache with what `vhost` makes for the port it listens on.
pub(crate) fn apache(directory: &Path, vhost: impl Fn(u16) -> String) -> (Server, Address) {
    let home = directory.join("apache");
    fs::create_dir_all(&home).unwrap();
    let (file, log) = (home.join("apache.conf"), home.join("error.log"));
    let mut said = String::new();
    for _ in 0..PORTS_MAX {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let configuration = format!(
            "ServerRoot {home}\nServerName test\nPidFile {home}/pid\nErrorLog {log}\nDefaultRuntimeDir {home}\n\
             TypesConfig /etc/mime.types\nUser www-data\nGroup www-data\n{modules}\
             StartServers 1\nServerLimit 2\nThreadsPerChild 16\nMaxRequestWorkers 32\n\
             <Directory />\nAllowOverride None\nRequire all denied\n</Directory>\nListen 127.0.0.1:{port}\n{vhost}\n",
            home = home.display(),
            log = log.display(),
            modules = apache_modules(),
            vhost = vhost(port),
        );
        fs::write(&file, configuration).unwrap();
        let address = Address::Port(port);
        let mut command = Command::new("apache2");
        command.args(["-D", "FOREGROUND", "-f"]).arg(&file);
        match Server::try_start(&mut command, &log, &address) {
            Ok(server) => return (server, address),
            Err(ended) => said = ended,
        }
    }
    panic!("Apache does not start: {said}");
}
