//! How MariaDB and MySQL are spoken to: their own programs, and the SQL that they need.

use super::{IDLE_SECONDS, ServerAddress, ServerDatabase, ServerUrl};
use crate::base::process::{self, Command};

/// What the administrator must be allowed, with the names that the servers have for it; of several, one is enough.
/// Whoever gives an application all rights to its database must have them, and be allowed to give them.
pub(super) const PRIVILEGES: [&[&str]; 23] = [
    &["SELECT"],
    &["INSERT"],
    &["UPDATE"],
    &["DELETE"],
    &["CREATE"],
    &["DROP"],
    &["ALTER"],
    &["INDEX"],
    &["REFERENCES"],
    &["LOCK TABLES"],
    &["TRIGGER"],
    &["CREATE VIEW"],
    &["SHOW VIEW"],
    &["CREATE ROUTINE"],
    &["EVENT"],
    &["CREATE USER"],
    &["PROCESS"],
    &["CREATE TEMPORARY TABLES"],
    &["EXECUTE"],
    &["ALTER ROUTINE"],
    &[GRANT_OPTION],
    // To end connections of others, and to read a dump with views of theirs.
    &["SUPER", "CONNECTION_ADMIN", "CONNECTION ADMIN"],
    &["SUPER", "SET_USER_ID", "SET_ANY_DEFINER", "SET USER"],
];

/// That what one is allowed may be allowed to others.
pub(super) const GRANT_OPTION: &str = "GRANT OPTION";

/// What MariaDB's `ALL PRIVILEGES` has besides, by the version that brought it; MySQL has none of it.
pub(super) const PRIVILEGES_SINCE: [((u32, u32), &[&str]); 2] =
    [((10, 4), &["DELETE VERSIONING ROWS", "DELETE HISTORY"]), ((11, 3), &["SHOW CREATE ROUTINE"])];

/// The longest row that can be dumped and read, in bytes: the protocol's own limit.
const PACKET: &str = "--max-allowed-packet=1G";

/// One of two programs: MariaDB's, or MySQL's of the old name.
fn program(new: &'static str, old: &'static str) -> &'static str {
    if process::exists(new) { new } else { old }
}

fn command(program: &str, server: &ServerAddress) -> Command {
    let defaults = match &server.options {
        Some(file) => format!("--defaults-file={}", file.display()),
        None => "--no-defaults".to_owned(),
    };
    let mut command =
        Command::new(program).clear_env().arguments([defaults, format!("--user={}", server.admin)]);
    command = match &server.socket {
        Some(socket) => {
            command.argument("--protocol=socket").argument(format!("--socket={}", socket.display()))
        }
        None => {
            let host = server.host.as_deref().unwrap_or("localhost");
            command.argument("--protocol=tcp").argument(format!("--host={host}"))
        }
    };
    if let Some(port) = server.port {
        command = command.argument(format!("--port={port}"));
    }
    command.arguments(["--default-character-set=utf8mb4", PACKET])
}

/// The program that reads statements from its input. It must not connect again by itself: locks would be lost
/// without anybody knowing.
pub(super) fn client(server: &ServerAddress) -> Command {
    command(program("mariadb", "mysql"), server).arguments([
        "--batch",
        "--skip-column-names",
        "--skip-reconnect",
        "--unbuffered",
        // It would show passwords, and rows.
        "--loose-skip-print-query-on-error",
        "--connect-timeout=10",
    ])
}

/// The name of the program that writes a dump.
pub(super) fn dumper_name() -> &'static str {
    program("mariadb-dump", "mysqldump")
}

/// The program that writes a dump, all of one moment as far as its tables have transactions. Without dates and in the
/// order of the primary keys, so that the dumps of two days share most of their chunks. Of the tables `without_rows` it has
/// the definitions alone.
pub(super) fn dumper(at: &ServerUrl, has_history: bool, without_rows: &[String]) -> Command {
    command(dumper_name(), &at.server)
        .arguments([
            "--single-transaction",
            "--quick",
            "--hex-blob",
            "--skip-lock-tables",
            "--skip-add-locks",
            "--skip-disable-keys",
            "--skip-dump-date",
            "--no-tablespaces",
            "--routines",
            "--events",
            "--triggers",
        ])
        .arguments(has_history.then_some("--dump-history"))
        .arguments(without_rows.iter().map(|table| format!("--ignore-table-data={}.{table}", at.name)))
        .argument(&at.name)
}

/// The program that writes the definitions of tables, without rows and triggers.
pub(super) fn dumper_of_definitions(at: &ServerUrl, tables: &[String]) -> Command {
    command(dumper_name(), &at.server)
        .arguments([
            "--single-transaction",
            "--skip-lock-tables",
            "--no-data",
            "--skip-triggers",
            "--no-tablespaces",
        ])
        .argument(&at.name)
        .arguments(tables)
}

fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The account an application has.
pub(super) fn account(database: &ServerDatabase) -> String {
    let host = if database.at.server.host.is_some() { "%" } else { "localhost" };
    format!("`{}`@`{host}`", database.user)
}

/// The name of a database as grants want it, where `_` stands for any character.
fn pattern(database: &ServerDatabase) -> String {
    identifier(&database.at.name.replace('_', "\\_"))
}

pub(super) fn create(database: &ServerDatabase) -> String {
    let (name, account) = (identifier(&database.at.name), account(database));
    format!(
        "DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} {};\nDROP USER IF EXISTS {account}; CREATE USER \
         {account} IDENTIFIED BY '{}';\n{}",
        database.creation,
        database.password.reveal(),
        writable(database),
    )
}

pub(super) fn drop(database: &ServerDatabase) -> String {
    format!(
        "DROP DATABASE IF EXISTS {}; DROP USER IF EXISTS {};\n",
        identifier(&database.at.name),
        account(database)
    )
}

pub(super) fn writable(database: &ServerDatabase) -> String {
    format!("GRANT ALL PRIVILEGES ON {}.* TO {};\n", pattern(database), account(database))
}

/// For connections from now on; who is connected keeps what he had. Reading is never taken away meanwhile, as a
/// live site may be read at this moment.
pub(super) fn read_only(database: &ServerDatabase) -> String {
    format!(
        "REVOKE INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, LOCK TABLES, CREATE VIEW, CREATE \
         ROUTINE, ALTER ROUTINE, EVENT, TRIGGER /*M!100500 , DELETE HISTORY */ ON {}.* FROM {};\n",
        pattern(database),
        account(database)
    )
}

pub(super) fn creation(name: &str) -> String {
    format!(
        "SELECT CONCAT('CHARACTER SET ', default_character_set_name, ' COLLATE ', default_collation_name) FROM \
         information_schema.schemata WHERE schema_name = '{name}';\n"
    )
}

/// What holds rows of its own, in `information_schema.tables`: tables, those with a history, sequences.
const STORED: &str = "table_type NOT IN ('VIEW', 'SYSTEM VIEW')";

pub(super) fn tables(name: &str) -> String {
    format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = '{name}' AND {STORED} ORDER BY 1;\n"
    )
}

pub(super) fn views(name: &str) -> String {
    format!("SELECT table_name FROM information_schema.views WHERE table_schema = '{name}' ORDER BY 1;\n")
}

/// Whether views can be read: rows of the view with its database, the operation, the kind of message (`Error`), the message.
pub(super) fn check(views: &[String]) -> String {
    let names: Vec<String> = views.iter().map(|view| identifier(view)).collect();
    format!("CHECK TABLE {};\n", names.join(", "))
}

/// The columns and indexes of tables, the table first. What else can be changed while a dump reads ends the dump.
pub(super) fn columns(name: &str) -> String {
    format!(
        "SELECT table_name, ordinal_position, column_name, column_default, is_nullable, column_type, collation_name, \
         extra, generation_expression FROM information_schema.columns WHERE table_schema = '{name}'; SELECT table_name, \
         index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics WHERE table_schema = \
         '{name}';\n"
    )
}

/// Tables whose rows a dump cannot read as of one moment.
pub(super) fn tables_without_transactions(name: &str) -> String {
    format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = '{name}' AND {STORED} AND \
         engine NOT IN (SELECT engine FROM information_schema.engines WHERE transactions = 'YES') ORDER BY 1;\n"
    )
}

/// Tables that keep the rows they once had, each with whether these are numbered by transactions (`1`), not by times.
pub(super) fn tables_with_history(name: &str) -> String {
    format!(
        "SELECT table_name, EXISTS (SELECT * FROM information_schema.columns WHERE columns.table_schema = '{name}' AND \
         columns.table_name = tables.table_name AND generation_expression = 'ROW START' AND data_type = 'bigint') FROM \
         information_schema.tables WHERE table_schema = '{name}' AND table_type = 'SYSTEM VERSIONED' ORDER BY 1;\n"
    )
}

/// What decides about copying tables as files, each with what it is. `against`: settings because of which none can be copied (other
/// servers are handed the statements and would lack the files; the pages in the files are for one database alone; new
/// tables have no file). `directory`: of the databases. `table`: one whose file another database takes in, its indexes
/// with it; its name is that of the file, and the definition that a dump has gives it the format that the file has. `size`: of
/// every table, with its name, in bytes.
pub(super) fn tables_as_files(name: &str) -> String {
    format!(
        "SELECT 'against', CONCAT(LOWER(variable_name), '=', variable_value) FROM information_schema.global_variables WHERE \
         (variable_name IN ('LOG_BIN', 'WSREP_ON', 'INNODB_ENCRYPT_TABLES') AND variable_value <> 'OFF') OR (variable_name = \
         'INNODB_FILE_PER_TABLE' AND variable_value <> 'ON') ORDER BY 2; SELECT 'directory', @@datadir; SELECT 'table', \
         table_name FROM information_schema.tables WHERE table_schema = '{name}' AND engine = 'InnoDB' AND table_type = 'BASE \
         TABLE' AND table_schema REGEXP '^[A-Za-z0-9_]+$' AND table_name REGEXP '^[A-Za-z0-9_]+$' AND create_options REGEXP \
         '^((row_format=[a-z]+|(max_rows|min_rows|avg_row_length|key_block_size)=[0-9]+) ?)*$' AND (create_options LIKE \
         '%row_format=%' OR row_format = @@innodb_default_row_format) AND table_name NOT IN (SELECT table_name FROM \
         information_schema.statistics WHERE table_schema = '{name}' AND index_type <> 'BTREE') AND table_name NOT IN (SELECT \
         table_name FROM information_schema.columns WHERE table_schema = '{name}' AND generation_expression IS NOT NULL); SELECT \
         'size', CONCAT(COALESCE(data_length + index_length, 0), ' ', table_name) FROM information_schema.tables WHERE \
         table_schema = '{name}';\n"
    )
}

/// Takes the files from tables that were just made.
pub(super) fn without_files(tables: &[String]) -> String {
    let discard = |table: &String| format!("ALTER TABLE {} DISCARD TABLESPACE;\n", identifier(table));
    format!("SET SESSION foreign_key_checks = 0;\n{}", tables.iter().map(discard).collect::<String>())
}

/// Has the server bring the files of tables to a state that can be copied, and keep it while the connection lasts.
pub(super) fn export(tables: &[String], wait_seconds: u64) -> String {
    let names: Vec<String> = tables.iter().map(|table| identifier(table)).collect();
    format!(
        "SET SESSION lock_wait_timeout = {wait_seconds}; FLUSH TABLES {} FOR EXPORT; {CHECK}",
        names.join(", ")
    )
}

/// Has the server take in the file that was put in the place of a table's own.
pub(super) fn take_in_file(table: &str) -> String {
    format!("SET SESSION foreign_key_checks = 0; ALTER TABLE {} IMPORT TABLESPACE;\n", identifier(table))
}

/// Has all that a connection reads from now on be of this moment, as far as tables have transactions; then says so.
pub(super) fn keep_moment() -> String {
    format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT; {CHECK}"
    )
}

/// A checksum of the rows of each table, a line for each in their order: the table, with its database, and 32 bits.
pub(super) fn checksums(tables: &[String]) -> String {
    let names: Vec<String> = tables.iter().map(|table| identifier(table)).collect();
    format!("CHECKSUM TABLE {} EXTENDED;", names.join(", "))
}

/// Takes every table's lock, so that whoever changes one waits, and then says so. The server ends the connection, and
/// the hold with it, when nothing was asked of it for `held_seconds_max`.
pub(super) fn lock(tables: &[String], wait_seconds: u64, held_seconds_max: u64) -> String {
    let names: Vec<String> = tables.iter().map(|table| format!("{} READ", identifier(table))).collect();
    let lock = if names.is_empty() { String::new() } else { format!("LOCK TABLES {};", names.join(", ")) };
    format!(
        "SET SESSION lock_wait_timeout = {wait_seconds}, SESSION wait_timeout = {held_seconds_max}; {lock} {CHECK}"
    )
}

/// Answered as long as the connection is the same.
pub(super) const CHECK: &str = "SELECT CONNECTION_ID();";

pub(super) fn sessions(user: &str) -> String {
    format!("SELECT id FROM information_schema.processlist WHERE user = '{user}';\n")
}

pub(super) fn busy_sessions(user: &str) -> String {
    format!(
        "SELECT id FROM information_schema.processlist WHERE user = '{user}' AND NOT (command = 'Sleep' AND time >= \
         {IDLE_SECONDS} AND id NOT IN (SELECT trx_mysql_thread_id FROM information_schema.innodb_trx));\n"
    )
}

pub(super) fn waiting(user: &str) -> String {
    format!(
        "SELECT id FROM information_schema.processlist WHERE user = '{user}' AND state LIKE 'Waiting for table%lock';\n"
    )
}

pub(super) fn cancel(session: u64) -> String {
    format!("KILL QUERY {session};\n")
}

pub(super) fn end(session: u64) -> String {
    format!("KILL CONNECTION {session};\n")
}

pub(super) fn size(name: &str) -> String {
    format!(
        "SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS UNSIGNED) FROM information_schema.tables WHERE \
         table_schema = '{name}';\n"
    )
}

/// Each with whether it may be given to others.
pub(super) const OWN_PRIVILEGES: &str = "SELECT privilege_type, is_grantable FROM information_schema.user_privileges WHERE \
     grantee = CONCAT('\\'', REPLACE(CURRENT_USER(), '@', '\\'@\\''), '\\'');\n";

pub(super) const VERSION: &str = "SELECT VERSION();\n";

pub(super) const DIRECTORY: &str = "SELECT @@datadir;\n";

pub(super) fn databases_with(prefix: &str) -> String {
    format!(
        "SELECT schema_name FROM information_schema.schemata WHERE LEFT(schema_name, {}) = '{prefix}' ORDER BY 1;\n",
        prefix.len()
    )
}
