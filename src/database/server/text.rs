//! What is in a database, read from the text of its dump while that passes.
//!
//! The servers' own programs write dumps; here every row is hashed on its way, and everything that is not a row counts
//! as the schema. So a summary is of the very transaction that the dump was made in, costs no second reading, and needs
//! no function that one of the engines lacks. Two summaries can be compared when one version of the program wrote
//! both dumps, as is the case for a dump and the copy made of it.
//!
//! Left out of the schema, as they are no part of what a person stored: comments, the next value of an automatic
//! number, who defined a view or a routine, and the token that protects a PostgreSQL dump.

use std::collections::BTreeMap;

use crate::database::summary::{RowsHasher, Value};
use crate::database::{Engine, Summary};

/// What a line of a dump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Part of a statement that inserts rows.
    Rows,
    /// The last line of such a statement.
    RowsEnd,
    /// Sets something for the connection that reads the dump.
    Session,
    /// Means nothing: a comment, or blank.
    Nothing,
    /// Anything else.
    Other,
}

/// Reads a dump line by line.
pub(super) struct Scanner {
    engine: Engine,
    tables: BTreeMap<String, RowsHasher>,
    schema: RowsHasher,
    /// The table whose rows are being read.
    rows_of: Option<String>,
    values: Values,
    /// Between `DELIMITER ;;` and `DELIMITER ;`, where routines and triggers are.
    in_code: bool,
    is_complete: bool,
}

impl Scanner {
    pub(super) fn new(engine: Engine) -> Scanner {
        Scanner {
            engine,
            tables: BTreeMap::new(),
            schema: RowsHasher::default(),
            rows_of: None,
            values: Values::default(),
            in_code: false,
            is_complete: false,
        }
    }

    /// Takes the next line, with its end.
    pub(super) fn line(&mut self, line: &[u8]) -> Line {
        match self.engine {
            Engine::PostgreSql => self.postgresql(line),
            Engine::MariaDb | Engine::Sqlite => self.mariadb(line),
        }
    }

    /// Whether the last line was of a routine or a trigger.
    pub(super) fn is_in_code(&self) -> bool {
        self.in_code
    }

    /// Whether the line was there that only a dump has which was written to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// What was in the dump.
    pub(super) fn finish(self) -> Summary {
        let tables = self.tables.into_iter().map(|(name, rows)| (name, rows.finish())).collect();
        Summary { tables, schema: self.schema.finish().checksum }
    }

    fn mariadb(&mut self, line: &[u8]) -> Line {
        if self.rows_of.is_some() {
            return self.insert(line);
        }
        if line.starts_with(b"DELIMITER ") {
            self.in_code = trimmed(line) != b"DELIMITER ;";
            return Line::Other;
        }
        if self.in_code {
            return self.schema(line);
        }
        if let Some(rest) = line.strip_prefix(b"INSERT INTO `") {
            let name_bytes = rest.windows(2).position(|pair| pair == b"` ").unwrap_or(rest.len());
            let values = find(&rest[name_bytes..], b" VALUES").map_or(rest.len(), |at| name_bytes + at + 7);
            self.rows_of = Some(String::from_utf8_lossy(&rest[..name_bytes]).replace("``", "`"));
            return self.insert(&rest[values..]);
        }
        if let Some(rest) = line.strip_prefix(b"CREATE TABLE `") {
            let name_bytes = rest.windows(2).position(|pair| pair == b"` ").unwrap_or(rest.len());
            let name = String::from_utf8_lossy(&rest[..name_bytes]).replace("``", "`");
            self.tables.entry(name).or_default();
            return self.schema(line);
        }
        if line.starts_with(b"--") || trimmed(line).is_empty() {
            self.is_complete |= line.starts_with(b"-- Dump completed");
            return Line::Nothing;
        }
        // `SET ...`, `/*!40101 SET ... */;` and the mark of MariaDB's dumps.
        let inner = line.strip_prefix(b"/*!").or(line.strip_prefix(b"/*M!")).map(|rest| {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            &rest[digits..]
        });
        if inner.is_some_and(|inner| inner.starts_with(b" SET ") || inner.starts_with(b"\\-"))
            || line.starts_with(b"SET ")
        {
            return Line::Session;
        }
        self.schema(line)
    }

    /// Takes a part of a statement that inserts rows, from behind `VALUES`.
    fn insert(&mut self, line: &[u8]) -> Line {
        let Some(table) = self.rows_of.take() else { return Line::Other };
        let hasher = self.tables.entry(table.clone()).or_default();
        if self.values.take(line, hasher) {
            return Line::RowsEnd;
        }
        self.rows_of = Some(table);
        Line::Rows
    }

    fn postgresql(&mut self, line: &[u8]) -> Line {
        if let Some(table) = &self.rows_of {
            if line == b"\\.\n" {
                self.rows_of = None;
                return Line::RowsEnd;
            }
            let hasher = self.tables.entry(table.clone()).or_default();
            hasher.value(Value::Text(trimmed(line)));
            hasher.end_row();
            return Line::Rows;
        }
        let copy = line.strip_prefix(b"COPY ").and_then(|rest| rest.strip_suffix(b" FROM stdin;\n"));
        if let Some(rest) = copy {
            let name = rest.split(|byte| *byte == b'(').next().unwrap_or(rest).trim_ascii_end();
            let name = String::from_utf8_lossy(name).into_owned();
            let name = name.strip_prefix("public.").map(str::to_owned).unwrap_or(name);
            self.tables.entry(name.clone()).or_default();
            self.rows_of = Some(name);
            return Line::Rows;
        }
        if line.starts_with(b"-- PostgreSQL database dump complete") {
            self.is_complete = true;
        }
        let is_token = line.starts_with(b"\\restrict ") || line.starts_with(b"\\unrestrict ");
        if line.starts_with(b"--") || trimmed(line).is_empty() || is_token {
            return Line::Nothing;
        }
        self.schema(line)
    }

    fn schema(&mut self, line: &[u8]) -> Line {
        let line = without_definer(line, None);
        let line = without_next_number(&line);
        self.schema.value(Value::Text(trimmed(&line)));
        self.schema.end_row();
        Line::Other
    }
}

/// The rows of a statement that inserts them: `(1,'a'),(2,'b');`.
#[derive(Default)]
struct Values {
    row: Vec<u8>,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Values {
    /// Takes the next part; whether the statement has ended.
    fn take(&mut self, part: &[u8], hasher: &mut RowsHasher) -> bool {
        for byte in part {
            if self.depth > 0 {
                self.row.push(*byte);
            }
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'\'' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'\'' => self.in_string = true,
                b'(' => self.depth += 1,
                b')' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        hasher.value(Value::Text(&self.row));
                        hasher.end_row();
                        self.row.clear();
                    }
                }
                b';' if self.depth == 0 => return true,
                _ => {}
            }
        }
        false
    }
}

/// The line with every `` DEFINER=`a`@`b` `` replaced; taken out without a replacement.
pub(super) fn without_definer(line: &[u8], replacement: Option<&str>) -> Vec<u8> {
    let Some(start) = find(line, b"DEFINER=`") else { return line.to_vec() };
    let name = |rest: &[u8]| rest.iter().position(|byte| *byte == b'`');
    let rest = &line[start + 9..];
    let end = name(rest).and_then(|user| {
        let host = rest[user..].strip_prefix(b"`@`")?;
        Some(start + 9 + user + 3 + name(host)? + 1)
    });
    let Some(end) = end else { return line.to_vec() };
    let new = replacement.map(|who| format!("DEFINER={who}")).unwrap_or_default();
    [&line[..start], new.as_bytes(), &line[end..]].concat()
}

fn without_next_number(line: &[u8]) -> Vec<u8> {
    let Some(start) = find(line, b" AUTO_INCREMENT=").filter(|_| line.starts_with(b") ENGINE=")) else {
        return line.to_vec();
    };
    let digits = line[start + 16..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    [&line[..start], &line[start + 16 + digits..]].concat()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(engine: Engine, text: &str) -> (Summary, Vec<Line>, bool) {
        let mut scanner = Scanner::new(engine);
        let lines = text.split_inclusive('\n').map(|line| scanner.line(line.as_bytes())).collect();
        let is_complete = scanner.is_complete();
        (scanner.finish(), lines, is_complete)
    }

    #[test]
    fn rows_are_counted_however_they_are_laid_out_and_ordered() {
        let head = "-- MariaDB dump\n/*!40101 SET NAMES utf8mb4 */;\nCREATE TABLE `a``b` (\n  `x` int\n) ENGINE=InnoDB AUTO_INCREMENT=7 X;\n";
        let spread = format!(
            "{head}INSERT INTO `a``b` VALUES\n(1,'it''s (),; \\'\\\\'),\n(2,NULL);\n-- Dump completed\n"
        );
        let (one, lines, is_complete) = scan(Engine::MariaDb, &spread);
        assert!(is_complete);
        assert_eq!(lines[..2], [Line::Nothing, Line::Session]);
        assert_eq!(lines[5..9], [Line::Rows, Line::Rows, Line::RowsEnd, Line::Nothing]);
        assert_eq!(one.tables["a`b"].rows, 2);
        let dense = format!(
            "{}INSERT INTO `a``b` (`x`) VALUES (2,NULL),(1,'it''s (),; \\'\\\\');\n",
            head.replace("=7", "=99")
        );
        let (other, _, is_complete) = scan(Engine::MariaDb, &dense);
        assert_eq!(one, other);
        assert!(!is_complete);
        assert_ne!(one, scan(Engine::MariaDb, &dense.replace("NULL", "0")).0);
        assert_ne!(one.schema, scan(Engine::MariaDb, &dense.replace("`x` int", "`x` text")).0.schema);
    }

    #[test]
    fn what_looks_like_rows_within_a_routine_is_none() {
        let text = "DELIMITER ;;\nCREATE DEFINER=`me`@`localhost` PROCEDURE p() begin\nINSERT INTO `t` VALUES (1);\nend ;;\nDELIMITER ;\n";
        let (summary, lines, _) = scan(Engine::MariaDb, text);
        assert!(summary.tables.is_empty() && lines.iter().all(|line| *line == Line::Other));
        assert_eq!(summary, scan(Engine::MariaDb, &text.replace("`me`@`localhost`", "`you`@`%`")).0);
        let other = without_definer(b"/*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */\n", Some("`c`@`d`"));
        assert_eq!(other, b"/*!50013 DEFINER=`c`@`d` SQL SECURITY DEFINER */\n");
    }

    #[test]
    fn postgresql_dumps_are_read_too() {
        let text = "\\restrict abc\nCREATE TABLE public.t (\n);\nCOPY public.t (a, b) FROM stdin;\n1\tx\n--\t\\N\n\\.\n\nSELECT pg_catalog.setval('public.s', 5, true);\n-- PostgreSQL database dump complete\n";
        let (summary, lines, is_complete) = scan(Engine::PostgreSql, text);
        assert_eq!((summary.tables["t"].rows, is_complete), (2, true));
        assert_eq!(lines[3..7], [Line::Rows, Line::Rows, Line::Rows, Line::RowsEnd]);
        let reordered = text.replace("1\tx\n--\t\\N\n", "--\t\\N\n1\tx\n").replace("abc", "def");
        assert_eq!(summary, scan(Engine::PostgreSql, &reordered).0);
    }
}
