//! One command at a time changes a site, and so many updates run at once as the machine bears.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::SiteName;
use crate::control::Failure;

/// Which sites are being changed, and by what.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Mutex<BTreeMap<SiteName, String>>>);

/// The right to change a site, given back when dropped.
pub(super) struct SiteLock {
    locks: Locks,
    site: SiteName,
}

impl Locks {
    /// Takes the right to change `site` for `what` ("snapshot", "update"), or says who has it.
    pub(super) fn take(&self, site: &SiteName, what: &str) -> Result<SiteLock, Failure> {
        let mut held = self.0.lock();
        if let Some(other) = held.get(site) {
            return Err(Failure::refused(format!("site {site} is being changed: {other} is under way"))
                .hint("wait for it; `sitefs status` shows what is running"));
        }
        held.insert(site.clone(), what.to_owned());
        Ok(SiteLock { locks: self.clone(), site: site.clone() })
    }

    /// What is under way, by site.
    pub(super) fn held(&self) -> BTreeMap<SiteName, String> {
        self.0.lock().clone()
    }
}

impl Drop for SiteLock {
    fn drop(&mut self) {
        self.locks.0.lock().remove(&self.site);
    }
}

/// How often it is looked whether it is somebody's turn.
const POLL: Duration = Duration::from_millis(50);

/// Lets so many updates run at once and the others wait in the order they came.
pub(super) struct Turns {
    max: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<u64>,
    next: u64,
}

/// The right to run, given back when dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(super) fn new(max: usize) -> Turns {
        Turns { max, queue: Mutex::default() }
    }

    /// Waits for a turn; `None` when `gives_up` says so first. Calls `waits` once if it has to be waited for.
    pub(super) fn wait(&self, waits: &dyn Fn(), gives_up: &dyn Fn() -> bool) -> Option<Turn<'_>> {
        let ticket = {
            let mut queue = self.queue.lock();
            queue.next += 1;
            let ticket = queue.next;
            queue.waiting.push_back(ticket);
            ticket
        };
        let mut is_told = false;
        loop {
            {
                let mut queue = self.queue.lock();
                if queue.running < self.max && queue.waiting.front() == Some(&ticket) {
                    queue.waiting.pop_front();
                    queue.running += 1;
                    return Some(Turn(self));
                }
                if gives_up() {
                    queue.waiting.retain(|other| *other != ticket);
                    return None;
                }
            }
            if !is_told {
                waits();
                is_told = true;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_is_told_about_the_first() {
        let locks = Locks::default();
        let site: SiteName = "example.com".parse().unwrap();
        let lock = locks.take(&site, "update").unwrap();
        let refusal = locks.take(&site, "snapshot").err().unwrap();
        assert!(refusal.message.contains("update is under way"), "{}", refusal.message);
        assert!(locks.take(&"example.org".parse().unwrap(), "snapshot").is_ok());
        drop(lock);
        assert!(locks.take(&site, "snapshot").is_ok());
    }

    #[test]
    fn whoever_comes_first_has_the_first_turn_and_who_gives_up_is_in_nobodys_way() {
        let turns = Turns::new(2);
        let now = || turns.wait(&|| (), &|| true);
        let (first, second) = (now().unwrap(), now().unwrap());
        assert!(now().is_none());
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in 0..2 {
                let waits = std::sync::mpsc::channel();
                let (turns, order) = (&turns, &order);
                scope.spawn(move || {
                    let turn = turns.wait(&|| waits.0.send(()).unwrap(), &|| false);
                    order.lock().push(number);
                    drop(turn);
                });
                waits.1.recv().unwrap();
            }
            drop(first);
        });
        assert_eq!(*order.lock(), [0, 1]);
        drop(second);
        assert!(now().is_some());
    }
}
