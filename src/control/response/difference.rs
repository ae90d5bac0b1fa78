//! Differences between two states of a site.

use serde::{Deserialize, Serialize};

use super::Moment;

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Only the new state has it.
    Added,
    /// Only the old state has it.
    Removed,
    /// Its content differs.
    Modified,
    /// Only its mode, owner, times or extended attributes differ.
    Attributes,
    /// It is another kind of node.
    Type,
}

/// A file, directory or other node that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path below the site's directory.
    pub path: String,
    /// How it differs.
    pub change: ChangeKind,
    /// Its size in the old state; `None` for what is no regular file there.
    pub old_size_bytes: Option<u64>,
    /// Its size in the new state; `None` for what is no regular file there.
    pub new_size_bytes: Option<u64>,
    /// Lines that only the new state has; `None` when not asked for, or when the content is no text.
    pub lines_added: Option<u64>,
    /// Lines that only the old state has.
    pub lines_removed: Option<u64>,
}

/// A file of code that is not what it was, or an executable one that appeared where there is to be none, and what is
/// known of who did that, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeChange {
    /// Its path.
    pub path: String,
    /// How it differs.
    pub change: ChangeKind,
    /// Its size then; `None` for what was no regular file.
    pub old_size_bytes: Option<u64>,
    /// Its size now; `None` for what is no regular file.
    pub new_size_bytes: Option<u64>,
    /// Its owner's user id now; `None` for what is gone.
    pub uid: Option<u32>,
    /// The name of that user.
    pub owner: Option<String>,
    /// Its modification time, which its owner can set.
    pub modified: Option<Moment>,
    /// When the system last saw content or attributes change, where that is known.
    pub changed: Option<Moment>,
    /// The id of the newest snapshot that has it as it was, where snapshots know.
    pub last_as_it_was: Option<String>,
    /// The id of the oldest snapshot that has it as it is now; none has before the next one is taken.
    pub first_as_it_is: Option<String>,
}

/// A table of the database that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChange {
    /// Its name.
    pub table: String,
    /// How it differs: added, removed or modified.
    pub change: ChangeKind,
    /// Rows in the old state.
    pub old_rows: Option<u64>,
    /// Rows in the new state.
    pub new_rows: Option<u64>,
}

/// How much differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffSummary {
    /// Nodes only in the new state.
    pub files_added: u64,
    /// Nodes only in the old state.
    pub files_removed: u64,
    /// Nodes that differ in any way.
    pub files_changed: u64,
    /// Tables only in the new state.
    pub tables_added: u64,
    /// Tables only in the old state.
    pub tables_removed: u64,
    /// Tables that differ.
    pub tables_changed: u64,
    /// Whether the database's schema differs.
    pub schema_changed: bool,
}

/// Answer to `diff`. With [`crate::control::request::Detail::Text`] the unified difference was sent as data before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// The old state, as it was resolved: `SITE@ID`, or `SITE@live`.
    pub old: String,
    /// The new state.
    pub new: String,
    /// Sums.
    pub summary: DiffSummary,
    /// What differs, by path.
    pub files: Vec<FileChange>,
    /// Which tables differ, by name. Empty, too, when one of the states has no database.
    pub tables: Vec<TableChange>,
    /// The unified difference. Only in the document of `--json --text`; the daemon leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
