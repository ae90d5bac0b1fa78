//! What can go wrong with databases.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::FileError;
use crate::base::process::ProcessError;

/// How much of a line that a server's program said is shown: a line may be a row of a dump.
const SAID_CHARACTERS_MAX: usize = 300;

/// What can go wrong with a database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Something about the database or the place it is in, found by the child process that works on it.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The child process could not be run, or broke off.
    #[error("the process that works on the database failed: {0}")]
    Process(#[from] ProcessError),
    /// The child process spoke another protocol.
    #[error(
        "the process that works on the database answered {0:?}: was sitefs upgraded while its daemon runs? Restart the daemon"
    )]
    Protocol(String),
    /// A file of sitefs' own, or a dump.
    #[error(transparent)]
    File(#[from] FileError),
    /// A hold ended by itself before it was released: what was captured since may not be one state.
    #[error("writes to {} were held for {} s, the longest allowed, and then let go: what was captured is not one state. Try again when the machine is less busy, or allow a longer hold", path.display(), limit.as_secs_f64())]
    HoldExpired {
        /// The database.
        path: PathBuf,
        /// The longest a hold may last.
        limit: Duration,
    },
}

/// Something about a database or its place. Travels from the process that finds it to the one that reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// No such file.
    #[error("there is no database file {}: name the right one with `site set SITE database sqlite:PATH`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something else than a SQLite database.
    #[error("{} is not an SQLite database{}", path.display(), hint(*looks_encrypted))]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// Whether its beginning has no structure, as that of an encrypted database.
        looks_encrypted: bool,
    },
    /// Somebody else held a lock for too long.
    #[error("{} is locked: {} held on to it for more than {} s. Wait for it to finish, or stop it, and try again", path.display(), holders(processes), waited_ms / 1000)]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
        /// The processes that hold locks on it, as far as this user may know: `1234 (php-fpm8.2)`.
        processes: Vec<String>,
    },
    /// The file or its directory may not be read or written.
    #[error("user {user} may not {action} {}: correct the owner and mode of the file and of its directory ({message})", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// `open` or `write`.
        action: String,
        /// The user the work was done as.
        user: String,
        /// What SQLite said.
        message: String,
    },
    /// The disk is full.
    #[error("no space is left while working on {}: free some on its file system and in {}, where temporary files go", path.display(), temporary.display())]
    DiskFull {
        /// The database.
        path: PathBuf,
        /// Where temporary files go.
        temporary: PathBuf,
    },
    /// The database is damaged.
    #[error("the database {} is damaged: {}. Restore it from a snapshot: `database restore SITE --from SITE@ID`", path.display(), findings.join("; "))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, at most ten findings.
        findings: Vec<String>,
    },
    /// A dump does not end as a dump should.
    #[error("the dump is not complete: {reason}. Nothing was changed; dump again")]
    DumpIncomplete {
        /// How that shows.
        reason: String,
    },
    /// A statement of a dump failed.
    #[error("line {line} of the dump fails: {message}. Nothing was changed{}", advice(message))]
    DumpFails {
        /// The line its statement begins in, counted from 1.
        line: u64,
        /// What SQLite said.
        message: String,
    },
    /// A raw database file was given whose journal was not.
    #[error("{} may be in use, or was not closed cleanly: {} lies beside it, and without it the file is not whole. Dump it with `sqlite3 FILE .dump` and restore that", path.display(), journal.display())]
    JournalBeside {
        /// The file given.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
    },
    /// A value is too long to be written as SQL.
    #[error("a row of table {table} of {} is too long to be written as SQL (more than {bytes_max} bytes): take a snapshot instead of a dump", path.display())]
    RowTooLong {
        /// The database.
        path: PathBuf,
        /// The table.
        table: String,
        /// The longest statement SQLite reads, in bytes.
        bytes_max: u64,
    },
    /// Any other error of SQLite.
    #[error("SQLite cannot {action} {}: {message} (code {code})", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: String,
        /// What SQLite said.
        message: String,
        /// Its extended result code.
        code: i32,
    },
    /// A server's program failed.
    #[error("{server}: {message}{advice}")]
    Server {
        /// The server.
        server: String,
        /// What it said, or how its program ended.
        message: String,
        /// What to do.
        advice: String,
    },
    /// A server has no database of this name.
    #[error("{server} has no database {name}: correct the address, or look which there are")]
    NoSuchDatabase {
        /// The server.
        server: String,
        /// The name.
        name: String,
    },
    /// Others than root may read the administrator's password.
    #[error("{} holds the administrator's password and others may read it: chmod 600 {}", path.display(), path.display())]
    OptionFileOpen {
        /// The file.
        path: PathBuf,
    },
    /// The file with the administrator's password is not there.
    #[error("there is no {}, which holds the administrator's password: write it, readable by root alone", path.display())]
    OptionFileMissing {
        /// The file.
        path: PathBuf,
    },
    /// The administrator lacks rights.
    #[error(
        "{admin} on {server} lacks {missing}: grant it, or name another administrator with ?admin=USER in the database's address"
    )]
    AdminNotAllowed {
        /// The server.
        server: String,
        /// The administrator.
        admin: String,
        /// What is missing.
        missing: String,
    },
    /// A program cannot dump a server that is newer, or of another make.
    #[error(
        "{program} cannot be relied on to dump the server, whose version is {server}: install the server's own version of its programs"
    )]
    ProgramUnfit {
        /// The program with its version.
        program: String,
        /// The server's version.
        server: String,
    },
    /// What tables once held would be missing from a dump.
    #[error(
        "{}: the history of {} cannot be dumped ({reason}), and every copy would lack it. Give it up (ALTER TABLE ... DROP SYSTEM VERSIONING) or mend that first", name, tables.join(", ")
    )]
    HistoryNotDumped {
        /// The database.
        name: String,
        /// The tables.
        tables: Vec<String>,
        /// Why it cannot.
        reason: String,
    },
    /// A dump comes from a server that is newer than the one to read it.
    #[error(
        "{server} has version {version}, and the dump is from a server of version {origin}, which is newer: it may hold what this one does not know. Upgrade this server; or dump to a file, take out the line that names the version, and restore that"
    )]
    ServerOlder {
        /// The server that is to read it.
        server: String,
        /// Its version.
        version: String,
        /// The version of the other.
        origin: String,
    },
    /// Views that cannot be read.
    #[error(
        "views {} cannot be read, so no copy of them could be made ({reason}): drop them, put right what they stand on, or give them an account that exists (ALTER DEFINER=... VIEW)",
        views.join(", ")
    )]
    ViewsBroken {
        /// The views, with the name of the database.
        views: Vec<String>,
        /// What the server says of the first.
        reason: String,
    },
    /// There is no space for copies of the database.
    #[error("{} has {} MiB left, and copies of the database may take {}: make room there, or remove clones (sitefs site remove)", directory.display(), free_bytes >> 20, needed_bytes.div_ceil(1 << 20))]
    NoSpaceForCopies {
        /// The server's directory.
        directory: PathBuf,
        /// What is free there.
        free_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// Writes to a database on a server could not be held.
    #[error(
        "writes to {name} could not be held: transactions that change it did not end within {waited_seconds} s, or the server refused ({message}). See what runs on the server, and try again"
    )]
    NotHeld {
        /// The database.
        name: String,
        /// How long it was tried.
        waited_seconds: u64,
        /// How the program ended.
        message: String,
    },
    /// A hold of a database on a server ended before it was released.
    #[error(
        "the hold of writes to {name} was lost{message}: what was captured under it may not be one state. Try again"
    )]
    HoldLost {
        /// The database.
        name: String,
        /// How that showed.
        message: String,
    },
    /// Tables keep being made.
    #[error(
        "tables of {name} are being made or dropped all the time: try again when its installation or update is over"
    )]
    TablesChange {
        /// The database.
        name: String,
    },
    /// A table was changed while it was dumped.
    #[error(
        "table {table} of {name} was changed while it was being dumped, so the dump is of no one moment: try again when its installation or update is over"
    )]
    TableChanged {
        /// The database.
        name: String,
        /// The table.
        table: String,
    },
    /// A copy of a database that was made of its files is not the same.
    #[error("the copy {name}, whose large tables came as files, is not what was copied: {difference}")]
    CopyDiffers {
        /// The copy.
        name: String,
        /// What differs.
        difference: String,
    },
    /// A file could not be read or written.
    #[error("{message}")]
    File {
        /// The whole message.
        message: String,
    },
}

impl Problem {
    /// The failure of a program of `server`, from what it `said`; from its `ending` where it said nothing.
    pub(super) fn server(server: String, program: &str, ending: String, said: &str) -> Problem {
        let cut = |line: &str| line.chars().take(SAID_CHARACTERS_MAX).collect::<String>();
        let lines: Vec<String> = said.lines().map(cut).collect();
        let message = if said.is_empty() { format!("{program} {ending}") } else { lines.join("\n") };
        let known: [(&[&str], &str); 6] = [
            (
                &[
                    "ERROR 1045",
                    "ERROR 1698",
                    "password authentication failed",
                    "authentication failed",
                    "no password supplied",
                ],
                ". Name the administrator (?admin=USER) and a file with the password (options=FILE) in the database's address",
            ),
            (
                &[
                    "ERROR 2002",
                    "ERROR 2003",
                    "ERROR 2005",
                    "could not connect",
                    "connection to server",
                    "could not translate",
                ],
                ". Is the server running, and its socket or host the right one?",
            ),
            (
                &[
                    "ERROR 1044",
                    "ERROR 1142",
                    "ERROR 1227",
                    "ERROR 1410",
                    "permission denied",
                    "must be superuser",
                ],
                ". The administrator needs more rights: see \"Databases on a server\" in docs/operations.md",
            ),
            (
                &["ERROR 1021", "ERROR 1114", "No space left", "Errcode: 28"],
                ". Make room where the server keeps its files",
            ),
            (
                &["Error 1412", "(1412)", "(1146)", "Error 1146"],
                ". A table was changed or dropped while it was being read: try again when that is over",
            ),
            (
                &["ERROR 1205", "lock timeout"],
                ". Something on the server holds on to locks: see what runs there",
            ),
        ];
        let found = known.iter().find(|(words, _)| words.iter().any(|word| message.contains(word)));
        Problem::Server {
            server,
            message,
            advice: found.map(|(_, advice)| *advice).unwrap_or_default().to_owned(),
        }
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Problem {
        Problem::File { message: error.to_string() }
    }
}

fn hint(looks_encrypted: bool) -> &'static str {
    if looks_encrypted {
        ": it may be encrypted (SQLCipher), which sitefs cannot read"
    } else {
        ": name the right file with `site set SITE database sqlite:PATH`"
    }
}

fn holders(processes: &[String]) -> String {
    match processes {
        [] => "another process".to_owned(),
        [one] => format!("process {one}"),
        more => format!("processes {}", more.join(", ")),
    }
}

fn advice(message: &str) -> &'static str {
    if message.contains("no such collation") || message.contains("no such function") {
        ": the database uses what only its application has. Restore from a snapshot, which needs no SQL"
    } else {
        ""
    }
}
