//! Frames that were lost after the verdict, as drivers count them: how many, and whether that goes on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Controller;
use crate::api::event::Kind;
use crate::journal::Note;

/// How long a loss is news.
const WINDOW: Duration = Duration::from_secs(60);

/// What drivers counted, by interface, each time that they were asked within the last [`WINDOW`], and once before.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// When (uptime), and what; the oldest first.
    looks: VecDeque<(Duration, BTreeMap<String, u64>)>,
    /// Interfaces that were said to lose frames.
    told: BTreeSet<String>,
}

impl Losses {
    fn look(&mut self, now: Duration, counted: BTreeMap<String, u64>) {
        self.looks.push_back((now, counted));
        while self.looks.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.looks.pop_front();
        }
    }

    /// How many an interface lost since its driver began to count; `None` = not known.
    pub(super) fn total(&self, interface: &str) -> Option<u64> {
        self.looks.back()?.1.get(interface).copied()
    }

    /// How many of them within the last minute. What was counted before an interface was first looked at, or made anew,
    /// is not among them.
    pub(super) fn lately(&self, interface: &str) -> u64 {
        let counts = self.looks.iter().map(|(_, counted)| counted.get(interface));
        let grown = counts.clone().zip(counts.skip(1)).map(|pair| match pair {
            (Some(before), Some(after)) => after.saturating_sub(*before),
            _ => 0,
        });
        grown.sum()
    }
}

impl Controller {
    /// Asks the drivers, and tells once of each interface that begins to lose frames.
    pub(super) fn look_for_losses(&mut self) {
        let counted = self.plane.tx_errors();
        self.losses.look(self.clock.uptime(), counted);
        let names = self.observed.interfaces.keys();
        let losing: BTreeSet<String> = names.filter(|name| self.losses.lately(name) > 0).cloned().collect();
        for name in losing.difference(&self.losses.told) {
            let note = Note { interface: Some(name.clone()), ..Note::new(Kind::Trouble, self.loss(name)) };
            self.journal().warn(note);
        }
        self.losses.told = losing;
    }

    /// What somebody should know of interfaces that lose frames.
    pub(super) fn loss_warnings(&self) -> Vec<String> {
        self.losses.told.iter().map(|name| format!("interface {name}: {}", self.loss(name))).collect()
    }

    fn loss(&self, name: &str) -> String {
        format!(
            "its driver lost {} of the packets that pen sent, within the last minute: the other end of a veth needs an \
             XDP program for them; a card needs longer rings (`ethtool -g {name}`)",
            self.losses.lately(name)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(looks: &[(u64, &[(&str, u64)])]) -> Losses {
        let mut losses = Losses::default();
        for (second, counted) in looks {
            let counted = counted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            losses.look(Duration::from_secs(*second), counted);
        }
        losses
    }

    #[test]
    fn what_was_lost_before_the_first_look_is_no_news_and_old_news_is_none() {
        let mut losses = losses(&[(0, &[("eth0", 100)]), (5, &[("eth0", 103)])]);
        assert_eq!((losses.total("eth0"), losses.lately("eth0")), (Some(103), 3));
        assert_eq!((losses.total("eth1"), losses.lately("eth1")), (None, 0));
        for second in (10..=70).step_by(5) {
            losses.look(Duration::from_secs(second), [("eth0".to_owned(), 103)].into());
        }
        assert_eq!((losses.total("eth0"), losses.lately("eth0")), (Some(103), 0));
        assert!(losses.looks.len() <= 14, "{}", losses.looks.len());
    }

    #[test]
    fn an_interface_that_is_made_anew_begins_anew() {
        let losses = losses(&[(0, &[("eth0", 100)]), (5, &[]), (10, &[("eth0", 4)]), (15, &[("eth0", 6)])]);
        assert_eq!(losses.lately("eth0"), 2);
    }
}
