//! The DSR path for health checks: a probe address for each VIP at each backend, with all that it takes in the kernel.
//!
//! A check connects to the probe address. A route leads it to the backend's interface, where a classifier turns it into
//! the VIP at the backend's MAC; another turns answers back (`pen-ebpf/src/probe`). All of it is made while somebody asks
//! that way, mended where somebody else undid it, and removed at the end. In files: [`numbers`] allots the addresses,
//! [`programs`] loads and attaches, [`netlink`] asks the kernel for routes,
//! [`filters`] for filters, of whose changes [`news`] tells; [`works`] keeps it all as it should be, [`turn`] sees to it that
//! one controller alone does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::background::Background;
use crate::health::place::{Places, unaskable};
use crate::surroundings::{Event, Lane, Links};
use netlink::Netlink;
use news::News;
use programs::Hook;
use turn::Turn;
use works::Works;

mod filters;
mod netlink;
mod news;
mod numbers;
mod programs;
#[cfg(test)]
mod tests;
mod turn;
mod works;

/// How often all is looked at, so that what went without a word (an interface that was down for a moment) comes back.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// For how long, at most, checks that were given up are waited for at the end: what closes their sockets says so to whom
/// they talked, which must not leave as it is.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often it is looked whether they are gone.
const LOOK_FOR_THEM: Duration = Duration::from_millis(2);

/// Keeps the ways that checks take; what it made in the kernel goes with it.
pub(crate) struct ProbePath {
    wanted: watch::Sender<BTreeSet<Lane>>,
    /// Each check has a receiver of it, too.
    places: watch::Sender<Places>,
    works: Arc<Mutex<Works>>,
    _task: Background,
}

impl ProbePath {
    /// Nothing is wanted yet; what a controller that was killed left behind is removed. Must be called inside a tokio
    /// runtime whose threads are all in one network namespace.
    pub(crate) fn start(links: watch::Receiver<Links>, events: mpsc::Sender<Event>) -> Self {
        Self::start_with(links, events, Hook::of_this_kernel())
    }

    fn start_with(links: watch::Receiver<Links>, events: mpsc::Sender<Event>, hook: Hook) -> Self {
        let places = watch::Sender::new(Places::new());
        let (wanted, wishes) = watch::channel(BTreeSet::new());
        let works = Arc::new(Mutex::new(Works::new(hook)));
        let keeping = keep(works.clone(), wishes, links, News::of(hook), (places.clone(), events));
        let task = Background::spawn(keeping);
        Self { wanted, places, works, _task: task }
    }

    /// These ways are wanted from now on, and no others.
    pub(crate) fn want(&self, lanes: BTreeSet<Lane>) {
        self.wanted.send_if_modified(|before| {
            let differs = *before != lanes;
            *before = lanes;
            differs
        });
    }

    /// The probe addresses that are ready, or why one is not, as it changes.
    pub(crate) fn places(&self) -> watch::Receiver<Places> {
        self.places.subscribe()
    }
}

impl Drop for ProbePath {
    fn drop(&mut self) {
        let give_up = Instant::now() + LAST_WORDS;
        while self.places.receiver_count() > 0 && Instant::now() < give_up {
            std::thread::sleep(LOOK_FOR_THEM);
        }
        self.works.lock().unwrap_or_else(PoisonError::into_inner).end();
    }
}

async fn keep(
    works: Arc<Mutex<Works>>,
    mut wanted: watch::Receiver<BTreeSet<Lane>>,
    mut links: watch::Receiver<Links>,
    filters: News,
    (places, events): (watch::Sender<Places>, mpsc::Sender<Event>),
) {
    let mut again = tokio::time::interval(LOOK_AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (lanes, seen) = (wanted.borrow_and_update().clone(), links.borrow_and_update().clone());
        let works = works.clone();
        // Some thousand routes take their time.
        let followed = tokio::task::spawn_blocking(move || {
            works.lock().unwrap_or_else(PoisonError::into_inner).follow(&lanes, &seen)
        });
        if let Ok(now) = followed.await {
            let (before, why) = (troubles(&places.borrow()), troubles(&now));
            if before != why {
                warn_of_new(&before, &why);
                let _ = events.send(Event::Unaskable(why)).await;
            }
            places.send_if_modified(|before| {
                let differs = *before != now;
                *before = now;
                differs
            });
        }
        // What is tried in vain makes news itself.
        let stands = troubles(&places.borrow()).is_empty();
        tokio::select! {
            Ok(()) = wanted.changed() => {}
            Ok(()) = links.changed() => {}
            () = filters.wait(), if stands => {}
            _ = again.tick() => {}
            else => return,
        }
    }
}

/// Why probe addresses cannot be had, each reason once.
fn troubles(places: &Places) -> BTreeSet<String> {
    places.values().filter_map(|place| place.clone().err()).collect()
}

fn warn_of_new(before: &BTreeSet<String>, now: &BTreeSet<String>) {
    for why in now.difference(before) {
        tracing::warn!("{}", unaskable(why));
    }
}

/// Removes what a controller that was killed left in this network namespace, unless another one asks VIPs here. Must be
/// called inside a tokio runtime.
pub(crate) fn remove_leftovers() -> std::io::Result<()> {
    let Ok(_turn) = Turn::take() else { return Ok(()) };
    works::sweep(Hook::of_this_kernel(), &Netlink::open()?)
}
