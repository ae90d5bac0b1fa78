//! Where the threads run that serve the kernel: on the processor of the caller, while there is one caller.
//!
//! A caller waits for its answer, so the thread that serves it takes nothing away there. On another processor, each of
//! the two would have to be woken by the other for every call: see `docs/decisions/one-caller.md`. With several callers
//! at once the scheduler decides, as it always does. Only advice: all counting is relaxed, and a wrong guess costs what
//! every call cost before.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::CpuSet;

use crate::base::process;

/// After so many calls of one thread, it counts as the only caller.
const CALLS_ALONE: u32 = 16;

/// What a call of another thread takes from that count: two callers at once never get there.
const CALLS_LOST: u32 = 8;

/// A caller is looked up again after this many calls: the scheduler may have moved it.
const CALLS_BETWEEN_LOOKS: u32 = 32;

/// In place of a processor: any.
const ANY: u32 = u32::MAX;

thread_local! {
    /// The processor this thread keeps to.
    static KEEPS_TO: Cell<u32> = const { Cell::new(ANY) };
}

/// Who calls, and where the serving threads are to run.
pub(super) struct Follow {
    caller: AtomicU32,
    /// How sure it is that `caller` is the only one.
    weight: AtomicU32,
    calls: AtomicU32,
    target: AtomicU32,
    /// Where the program may run.
    everywhere: Option<CpuSet>,
}

impl Follow {
    pub(super) fn new() -> Follow {
        Follow {
            caller: AtomicU32::new(0),
            weight: AtomicU32::new(0),
            calls: AtomicU32::new(0),
            target: AtomicU32::new(ANY),
            everywhere: rustix::thread::sched_getaffinity(None).ok(),
        }
    }

    /// Takes note of a call by the thread `caller` of some process, on the thread that serves it.
    pub(super) fn note(&self, caller: u32) {
        let Some(everywhere) = self.everywhere else { return };
        let target = self.target_for(caller, process::processor_of);
        if KEEPS_TO.get() == target {
            return;
        }
        KEEPS_TO.set(target);
        let processors = match usize::try_from(target) {
            // Those this program was kept from stay out of bounds.
            Ok(number) if number < CpuSet::MAX_CPU && everywhere.is_set(number) => {
                let mut one = CpuSet::new();
                one.set(number);
                one
            }
            _ => everywhere,
        };
        if let Err(error) = rustix::thread::sched_setaffinity(None, &processors) {
            log::debug!("choosing a processor: {error}");
        }
    }

    fn target_for(&self, caller: u32, processor_of: impl FnOnce(u32) -> Option<u32>) -> u32 {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let weight = self.weight.load(Ordering::Relaxed);
        if self.caller.load(Ordering::Relaxed) == caller {
            self.weight.store((weight + 1).min(2 * CALLS_ALONE), Ordering::Relaxed);
            if weight >= CALLS_ALONE && calls.is_multiple_of(CALLS_BETWEEN_LOOKS) {
                self.target.store(processor_of(caller).unwrap_or(ANY), Ordering::Relaxed);
            }
        } else if weight >= CALLS_LOST {
            self.weight.store(weight - CALLS_LOST, Ordering::Relaxed);
        } else {
            self.caller.store(caller, Ordering::Relaxed);
            self.weight.store(0, Ordering::Relaxed);
            self.target.store(ANY, Ordering::Relaxed);
        }
        self.target.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_is_followed_and_several_are_not() {
        let follow = Follow::new();
        let alone = (0..200).map(|_| follow.target_for(7, |_| Some(3))).last();
        assert_eq!(alone, Some(3));
        // It has moved.
        let moved = (0..CALLS_BETWEEN_LOOKS).map(|_| follow.target_for(7, |_| Some(1))).last();
        assert_eq!(moved, Some(1));
        // Another one joins it.
        let both: Vec<u32> = (0..200).map(|call| follow.target_for(7 + call % 2, |_| Some(1))).collect();
        assert!(both[20..].iter().all(|target| *target == ANY), "{both:?}");
        // A call between of somebody else changes nothing.
        for _ in 0..200 {
            follow.target_for(9, |_| Some(2));
        }
        assert_eq!(follow.target_for(10, |_| None), 2);
        // It has ended, and nobody takes its place.
        let gone = (0..=CALLS_BETWEEN_LOOKS).map(|_| follow.target_for(9, |_| None)).last();
        assert_eq!(gone, Some(ANY));
    }

    #[test]
    fn a_thread_keeps_to_where_its_caller_is() {
        std::thread::spawn(|| {
            let before = rustix::thread::sched_getaffinity(None).unwrap();
            let follow = Follow::new();
            let caller = std::process::id();
            for _ in 0..100 {
                follow.note(caller);
            }
            assert_eq!(rustix::thread::sched_getaffinity(None).unwrap().count(), 1);
            // Two callers at once.
            for call in 0..100 {
                follow.note(caller + call % 2);
            }
            assert_eq!(rustix::thread::sched_getaffinity(None).unwrap(), before);
        })
        .join()
        .unwrap();
    }
}
