//! A bank: accounts of which every committed state has the same sum, and processes that transfer between them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses a part of it")]

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use sitefs::base::process::{Command, Conversation};

/// Long enough for any machine; nothing here waits so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What every state of the accounts adds up to.
pub const BALANCE: i64 = 100_000;

/// Makes a bank of a thousand accounts with a ledger.
pub fn make(path: &Path, journal: &str) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = {journal};
             CREATE TABLE account(id INTEGER PRIMARY KEY, balance INT, filler BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             INSERT INTO account SELECT i, {BALANCE} / 1000, randomblob(500) FROM n;
             CREATE TABLE ledger(amount INT, note TEXT);
             CREATE INDEX by_amount ON ledger(amount);"
        ))
        .unwrap();
    connection.close().unwrap();
}

/// What the accounts add up to.
pub fn balance(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT sum(balance) FROM account", [], |row| row.get(0))
}

/// Starts the test `name` below as a process of its own. Dropped, it is killed.
pub fn start(name: &str, database: &Path, journal: &str) -> Conversation {
    let command = Command::new(std::env::current_exe().unwrap())
        .arguments(["--ignored", "--exact", name, "--nocapture"])
        .env("TEST_DATABASE", database)
        .env("TEST_JOURNAL", journal);
    let mut child = command.converse().unwrap();
    while child.receive(PATIENCE).unwrap() != "ready" {}
    child
}

/// The database that a child process was started for.
pub fn connection_of_child() -> Connection {
    let connection = Connection::open(std::env::var_os("TEST_DATABASE").unwrap()).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    let journal = std::env::var("TEST_JOURNAL").unwrap();
    connection.query_row(&format!("PRAGMA journal_mode = {journal}"), [], |_| Ok(())).unwrap();
    // So small that pages of unfinished transactions are written to the file.
    connection
        .execute_batch("PRAGMA cache_size = 10; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 50")
        .unwrap();
    connection
}

#[expect(clippy::print_stdout, reason = "the test that started this process waits for it")]
pub fn ready() {
    println!("\nready");
}

/// Half of a transfer each, so that only whole transactions keep the sum; many pages are touched.
const TRANSFER: &str = "
    UPDATE account SET balance = balance - 1, filler = randomblob(500) WHERE id % 4 = abs(random()) % 4;
    INSERT INTO ledger SELECT balance, hex(randomblob(50)) FROM account WHERE id < 50;
    UPDATE account SET balance = balance + (SELECT 100000 - sum(balance) FROM account) WHERE id = 1;
    DELETE FROM ledger WHERE rowid IN (SELECT rowid FROM ledger ORDER BY amount LIMIT 30);";

/// The body of a child process that transfers for ever.
pub fn write_for_ever() {
    let connection = connection_of_child();
    ready();
    loop {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {TRANSFER} COMMIT")).unwrap();
        // Even requests of a busy site have gaps between them.
        std::thread::sleep(Duration::from_millis(2));
    }
}
