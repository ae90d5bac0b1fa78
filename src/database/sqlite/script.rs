//! Cutting SQL text into statements while it is read, so that a dump of any size takes the memory of one statement.

use std::io::BufRead;

use crate::database::Problem;

/// Where the reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Code,
    /// A string or name, up to this byte. A doubled end is the end of one and the start of another, which is as good.
    Quoted(u8),
    LineComment,
    BlockComment,
}

/// What the words of a statement say about its end: as in `sqlite3_complete`, a `CREATE TRIGGER` ends with `; END ;`
/// and everything else with the first semicolon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Start,
    Explain,
    Create,
    Ordinary,
    Trigger,
    TriggerSemicolon,
    TriggerEnd,
}

/// The statements of SQL text.
pub(super) struct Statements<'a> {
    source: &'a mut dyn BufRead,
    line: u64,
}

impl<'a> Statements<'a> {
    pub(super) fn new(source: &'a mut dyn BufRead) -> Statements<'a> {
        Statements { source, line: 1 }
    }

    /// The next statement with the line it begins in; `None` at the end of the text. Comments in front of a
    /// statement are left out.
    pub(super) fn next(&mut self, bytes_max: usize) -> Result<Option<(u64, String)>, Problem> {
        let mut statement = Vec::new();
        let mut word = Vec::new();
        let (mut inside, mut course, mut first_line) = (Inside::Code, Course::Start, None);
        loop {
            let buffer = self
                .source
                .fill_buf()
                .map_err(|error| Problem::File { message: format!("cannot read the dump: {error}") })?;
            if buffer.is_empty() {
                if first_line.is_none() {
                    return Ok(None);
                }
                return Err(Problem::DumpIncomplete { reason: "it ends within a statement".to_owned() });
            }
            let mut used = 0;
            for byte in buffer {
                used += 1;
                let previous = statement.last().copied();
                statement.push(*byte);
                self.line += u64::from(*byte == b'\n');
                inside = match (inside, previous, byte) {
                    (Inside::Code, Some(b'-'), b'-') => Inside::LineComment,
                    (Inside::Code, Some(b'/'), b'*') => {
                        // So that its star is not taken for the first half of its end.
                        statement.push(b' ');
                        Inside::BlockComment
                    }
                    (Inside::LineComment, _, b'\n') | (Inside::BlockComment, Some(b'*'), b'/') => {
                        if first_line.is_none() {
                            statement.clear();
                        }
                        // So that the end of one comment is not taken for the start of another.
                        statement.push(b' ');
                        Inside::Code
                    }
                    (Inside::Code, _, b'\'' | b'"' | b'`') => Inside::Quoted(*byte),
                    (Inside::Code, _, b'[') => Inside::Quoted(b']'),
                    (Inside::Quoted(end), _, byte) if *byte == end => {
                        course = course.after(b"quoted");
                        Inside::Code
                    }
                    (Inside::Code, _, byte) => {
                        if byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80 {
                            word.push(byte.to_ascii_lowercase());
                            word.truncate(16);
                        } else {
                            if !word.is_empty() {
                                course = course.after(&word);
                                word.clear();
                            }
                            if *byte == b';' {
                                course = course.after(b";");
                            } else if !byte.is_ascii_whitespace() && !matches!(byte, b'-' | b'/') {
                                course = course.after(b"symbol");
                            }
                        }
                        Inside::Code
                    }
                    (other, _, _) => other,
                };
                let is_code = matches!(inside, Inside::Code | Inside::Quoted(_));
                if first_line.is_none()
                    && is_code
                    && !byte.is_ascii_whitespace()
                    && !matches!(byte, b'-' | b'/')
                {
                    first_line = Some(self.line);
                }
                if inside == Inside::Code && *byte == b';' && course == Course::Start {
                    break;
                }
            }
            let is_complete = inside == Inside::Code && course == Course::Start && statement.ends_with(b";");
            self.source.consume(used);
            if is_complete {
                let text = String::from_utf8(statement)
                    .map_err(|error| Problem::DumpFails { line: self.line, message: error.to_string() })?;
                return Ok(Some((first_line.unwrap_or(self.line), text.trim_start().to_owned())));
            }
            if statement.len() > bytes_max {
                let message = format!("it is a statement of more than {bytes_max} bytes");
                return Err(Problem::DumpFails { line: first_line.unwrap_or(self.line), message });
            }
        }
    }
}

impl Course {
    fn after(self, word: &[u8]) -> Course {
        match (self, word) {
            (Course::Trigger | Course::TriggerSemicolon, b";") => Course::TriggerSemicolon,
            (_, b";") => Course::Start,
            (Course::Start, b"explain") => Course::Explain,
            (Course::Start | Course::Explain, b"create") => Course::Create,
            (Course::Create, b"temp" | b"temporary") => Course::Create,
            (Course::Create, b"trigger") => Course::Trigger,
            (Course::TriggerSemicolon, b"end") => Course::TriggerEnd,
            (Course::Trigger | Course::TriggerSemicolon | Course::TriggerEnd, _) => Course::Trigger,
            _ => Course::Ordinary,
        }
    }
}
