//! How PostgreSQL is spoken to: its own programs, and the SQL that they need.

use super::{IDLE_SECONDS, ServerAddress, ServerDatabase, ServerUrl};
use crate::base::accounts::User;
use crate::base::process::Command;

/// Where statements go that are for no database in particular.
pub(super) const MAINTENANCE: &str = "postgres";

/// What sessions of sitefs have whatever server, database or role say: nothing ends them, and the same row is the same text
/// in each database.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
     -c bytea_output=hex -c TimeZone=UTC -c lc_monetary=C";

/// With a socket and no password, the server knows the administrator by the user of the process.
fn command(program: &str, server: &ServerAddress, database: &str) -> Command {
    let mut command = Command::new(program).clear_env();
    command = match (&server.options, &server.socket) {
        (Some(file), _) => command.env("PGPASSFILE", file),
        (None, Some(_)) => match User::by_name(&server.admin) {
            Ok(user) => command.user(&user),
            Err(_) => command,
        },
        (None, None) => command,
    };
    command = match &server.socket {
        Some(directory) => command.env("PGHOST", directory),
        None => command.env("PGHOST", server.host.as_deref().unwrap_or("localhost")),
    };
    if let Some(port) = server.port {
        command = command.env("PGPORT", port.to_string());
    }
    command
        .env("PGUSER", &server.admin)
        .env("PGDATABASE", database)
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGCLIENTENCODING", "UTF8")
        .env("PGOPTIONS", OPTIONS)
        .directory("/")
}

/// The program that reads statements from its input, and stops at the first that fails.
pub(super) fn client(server: &ServerAddress, database: &str) -> Command {
    command("psql", server, database).arguments([
        "--no-psqlrc",
        "--no-password",
        "--quiet",
        "--no-align",
        "--tuples-only",
        "--field-separator=\t",
        "--set=ON_ERROR_STOP=1",
    ])
}

/// The program that writes a dump, all of one moment. Owners and rights are those of whoever reads it.
pub(super) fn dumper(at: &ServerUrl) -> Command {
    command("pg_dump", &at.server, &at.name).arguments(["--no-password", "--no-owner", "--no-privileges"])
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn create(database: &ServerDatabase) -> String {
    let (name, user) = (identifier(&database.at.name), identifier(&database.user));
    format!(
        "{}CREATE ROLE {user} LOGIN PASSWORD '{}';\nCREATE DATABASE {name} OWNER {user} TEMPLATE template0 {};\nREVOKE \
         ALL ON DATABASE {name} FROM PUBLIC;\n",
        drop(database),
        database.password.reveal(),
        database.creation,
    )
}

pub(super) fn drop(database: &ServerDatabase) -> String {
    format!(
        "DROP DATABASE IF EXISTS {} WITH (FORCE);\nDROP ROLE IF EXISTS {};\n",
        identifier(&database.at.name),
        identifier(&database.user)
    )
}

pub(super) fn writable(database: &ServerDatabase) -> String {
    format!("ALTER ROLE {} RESET default_transaction_read_only;\n", identifier(&database.user))
}

/// For sessions from now on; who is connected keeps what he had.
pub(super) fn read_only(database: &ServerDatabase) -> String {
    format!("ALTER ROLE {} SET default_transaction_read_only = on;\n", identifier(&database.user))
}

/// The names of columns differ between versions.
pub(super) fn creation(name: &str) -> String {
    format!(
        "SELECT format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype) || \
         CASE of ->> 'datlocprovider' WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', locale) WHEN 'b' THEN \
         format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', locale) ELSE '' END FROM pg_database, to_jsonb(pg_database) \
         AS of, coalesce(of ->> 'datlocale', of ->> 'daticulocale') AS locale WHERE datname = '{name}';\n"
    )
}

/// What begins a line that [`settings`] gives.
const SETTING: &str = "/* setting of the database */";

/// Statements that give another database the settings of this one and of its owner (`ALTER DATABASE`, `ALTER ROLE`), which no
/// dump has: an application may find its tables by them. Not whether it is closed, which is sitefs' own.
pub(super) fn settings(name: &str) -> String {
    format!(
        "SELECT format('{SETTING} DO %L;', format('BEGIN PERFORM set_config(%L, %L, true); EXECUTE format(''ALTER \
         DATABASE %%I SET %I FROM CURRENT'', current_database()); END', name, value, name)) FROM (SELECT DISTINCT ON (name) name, \
         substr(entry, length(name) + 2) AS value FROM pg_database AS d JOIN pg_db_role_setting ON setdatabase IN (0, \
         d.oid) AND setrole IN (0, d.datdba), unnest(setconfig) AS entry, split_part(entry, '=', 1) AS name WHERE \
         datname = '{name}' AND (setdatabase <> 0 OR setrole <> 0) AND NOT (setrole <> 0 AND name = \
         'default_transaction_read_only') AND entry !~ '[\n\r]' ORDER BY name, setrole <> 0 DESC, setdatabase <> 0 \
         DESC) AS found;\n"
    )
}

pub(super) const TABLES: &str = "SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class JOIN \
     pg_namespace ON pg_namespace.oid = relnamespace WHERE relkind IN ('r', 'p') AND nspname <> 'information_schema' \
     AND nspname !~ '^pg_' ORDER BY 1;\n";

/// Takes every table's lock, so that whoever changes one waits, and then says so.
pub(super) fn lock(tables: &[String], wait_seconds: u64, held_seconds_max: u64) -> String {
    let lock = if tables.is_empty() {
        String::new()
    } else {
        format!("LOCK TABLE {} IN SHARE MODE;", tables.join(", "))
    };
    format!(
        "SET lock_timeout = '{wait_seconds}s'; SET idle_in_transaction_session_timeout = '{held_seconds_max}s'; BEGIN; \
         {lock} {CHECK}"
    )
}

/// Answered as long as the session is the same.
pub(super) const CHECK: &str = "SELECT pg_backend_pid();";

pub(super) fn sessions(user: &str) -> String {
    format!("SELECT pid FROM pg_stat_activity WHERE usename = '{user}';\n")
}

pub(super) fn busy_sessions(user: &str) -> String {
    format!(
        "SELECT pid FROM pg_stat_activity WHERE usename = '{user}' AND NOT (coalesce(state, '') = 'idle' AND state_change \
         <= clock_timestamp() - interval '{IDLE_SECONDS} s');\n"
    )
}

pub(super) fn waiting(user: &str) -> String {
    format!("SELECT pid FROM pg_stat_activity WHERE usename = '{user}' AND wait_event_type = 'Lock';\n")
}

pub(super) fn cancel(session: u64) -> String {
    format!("SELECT pg_cancel_backend({session});\n")
}

pub(super) fn end(session: u64) -> String {
    format!("SELECT pg_terminate_backend({session});\n")
}

pub(super) fn size(name: &str) -> String {
    format!("SELECT pg_database_size('{name}');\n")
}

pub(super) const VERSION: &str = "SHOW server_version;\n";

pub(super) const IS_SUPERUSER: &str = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user;\n";

pub(super) const DIRECTORY: &str = "SHOW data_directory;\n";

pub(super) fn databases_with(prefix: &str) -> String {
    format!(
        "SELECT datname FROM pg_database WHERE left(datname, {}) = '{prefix}' ORDER BY 1;\n",
        prefix.len()
    )
}

/// What comes before a dump that is read: what it makes belongs to the application. None of its statements waits for the disk:
/// there are a thousand, and until [`AFTER_LOAD`] nobody counts on any.
pub(super) fn before_load(user: &str) -> String {
    format!("SET synchronous_commit = off;\nSET ROLE {};\n", identifier(user))
}

/// What comes after it: a transaction that writes something, and with which all before it are on the disk.
pub(super) const AFTER_LOAD: &str =
    "RESET ROLE;\nSET synchronous_commit = on;\nCREATE TEMPORARY TABLE sitefs_is_read ();\n";

/// Whether only the administrator may do what a line of a dump does.
pub(super) fn is_for_administrator(line: &[u8]) -> bool {
    ["CREATE EXTENSION ", "COMMENT ON EXTENSION ", SETTING]
        .iter()
        .any(|begin| line.starts_with(begin.as_bytes()))
}
