//! Whose pins are there, whose state is ours, and what a start may therefore do.

use std::path::Path;

use super::Order;
use crate::dataplane::xdp::Pinned;

/// What a start may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// There are no pins: build, under our own id.
    Build,
    /// The pins are ours: adopt them.
    Resume,
    /// The pins are another's: take their id, then adopt them.
    TakeOver([u8; 16]),
    /// Detach, remove the pins, build under our own id.
    Discard,
}

/// What is known before a start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// Whose pins are there.
    pub(super) pinned: Pinned,
    /// There are links among the pins: packets are forwarded by them.
    pub(super) attached: bool,
    /// The id in our state.
    pub(super) own: Option<[u8; 16]>,
    /// Somebody asked this state for something, or a file is given.
    pub(super) wanted: bool,
    /// The pin directory, for messages.
    pub(super) bpffs: &'a Path,
    /// The state directory, for messages.
    pub(super) state_dir: &'a Path,
}

/// Decides, or says in one line why not and what can be done; forwarding is left as it is then.
pub(super) fn decide(facts: &Facts<'_>, order: Order) -> Result<Start, String> {
    let dir = facts.bpffs.display();
    match (facts.pinned, order) {
        (Pinned::Nothing, _) => Ok(Start::Build),
        (_, Order::Discard) => Ok(Start::Discard),
        (Pinned::Instance { id }, _) if facts.own == Some(id) => Ok(Start::Resume),
        (Pinned::Instance { .. }, Order::Adopt) if facts.attached && !facts.wanted => Err(format!(
            "the state in {} is empty: to adopt the pins in {dir} with it would stop forwarding; give the \
             configuration with -c FILE, or the right --state-dir",
            facts.state_dir.display()
        )),
        (Pinned::Instance { id }, Order::Adopt) => Ok(Start::TakeOver(id)),
        (Pinned::Instance { .. }, Order::None) => {
            let state =
                if facts.wanted || facts.own.is_some() { "belongs to other pins" } else { "is empty" };
            let pins = match facts.attached {
                true => format!("packets are forwarded by the pins in {dir}, but"),
                false => format!(
                    "nothing is attached, but the pins in {dir} remember another state's clients, and"
                ),
            };
            Err(format!(
                "{pins} the state in {} {state}; nothing was changed: pen-ctl run --adopt takes the pins over \
                 with this state (or -c FILE), pen-ctl run --discard removes them and starts anew (both in the \
                 foreground), --state-dir names another state",
                facts.state_dir.display()
            ))
        }
        (Pinned::OtherAbi { version, .. }, _) => Err(format!(
            "the pins in {dir} were made by a pen with map ABI {version}, this one has {}; nothing was changed: run \
             that pen, or pen-ctl run --discard to remove them and build anew (clients are forgotten)",
            pen_common::abi::ABI_VERSION
        )),
        (Pinned::Unidentified, _) => Err(format!(
            "there are XDP links in {dir} that do not say whose they are; nothing was changed: pen-ctl run --discard \
             removes them and builds anew, --bpffs names another place"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 16] = [1; 16];
    const THEIRS: [u8; 16] = [2; 16];

    fn facts(pinned: Pinned, own: Option<[u8; 16]>, wanted: bool) -> Facts<'static> {
        Facts {
            pinned,
            attached: true,
            own,
            wanted,
            bpffs: Path::new("/pins"),
            state_dir: Path::new("/state"),
        }
    }

    #[test]
    fn own_pins_are_resumed_and_no_pins_built() {
        let own = facts(Pinned::Instance { id: OURS }, Some(OURS), true);
        assert_eq!(decide(&own, Order::None), Ok(Start::Resume));
        // `--adopt` in a unit file must not hurt on the next start.
        assert_eq!(decide(&own, Order::Adopt), Ok(Start::Resume));
        for own in [None, Some(OURS)] {
            for order in [Order::None, Order::Adopt, Order::Discard] {
                assert_eq!(decide(&facts(Pinned::Nothing, own, false), order), Ok(Start::Build));
            }
        }
    }

    #[test]
    fn live_pins_of_another_are_left_alone_and_both_ways_out_are_named() {
        for (own, wanted) in [(None, false), (None, true), (Some(OURS), true)] {
            let refused =
                decide(&facts(Pinned::Instance { id: THEIRS }, own, wanted), Order::None).unwrap_err();
            assert!(refused.contains("run --adopt") && refused.contains("run --discard"), "{refused}");
            assert!(refused.contains("packets are forwarded by the pins"), "{refused}");
            assert!(refused.contains("nothing was changed"), "{refused}");
        }
    }

    #[test]
    fn taking_over_needs_something_to_take_over_with() {
        let with = facts(Pinned::Instance { id: THEIRS }, None, true);
        assert_eq!(decide(&with, Order::Adopt), Ok(Start::TakeOver(THEIRS)));
        let without = facts(Pinned::Instance { id: THEIRS }, None, false);
        assert!(decide(&without, Order::Adopt).unwrap_err().contains("-c FILE"));
    }

    #[test]
    fn pins_that_forward_nothing_are_not_said_to() {
        let detached = Facts { attached: false, ..facts(Pinned::Instance { id: THEIRS }, None, false) };
        let refused = decide(&detached, Order::None).unwrap_err();
        assert!(!refused.contains("packets are forwarded"), "{refused}");
        assert!(refused.contains("nothing is attached") && refused.contains("run --discard"), "{refused}");
        assert_eq!(decide(&detached, Order::Adopt), Ok(Start::TakeOver(THEIRS)), "there is nothing to stop");
    }

    #[test]
    fn what_cannot_be_read_can_only_be_discarded() {
        for pinned in [Pinned::OtherAbi { version: 99, id: OURS }, Pinned::Unidentified] {
            for order in [Order::None, Order::Adopt] {
                let refused = decide(&facts(pinned, Some(OURS), true), order).unwrap_err();
                assert!(refused.contains("--discard") && !refused.contains("--adopt"), "{refused}");
            }
            assert_eq!(decide(&facts(pinned, Some(OURS), true), Order::Discard), Ok(Start::Discard));
        }
    }
}
