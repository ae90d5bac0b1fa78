//! Rules of this code base that no compiler knows: which layer may import which, where foreign crates may be used,
//! how long a file may be. `docs/architecture.md` has the reasons, and the table of layers that is enforced here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, in lines, its tests included.
const LINES_MAX: usize = 500;

/// Crates that may be used below one path of `src` only.
const FENCED_CRATES: [(&str, &str); 7] = [
    ("fuser", "fuse/"),
    ("redb", "base/tables"),
    ("rusqlite", "database/"),
    ("clap", "cli/"),
    ("indicatif", "cli/"),
    ("zstd", "objects/"),
    ("fastcdc", "objects/"),
];

/// Names of the standard library that are doors to the outside, and the one place that may use them.
const FENCED_DOORS: [(&str, &[&str]); 2] = [
    // Values of files and what is found out about them are not doors: they came through one.
    ("std::fs", &["File", "Metadata", "FileType", "Permissions"]),
    ("std::process", &["ExitCode", "ExitStatus"]),
];

struct Source {
    /// Below the top directory: `src/base/names.rs`.
    path: String,
    /// Code without comments and without the contents of strings, lines kept.
    code: String,
    /// `code` up to the tests; nothing of a file that is compiled for tests only.
    production: String,
    text: String,
}

impl Source {
    /// The layer it belongs to; none for `src/lib.rs` and `src/main.rs`.
    fn layer(&self) -> Option<&str> {
        let (layer, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(layer)
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

/// Every Rust file below `directory`.
fn sources(directory: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    rust_files(&top().join(directory), &mut paths);
    let texts: Vec<(String, String)> = paths
        .iter()
        .map(|path| {
            let below = path.strip_prefix(top()).expect("it was found there");
            (below.display().to_string(), read(path))
        })
        .collect();
    let for_tests: Vec<String> =
        texts.iter().flat_map(|(path, text)| modules_for_tests(path, text)).collect();
    let source = |(path, text): (String, String)| {
        let code = without_comments_and_strings(&text);
        let is_for_tests = for_tests.iter().any(|module| path.starts_with(module.as_str()));
        let end = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
        let production = if is_for_tests { String::new() } else { code[..end].to_owned() };
        Source { path, code, production, text }
    };
    texts.into_iter().map(source).collect()
}

/// The paths (up to a dot or a slash) of the modules that `text` declares for tests only.
fn modules_for_tests(path: &str, text: &str) -> Vec<String> {
    let within = match path.strip_suffix("mod.rs").or(path.strip_suffix("lib.rs")) {
        Some(directory) => directory.to_owned(),
        None => path.trim_end_matches(".rs").to_owned() + "/",
    };
    let lines: Vec<&str> = text.lines().collect();
    let declared = lines.windows(2).filter(|pair| pair[0].trim() == "#[cfg(test)]");
    let names =
        declared.filter_map(|pair| pair[1].strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name));
    names.flat_map(|name| [format!("{within}{name}.rs"), format!("{within}{name}/")]).collect()
}

/// The code with comments and the contents of strings made blank, so that neither is taken for code.
fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let skipped = match rest[0] {
            b'/' if rest.starts_with(b"//") => {
                rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
            }
            b'/' if rest.starts_with(b"/*") => find(rest, b"*/").map_or(rest.len(), |end| end + 2),
            b'"' => string_end(rest),
            b'r' if raw_string_hashes(rest).is_some() && !is_word(bytes, at) => {
                let close = [&b"\""[..], &vec![b'#'; raw_string_hashes(rest).unwrap_or(0)]].concat();
                let open = close.len() + 1;
                find(&rest[open..], &close).map_or(rest.len(), |end| open + end + close.len())
            }
            b'\'' if rest.starts_with(b"'\\") => {
                2 + rest[2..].iter().skip(1).position(|byte| *byte == b'\'').unwrap_or(0) + 2
            }
            b'\'' if rest.len() > 2 && rest[2] == b'\'' => 3,
            _ => 0,
        };
        if skipped == 0 {
            code.push(rest[0]);
            at += 1;
        } else {
            let skipped = skipped.min(rest.len());
            code.extend(rest[..skipped].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at += skipped;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn string_end(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// Whether the byte before `at` belongs to a name.
fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// The names that follow `path::` in the code: one, or each of a group in braces.
fn names_after(code: &str, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(path) {
        let Some(rest) = code[at + path.len()..].strip_prefix("::") else { continue };
        if is_word(code.as_bytes(), at) || code[..at].ends_with("::") {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => names.extend(names_of_group(group)),
            None => names.push(first_name(rest)),
        }
    }
    names
}

/// The first names of the paths in a group, up to its closing brace.
fn names_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut part) = (0, Vec::new(), String::new());
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(first_name(&std::mem::take(&mut part))),
            _ => part.push(character),
        }
    }
    names.push(first_name(&part));
    names.retain(|name| !name.is_empty());
    names
}

fn first_name(text: &str) -> String {
    let is_of_name = |character: &char| character.is_ascii_alphanumeric() || *character == '_';
    text.trim_start().chars().take_while(is_of_name).collect()
}

/// The table of `docs/architecture.md`: each layer, and those it may import.
fn layers() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&top().join("docs/architecture.md"));
    let section = text.split("## Layers").nth(1).expect("docs/architecture.md has a section Layers");
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let mut layers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let layer = cells[0].trim_matches('`').to_owned();
        let (names, and_below) = match cells[2].strip_suffix("and below") {
            Some(names) => (names, true),
            None => (cells[2], false),
        };
        let mut may = BTreeSet::new();
        for name in names.split(',').map(str::trim).filter(|name| !matches!(*name, "-" | "")) {
            let below = layers
                .get(name)
                .unwrap_or_else(|| panic!("{layer} may import {name}, which is not above it"));
            may.extend(if and_below { below.clone() } else { BTreeSet::new() });
            may.insert(name.to_owned());
        }
        layers.insert(layer, may);
    }
    layers
}

fn assert_none(violations: Vec<String>, rule: &str) {
    assert!(violations.is_empty(), "{rule}\n  {}", violations.join("\n  "));
}

#[test]
fn imports_only_point_down() {
    let layers = layers();
    assert!(layers.len() > 9, "the table was not understood: {layers:?}");
    let mut violations = Vec::new();
    for source in sources("src") {
        let Some(layer) = source.layer() else { continue };
        let Some(may) = layers.get(layer) else {
            violations.push(format!("{}: the layer {layer} is not in the table", source.path));
            continue;
        };
        // `super` must not climb out of the layer either.
        let depth = source.path.trim_end_matches("/mod.rs").matches('/').count() - 1;
        let climb = ["super"; 16].join("::");
        let climbs = (depth + 1..=depth + 3).map(|supers| &climb[..supers * 7 - 2]);
        let named = std::iter::once("crate").chain(climbs).flat_map(|path| names_after(&source.code, path));
        for name in named {
            if layers.contains_key(&name) && name != layer && !may.contains(&name) {
                violations.push(format!("{}: {layer} must not import {name}", source.path));
            }
        }
    }
    assert_none(violations, "Imports point down the table of docs/architecture.md:");
}

#[test]
fn every_layer_of_the_table_is_there() {
    for layer in layers().keys() {
        let facade = top().join("src").join(layer).join("mod.rs");
        assert!(facade.exists(), "{} is missing", facade.display());
    }
}

#[test]
fn foreign_crates_stay_behind_their_fences() {
    let mut violations = Vec::new();
    for source in sources("src") {
        for (name, place) in FENCED_CRATES {
            let is_used = source.code.match_indices(name).any(|(at, _)| {
                let after = &source.code[at + name.len()..];
                let is_path = after.starts_with("::")
                    || (after.starts_with(';') && source.code[..at].ends_with("use "));
                is_path && !is_word(source.code.as_bytes(), at) && !source.code[..at].ends_with("::")
            });
            if is_used && !source.path.starts_with(&format!("src/{place}")) {
                violations.push(format!("{}: {name} belongs in src/{place}", source.path));
            }
        }
    }
    assert_none(violations, "A foreign crate is used in one place:");
}

#[test]
fn files_and_processes_are_reached_through_base() {
    let mut violations = Vec::new();
    for source in sources("src").iter().filter(|source| !source.path.starts_with("src/base/")) {
        for (door, allowed) in FENCED_DOORS {
            let used = names_after(&source.production, door);
            for name in used.iter().filter(|name| !allowed.contains(&name.as_str())) {
                violations.push(format!("{}: {door}::{name}", source.path));
            }
            // `use std::fs;` and `use std::{fs, io};` give the whole module.
            let module = door.trim_start_matches("std::");
            let mentioned =
                names_after(&source.production, "std").iter().filter(|name| *name == module).count();
            if mentioned > source.production.matches(&format!("{door}::")).count() {
                violations.push(format!("{}: the whole of {door}", source.path));
            }
        }
        for constructor in ["File::open(", "File::create(", "File::create_new(", "OpenOptions::new("] {
            if source.production.contains(constructor) {
                violations.push(format!("{}: {constructor}..)", source.path));
            }
        }
    }
    assert_none(
        violations,
        "Files and processes are reached through base, so that every error names its path:",
    );
}

#[test]
fn nothing_is_left_to_do_and_nothing_is_unwrapped() {
    let mut violations = Vec::new();
    for source in sources("src") {
        for forbidden in [".unwrap()", "todo!(", "unimplemented!(", "dbg!("] {
            let count = source.production.matches(forbidden).count();
            if count > 0 {
                violations.push(format!("{}: {count} x {forbidden}", source.path));
            }
        }
    }
    assert_none(violations, "Not outside of tests:");
}

#[test]
fn files_have_one_subject_and_say_which() {
    let mut violations = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            violations.push(format!("{}: {lines} lines, {LINES_MAX} at most", source.path));
        }
        let is_for_tests = source.path.starts_with("src/") && source.production.is_empty();
        if !source.text.starts_with("//! ") && !is_for_tests {
            violations.push(format!("{}: begins without `//!`", source.path));
        }
    }
    assert_none(violations, "A file has one subject:");
}

#[test]
fn each_table_on_the_disk_is_in_the_description_of_the_format() {
    let format = read(&top().join("docs/format.md"));
    let mut found = 0;
    let mut violations = Vec::new();
    for source in sources("src") {
        // Strings are no code; in tests there are other tables.
        let end = source.text.find("#[cfg(test)]\nmod tests {").unwrap_or(source.text.len());
        let records = source.text[..end].split("const TABLE: &'static str = \"").skip(1);
        let is_rows = source.path == "src/live/rows.rs" || source.path == "src/objects/index.rs";
        let engine = source.text[..end].lines().filter(|_| is_rows).filter_map(|line| {
            let (declared, value) = line.split_once(": &str = \"")?;
            declared.contains("const ").then_some(value)
        });
        for name in records.chain(engine).filter(|_| !source.production.is_empty()) {
            let name = name.split('"').next().unwrap_or_default();
            found += 1;
            if !format.contains(&format!("\n| `{name}` |")) {
                violations.push(format!("{}: the table {name}", source.path));
            }
        }
    }
    assert!(found > 20, "only {found} tables");
    assert_none(violations, "Bytes on disk are described in docs/format.md.");
}

#[test]
fn this_test_understands_code() {
    let code = without_comments_and_strings(
        "use crate::{base::names, trees}; // crate::cli\nlet a = \"crate::cli \\\" \"; let b = r#\"crate::web\"#; '\"'; x",
    );
    assert_eq!(names_after(&code, "crate"), ["base", "trees"]);
    assert!(code.ends_with(" x") && !code.contains("cli") && !code.contains("web"), "{code}");
    assert_eq!(names_after("std::fs::{self, File}; my::std::fs::x", "std::fs"), ["self", "File"]);
    let modules = modules_for_tests("src/a/b.rs", "#[cfg(test)]\nmod testing;\nmod real;\n");
    assert_eq!(modules, ["src/a/b/testing.rs", "src/a/b/testing/"]);
}
