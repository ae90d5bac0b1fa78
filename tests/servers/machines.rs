//! Real servers of Debian's packages, each in a temporary directory, reached through a socket there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sitefs::database::ServerUrl;

use crate::templates;

/// Longer than any server takes to start or to answer here.
const LIMIT: Duration = Duration::from_secs(120);

/// Nothing here outlives a power cut.
const SMALL_MARIADB: [&str; 4] = [
    "--innodb-log-file-size=8M",
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=2",
    "--debug-no-sync",
];

const POSTGRESQL_ACCESS: &str =
    "local all postgres peer\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A server that ends with this, also when a test panics.
pub(crate) struct Server {
    directory: Home,
    process: Child,
    pub(crate) is_mariadb: bool,
    /// Where it listens at 127.0.0.1, besides its socket.
    port: Option<u16>,
}

/// What is special about a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// It is reached over TCP too.
    pub(crate) listens: bool,
    /// It is on a file system of its own, of so many MiB.
    pub(crate) disk_mib: Option<u32>,
    /// What is in it: statements of its administrator.
    pub(crate) content: &'static str,
}

/// A directory for a server, and what is mounted there, which both end with this.
struct Home(tempfile::TempDir, bool);

impl Home {
    fn new(setup: Setup) -> Home {
        let directory = tempfile::tempdir().unwrap();
        if let Some(mib) = setup.disk_mib {
            let mut mount = Command::new("mount");
            done(mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(directory.path()));
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Home(directory, setup.disk_mib.is_some())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.1 {
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
        }
    }
}

/// A port that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn program(name: &str) -> PathBuf {
    let mut found = ["/usr/sbin", "/usr/bin"].iter().map(|directory| Path::new(directory).join(name));
    found.find(|path| path.exists()).unwrap_or_else(|| {
        panic!("there is no {name}: install the Debian packages mariadb-server and postgresql (scripts/test does)")
    })
}

/// Where PostgreSQL's own programs are. Those of these names elsewhere are scripts that look for them, which takes longer
/// than most of what the programs are run for.
pub(crate) fn postgresql_programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("install the Debian package postgresql");
    versions.map(|version| version.unwrap().path().join("bin")).max().expect("a version is there")
}

fn postgresql(name: &str) -> PathBuf {
    postgresql_programs().join(name)
}

pub(crate) fn done(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    fn start(directory: Home, is_mariadb: bool, port: Option<u16>, mut command: Command) -> Server {
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let process =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let server = Server { directory, process, is_mariadb, port };
        let since = Instant::now();
        while !server.client("").output().unwrap().status.success() {
            let log = fs::read_to_string(server.directory.path().join("log")).unwrap_or_default();
            assert!(since.elapsed() < LIMIT, "the server does not start:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// MariaDB, whose administrator is root by the user of the process.
    pub(crate) fn mariadb() -> Server {
        Server::mariadb_with(Setup::default())
    }

    pub(crate) fn mariadb_with(setup: Setup) -> Server {
        let directory = Home::new(setup);
        // A server that starts removes what others have in a directory for temporary tables that they share.
        fs::create_dir(directory.path().join("tables")).unwrap();
        let tables = format!("--tmpdir={}", directory.path().join("tables").display());
        let data = directory.path().join("data");
        templates::copy((true, setup.content), &data, |template| {
            if !setup.content.is_empty() {
                return Server::mariadb().become_template(setup.content, template);
            }
            let mut make = Command::new(program("mariadb-install-db"));
            make.args(["--no-defaults", "--user=root", "--skip-test-db", &tables]).args(SMALL_MARIADB);
            make.arg("--auth-root-authentication-method=socket");
            done(make.arg(format!("--datadir={}", template.display())));
        });
        let mut command = Command::new(program("mariadbd"));
        command.args(["--no-defaults", "--user=root", "--innodb-buffer-pool-size=64M"]).args(SMALL_MARIADB);
        command.arg(format!("--datadir={}", data.display()));
        let port = setup.listens.then(free_port);
        match port {
            Some(port) => command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]),
            None => command.arg("--skip-networking"),
        };
        command.arg(tables).arg(format!("--socket={}", directory.path().join("socket").display()));
        command.arg(format!("--pid-file={}", directory.path().join("pid").display()));
        Server::start(directory, true, port, command)
    }

    /// PostgreSQL, whose administrator is the system's user `postgres`; everybody else needs a password.
    pub(crate) fn postgresql() -> Server {
        Server::postgresql_with(Setup::default())
    }

    pub(crate) fn postgresql_with(setup: Setup) -> Server {
        let directory = Home::new(setup);
        let top = directory.path();
        let user = sitefs::base::accounts::User::by_name("postgres").expect("the package makes it");
        chown(top, Some(user.uid), Some(user.gid)).unwrap();
        let as_postgres = |program: PathBuf| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
            command.current_dir(top);
            command
        };
        let data = top.join("data");
        templates::copy((false, setup.content), &data, |template| {
            if !setup.content.is_empty() {
                return Server::postgresql().become_template(setup.content, template);
            }
            let mut make = as_postgres(postgresql("initdb"));
            done(make.args(["--auth=peer", "--no-sync", "--wal-segsize=1", "-E", "UTF8", "-D"]).arg(&data));
            fs::write(data.join("pg_hba.conf"), POSTGRESQL_ACCESS).unwrap();
            fs::rename(&data, template).unwrap();
        });
        let mut command = as_postgres(postgresql("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(top).args(["-c", "fsync=off", "-c"]);
        let port = setup.listens.then(free_port);
        match port {
            Some(port) => command.args(["listen_addresses=127.0.0.1", "-p", &port.to_string()]),
            None => command.arg("listen_addresses="),
        };
        Server::start(directory, false, port, command)
    }

    /// MariaDB and PostgreSQL at the same time, each with the content that is for it.
    pub(crate) fn both(
        setup: Setup,
        mariadb: &'static str,
        postgresql: &'static str,
        test: impl Fn(Server) + Sync,
    ) {
        std::thread::scope(|scope| {
            scope.spawn(|| test(Server::postgresql_with(Setup { content: postgresql, ..setup })));
            test(Server::mariadb_with(Setup { content: mariadb, ..setup }));
        });
    }

    /// Takes in statements, ends in an orderly way, and leaves its data.
    fn become_template(mut self, content: &str, template: &Path) {
        self.sql("", content);
        let orderly = if self.is_mariadb { Signal::TERM } else { Signal::INT };
        kill_process(Pid::from_child(&self.process), orderly).unwrap();
        assert!(self.process.wait().unwrap().success());
        fs::rename(self.directory.path().join("data"), template).unwrap();
    }

    /// The address of one of its databases.
    pub(crate) fn url(&self, name: &str) -> String {
        if self.is_mariadb {
            format!("mariadb:///{name}?socket={}", self.directory.path().join("socket").display())
        } else {
            let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("postgresql://{port}/{name}?socket={}", self.directory.path().display())
        }
    }

    /// The address of one of its databases over TCP, with an administrator's name and the file with his password.
    pub(crate) fn tcp_url(&self, name: &str, admin: &str, options: &Path) -> ServerUrl {
        let engine = if self.is_mariadb { "mariadb" } else { "postgresql" };
        let port = self.port.expect("it listens");
        let url = format!("{engine}://127.0.0.1:{port}/{name}?admin={admin}&options={}", options.display());
        url.parse().unwrap()
    }

    /// The file system its files are on, for whoever fills it.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn at(&self, name: &str) -> ServerUrl {
        self.url(name).parse().unwrap()
    }

    /// The program for statements, as the administrator.
    pub(crate) fn client(&self, database: &str) -> Command {
        let mut command;
        if self.is_mariadb {
            command = Command::new("mariadb");
            let socket = format!("--socket={}", self.directory.path().join("socket").display());
            command.args(["--no-defaults", "--batch", "--skip-column-names", &socket]);
            command.args((!database.is_empty()).then_some(database));
        } else {
            command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"])
                .arg(postgresql("psql"));
            command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h"]).arg(self.directory.path());
            command.args(self.port.map(|port| format!("--port={port}")));
            command.args(["-d", if database.is_empty() { "postgres" } else { database }]);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// The program for statements, as an application.
    pub(crate) fn application(&self, database: &str, user: &str, password: &str) -> Command {
        let mut command = Command::new(if self.is_mariadb { "mariadb".into() } else { postgresql("psql") });
        if self.is_mariadb {
            let socket = format!("--socket={}", self.directory.path().join("socket").display());
            command.args(["--no-defaults", "--batch", "--skip-column-names", &socket]);
            command.arg(format!("--user={user}")).arg(database).env("MYSQL_PWD", password);
        } else {
            command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-h"]);
            command.arg(self.directory.path()).args(["-U", user, "-d", database]).env("PGPASSWORD", password);
        }
        command
    }

    /// The program for statements, as an application over TCP.
    pub(crate) fn application_by_tcp(&self, database: &str, user: &str, password: &str) -> Command {
        let port = format!("--port={}", self.port.expect("it listens"));
        let mut command = Command::new(if self.is_mariadb { "mariadb".into() } else { postgresql("psql") });
        if self.is_mariadb {
            command.args(["--no-defaults", "--batch", "--skip-column-names", "--host=127.0.0.1", &port]);
            command.arg(format!("--user={user}")).arg(database).env("MYSQL_PWD", password);
        } else {
            command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", &port]);
            command.args(["-U", user, "-d", database]).env("PGPASSWORD", password);
        }
        command
    }

    /// Does statements as the administrator, and returns what they print.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        said(self.client(database), sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// Connections that were open at a switch end within moments, and what they kept with them.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < LIMIT, "it never comes to this: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Feeds statements to a program; what it printed, or its errors.
pub(crate) fn said(mut command: Command, sql: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that was refused does not read.
    let _ = child.stdin.take().unwrap().write_all(sql.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        // Nothing here is worth an orderly end, but PostgreSQL has children and shared memory to take along.
        let signal = if self.is_mariadb { Signal::KILL } else { Signal::QUIT };
        let _ = kill_process(Pid::from_child(&self.process), signal);
        let _ = self.process.wait();
    }
}
