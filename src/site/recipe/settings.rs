//! The settings file that sitefs writes into each generation of a site, and the line by which the application's own
//! settings include it.
//!
//! Both are a function of the recipe, the generation and where its database is, so writing them again changes
//! nothing.

use serde::Deserialize;

use crate::base::{RelativePath, Timestamp};
use crate::objects::FileContent;
use crate::site::{DatabaseFacts, Facts};
use crate::trees::{Attributes, Entry, Node, Root, Trees, TreesError};

/// The longest file, in bytes, that a line is added to. Settings are written by people; more is something else.
const INCLUDING_BYTES_MAX: u64 = 4 << 20;

/// What stands for the path of the database in the text of a settings file.
const DATABASE: &str = "@DATABASE@";

/// A settings file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file within the site's directory.
    pub file: RelativePath,
    /// Its text, with `@SITE@`, `@GENERATION@`, `@PLATFORM@`, `@KIND@` (`live` or `clone`) and `@DATABASE@` (the path
    /// of the SQLite database below the site's directory, or nothing) replaced.
    pub text: String,
    /// The application's own file, within the site's directory, that has to include this one.
    pub included_by: Option<RelativePath>,
    /// The text that does so: added to `included_by` unless it has its place there.
    pub include: Option<String>,
    /// Where in `included_by` it is added.
    #[serde(default)]
    pub include_at: IncludeAt,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncludeAt {
    /// Where what is said wins over what was said before, as with variables.
    #[default]
    End,
    /// Where what is said wins over what is said later, as with constants; or where it must be known before the file
    /// itself starts the application.
    Start,
}

/// A site's tree with its settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithSettings {
    /// The tree.
    pub root: Root,
    /// Why the application's own settings do not include the file, for people; `None`: they do, or the recipe does
    /// not say how.
    pub not_included: Option<String>,
}

impl Settings {
    /// Whether the file says where the SQLite database is.
    pub fn names_file(&self) -> bool {
        self.text.contains(DATABASE)
    }

    /// Whether the file tells the application which database on a server is its own.
    pub fn names_server(&self) -> bool {
        ["@DATABASE_NAME@", "@DATABASE_USER@", "@DATABASE_PASSWORD@"]
            .iter()
            .all(|mark| self.text.contains(mark))
    }

    /// The file's text for one generation. Only names are put in (and paths and passwords that are as plain), which
    /// have no character that any language's quoted strings treat specially. What is said of a database is left empty
    /// where there is none in a `file`, or none on a `server`.
    pub fn render(
        &self,
        facts: &Facts,
        file: Option<&RelativePath>,
        server: Option<&DatabaseFacts>,
    ) -> String {
        let file = file.filter(|path| is_quotable(path)).map_or("", RelativePath::as_str);
        let of = |value: fn(&DatabaseFacts) -> &String| {
            server.map(|facts| value(facts).as_str()).unwrap_or_default()
        };
        self.text
            .replace("@DATABASE_ENGINE@", of(|facts| &facts.engine))
            .replace("@DATABASE_HOST@", of(|facts| &facts.host))
            .replace("@DATABASE_PORT@", of(|facts| &facts.port))
            .replace("@DATABASE_SOCKET@", of(|facts| &facts.socket))
            .replace("@DATABASE_NAME@", of(|facts| &facts.name))
            .replace("@DATABASE_USER@", of(|facts| &facts.user))
            .replace("@DATABASE_PASSWORD@", of(|facts| &facts.password))
            .replace("@SITE@", facts.generation.site.as_str())
            .replace("@GENERATION@", &facts.generation.number.to_string())
            .replace("@PLATFORM@", facts.platform.as_str())
            .replace("@KIND@", facts.kind())
            .replace(DATABASE, file)
    }

    /// The tree `root` of a site, whole or its code alone, with this file saying `text`, included by the
    /// application's own settings.
    ///
    /// The file is owned by, and can be read by, whoever the file that includes it is; without one it is owned as
    /// the tree's root and readable by its group. What is right already stays as it is, times too.
    pub fn write(
        &self,
        trees: &Trees,
        root: &Root,
        text: &str,
        now: Timestamp,
    ) -> Result<WithSettings, TreesError> {
        let mut root = root.clone();
        let mut not_included = None;
        let mut readers = Attributes {
            mode: 0o640,
            uid: root.attributes.uid,
            gid: root.attributes.gid,
            ..Attributes::default()
        };
        if let (Some(path), Some(include)) = (&self.included_by, &self.include) {
            match trees.entry_at(&root, path)? {
                Some(Entry { attributes, node: Node::File(content) })
                    if content.size() <= INCLUDING_BYTES_MAX =>
                {
                    readers = Attributes {
                        mode: attributes.mode & 0o666,
                        uid: attributes.uid,
                        gid: attributes.gid,
                        ..Attributes::default()
                    };
                    if let Some(including) = including(&read(trees, &content)?, include, self.include_at) {
                        let node = Node::File(write(trees, &including)?);
                        let entry = Entry { attributes: Attributes { mtime: now, ..attributes }, node };
                        root = trees.replace_at(&root, path, Some(entry))?;
                    }
                }
                Some(Entry { node: Node::File(_), .. }) => {
                    not_included = Some(format!("{path} is too long for a file of settings"));
                }
                Some(_) => not_included = Some(format!("{path} is not a regular file")),
                None => not_included = Some(format!("there is no {path}")),
            }
        }
        let node = Node::File(write(trees, text.as_bytes())?);
        let found = trees.entry_at(&root, &self.file)?;
        let mtime = match &found {
            Some(found) if found.node == node => found.attributes.mtime,
            _ => now,
        };
        let entry = Entry { attributes: Attributes { mtime, ..readers }, node };
        if found.as_ref() != Some(&entry) {
            root = trees.replace_at(&root, &self.file, Some(entry))?;
        }
        Ok(WithSettings { root, not_included })
    }
}

/// Whether a path means itself within quotes, in any language.
pub(super) fn is_quotable(path: &RelativePath) -> bool {
    let quotes = |character: char| "'\"\\$`%@{}".contains(character) || character.is_control();
    !path.as_str().contains(quotes)
}

/// `text` with the lines `include` at its end, but in front of a tag that closes PHP there; or at its start, but after a
/// tag that opens PHP there; `None` when they are. Wherever else they are, they are taken out: an installer, or a person, has
/// put something of the site's own database behind them.
fn including(text: &[u8], include: &str, at: IncludeAt) -> Option<Vec<u8>> {
    let include = include.trim().as_bytes();
    if include.is_empty() {
        return None;
    }
    match at {
        IncludeAt::End => {
            let body = text.trim_ascii_end();
            let (body, closing) = match body.strip_suffix(b"?>") {
                Some(open) => (open, &b"?>\n"[..]),
                None => (body, &b""[..]),
            };
            let before = body.trim_ascii_end().strip_suffix(include);
            if before.is_some_and(|before| without(before, include).len() == before.len()) {
                return None;
            }
            Some([&without(body, include)[..], b"\n\n", include, b"\n", closing].concat())
        }
        IncludeAt::Start => {
            let (opening, rest) = text.split_at(opening_length(text));
            let after = rest.trim_ascii_start().strip_prefix(include);
            if after.is_some_and(|after| without(after, include).len() == after.len()) {
                return None;
            }
            let newline = if opening.is_empty() || opening.ends_with(b"\n") { &b""[..] } else { b"\n" };
            Some([opening, newline, include, b"\n\n", without(rest, include).trim_ascii_start()].concat())
        }
    }
}

/// `text` with each `part` taken out.
fn without(text: &[u8], part: &[u8]) -> Vec<u8> {
    let mut left = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(part.len()).position(|window| window == part) {
        left.extend_from_slice(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    left.extend_from_slice(rest);
    left
}

/// How many bytes at the start of a file must stay there: a byte order mark, a line that names the interpreter, and the
/// tag that opens PHP.
fn opening_length(text: &[u8]) -> usize {
    let mut length = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    if text[length..].starts_with(b"#!") {
        let newline = text[length..].iter().position(|byte| *byte == b'\n');
        length = newline.map_or(text.len(), |newline| length + newline + 1);
    }
    let is_tag = |tag: &[u8]| tag.eq_ignore_ascii_case(b"<?php");
    length + if text.get(length..length + 5).is_some_and(is_tag) { 5 } else { 0 }
}

fn read(trees: &Trees, content: &FileContent) -> Result<Vec<u8>, TreesError> {
    let mut bytes = vec![0; usize::try_from(content.size()).expect("the limit fits into memory")];
    let length = trees.objects.read_at(content, 0, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

fn write(trees: &Trees, text: &[u8]) -> Result<FileContent, TreesError> {
    Ok(trees.objects.put_file(&mut &text[..], text.len() as u64)?)
}

#[cfg(test)]
mod tests;
