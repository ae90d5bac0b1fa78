//! Journals of SQLite that have served.
//!
//! By default SQLite removes a rollback journal to commit a transaction, and does not sync the removal. It may be lost in
//! a crash as any other change that nobody synced; but then the journal is there again, and the next reader rolls a
//! transaction back that was acknowledged. So the content of a removed journal goes at once: what a kill of the daemon
//! brings back is an empty journal, which SQLite ignores. After a power cut, too, unless the emptying is lost with
//! the removal, as both may be on any file system.
//!
//! Nobody can miss the content: the last name is gone, and while the file is open, or a freeze reads it, it is left alone.

use super::Volume;
use super::node::{Body, Node};
use super::state::State;
use super::upper::failed;

/// How names of SQLite's rollback journals end.
const JOURNAL_SUFFIX: &[u8] = b"-journal";

impl State {
    /// To be called when a node has lost the name `name`: the upper file to be emptied now, if the node was a journal. One
    /// that is still open is emptied when it is closed: the kernel tells of a close later than of what follows it.
    pub(super) fn spend(&mut self, local: u64, name: &[u8]) -> Option<u64> {
        let node = self.nodes.get_mut(&local).filter(|node| node.names == 0)?;
        let Node { body: Body::Upper(upper), open, .. } = node else { return None };
        if !name.ends_with(JOURNAL_SUFFIX) || upper.sealed {
            return None;
        }
        open.spent = open.is_open();
        (!open.spent).then_some(upper.number)
    }
}

impl Volume {
    /// Empties the upper file of a removed journal. What fails here costs what the module says and nothing else.
    pub(super) fn empty_spent(&self, number: u64) {
        let file = self.shared.uppers.open_file(self.number, number);
        if let Err(error) = file.and_then(|file| file.set_len(0).map_err(failed("empty"))) {
            log::debug!("a removed journal was not emptied: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::live::tests::{READ, Store, content, put};

    #[test]
    fn a_removed_journal_that_a_crash_brings_back_is_empty() {
        let mut store = Store::new();
        let volume = store.volume();
        let root = volume.root();
        for name in ["db-journal", "open-journal", "linked-journal", "other"] {
            put(&volume, root, name, b"undo");
        }
        let linked = volume.lookup(root, b"linked-journal").unwrap().id;
        volume.link(linked, root, b"second name").unwrap();
        volume.sync_contents().unwrap();
        let open = volume.lookup(root, b"open-journal").unwrap().id;
        let handle = volume.open(open, READ, false).unwrap().handle;
        for name in ["db-journal", "open-journal", "linked-journal", "other"] {
            volume.unlink(root, name.as_bytes()).unwrap();
        }
        let mut bytes = [0; 4];
        assert_eq!(volume.read(handle, 0, &mut bytes).unwrap(), 4, "it lives while it is open");
        volume.release(handle).unwrap();
        drop(volume);
        store.crash();
        let volume = store.volume();
        let found = |name: &str| content(&volume, volume.lookup(root, name.as_bytes()).unwrap().id);
        assert_eq!(found("db-journal"), b"");
        assert_eq!(found("open-journal"), b"");
        assert_eq!(found("linked-journal"), b"undo");
        assert_eq!(found("second name"), b"undo");
        assert_eq!(found("other"), b"undo");
    }
}
