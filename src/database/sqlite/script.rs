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

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str, buffer_bytes: usize) -> Result<Vec<(u64, String)>, Problem> {
        let mut source = BufReader::with_capacity(buffer_bytes, text.as_bytes());
        let mut statements = Statements::new(&mut source);
        std::iter::from_fn(|| statements.next(1000).transpose()).collect()
    }

    #[test]
    fn statements_end_where_sqlite_ends_them() {
        let text = "-- comment; with 'quote\n/*/ another; */ SELECT ';', \"a;\"\"b\", [c;], `d;`; -- rest\n\
                    CREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT CASE WHEN 1 THEN 2 END; DELETE FROM y; END;\n\
                    create temp trigger \"end\" after insert on x begin select 1;/* ; */end -- ;\n;\n\
                    CREATE TABLE trigger_log(a);\nSELECT 1--x;\n;SELECT 4/2; ; \n-- the end";
        let statements = cut(text, 4096).unwrap();
        let starts: Vec<(u64, &str)> =
            statements.iter().map(|(line, sql)| (*line, &sql[..14.min(sql.len())])).collect();
        assert_eq!(
            starts,
            [
                (2, "SELECT ';', \"a"),
                (3, "CREATE TRIGGER"),
                (4, "create temp tr"),
                (6, "CREATE TABLE t"),
                (7, "SELECT 1--x;\n "),
                (8, "SELECT 4/2;"),
                (8, ";"),
            ]
        );
        assert!(statements[1].1.ends_with("END;") && statements[2].1.contains("end -- ;"));
    }

    #[test]
    fn what_has_no_end_and_what_is_too_long_are_told() {
        for text in ["SELECT 1", "SELECT 'a;", "CREATE TRIGGER t BEGIN SELECT 1;", "SELECT 1; /* ; */ x"] {
            assert!(matches!(cut(text, 4096), Err(Problem::DumpIncomplete { .. })), "{text}");
        }
        let long = format!("SELECT 1;\nSELECT '{}';", "x".repeat(2000));
        assert!(matches!(cut(&long, 100), Err(Problem::DumpFails { line: 2, .. })));
        assert!(cut("", 10).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn where_the_text_is_split_while_it_is_read_does_not_matter(
            words in prop::collection::vec(prop::sample::select(vec![
                "CREATE ", "TRIGGER ", "TEMP ", "END", "x ", ";", "'", "\"", "--", "/*", "*/", "\n", " ", "[", "]", "-", "/", "*", "é",
            ]), 0..40),
            buffer_bytes in 1_usize..9,
        ) {
            let text = words.concat();
            let show = |result: Result<_, Problem>| result.map_err(|problem| problem.to_string());
            prop_assert_eq!(show(cut(&text, buffer_bytes)), show(cut(&text, 4096)));
        }
    }
}
