//! A hold, as the daemon sees it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::worker::{Answer, EXPIRED, HoldRequest, Worker, milliseconds};
use super::{DatabaseError, Description, Summary};
use crate::base::process::{Conversation, Ending, ProcessError};

/// How much longer than for locks an answer of the child process is waited for.
const MARGIN: Duration = Duration::from_secs(30);

/// How long a summary under a hold may take: the hold's own limit ends it before.
const SUMMARY_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Writes to a database are held while this lives: by a child process that lets go when this is dropped, when the
/// daemon dies, or when the time is up.
pub struct Hold {
    conversation: Conversation,
    descriptions: Vec<Description>,
    since: Instant,
    held_max: Duration,
}

impl Hold {
    pub(super) fn acquire(
        worker: &Worker,
        file: PathBuf,
        additional: Vec<PathBuf>,
        wait: Duration,
        held_max: Duration,
    ) -> Result<Hold, DatabaseError> {
        let request = HoldRequest {
            file,
            additional,
            wait_ms: milliseconds(wait),
            held_ms_max: milliseconds(held_max),
        };
        let mut conversation = worker.hold(request)?;
        match Answer::parse(&conversation.receive(wait + MARGIN)?)? {
            Answer::Held(descriptions) => {
                Ok(Hold { conversation, descriptions, since: Instant::now(), held_max })
            }
            other => Err(other.unexpected()),
        }
    }

    /// What is held: the database first, then those of the additional ones that exist.
    pub fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }

    /// How long it has lasted.
    pub fn duration(&self) -> Duration {
        self.since.elapsed()
    }

    /// The error unless the hold is in force and has been without a gap.
    pub fn check(&mut self) -> Result<(), DatabaseError> {
        match self.ask("check", MARGIN)? {
            Answer::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    /// What is in the database in the state that is held. Writers wait meanwhile.
    pub fn summary(&mut self) -> Result<Summary, DatabaseError> {
        self.ask("summary", SUMMARY_WAIT)?.summary()
    }

    /// Ends the hold, and says what is in the database in the state that was held. With a write-ahead log writers go
    /// on at once, and the state is read behind their backs; else they wait until it was read. `captured` is called
    /// when it is certain that the hold lasted until now without a gap: what was captured before is one state.
    pub fn release_with_summary(mut self, captured: impl FnOnce()) -> Result<Summary, DatabaseError> {
        match self.ask("let-go", MARGIN)? {
            Answer::Done => captured(),
            other => return Err(other.unexpected()),
        }
        let summary = self.ask("summary", SUMMARY_WAIT)?.summary()?;
        self.conversation.finish(MARGIN)?;
        Ok(summary)
    }

    /// Ends the hold and says how long it lasted. An error when it had ended before by itself: what was captured
    /// under it is not one state.
    pub fn release(mut self) -> Result<Duration, DatabaseError> {
        self.check()?;
        let duration = self.since.elapsed();
        self.conversation.finish(MARGIN)?;
        Ok(duration)
    }

    fn ask(&mut self, word: &str, wait: Duration) -> Result<Answer, DatabaseError> {
        let received = self.conversation.send(word).and_then(|()| self.conversation.receive(wait));
        match received {
            Ok(line) => Answer::parse(&line),
            Err(ProcessError::Ended { ending: Ending::Exited(EXPIRED), .. }) => {
                Err(DatabaseError::HoldExpired {
                    path: self.descriptions.first().map(|held| held.path.clone()).unwrap_or_default(),
                    limit: self.held_max,
                })
            }
            Err(other) => Err(other.into()),
        }
    }
}
