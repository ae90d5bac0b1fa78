//! What is on its way to a client: sent without ever waiting inside a lock, queued while the client is slow.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::Gone;

/// How many bytes are queued before [`Outbox::push`] drops, and [`Outbox::push_waiting`] waits.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// How often a wait looks whether the daemon is stopping.
const WAIT: Duration = Duration::from_millis(200);

/// The way to one client.
pub(super) struct Outbox {
    stream: UnixStream,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How much of the first frame is sent.
    sent: usize,
    gone: bool,
}

impl Outbox {
    pub(super) fn new(stream: UnixStream) -> Outbox {
        Outbox { stream, queue: Mutex::default() }
    }

    /// Sends a frame, or queues it; drops it when too much is queued, or, if it is `lossy`, anything at all.
    pub(super) fn push(&self, frame: Vec<u8>, lossy: bool) {
        let mut queue = self.queue.lock();
        queue.send(&self.stream);
        let room = if lossy { queue.bytes == 0 } else { queue.bytes + frame.len() <= QUEUED_BYTES_MAX };
        if room && !queue.gone {
            queue.add(frame);
            queue.send(&self.stream);
        }
    }

    /// Sends a frame; when much is queued, waits until the client has taken some of it, or `give_up` says so.
    pub(super) fn push_waiting(&self, frame: Vec<u8>, give_up: impl Fn() -> bool) -> Result<(), Gone> {
        self.wait_until(|queued| queued <= QUEUED_BYTES_MAX, &give_up)?;
        let mut queue = self.queue.lock();
        if queue.gone {
            return Err(Gone);
        }
        queue.add(frame);
        queue.send(&self.stream);
        Ok(())
    }

    /// Sends a frame and waits until the client has everything; gives up when it takes nothing for `patience`.
    pub(super) fn finish(&self, frame: Vec<u8>, patience: Duration) {
        {
            let mut queue = self.queue.lock();
            if !queue.gone {
                queue.add(frame);
            }
        }
        let mut last = (usize::MAX, Instant::now());
        let last = &mut last;
        while let Err(queued) = self.drained() {
            if queued < last.0 {
                *last = (queued, Instant::now());
            } else if last.1.elapsed() >= patience {
                return;
            }
            self.wait();
        }
    }

    /// Whether the client has closed its end.
    pub(super) fn is_gone(&self) -> bool {
        if self.queue.lock().gone {
            return true;
        }
        // Hang-up and error are always reported; asking for nothing else keeps unread input out of it.
        let mut polled = [PollFd::new(&self.stream, PollFlags::empty())];
        let gone = matches!(poll(&mut polled, Some(&Timespec::default())), Ok(1..))
            && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        if gone {
            self.queue.lock().close();
        }
        gone
    }

    fn wait_until(&self, enough: impl Fn(usize) -> bool, give_up: &impl Fn() -> bool) -> Result<(), Gone> {
        loop {
            let queued = self.drained().err().unwrap_or_default();
            if self.queue.lock().gone {
                return Err(Gone);
            }
            if enough(queued) {
                return Ok(());
            }
            if give_up() {
                return Err(Gone);
            }
            self.wait();
        }
    }

    /// Sends what can be sent; an error with the bytes still queued.
    fn drained(&self) -> Result<(), usize> {
        let mut queue = self.queue.lock();
        queue.send(&self.stream);
        if queue.bytes == 0 { Ok(()) } else { Err(queue.bytes) }
    }

    /// Waits a little for the client to take something.
    fn wait(&self) {
        let mut polled = [PollFd::new(&self.stream, PollFlags::OUT)];
        let limit = Timespec { tv_sec: 0, tv_nsec: WAIT.subsec_nanos().into() };
        // An interrupted wait is a short one; the callers look again either way.
        let _ = poll(&mut polled, Some(&limit));
    }
}

impl Queue {
    fn add(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn close(&mut self) {
        *self = Queue { gone: true, ..Queue::default() };
    }

    fn send(&mut self, stream: &UnixStream) {
        while let Some(frame) = self.frames.front() {
            match send(stream, &frame[self.sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent += count;
                    self.bytes -= count;
                    if self.sent == frame.len() {
                        self.frames.pop_front();
                        self.sent = 0;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.close(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_client_that_reads_nothing_holds_up_nobody_and_gets_all_that_was_queued() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(ours);
        for _ in 0..10_000 {
            outbox.push(vec![1; 1_000], false);
            outbox.push(vec![2; 1_000], true);
        }
        let queued = outbox.drained().unwrap_err();
        assert!(queued <= QUEUED_BYTES_MAX, "{queued}");
        assert_eq!(outbox.push_waiting(vec![3; 2_000_000], || true), Ok(()));
        assert_eq!(outbox.push_waiting(vec![3; 1], || true), Err(Gone));
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        outbox.finish(vec![4; 10], Duration::from_secs(60));
        drop(outbox);
        let all = reader.join().unwrap();
        // Whole frames, in order: thousands of ones and twos, then what was waited for, then the end.
        let large = all.iter().filter(|byte| **byte == 3).count();
        assert_eq!((large, &all[all.len() - 10..]), (2_000_000, [4; 10].as_slice()));
        assert!(all[..all.len() - 2_000_010].chunks(1_000).all(|frame| frame.iter().all(|b| *b == frame[0])));
    }

    #[test]
    fn a_client_that_goes_away_is_noticed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(ours);
        assert!(!outbox.is_gone());
        drop(theirs);
        assert!(outbox.is_gone());
        assert_eq!(outbox.push_waiting(vec![1], || false), Err(Gone));
        outbox.finish(vec![1], Duration::from_secs(60));
    }

    #[test]
    fn a_stopped_client_is_given_up_in_the_end() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(ours);
        outbox.finish(vec![1; 4_000_000], Duration::from_millis(1));
        assert!(outbox.drained().is_err());
    }
}
