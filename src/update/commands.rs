//! The commands and checks of a recipe, run for one generation as a part of a step.

use super::{CommandEnd, CommandRequest, Event, Failure, Operations, PageRequest, StepKind};
use crate::site::{Check, Command, Expectation, ExpectedPage, GenerationName, Recipe};

/// How much of what a step's commands print is kept, in bytes: the first lines say what was begun, the last what
/// went wrong.
const KEPT_AT_START_BYTES: usize = 8 << 10;
const KEPT_AT_END_BYTES: usize = 24 << 10;

/// How many of the last lines a failure repeats.
const LINES_IN_FAILURE: usize = 10;

/// What the commands of a step printed, bounded.
#[derive(Default)]
pub(super) struct Transcript {
    start: String,
    end: String,
    dropped_bytes: usize,
}

impl Transcript {
    pub(super) fn push(&mut self, line: &str) {
        if self.end.is_empty() && self.start.len() + line.len() < KEPT_AT_START_BYTES {
            self.start.push_str(line);
            self.start.push('\n');
            return;
        }
        self.end.push_str(line);
        self.end.push('\n');
        // Cut seldom, and then down to half, so that a long output costs no more than its length.
        if self.end.len() > 2 * KEPT_AT_END_BYTES {
            let enough = self.end.len() - KEPT_AT_END_BYTES;
            let newline = self.end.bytes().skip(enough).position(|byte| byte == b'\n');
            let cut = newline.map_or(self.end.len(), |newline| enough + newline + 1);
            self.dropped_bytes += cut;
            self.end.drain(..cut);
        }
    }

    /// The text, with a note where some is missing.
    pub(super) fn text(&self) -> String {
        let gap = match self.dropped_bytes {
            0 => String::new(),
            bytes => format!("[... {bytes} bytes are not kept ...]\n"),
        };
        format!("{}{gap}{}", self.start, self.end)
    }
}

/// What a step's commands are run with.
pub(super) struct Runner<'a> {
    pub(super) operations: &'a dyn Operations,
    pub(super) events: &'a dyn Fn(Event),
    pub(super) recipe: &'a Recipe,
    pub(super) run: String,
    pub(super) step: StepKind,
    pub(super) transcript: &'a mut Transcript,
}

impl Runner<'_> {
    /// Runs commands one after the other; the first that fails is the failure.
    pub(super) fn commands(&mut self, of: &GenerationName, commands: &[Command]) -> Result<(), Failure> {
        commands
            .iter()
            .try_for_each(|command| self.line(of, &command.run, self.recipe.timeout_seconds_of(command)))
    }

    /// Makes every check that can be made of this generation; returns how many. Pages are asked for only when it is
    /// live and the site's address is known: nothing else has one.
    pub(super) fn checks(
        &mut self,
        of: &GenerationName,
        checks: &[Check],
        is_live: bool,
    ) -> Result<usize, Failure> {
        let mut count = 0;
        for check in checks {
            let made = match &check.expectation {
                Expectation::Command(line) => self.line(of, line, check.seconds_max).map(|()| true),
                Expectation::Page(page) if is_live => self.page(of, page, check.seconds_max),
                Expectation::Page(_) => Ok(false),
            };
            match made {
                Ok(made) => count += usize::from(made),
                Err(failure) => return Err(format!("the check \"{}\" failed: {failure}", check.title).into()),
            }
        }
        Ok(count)
    }

    fn line(&mut self, of: &GenerationName, line: &str, timeout_seconds: u32) -> Result<(), Failure> {
        let mut facts = self.operations.facts(of)?;
        facts.run.clone_from(&self.run);
        facts.step = self.step.to_string();
        let request = CommandRequest {
            generation: of.clone(),
            line: line.to_owned(),
            user: self.recipe.user.clone(),
            environment: facts.environment(&self.recipe.environment),
            timeout_seconds,
        };
        self.transcript.push(&format!("$ {line}"));
        let mut last = std::collections::VecDeque::new();
        let end = self.operations.run_command(&request, &mut |text| {
            self.transcript.push(text);
            if last.len() == LINES_IN_FAILURE {
                last.pop_front();
            }
            last.push_back(text.to_owned());
            (self.events)(Event::Output(text.to_owned()));
        })?;
        let why = match end {
            CommandEnd::Status(0) => return Ok(()),
            CommandEnd::Status(status) => format!("ended with status {status}"),
            CommandEnd::Signal(signal) => format!("was ended by signal {signal}"),
            CommandEnd::TimedOut => format!("took longer than {timeout_seconds} s and was killed"),
        };
        let printed: String = last.iter().map(|text| format!("\n  {text}")).collect();
        Err(format!("`{line}` {why}{printed}").into())
    }

    /// Whether the page could be asked for, and then it is as expected.
    fn page(
        &mut self,
        of: &GenerationName,
        expected: &ExpectedPage,
        seconds_max: u32,
    ) -> Result<bool, Failure> {
        let ExpectedPage { path, status, contains, lacks } = expected;
        let request = PageRequest { site: of.site.clone(), path: path.clone(), seconds_max };
        let Some(page) = self.operations.fetch_page(&request)? else {
            self.transcript.push(&format!("GET {path}: not asked for, as {} has no setting uri", of.site));
            return Ok(false);
        };
        self.transcript.push(&format!("GET {path}: status {}, {} bytes", page.status, page.body.len()));
        if page.status != *status {
            return Err(format!("{path} has status {} and not {status}", page.status).into());
        }
        if let Some(text) = contains.iter().find(|text| !page.body.contains(*text)) {
            return Err(format!("{path} does not contain {text:?}").into());
        }
        if let Some(text) = lacks.iter().find(|text| page.body.contains(*text)) {
            return Err(format!("{path} contains {text:?}").into());
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_keeps_the_first_lines_and_the_last() {
        let mut transcript = Transcript::default();
        for number in 0..20_000 {
            transcript.push(&format!("line {number} é"));
        }
        let text = transcript.text();
        assert!(text.len() < KEPT_AT_START_BYTES + 2 * KEPT_AT_END_BYTES + 100);
        assert!(text.starts_with("line 0 é\nline 1 é\n"));
        assert!(text.ends_with("line 19999 é\n"));
        assert!(text.lines().all(|line| line.starts_with("line ") || line.starts_with("[...")));
        let mut short = Transcript::default();
        short.push("one");
        assert_eq!(short.text(), "one\n");
    }
}
