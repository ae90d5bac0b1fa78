//! Real servers of Debian's packages, each in a temporary directory, reached through a socket there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sitefs::database::ServerUrl;

/// Longer than any server takes to start or to answer here.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that ends with this, also when a test panics.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    process: Child,
    is_mariadb: bool,
}

fn program(name: &str, elsewhere: &str) -> PathBuf {
    let found = ["/usr/sbin", "/usr/bin"].iter().map(|directory| Path::new(directory).join(name));
    found.chain([PathBuf::from(elsewhere).join(name)]).find(|path| path.exists()).unwrap_or_else(|| {
        panic!("there is no {name}: install the Debian packages mariadb-server and postgresql (scripts/test does)")
    })
}

fn postgresql(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("install the Debian package postgresql");
    let newest =
        versions.map(|version| version.unwrap().path().join("bin")).max().expect("a version is there");
    program(name, newest.to_str().unwrap())
}

fn done(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    fn start(directory: tempfile::TempDir, is_mariadb: bool, mut command: Command) -> Server {
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let process =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let server = Server { directory, process, is_mariadb };
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
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = format!("--datadir={}", directory.path().join("data").display());
        // A server that starts removes what others have in a directory for temporary tables that they share.
        fs::create_dir(directory.path().join("tables")).unwrap();
        let tables = format!("--tmpdir={}", directory.path().join("tables").display());
        done(Command::new(program("mariadb-install-db", "")).args([
            "--no-defaults",
            "--user=root",
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
            &data,
            &tables,
        ]));
        let mut command = Command::new(program("mariadbd", ""));
        command.args([
            "--no-defaults",
            "--user=root",
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
            &data,
        ]);
        command.arg(tables).arg(format!("--socket={}", directory.path().join("socket").display()));
        command.arg(format!("--pid-file={}", directory.path().join("pid").display()));
        Server::start(directory, true, command)
    }

    /// PostgreSQL, whose administrator is the system's user `postgres`; everybody else needs a password.
    pub(crate) fn postgresql() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        fs::set_permissions(top, fs::Permissions::from_mode(0o755)).unwrap();
        let user = sitefs::base::accounts::User::by_name("postgres").expect("the package makes it");
        chown(top, Some(user.uid), Some(user.gid)).unwrap();
        let as_postgres = |program: PathBuf| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
            command.current_dir(top);
            command
        };
        let data = top.join("data");
        done(
            as_postgres(postgresql("initdb"))
                .args(["--auth=peer", "--no-sync", "-E", "UTF8", "-D"])
                .arg(&data),
        );
        let access = "local all postgres peer\nlocal all all scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), access).unwrap();
        let mut command = as_postgres(postgresql("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(top).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        Server::start(directory, false, command)
    }

    /// The address of one of its databases.
    pub(crate) fn url(&self, name: &str) -> String {
        if self.is_mariadb {
            format!("mariadb:///{name}?socket={}", self.directory.path().join("socket").display())
        } else {
            format!("postgresql:///{name}?socket={}", self.directory.path().display())
        }
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
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", "psql"]);
            command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h"]).arg(self.directory.path());
            command.args(["-d", if database.is_empty() { "postgres" } else { database }]);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// The program for statements, as an application.
    pub(crate) fn application(&self, database: &str, user: &str, password: &str) -> Command {
        let mut command = Command::new(if self.is_mariadb { "mariadb" } else { "psql" });
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

    /// Does statements as the administrator, and returns what they print.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        said(self.client(database), sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
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
        // Nothing here is worth an orderly end, but PostgreSQL has children and shared memory to take along.
        let signal = if self.is_mariadb { Signal::KILL } else { Signal::QUIT };
        let _ = kill_process(Pid::from_child(&self.process), signal);
        let _ = self.process.wait();
    }
}
