//! Journals of SQLite that have served.
//!
//! By default SQLite removes a rollback journal to commit a transaction, and does not sync the removal. It may be lost in
//! a crash as any other change that nobody synced; but then the journal is there again, and the next reader rolls a
//! transaction back that was acknowledged. So the header of a removed journal is overwritten with zeros at once, as SQLite
//! itself ends a transaction with `journal_mode=PERSIST`: what a kill of the daemon brings back is a journal that SQLite
//! ignores. After a power cut, too, unless the zeros are lost with the removal, as both may be on any file system.
//! (Emptying the file would do, but gives its blocks back, which costs 2 ms on a disk that is told of each.)
//!
//! Nobody can miss the content: the last name is gone, and while the file is open, or a freeze reads it, it is left alone.

use std::os::unix::fs::FileExt;

use super::node::{Body, Node};
use super::state::State;
use super::upper::{facts, failed};
use super::{LiveError, Volume};

/// The header of a journal, in bytes (<https://www.sqlite.org/fileformat2.html#the_rollback_journal>).
const HEADER_BYTES: usize = 28;

/// How names of SQLite's rollback journals end.
const JOURNAL_SUFFIX: &[u8] = b"-journal";

impl State {
    /// To be called when a node has lost the name `name`: the upper file to be voided now, if the node was a journal. One
    /// that is still open is voided when it is closed: the kernel tells of a close later than of what follows it.
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
    /// Overwrites the header in the upper file of a removed journal. What fails here costs what the module says and nothing
    /// else.
    pub(super) fn void_spent(&self, number: u64) {
        if let Err(error) = self.overwrite_header(number) {
            log::debug!("a removed journal was not voided: {error}");
        }
    }

    fn overwrite_header(&self, number: u64) -> Result<(), LiveError> {
        let file = self.shared.uppers.open_file(self.number, number)?;
        let length = facts(&file)?.size.min(HEADER_BYTES as u64);
        file.write_all_at(&[0; HEADER_BYTES][..length as usize], 0).map_err(failed("write"))
    }
}

#[cfg(test)]
mod tests {
    use super::HEADER_BYTES;
    use crate::live::tests::{READ, Store, content, put};

    /// What a journal begins with that counts.
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

    #[test]
    fn a_removed_journal_that_a_crash_brings_back_is_void() {
        let mut store = Store::new();
        let volume = store.volume();
        let root = volume.root();
        let long: Vec<u8> = [&MAGIC[..], &[1; 600]].concat();
        put(&volume, root, "long-journal", &long);
        for name in ["db-journal", "open-journal", "linked-journal", "other"] {
            put(&volume, root, name, b"undo");
        }
        let linked = volume.lookup(root, b"linked-journal").unwrap().id;
        volume.link(linked, root, b"second name").unwrap();
        volume.sync_contents().unwrap();
        let open = volume.lookup(root, b"open-journal").unwrap().id;
        let handle = volume.open(open, READ, false).unwrap().handle;
        for name in ["long-journal", "db-journal", "open-journal", "linked-journal", "other"] {
            volume.unlink(root, name.as_bytes()).unwrap();
        }
        let mut bytes = [0; 4];
        assert_eq!(volume.read(handle, 0, &mut bytes).unwrap(), 4, "it lives while it is open");
        volume.release(handle).unwrap();
        drop(volume);
        store.crash();
        let volume = store.volume();
        let found = |name: &str| content(&volume, volume.lookup(root, name.as_bytes()).unwrap().id);
        assert_eq!(found("db-journal"), [0; 4]);
        assert_eq!(found("open-journal"), [0; 4]);
        let void = found("long-journal");
        assert_eq!(
            (&void[..HEADER_BYTES], &void[HEADER_BYTES..]),
            (&[0; HEADER_BYTES][..], &long[HEADER_BYTES..])
        );
        assert_eq!(found("linked-journal"), b"undo");
        assert_eq!(found("second name"), b"undo");
        assert_eq!(found("other"), b"undo");
    }
}
