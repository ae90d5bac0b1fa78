//! The verb that compares two states of a site.

use std::io::Write;

use similar::{ChangeTag, TextDiff};

use super::Daemon;
use crate::base::RelativePath;
use crate::control::request::Detail;
use crate::control::response::{ChangeKind, DiffSummary, Differences, FileChange, TableChange};
use crate::control::{At, DataWriter, Events, Failure, Revision, request};
use crate::database::Engine;
use crate::history::DatabaseSnapshot;
use crate::objects::FileContent;
use crate::site::{Site, is_companion, with_companions};
use crate::trees::{Difference, Entry, Node, Root};

/// Files larger than this (bytes) are compared by their hashes alone, as files that are no text are.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Lines of context around a change in a unified difference.
const CONTEXT_LINES: usize = 3;

/// A state of a site, for comparison.
pub(super) struct State {
    /// As answers name it.
    pub(super) name: String,
    /// Its files.
    pub(super) root: Root,
    /// Its database.
    pub(super) database: Option<DatabaseSnapshot>,
    /// The files of its SQLite databases, as far as they are known.
    database_files: Vec<RelativePath>,
}

impl State {
    /// The file of a database that nobody has read.
    fn unread_file(&self) -> Option<RelativePath> {
        self.database.as_ref().filter(|database| !database.is_read())?.file.clone()
    }
}

impl Daemon {
    /// `diff`.
    pub(super) fn diff(&self, request: &request::Diff, events: &dyn Events) -> Result<Differences, Failure> {
        let mut old = self.state(&request.old)?;
        let mut new = self.state(&request.new)?;
        self.read_databases(&mut old, &mut new)?;
        let mut files = Vec::new();
        let mut failure = None;
        let databases = [&old.database_files[..], &new.database_files].concat();
        self.store.trees.diff(&old.root, &new.root, &mut |difference| {
            if is_companion(&difference.path.to_string_lossy(), &databases) {
                return Ok(());
            }
            match self.file_change(&difference, request.detail, events) {
                Ok(Some(change)) => files.push(change),
                Ok(None) => {}
                Err(error) => failure = failure.take().or(Some(error)),
            }
            Ok(())
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let tables = table_changes(old.database.as_ref(), new.database.as_ref());
        let schema_changed = match (&old.database, &new.database) {
            (Some(old), Some(new)) => old.schema != new.schema,
            _ => false,
        };
        Ok(Differences {
            old: old.name,
            new: new.name,
            summary: summarise(&files, &tables, schema_changed),
            files,
            tables,
            text: None,
        })
    }

    /// The state a revision names. The live one is taken for this, its database not read, and registered nowhere.
    pub(super) fn state(&self, revision: &Revision) -> Result<State, Failure> {
        if revision.at != At::Live {
            let id = self.resolve_snapshot(revision)?;
            let snapshot = self.load_snapshot(id)?;
            // One that was received need not be of a site that is here.
            let site = self.store.catalog.get::<Site>(revision.site.as_str())?;
            let recorded = snapshot.database.as_ref().and_then(|database| database.file.as_ref());
            let of_site = site.as_ref().map(Site::database_files).unwrap_or_default();
            return Ok(State {
                name: format!("{}@{}", revision.site, id.short()),
                database_files: of_site.iter().chain(recorded).cloned().collect(),
                root: snapshot.root,
                database: snapshot.database,
            });
        }
        let site = self.site(&revision.site)?;
        let generation = self.live_generation(&site.name)?;
        let captured = self.take(&site, &generation, None, || ())?;
        Ok(State {
            name: revision.to_string(),
            root: captured.root,
            database: captured.database,
            database_files: site.database_files().to_vec(),
        })
    }

    /// Reads the databases of two states that nobody has read so far; one that is the same file as the other is not
    /// read again.
    fn read_databases(&self, old: &mut State, new: &mut State) -> Result<(), Failure> {
        let files = |state: &State| {
            let file = state.database.as_ref().and_then(|database| database.file.as_ref());
            let paths = file.map(with_companions).unwrap_or_default();
            let nodes = paths.iter().map(|path| {
                Ok(self.store.trees.entry_at(&state.root, path)?.map(|entry| (path.clone(), entry.node)))
            });
            nodes.collect::<Result<Vec<_>, Failure>>()
        };
        let is_same = files(old)? == files(new)?;
        for turn in 0..2 {
            let (state, other) = if turn == 0 { (&mut *old, &*new) } else { (&mut *new, &*old) };
            let Some(file) = state.unread_file() else { continue };
            state.database = match &other.database {
                Some(read) if is_same && read.is_read() => Some(read.clone()),
                _ => match self.extract_database(&state.root, &file)? {
                    Some(copy) => {
                        let summary = copy.database()?.summary()?;
                        Some(summary.into_snapshot(Engine::Sqlite, Some(file), None, false))
                    }
                    None => None,
                },
            };
        }
        Ok(())
    }

    fn file_change(
        &self,
        difference: &Difference,
        detail: Detail,
        events: &dyn Events,
    ) -> Result<Option<FileChange>, Failure> {
        let Some(change) = kind_of(difference.old.as_ref(), difference.new.as_ref()) else { return Ok(None) };
        let mut answer = FileChange {
            path: difference.path.to_string_lossy().into_owned(),
            change,
            old_size_bytes: content(difference.old.as_ref()).map(FileContent::size),
            new_size_bytes: content(difference.new.as_ref()).map(FileContent::size),
            lines_added: None,
            lines_removed: None,
        };
        if detail == Detail::Names || matches!(change, ChangeKind::Attributes) {
            return Ok(Some(answer));
        }
        let texts = (self.text(difference.old.as_ref())?, self.text(difference.new.as_ref())?);
        match texts {
            (Some(old), Some(new)) => {
                let diff = TextDiff::from_lines(&old, &new);
                let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count() as u64;
                answer.lines_added = Some(count(ChangeTag::Insert));
                answer.lines_removed = Some(count(ChangeTag::Delete));
                if detail == Detail::Text {
                    let label = |prefix, side: Option<&Entry>| match side {
                        Some(_) => format!("{prefix}/{}", answer.path),
                        None => "/dev/null".to_owned(),
                    };
                    let unified = diff
                        .unified_diff()
                        .context_radius(CONTEXT_LINES)
                        .header(&label("a", difference.old.as_ref()), &label("b", difference.new.as_ref()))
                        .to_string();
                    write_data(events, &unified)?;
                }
            }
            _ if detail == Detail::Text && is_file(difference) => {
                write_data(events, &format!("Binary files a/{0} and b/{0} differ\n", answer.path))?;
            }
            _ => {}
        }
        Ok(Some(answer))
    }

    /// A file's content as text: empty where there is no file, `None` where it is no text or too large.
    fn text(&self, entry: Option<&Entry>) -> Result<Option<String>, Failure> {
        let Some(content) = content(entry) else { return Ok(entry.is_none().then(String::new)) };
        if content.size() > TEXT_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; content.size() as usize];
        let read = self.store.trees.objects.read_at(content, 0, &mut bytes)?;
        bytes.truncate(read);
        Ok(if bytes.contains(&0) { None } else { String::from_utf8(bytes).ok() })
    }
}

/// Which tables differ between two states of a database; none when one of the states has no database.
pub(super) fn table_changes(
    old: Option<&DatabaseSnapshot>,
    new: Option<&DatabaseSnapshot>,
) -> Vec<TableChange> {
    let (Some(old), Some(new)) = (old, new) else { return Vec::new() };
    let mut names: Vec<&String> = old.tables.keys().chain(new.tables.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let (old, new) = (old.tables.get(name), new.tables.get(name));
            let change = match (old, new) {
                (None, Some(_)) => ChangeKind::Added,
                (Some(_), None) => ChangeKind::Removed,
                (old, new) if old == new => return None,
                _ => ChangeKind::Modified,
            };
            Some(TableChange {
                table: name.clone(),
                change,
                old_rows: old.map(|table| table.rows),
                new_rows: new.map(|table| table.rows),
            })
        })
        .collect()
}

/// Sums over differences.
pub(super) fn summarise(files: &[FileChange], tables: &[TableChange], schema_changed: bool) -> DiffSummary {
    let files_of =
        |wanted: fn(ChangeKind) -> bool| files.iter().filter(|file| wanted(file.change)).count() as u64;
    let tables_of = |kind| tables.iter().filter(|table| table.change == kind).count() as u64;
    DiffSummary {
        files_added: files_of(|kind| kind == ChangeKind::Added),
        files_removed: files_of(|kind| kind == ChangeKind::Removed),
        files_changed: files_of(|kind| !matches!(kind, ChangeKind::Added | ChangeKind::Removed)),
        tables_added: tables_of(ChangeKind::Added),
        tables_removed: tables_of(ChangeKind::Removed),
        tables_changed: tables_of(ChangeKind::Modified),
        schema_changed,
    }
}

/// How two entries differ; `None` when only what is below a directory does.
fn kind_of(old: Option<&Entry>, new: Option<&Entry>) -> Option<ChangeKind> {
    let (Some(old), Some(new)) = (old, new) else {
        return match (old, new) {
            (None, Some(_)) => Some(ChangeKind::Added),
            (Some(_), None) => Some(ChangeKind::Removed),
            _ => None,
        };
    };
    match (&old.node, &new.node) {
        (Node::Directory { .. }, Node::Directory { .. }) => {
            (old.attributes != new.attributes).then_some(ChangeKind::Attributes)
        }
        (Node::File(old_content), Node::File(new_content)) if old_content != new_content => {
            Some(ChangeKind::Modified)
        }
        (Node::Symlink { target: old_target }, Node::Symlink { target: new_target })
            if old_target != new_target =>
        {
            Some(ChangeKind::Modified)
        }
        (old_node, new_node) if std::mem::discriminant(old_node) != std::mem::discriminant(new_node) => {
            Some(ChangeKind::Type)
        }
        _ => (old.attributes != new.attributes).then_some(ChangeKind::Attributes),
    }
}

fn content(entry: Option<&Entry>) -> Option<&FileContent> {
    match entry.map(|entry| &entry.node) {
        Some(Node::File(content)) => Some(content),
        _ => None,
    }
}

fn is_file(difference: &Difference) -> bool {
    content(difference.old.as_ref()).or(content(difference.new.as_ref())).is_some()
}

fn write_data(events: &dyn Events, text: &str) -> Result<(), Failure> {
    DataWriter(events)
        .write_all(text.as_bytes())
        .map_err(|error| Failure::failed("the difference could not be sent").because(&error))
}
