//! Making a volume durable with the contents of its files: of those written since the last time, and of no others.

use std::collections::HashMap;

use super::node::{Body, Node};
use super::state::State;
use super::{LiveError, Volume};

/// How many files are remembered one by one; beyond that, all contents of the store are made durable.
const REMEMBERED_MAX: usize = 65_536;

/// The upper files whose content may not be durable.
#[derive(Debug)]
pub(super) enum Unsynced {
    /// These, by number, and whether the file's name is new too.
    Files(HashMap<u64, bool>),
    /// More than are remembered.
    Many,
}

impl Default for Unsynced {
    fn default() -> Unsynced {
        Unsynced::Files(HashMap::new())
    }
}

impl Unsynced {
    /// The content of a file is going to change.
    pub(super) fn note(&mut self, number: u64, new: bool) {
        if let Unsynced::Files(files) = self {
            *files.entry(number).or_default() |= new;
            if files.len() > REMEMBERED_MAX {
                *self = Unsynced::Many;
            }
        }
    }

    /// A file is gone.
    pub(super) fn forget(&mut self, number: u64) {
        if let Unsynced::Files(files) = self {
            files.remove(&number);
        }
    }

    fn restore(&mut self, taken: Unsynced) {
        match taken {
            Unsynced::Many => *self = Unsynced::Many,
            Unsynced::Files(files) => files.into_iter().for_each(|(number, new)| self.note(number, new)),
        }
    }
}

impl Volume {
    /// Makes everything done in the volume before durable, the contents of files too, closed or open. Costs what was
    /// written to the volume since the last time, whatever else the machine has to write: other volumes, and what
    /// other programs wrote to the same disk, are not waited for.
    pub fn sync_contents(&self) -> Result<(), LiveError> {
        let taken = {
            let mut state = self.state.lock();
            let taken = std::mem::take(&mut state.unsynced);
            state.note_open_for_writing();
            taken
        };
        let synced = match &taken {
            Unsynced::Files(files) => self.shared.uppers.sync_files(self.number, files),
            Unsynced::Many => self.shared.uppers.sync_everything(),
        };
        if let Err(error) = synced {
            self.state.lock().unsynced.restore(taken);
            return Err(error);
        }
        self.sync_volume()
    }
}

impl State {
    /// What is open for writing may be written at any time without anybody asking.
    fn note_open_for_writing(&mut self) {
        let written = self.handles.values().filter(|handle| handle.write);
        for handle in written {
            if let Some(Node { body: Body::Upper(upper), .. }) = self.nodes.get(&handle.node) {
                self.unsynced.note(upper.number, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::tests::{NUMBER, Store, WRITE, put};

    fn unsynced(volume: &Volume) -> usize {
        match &volume.state.lock().unsynced {
            Unsynced::Files(files) => files.len(),
            Unsynced::Many => usize::MAX,
        }
    }

    #[test]
    fn files_are_to_be_synced_from_the_first_write_until_they_are_and_as_long_as_they_are_open() {
        let store = Store::new();
        let volume = store.volume();
        let open = put(&volume, volume.root(), "open", b"text");
        put(&volume, volume.root(), "closed", b"text");
        let removed = put(&volume, volume.root(), "removed", b"text");
        assert_eq!(unsynced(&volume), 3);
        volume.unlink(volume.root(), b"removed").unwrap();
        volume.forget(removed);
        let handle = volume.open(open, WRITE, false).unwrap().handle;
        volume.sync_contents().unwrap();
        assert_eq!(unsynced(&volume), 1, "what is open may be written after the sync");
        volume.write(handle, 0, b"more").unwrap();
        volume.release(handle).unwrap();
        volume.sync_contents().unwrap();
        assert_eq!(unsynced(&volume), 0);
        // What was read only stays out of it.
        assert_eq!(crate::live::tests::content(&volume, open), b"more");
        assert_eq!(unsynced(&volume), 0);
    }

    #[test]
    fn a_file_that_cannot_be_synced_is_an_error_until_it_can_be() {
        let store = Store::new();
        let volume = store.volume();
        let id = put(&volume, volume.root(), "a", b"text");
        let path = store.volumes().upper_path(NUMBER, id.local() + 1);
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        for _ in 0..2 {
            assert!(volume.sync_contents().is_err());
        }
        std::fs::rename(&aside, &path).unwrap();
        volume.sync_contents().unwrap();
        assert_eq!(unsynced(&volume), 0);
    }

    #[test]
    fn what_is_too_much_to_be_remembered_is_all() {
        let mut unsynced = Unsynced::default();
        for number in 0..=REMEMBERED_MAX as u64 {
            unsynced.note(number, true);
        }
        assert!(matches!(unsynced, Unsynced::Many));
        unsynced.forget(1);
        let mut later = Unsynced::default();
        later.note(7, false);
        later.restore(unsynced);
        assert!(matches!(later, Unsynced::Many));
    }

    #[test]
    fn what_could_not_be_synced_is_not_forgotten() {
        let mut taken = Unsynced::default();
        taken.note(1, true);
        taken.note(2, false);
        let mut later = Unsynced::default();
        later.note(1, false);
        later.restore(taken);
        let Unsynced::Files(files) = later else { panic!("only a few") };
        assert_eq!(files, HashMap::from([(1, true), (2, false)]));
    }
}
