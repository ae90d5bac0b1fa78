//! Where a database server is, and how sitefs gets in as its administrator.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::database::Engine;

/// Where MariaDB's and MySQL's socket is where nobody says otherwise, in Debian.
const MARIADB_SOCKET: &str = "/run/mysqld/mysqld.sock";

/// The directory of PostgreSQL's sockets where nobody says otherwise, in Debian.
const POSTGRESQL_SOCKET: &str = "/run/postgresql";

/// Longest name of a database that both engines take, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A database server, and sitefs' way in. Never holds a password: where the server does not know the administrator by
/// the user of the process, an option file that only root may read has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerAddress {
    /// The engine.
    pub engine: Engine,
    /// The host that applications connect to; `None`: through the socket.
    pub host: Option<String>,
    /// The port, where it is not the engine's own.
    pub port: Option<u16>,
    /// The socket (PostgreSQL: its directory) that sitefs connects to; `None`: the host.
    pub socket: Option<PathBuf>,
    /// The administrator's name.
    pub admin: String,
    /// The file with the administrator's password: an option file of MariaDB, a `pgpass` of PostgreSQL.
    pub options: Option<PathBuf>,
}

/// A database that a person names:
/// `ENGINE://[HOST[:PORT]]/NAME[?socket=PATH][&admin=USER][&options=FILE]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerUrl {
    /// The server.
    pub server: ServerAddress,
    /// The database's name.
    pub name: String,
}

/// Why a text is not the address of a database on a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Another beginning.
    #[error(
        "write sqlite:PATH, mariadb://HOST/NAME or postgresql://HOST/NAME (without a host: the server's socket)"
    )]
    Engine,
    /// It names a user.
    #[error(
        "a database's address holds no user and no password, as every user of the machine can read command lines: \
         name the administrator with ?admin=USER, and a file with the password that only root can read with \
         &options=FILE"
    )]
    Credentials,
    /// A part of it cannot be.
    #[error("{part} {text:?} cannot be: sitefs takes letters, digits and any of {allowed}")]
    Part {
        /// Which.
        part: &'static str,
        /// What it says.
        text: String,
        /// What may be in it besides letters and digits.
        allowed: &'static str,
    },
    /// A key that is not known.
    #[error("{0:?} is not known behind the '?': there are socket, admin and options")]
    Key(String),
}

impl ServerAddress {
    /// The socket directory or file that an application uses when no host is given.
    pub fn default_socket(engine: Engine) -> &'static str {
        if engine == Engine::PostgreSql { POSTGRESQL_SOCKET } else { MARIADB_SOCKET }
    }
}

/// For messages: `mariadb at /run/mysqld/mysqld.sock`.
impl fmt::Display for ServerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at ", self.engine)?;
        match (&self.socket, &self.host) {
            (Some(socket), _) => write!(out, "{}", socket.display())?,
            (None, host) => write!(out, "{}", host.as_deref().unwrap_or("localhost"))?,
        }
        self.port.map_or(Ok(()), |port| write!(out, " port {port}"))
    }
}

fn is_plain(text: &str, more: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|character| character.is_ascii_alphanumeric() || more.contains(character))
}

fn part(part: &'static str, text: &str, allowed: &'static str) -> Result<String, ServerUrlError> {
    let text = text.to_owned();
    if is_plain(&text, allowed) { Ok(text) } else { Err(ServerUrlError::Part { part, text, allowed }) }
}

fn path(name: &'static str, text: &str) -> Result<PathBuf, ServerUrlError> {
    let allowed = "/._-+@";
    let text = part(name, text, allowed)?;
    match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(ServerUrlError::Part { part: name, text, allowed: "/._-+@, and begins with /" }),
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;
    fn from_str(text: &str) -> Result<ServerUrl, ServerUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(ServerUrlError::Engine)?;
        let engine = match scheme {
            "mariadb" | "mysql" => Engine::MariaDb,
            "postgresql" | "postgres" | "pgsql" => Engine::PostgreSql,
            _ => return Err(ServerUrlError::Engine),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = place.split_once('/').ok_or(ServerUrlError::Engine)?;
        if authority.contains('@') {
            return Err(ServerUrlError::Credentials);
        }
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        let name = part("the database's name", name, "._-$")?;
        if name.len() > NAME_BYTES_MAX {
            let allowed = "._-$, 63 in all";
            return Err(ServerUrlError::Part { part: "the database's name", text: name, allowed });
        }
        let number = || {
            let text = port.to_owned();
            let allowed = "no sign: it is a number up to 65535";
            port.parse().map_err(|_| ServerUrlError::Part { part: "the port", text, allowed })
        };
        let mut server = ServerAddress {
            engine,
            host: (!host.is_empty()).then(|| part("the host", host, ".-")).transpose()?,
            port: (!port.is_empty()).then(number).transpose()?,
            socket: None,
            admin: if engine == Engine::PostgreSql { "postgres" } else { "root" }.to_owned(),
            options: None,
        };
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "socket" => server.socket = Some(path("the socket", value)?),
                "admin" => server.admin = part("the administrator", value, "_-.")?,
                "options" => server.options = Some(path("the option file", value)?),
                other => return Err(ServerUrlError::Key(other.to_owned())),
            }
        }
        if server.host.is_none() && server.socket.is_none() {
            server.socket = Some(ServerAddress::default_socket(engine).into());
        }
        Ok(ServerUrl { server, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_the_server_is_and_how_to_get_in() {
        let url: ServerUrl = "mysql:///shop".parse().unwrap();
        assert_eq!(
            (url.server.engine, url.name.as_str(), url.server.admin.as_str()),
            (Engine::MariaDb, "shop", "root")
        );
        assert_eq!(url.server.socket, Some(MARIADB_SOCKET.into()));
        assert_eq!(url.server.to_string(), "mariadb at /run/mysqld/mysqld.sock");
        let url: ServerUrl =
            "postgresql://db.example:5433/shop?admin=dba&options=/root/.pgpass".parse().unwrap();
        assert_eq!((url.server.host.as_deref(), url.server.port), (Some("db.example"), Some(5433)));
        assert_eq!((url.server.socket, url.server.options), (None, Some("/root/.pgpass".into())));
        assert_eq!("mariadb:///my-shop.example".parse::<ServerUrl>().unwrap().name, "my-shop.example");
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_refused() {
        assert_eq!(
            "mariadb://root:secret@localhost/shop".parse::<ServerUrl>(),
            Err(ServerUrlError::Credentials)
        );
        for text in [
            "oracle://x/y",
            "mariadb:shop",
            "mariadb:///",
            "mariadb:///-shop",
            "mariadb:///a`b",
            "mariadb://h:x/a",
            "mariadb:///a?socket=relative",
            "mariadb:///a?socket=/a'b",
            "mariadb:///a?password=x",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }
}
