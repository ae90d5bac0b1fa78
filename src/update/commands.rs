//! The commands and checks of a recipe, run for one generation as a part of a step.

use super::{CommandEnd, CommandRequest, Event, Failure, Operations, Page, PageRequest, Pages, StepKind};
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

    /// Makes every check that can be made of this generation; returns how many.
    pub(super) fn checks(
        &mut self,
        of: &GenerationName,
        checks: &[Check],
        pages: Option<Pages>,
    ) -> Result<usize, Failure> {
        let mut count = 0;
        for check in checks {
            let made = match &check.expectation {
                Expectation::Command(line) => self.line(of, line, check.seconds_max).map(|()| true),
                Expectation::Page(page) => match pages {
                    Some(by) if page.copies || by == Pages::WebServer => {
                        self.page(of, page, by, check.seconds_max)
                    }
                    _ => Ok(false),
                },
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
        Err(format!("{} {why}{printed}", quoted(line)).into())
    }

    /// Whether the page could be asked for, and then it is as expected, as often as it has to be.
    fn page(
        &mut self,
        of: &GenerationName,
        expected: &ExpectedPage,
        by: Pages,
        seconds_max: u32,
    ) -> Result<bool, Failure> {
        let path = &expected.path;
        let request = PageRequest { generation: of.clone(), path: path.clone(), by, seconds_max };
        let (begun, mut failures, mut slowest) = (self.operations.now(), 0, 0.0_f64);
        for number in 1..=expected.requests {
            let since = self.operations.now();
            let wrong = match self.operations.fetch_page(&request) {
                Ok(None) => {
                    let missing = match by {
                        Pages::WebServer => "uri",
                        Pages::Php => "php-socket",
                    };
                    self.transcript
                        .push(&format!("GET {path}: not asked for, as {} has no setting {missing}", of.site));
                    return Ok(false);
                }
                Ok(Some(page)) => {
                    if number == 1 {
                        self.transcript.push(&format!(
                            "GET {path}: status {}, {} bytes",
                            page.status,
                            page.body.len()
                        ));
                    }
                    expected_of(expected, &page).err()
                }
                Err(failure) => Some(failure.to_string()),
            };
            let now = self.operations.now();
            slowest = slowest.max(now.seconds_since(since));
            if let Some(wrong) = wrong {
                self.transcript.push(&format!("GET {path}: request {number}: {wrong}"));
                failures += 1;
                if failures > expected.failures_max {
                    return Err(match expected.requests {
                        1 => wrong,
                        all => format!(
                            "{failures} of the first {number} of {all} requests failed, {} may: {wrong}",
                            expected.failures_max
                        ),
                    }
                    .into());
                }
            }
            let took = now.seconds_since(begun);
            if expected.seconds_total_max.is_some_and(|limit| took > f64::from(limit)) {
                let all = expected.requests;
                return Err(format!("{number} of {all} requests of {path} took {took:.1} s already").into());
            }
        }
        if expected.requests > 1 {
            let took = self.operations.now().seconds_since(begun);
            self.transcript.push(&format!(
                "GET {path}: {} requests in {took:.2} s, the slowest {slowest:.2} s; {failures} failed",
                expected.requests
            ));
        }
        Ok(true)
    }
}

/// What is wrong with a page, in words.
fn expected_of(expected: &ExpectedPage, page: &Page) -> Result<(), String> {
    let ExpectedPage { path, status, contains, lacks, .. } = expected;
    if page.status != *status {
        return Err(format!("{path} has status {} and not {status}", page.status));
    }
    if let Some(text) = contains.iter().find(|text| !page.body.contains(*text)) {
        return Err(format!("{path} does not contain {text:?}"));
    }
    if let Some(text) = lacks.iter().find(|text| page.body.contains(*text)) {
        return Err(format!("{path} contains {text:?}"));
    }
    Ok(())
}

/// A shell line as messages name it: of a script, the first line; the whole of it is in the transcript.
fn quoted(line: &str) -> String {
    match line.trim().split_once('\n') {
        Some((first, _)) => format!("the script `{first} ...`"),
        None => format!("`{}`", line.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_by_its_first_line() {
        assert_eq!(quoted("php update.php\n"), "`php update.php`");
        assert_eq!(quoted("\nset -e\nphp one.php\n"), "the script `set -e ...`");
    }

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
