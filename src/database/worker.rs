//! The child process that works on databases, and the protocol with it.
//!
//! `sitefs internal-database REQUEST` gets its request as JSON in its first argument and answers in lines of JSON on
//! its standard output; of a dump, which takes the standard output, on its standard error. A hold goes on for as long
//! as its standard input is open: each line there (`check`, `summary`, `let-go`) gets an answer. So it ends when
//! the daemon does, however that ends.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sqlite::{self, Held};
use super::{DatabaseError, Description, Examination, Problem, Summary};
use crate::base::accounts::User;
use crate::base::process::{self, Command, Conversation, ExitCode};

/// The verb that starts the child process; not for people.
pub const VERB: &str = "internal-database";

/// Raised when a request or an answer changes its meaning.
const PROTOCOL: u32 = 1;

/// The exit status of a hold that ended because its time was up.
pub(super) const EXPIRED: i32 = 75;

/// How long one piece of work may take: the largest databases take hours to be dumped and restored.
const WORK_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Work(Work),
    /// The dump takes the standard output.
    Dump(FileRequest),
    Hold(HoldRequest),
}

/// What is done and answered once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    Describe {
        file: FileRequest,
    },
    Examine {
        file: FileRequest,
        check: bool,
    },
    /// From standard input; without a file, only to see whether it works.
    Restore {
        file: Option<FileRequest>,
    },
    Clone {
        source: FileRequest,
        target: FileRequest,
    },
}

/// A database file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRequest {
    pub(super) path: PathBuf,
    /// Nothing changes it.
    pub(super) frozen: bool,
    /// How long locks are waited for.
    pub(super) wait_ms: u64,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HoldRequest {
    pub(super) file: PathBuf,
    pub(super) additional: Vec<PathBuf>,
    pub(super) wait_ms: u64,
    /// When it ends by itself.
    pub(super) held_ms_max: u64,
}

/// A request as it is sent.
#[derive(Serialize, Deserialize)]
struct Envelope {
    protocol: u32,
    /// The user and group that the work is done as, where they differ from those of the parent.
    owner: Option<(u32, u32)>,
    request: Request,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Description(Description),
    Examination(Examination),
    Summary(Summary),
    Held(Vec<Description>),
    Done,
    Problem(Problem),
}

impl Answer {
    /// Reads an answer; a problem is an error.
    pub(super) fn parse(line: &str) -> Result<Answer, DatabaseError> {
        match serde_json::from_str(line) {
            Ok(Answer::Problem(problem)) => Err(problem.into()),
            Ok(answer) => Ok(answer),
            Err(_) => Err(DatabaseError::Protocol(line.chars().take(200).collect())),
        }
    }

    pub(super) fn unexpected(self) -> DatabaseError {
        DatabaseError::Protocol(format!("{self:?}").chars().take(200).collect())
    }

    pub(super) fn summary(self) -> Result<Summary, DatabaseError> {
        match self {
            Answer::Summary(summary) => Ok(summary),
            other => Err(other.unexpected()),
        }
    }
}

/// A duration as requests have it.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How the child process is started.
#[derive(Clone, Debug)]
pub struct Worker {
    program: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Worker {
    /// By this program, as the user it runs as.
    pub fn new() -> Result<Worker, DatabaseError> {
        let program = process::current_program().map_err(|error| Problem::File {
            message: format!("cannot find this program's file: {error}"),
        })?;
        Ok(Worker::with_program(program))
    }

    /// By the `sitefs` executable `program`.
    pub fn with_program(program: PathBuf) -> Worker {
        Worker { program, owner: None }
    }

    /// As the owner and with the group of a database file, so that the journals it makes are theirs, and it can do
    /// no more than they can. The child process takes them on by itself: they need not be able to reach the program.
    pub fn as_owner(self, uid: u32, gid: u32) -> Worker {
        Worker { owner: Some((uid, gid)), ..self }
    }

    fn command(&self, request: Request) -> Result<Command, DatabaseError> {
        let envelope = Envelope { protocol: PROTOCOL, owner: self.owner, request };
        let request = serde_json::to_string(&envelope).map_err(|error| {
            let message = format!("the database's path cannot be told to another process: {error}");
            Problem::File { message }
        })?;
        let command = Command::new(&self.program).argument(VERB).argument(request);
        let command = command.time_limit(WORK_TIME_MAX).capture_bytes_max(64 * 1024 * 1024);
        Ok(match self.owner {
            // The parent's own directory for temporary files may be closed to them.
            Some(_) => command.env("TMPDIR", "/var/tmp").env("SQLITE_TMPDIR", "/var/tmp"),
            None => command,
        })
    }

    pub(super) fn ask(&self, work: Work) -> Result<Answer, DatabaseError> {
        let outcome = self.command(Request::Work(work))?.run()?;
        answer_of(&outcome.output.text(), outcome)
    }

    pub(super) fn ask_with_input(&self, work: Work, input: File) -> Result<Answer, DatabaseError> {
        let outcome = self.command(Request::Work(work))?.input_file(input).run()?;
        answer_of(&outcome.output.text(), outcome)
    }

    pub(super) fn ask_for_dump(&self, file: FileRequest, output: File) -> Result<Answer, DatabaseError> {
        let outcome = self.command(Request::Dump(file))?.output_file(output).run()?;
        answer_of(&outcome.errors.text(), outcome)
    }

    pub(super) fn hold(&self, request: HoldRequest) -> Result<Conversation, DatabaseError> {
        Ok(self.command(Request::Hold(request))?.converse()?)
    }
}

/// The answer in the last line of an output; where there is none, how the process failed.
fn answer_of(text: &str, outcome: process::Outcome) -> Result<Answer, DatabaseError> {
    match text.lines().next_back().map(Answer::parse) {
        Some(Err(DatabaseError::Protocol(line))) => {
            outcome.success()?;
            Err(DatabaseError::Protocol(line))
        }
        Some(answer) => answer,
        None => {
            outcome.success()?;
            Err(DatabaseError::Protocol(String::new()))
        }
    }
}

/// The child process: `arguments` are those behind [`VERB`].
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let request = arguments.next().and_then(|argument| argument.into_string().ok()).unwrap_or_default();
    let envelope = serde_json::from_str::<Envelope>(&request).ok().filter(|it| it.protocol == PROTOCOL);
    let Some(Envelope { owner, request, .. }) = envelope else {
        // Of a dump, too: the parent knows no protocol but its own, and shows what it gets.
        let _ = writeln!(io::stderr(), "this sitefs does not know the request: restart the daemon");
        return ExitCode::from(2);
    };
    let answered = match owner.map_or(Ok(()), take_on) {
        Ok(()) => serve(request),
        Err(problem) => match request {
            Request::Dump(_) => send(&mut io::stderr(), &Answer::Problem(problem)),
            _ => send(&mut io::stdout(), &Answer::Problem(problem)),
        },
    };
    // Without anybody to read the answer there is nobody to tell.
    if answered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn take_on((uid, gid): (u32, u32)) -> Result<(), Problem> {
    let user = User::by_id(uid, gid).and_then(|user| User { gid, ..user }.take_on());
    user.map_err(|error| Problem::File { message: error.to_string() })
}

fn serve(request: Request) -> io::Result<()> {
    match request {
        Request::Work(request) => {
            let answer = work(request, &mut io::stdin().lock());
            send(&mut io::stdout(), &answer.unwrap_or_else(Answer::Problem))
        }
        Request::Dump(file) => {
            let mut output = BufWriter::with_capacity(1 << 18, io::stdout().lock());
            let answer = file.open().dump(&mut output).map(Answer::Summary);
            send(&mut io::stderr(), &answer.unwrap_or_else(Answer::Problem))
        }
        Request::Hold(request) => {
            let limit = Duration::from_millis(request.held_ms_max);
            let words = &mut io::stdin().lock();
            hold(request, words, &mut io::stdout(), || {
                std::thread::spawn(move || expire(limit));
            })
        }
    }
}

/// Whether writers were let go, so that a hold need not end any more.
static LET_GO: AtomicBool = AtomicBool::new(false);

/// Ends this process, and so the hold, when the time is up, whatever else it is doing.
fn expire(limit: Duration) {
    std::thread::sleep(limit);
    if !LET_GO.load(Ordering::SeqCst) {
        process::exit(EXPIRED);
    }
}

fn send(output: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    output.write_all(line.as_bytes())?;
    output.flush()
}

impl FileRequest {
    fn open(&self) -> sqlite::File {
        sqlite::File::new(&self.path, self.frozen, Duration::from_millis(self.wait_ms))
    }
}

fn work(work: Work, input: &mut dyn io::Read) -> Result<Answer, Problem> {
    Ok(match work {
        Work::Describe { file } => Answer::Description(file.open().describe()?),
        Work::Examine { file, check } => Answer::Examination(file.open().examine(check)?),
        Work::Restore { file: Some(file) } => Answer::Summary(file.open().restore(input)?),
        Work::Restore { file: None } => Answer::Summary(sqlite::try_dump(input)?),
        Work::Clone { source, target } => Answer::Summary(source.open().clone_to(&target.open())?),
    })
}

/// Holds until `words` ends, answering each. `on_held` is called when the hold begins.
fn hold(
    request: HoldRequest,
    words: &mut dyn BufRead,
    output: &mut dyn Write,
    on_held: impl FnOnce(),
) -> io::Result<()> {
    let wait = Duration::from_millis(request.wait_ms);
    let mut held = match Held::acquire(request.file, request.additional, wait) {
        Ok(held) => held,
        Err(problem) => return send(output, &Answer::Problem(problem)),
    };
    on_held();
    send(output, &Answer::Held(held.descriptions()))?;
    for word in words.lines() {
        let answer = match word?.as_str() {
            "check" => Ok(Answer::Done),
            "let-go" => held.let_writers_go().map(|all_gone| {
                LET_GO.store(all_gone, Ordering::SeqCst);
                Answer::Done
            }),
            "summary" => held.summary().map(Answer::Summary),
            other => Err(Problem::File { message: format!("a hold does not know the word {other:?}") }),
        };
        send(output, &answer.unwrap_or_else(Answer::Problem))?;
    }
    Ok(())
}
