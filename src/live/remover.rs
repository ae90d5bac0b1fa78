//! The remover: one thread that deletes upper files which nobody needs any more.
//!
//! That can take long: blocks of a large file are given back extent by extent, and a file system that is mounted with
//! `discard` tells the disk of each of them. So no commit waits for it, and with it nobody who syncs a file.
//!
//! What is not deleted yet has no row: after a crash recovery finds it by that. An end in order waits for the thread, and
//! leaves it to recovery what takes too long.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::VolumeNumber;
use super::volumes::Shared;

/// So many are in the list at most (16 bytes each); who brings more deletes them.
const FILES_MAX: usize = 1 << 16;

/// How long an end in order waits. Service managers kill what takes much longer.
const END_MAX: Duration = Duration::from_secs(20);

/// What the thread is to delete, and the way to tell it.
#[derive(Default)]
pub(super) struct Remover {
    list: Mutex<List>,
    /// For the thread.
    wake: Condvar,
    /// For those who wait for the space.
    idle: Condvar,
}

#[derive(Default)]
struct List {
    files: VecDeque<(VolumeNumber, u64)>,
    /// All of their files go.
    volumes: VecDeque<VolumeNumber>,
    /// The thread deletes what it took from the list.
    busy: bool,
    /// When the thread ends, at the latest.
    end: Option<Instant>,
    /// Not all was deleted before that.
    has_left: bool,
}

enum Doomed {
    File(VolumeNumber, u64),
    Volume(VolumeNumber),
}

impl Remover {
    /// Starts the thread.
    pub(super) fn start(shared: Arc<Shared>) -> JoinHandle<()> {
        std::thread::Builder::new()
            .name("remover".to_owned())
            .spawn(move || run(&shared))
            .expect("a process that is just starting can start a thread")
    }

    /// Ends the thread when the list is empty, or after [`END_MAX`] with what it then deletes.
    pub(super) fn stop(&self) {
        self.stop_within(END_MAX);
    }

    fn stop_within(&self, limit: Duration) {
        self.list.lock().end = Instant::now().checked_add(limit);
        self.wake.notify_all();
    }

    /// Whether the thread has ended without having deleted everything.
    pub(super) fn has_left(&self) -> bool {
        self.list.lock().has_left
    }

    /// Forgets the list, as a crash does.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        let mut list = self.list.lock();
        list.files.clear();
        list.volumes.clear();
    }

    /// Waits until the list is empty.
    pub(super) fn wait(&self) {
        let mut list = self.list.lock();
        while list.busy || !list.is_empty() {
            self.idle.wait(&mut list);
        }
    }

    /// Adds files of a volume; those that are left have no room in the list.
    fn add(&self, volume: VolumeNumber, mut numbers: Vec<u64>) -> Vec<u64> {
        let mut list = self.list.lock();
        let room = FILES_MAX.saturating_sub(list.files.len()).min(numbers.len());
        let left = numbers.split_off(room);
        list.files.extend(numbers.into_iter().map(|number| (volume, number)));
        self.wake.notify_all();
        left
    }

    fn add_volume(&self, volume: VolumeNumber) {
        let mut list = self.list.lock();
        list.files.retain(|(of, _)| *of != volume);
        list.volumes.push_back(volume);
        self.wake.notify_all();
    }

    fn next(&self) -> Option<Doomed> {
        let mut list = self.list.lock();
        list.busy = false;
        if list.end.is_some_and(|end| end <= Instant::now()) && !list.is_empty() {
            list.has_left = true;
            list.files.clear();
            list.volumes.clear();
        }
        while list.is_empty() {
            self.idle.notify_all();
            if list.end.is_some() {
                return None;
            }
            self.wake.wait(&mut list);
        }
        list.busy = true;
        list.take()
    }
}

impl List {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.volumes.is_empty()
    }

    fn take(&mut self) -> Option<Doomed> {
        let file = self.files.pop_front().map(|(volume, number)| Doomed::File(volume, number));
        file.or_else(|| self.volumes.pop_front().map(Doomed::Volume))
    }
}

fn run(shared: &Shared) {
    while let Some(doomed) = shared.remover.next() {
        match doomed {
            Doomed::File(volume, number) => shared.uppers.remove(volume, number),
            Doomed::Volume(volume) => {
                if let Err(error) = shared.uppers.remove_volume(volume) {
                    log::warn!("files of a removed volume stay behind: {error}");
                }
            }
        }
    }
}

impl Shared {
    /// Deletes files that no row refers to, soon.
    pub(super) fn remove_uppers(&self, volume: VolumeNumber, numbers: Vec<u64>) {
        for number in self.remover.add(volume, numbers) {
            self.uppers.remove(volume, number);
        }
    }

    /// Deletes all files of a volume without rows, soon.
    pub(super) fn remove_uppers_of(&self, volume: VolumeNumber) {
        self.remover.add_volume(volume);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::tests::{NUMBER, Store, put};

    #[test]
    fn an_end_in_order_waits_until_the_files_are_gone() {
        let mut store = Store::new();
        let volume = store.volume();
        let id = put(&volume, volume.root(), "file", b"content");
        volume.sync_contents().unwrap();
        let path = store.volumes().upper_path(NUMBER, id.local() + 1);
        assert!(path.exists());
        volume.unlink(volume.root(), b"file").unwrap();
        drop(volume);
        store.reopen();
        assert!(!path.exists());
    }

    #[test]
    fn an_end_in_order_leaves_what_takes_too_long_to_recovery() {
        let remover = Remover::default();
        remover.add(VolumeNumber(7), vec![1, 2, 3]);
        assert!(remover.next().is_some());
        remover.stop_within(Duration::ZERO);
        assert!(remover.next().is_none() && remover.has_left());
        let remover = Remover::default();
        remover.add(VolumeNumber(7), vec![1]);
        remover.stop();
        assert!(remover.next().is_some() && remover.next().is_none() && !remover.has_left());
    }

    #[test]
    fn a_full_list_takes_no_more() {
        let remover = Remover::default();
        let volume = VolumeNumber(7);
        assert_eq!(remover.add(volume, (0..FILES_MAX as u64 - 1).collect()), Vec::<u64>::new());
        assert_eq!(remover.add(volume, vec![100_000, 100_001, 100_002]), [100_001, 100_002]);
        assert_eq!(remover.add(volume, vec![100_003]), [100_003]);
        remover.add(VolumeNumber(8), Vec::new());
        remover.add_volume(volume);
        assert_eq!(
            remover.add(VolumeNumber(8), vec![1]),
            Vec::<u64>::new(),
            "its files have no place of their own"
        );
        assert!(matches!(remover.next(), Some(Doomed::File(VolumeNumber(8), 1))));
        assert!(matches!(remover.next(), Some(Doomed::Volume(VolumeNumber(7)))));
        remover.stop();
        assert!(remover.next().is_none());
    }

    #[test]
    fn a_volume_that_is_discarded_loses_its_files_and_no_other_does() {
        let mut store = Store::new();
        let (volume, other) = (store.volume(), store.attach(9, &crate::live::tests::empty_root()));
        put(&volume, volume.root(), "file", b"content");
        put(&other, other.root(), "file", b"content");
        volume.sync_contents().unwrap();
        store.volumes().discard(VolumeNumber(9)).unwrap();
        assert_eq!(store.upper_files(), 1);
        drop((volume, other));
        store.crash();
        assert_eq!(store.upper_files(), 1);
    }
}
