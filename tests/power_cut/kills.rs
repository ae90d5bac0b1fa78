//! The daemon is killed at random moments of the workload.

use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::numbers::{Numbers, rounds, seed};
use crate::place::{Place, Synchronous};
use crate::workload::Workload;

/// The longest time until a kill, in microseconds: a step takes 5 to 1200 ms, most of them less than 20.
const KILL_MICROSECONDS_MAX: u64 = 400_000;

#[test]
fn whatever_was_acknowledged_survives_a_kill() {
    let seed = seed();
    let kills = rounds("SITEFS_TEST_KILLS", 8);
    let place = Place::new();
    let mut workload = Workload::begin(&place, seed);
    // A kill takes nothing from an application that does not ask for more than SQLite does by itself.
    workload.synchronous = Synchronous::Default;
    let mut numbers = Numbers::new(seed ^ 2);
    let mut interrupted = 0;
    for kill in 0..kills {
        let daemon = place.daemon().unwrap();
        let delay = Duration::from_micros(numbers.below(KILL_MICROSECONDS_MAX));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(delay);
            kill_process(daemon, Signal::KILL).unwrap();
        });
        while !killer.is_finished() {
            if let Err(error) = workload.step() {
                // Nothing else can be wrong: the step before the kill succeeded.
                killer.join().unwrap();
                eprintln!("kill {kill}: {}", error.lines().next().unwrap_or_default());
                interrupted += 1;
                break;
            }
        }
        place.kill();
        place.serve().unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let faults = workload.faults(&mut numbers);
        assert!(faults.is_empty(), "kill {kill}:\n  {}", faults.join("\n  "));
        // An update that was interrupted is for a person to end, one way or the other.
        let way = if numbers.below(2) == 0 { "--resume" } else { "--abort" };
        let ended = place.sitefs(&["update", "shop", way]);
        assert!([0, 2].contains(&ended.exit), "kill {kill}: {way}: {}", ended.stderr);
        workload.settle();
    }
    place.stop().unwrap();
    eprintln!("{kills} kills survived, {interrupted} of them in the middle of something");
}
