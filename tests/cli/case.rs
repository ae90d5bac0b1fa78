//! The files that cases are written in: keys at the start of a line, longer values indented below them, cases apart
//! by empty lines. Lines that begin with `#` belong to the case that follows; `~` alone is an empty line of a value.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use sitefs::base::{Span, Timestamp};

/// In the order in which a case is written.
const KEYS: [&str; 13] = [
    "args", "env", "daemon", "stdin", "request", "input", "event", "data", "answer", "failure", "exit",
    "stdout", "stderr",
];

/// One case.
#[derive(Clone)]
pub(crate) struct Case {
    comment: String,
    values: Vec<(String, String)>,
    now: Timestamp,
}

impl Case {
    pub(crate) fn parse_all(text: &str) -> Vec<Case> {
        let mut cases = Vec::new();
        let mut lines = text.lines().peekable();
        while lines.peek().is_some() {
            let mut case = Case { comment: String::new(), values: Vec::new(), now: Timestamp::now() };
            while let Some(line) = lines.next_if(|line| !line.is_empty()) {
                if line.starts_with('#') {
                    case.comment.push_str(line);
                    case.comment.push('\n');
                    continue;
                }
                let (key, inline) = line.split_once(':').unwrap_or_else(|| panic!("no key: {line:?}"));
                assert!(KEYS.contains(&key), "unknown key: {line:?}");
                let mut value = inline.trim().to_owned();
                while let Some(line) = lines.next_if(|line| line.starts_with("  ")) {
                    value.push_str(if line == "  ~" { "" } else { &line[2..] });
                    value.push('\n');
                }
                case.values.push((key.to_owned(), value));
            }
            if !case.values.is_empty() {
                cases.push(case);
            }
            lines.next();
        }
        cases
    }

    /// The value of a key; of several, the first.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Every value of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Replaces the values of a key.
    pub(crate) fn set(&mut self, key: &str, value: Option<String>) {
        self.values.retain(|(name, _)| name != key);
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.values.push((key.to_owned(), value));
        }
    }

    /// The arguments: words, with single quotes around those that have spaces.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut rest = self.get("args").expect("a case has arguments").trim();
        while !rest.is_empty() {
            let (word, after) = match rest.strip_prefix('\'') {
                Some(quoted) => quoted.split_once('\'').expect("a quote ends"),
                None => rest.split_once(' ').unwrap_or((rest, "")),
            };
            words.push(word.to_owned());
            rest = after.trim_start();
        }
        words
    }

    /// What the daemon answers: a response's document, or a failure.
    pub(crate) fn answer(&self) -> Option<Result<Value, Value>> {
        let document = |response: Value| {
            response.as_object().expect("a response is an object").values().next().unwrap().clone()
        };
        match (self.json("answer"), self.json("failure")) {
            (Some(response), None) => Some(Ok(document(response))),
            (None, Some(failure)) => Some(Err(failure)),
            (None, None) => None,
            (Some(_), Some(_)) => panic!("a case has one ending"),
        }
    }

    /// A value as JSON, with times in place of their placeholders.
    pub(crate) fn json(&self, key: &str) -> Option<Value> {
        self.get(key).map(|text| self.parse(text))
    }

    /// JSON with times in place of their placeholders.
    pub(crate) fn parse(&self, text: &str) -> Value {
        let mut text = text.to_owned();
        for (placeholder, time) in self.times() {
            text = text.replace(&placeholder, &time.to_string());
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The text with placeholders in place of the times that a person reads.
    pub(crate) fn with_placeholders(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (placeholder, time) in self.times() {
            text = text.replace(&time.to_string(), &placeholder);
            text = text.replace(&time.local_minute(), &placeholder);
        }
        text
    }

    /// The placeholders of this case, `{2h ago}` or `{in 7d}`, with what they stand for. Half a minute away from the
    /// full unit, so that the time it takes to run the case changes no word.
    fn times(&self) -> Vec<(String, Timestamp)> {
        let mut found = Vec::new();
        for (_, value) in &self.values {
            for piece in value.split('{').skip(1) {
                let Some((inner, _)) = piece.split_once('}') else { continue };
                let (span, sign) = match (inner.strip_suffix(" ago"), inner.strip_prefix("in ")) {
                    (Some(span), _) => (span, -1),
                    (None, Some(span)) => (span, 1),
                    (None, None) => continue,
                };
                let span: Span = span.parse().unwrap();
                let distance = Duration::from(span) + Duration::from_secs(30);
                let nanos = i64::try_from(distance.as_nanos()).unwrap() * sign;
                let (seconds, _) = Timestamp(self.now.0 + nanos).parts();
                found.push((format!("{{{inner}}}"), Timestamp::from_parts(seconds, 0)));
            }
        }
        found
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.comment)?;
        for key in KEYS {
            for value in self.all(key) {
                if value.contains('\n') {
                    writeln!(out, "{key}:")?;
                    for line in value.lines() {
                        writeln!(out, "  {}", if line.is_empty() { "~" } else { line })?;
                    }
                } else {
                    writeln!(out, "{key}: {value}")?;
                }
            }
        }
        Ok(())
    }
}
