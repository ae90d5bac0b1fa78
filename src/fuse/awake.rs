//! Processors that do not fall asleep while the kernel makes calls in quick succession.
//!
//! A call is two wake-ups, and most of what one costs is that a processor with nothing to do sleeps: a virtual one is
//! brought back by its host in 20 to 40 us, a real one from a deep state in up to 200. The kernel lets a program say how much of
//! that it tolerates (`/dev/cpu_dma_latency`, `Documentation/power/pm_qos_interface.rst`); while that is nothing, a processor
//! looks for work instead of sleeping. Whatever else wants it gets it at once: this is what it does when nobody does.
//! `docs/decisions/one-caller.md` has what it brings.
//!
//! Invariants: it is said only while calls come in quick succession, and taken back by the kernel when this program ends,
//! however that happens.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::files;

/// So many calls in [`BURST`] begin it.
const CALLS_IN_BURST: u32 = 32;

/// How long they may take.
const BURST: Duration = Duration::from_millis(8);

/// How often it is looked whether calls go on.
const LOOK: Duration = Duration::from_millis(20);

/// Fewer calls than this since the last look end it.
const CALLS_BETWEEN_LOOKS: u32 = 16;

/// What is tolerated, in microseconds, where a virtual machine's processors know how to look for work before they ask their
/// host to be put to sleep (the driver `haltpoll`): only with nothing do they go on looking.
const NOTHING: i32 = 0;

/// What is tolerated of real processors: the lightest sleep, out of which all come within this.
const LIGHT_SLEEP: i32 = 2;

/// Any latency: what counts as long as nothing was said (`PM_QOS_CPU_LATENCY_DEFAULT_VALUE`).
const ANYTHING: i32 = 2_000_000_000;

/// Takes note of calls, and keeps processors awake.
pub(super) struct Awake(Option<Keeper>);

struct Keeper {
    calls: Arc<Calls>,
    thread: JoinHandle<()>,
}

struct Calls {
    begun: Instant,
    count: AtomicU32,
    /// When the count was last a multiple of [`CALLS_IN_BURST`], in nanoseconds since `begun`.
    burst_begun: AtomicU64,
    is_awake: AtomicBool,
    is_over: AtomicBool,
}

impl Awake {
    /// Does nothing unless `wanted`, nor where the kernel has no say in how processors sleep.
    pub(super) fn new(wanted: bool) -> Awake {
        let tolerated =
            match files::read_to_string(Path::new("/sys/devices/system/cpu/cpuidle/current_driver")) {
                Ok(driver) if driver.trim() == "haltpoll" => NOTHING,
                Ok(driver) if driver.trim() != "none" => LIGHT_SLEEP,
                _ => return Awake(None),
            };
        if !wanted {
            return Awake(None);
        }
        let device = match File::options().write(true).open("/dev/cpu_dma_latency") {
            Ok(device) => device,
            Err(error) => {
                log::debug!("processors fall asleep between calls: {error}");
                return Awake(None);
            }
        };
        Awake::with(move |tolerates| {
            let value = if tolerates { ANYTHING } else { tolerated };
            if let Err(error) = (&device).write_all(&value.to_ne_bytes()) {
                log::debug!("/dev/cpu_dma_latency: {error}");
            }
        })
    }

    /// `say` is told whether latency is tolerated.
    fn with(say: impl Fn(bool) + Send + 'static) -> Awake {
        let calls = Arc::new(Calls {
            begun: Instant::now(),
            count: AtomicU32::new(1),
            burst_begun: AtomicU64::new(0),
            is_awake: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let watched = Arc::clone(&calls);
        let keep = move || watched.keep_awake(&say);
        match std::thread::Builder::new().name("awake".to_owned()).spawn(keep) {
            Ok(thread) => Awake(Some(Keeper { calls, thread })),
            Err(error) => {
                log::warn!("processors fall asleep between calls: {error}");
                Awake(None)
            }
        }
    }

    /// Takes note of a call.
    pub(super) fn note(&self) {
        if let Some(Keeper { calls, thread }) = &self.0
            && calls.begin_burst()
        {
            thread.thread().unpark();
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some(Keeper { calls, thread }) = self.0.take() {
            calls.is_over.store(true, Ordering::Relaxed);
            thread.thread().unpark();
            if thread.join().is_err() {
                log::error!("the thread that keeps processors awake has panicked");
            }
        }
    }
}

impl Calls {
    /// Counts a call; whether it is the one that processors are to be kept awake from.
    fn begin_burst(&self) -> bool {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if !count.is_multiple_of(CALLS_IN_BURST) || self.is_awake.load(Ordering::Relaxed) {
            return false;
        }
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let before = self.burst_begun.swap(now, Ordering::Relaxed);
        before > 0
            && Duration::from_nanos(now.saturating_sub(before)) < BURST
            && !self.is_awake.swap(true, Ordering::Relaxed)
    }

    fn keep_awake(&self, say: &dyn Fn(bool)) {
        while !self.is_over.load(Ordering::Relaxed) {
            if !self.is_awake.load(Ordering::Relaxed) {
                std::thread::park();
                continue;
            }
            say(false);
            let mut count = self.count.load(Ordering::Relaxed);
            while !self.is_over.load(Ordering::Relaxed) {
                std::thread::park_timeout(LOOK);
                let now = self.count.load(Ordering::Relaxed);
                if now.wrapping_sub(count) < CALLS_BETWEEN_LOOKS {
                    break;
                }
                count = now;
            }
            say(true);
            self.is_awake.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn processors_stay_awake_while_calls_follow_each_other_and_no_longer() {
        let (sender, said) = mpsc::channel();
        let awake = Awake::with(move |tolerates| sender.send(tolerates).unwrap());
        // Now and then a call.
        for _ in 0..CALLS_IN_BURST + 8 {
            awake.note();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(said.try_recv().is_err());
        let begun = Instant::now();
        while said.try_recv() != Ok(false) {
            assert!(begun.elapsed() < Duration::from_secs(10), "nothing was said");
            awake.note();
        }
        assert_eq!(said.recv_timeout(Duration::from_secs(10)), Ok(true), "calls are over");
        drop(awake);
        assert!(said.recv().is_err(), "nothing more is said");
    }
}
