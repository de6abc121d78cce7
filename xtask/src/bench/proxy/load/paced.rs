//! Requests at a fixed pace, whether or not earlier ones are answered (an open loop). Each one's latency counts from
//! the moment at which it was due, so that a proxy that stalls does not hide what it kept waiting.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::super::poller::{Poller, Ready};
use super::Progress;
use super::requests::{Asker, CONNECTIONS};

/// From one request to the next: 4,000 a second.
const PACE: Duration = Duration::from_micros(250);

/// Asks at that pace; gives the latency of each request that counted.
pub(in super::super) fn run(to: SocketAddr, progress: &Progress) -> io::Result<Vec<Duration>> {
    // A timer may otherwise be 50 µs late: PR_SET_TIMERSLACK(2const).
    rustix::thread::set_current_timer_slack(NonZero::new(1))?;
    let poller = Poller::new()?;
    let mut askers =
        (0..CONNECTIONS).map(|place| Asker::connect(to, &poller, place)).collect::<io::Result<Vec<_>>>()?;
    let mut idle: Vec<usize> = (0..CONNECTIONS).collect();
    let mut due_when = vec![Instant::now(); CONNECTIONS];
    let (mut waiting, mut next) = (VecDeque::new(), Instant::now());
    let (mut latencies, mut ready) = (Vec::new(), Ready::new());
    while !progress.stopped() {
        let now = Instant::now();
        while next <= now {
            waiting.push_back(next);
            next += PACE;
        }
        while let (Some(&due), Some(&place)) = (waiting.front(), idle.last()) {
            askers[place].ask()?;
            due_when[place] = due;
            waiting.pop_front();
            idle.pop();
        }
        wait(&poller, next.saturating_duration_since(Instant::now()))?;
        poller.wait(&mut ready, Duration::ZERO)?;
        for (place, _) in ready.iter() {
            if askers[place].listen()? {
                idle.push(place);
                progress.add(1);
                if progress.counts() {
                    latencies.push(due_when[place].elapsed());
                }
            }
        }
    }
    Ok(latencies)
}

/// Waits until a poller has something to tell, or so long: to the nanosecond, where epoll_wait(2) knows milliseconds.
fn wait(poller: &Poller, patience: Duration) -> io::Result<()> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(poller, PollFlags::IN)], Some(&patience)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
