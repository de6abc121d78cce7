//! What a slot owes the flows that were there before a change.

use proptest::prelude::*;

use super::*;

const A: u16 = 1;
const B: u16 = 2;
const C: u16 = 3;
const NOW: u32 = 1_000;
const TRANSITION: u32 = 600;

fn opened() -> Slot {
    Slot::owned_by(A).given_to(B, NOW, TRANSITION)
}

fn closing() -> Slot {
    opened().at(NOW + TRANSITION, None, TRANSITION)
}

/// Owner, previous owner, phase and end.
fn parts(slot: Slot) -> (u16, u16, Phase, u32) {
    (slot.owner, slot.previous, slot.phase(), slot.end())
}

#[test]
fn a_change_of_owner_opens_a_window_and_no_change_opens_none() {
    assert_eq!(parts(opened()), (B, A, Phase::Open, NOW + TRANSITION));
    assert_eq!(Slot::owned_by(A).given_to(A, NOW, TRANSITION), Slot::owned_by(A));
    assert_eq!(opened().given_to(B, NOW + 5, TRANSITION), opened());
}

#[test]
fn the_first_owner_of_a_slot_opens_none() {
    assert_eq!(Slot::EMPTY.given_to(A, NOW, TRANSITION), Slot::owned_by(A));
}

#[test]
fn whoever_is_nobody_for_a_while_keeps_who_was_there_before() {
    let emptied = Slot::owned_by(A).given_to(NO_BACKEND, NOW, TRANSITION);
    assert_eq!(parts(emptied), (NO_BACKEND, A, Phase::Open, NOW + TRANSITION));
    assert_eq!(parts(emptied.given_to(B, NOW + 9, TRANSITION)), (B, A, Phase::Open, NOW + 9 + TRANSITION));
}

#[test]
fn a_change_while_open_keeps_the_oldest_owner_and_begins_the_window_again() {
    let again = opened().given_to(C, NOW + 100, TRANSITION);
    assert_eq!(parts(again), (C, A, Phase::Open, NOW + 100 + TRANSITION));
    let back = opened().given_to(A, NOW + 100, TRANSITION);
    assert_eq!(parts(back), (A, A, Phase::Open, NOW + 100 + TRANSITION), "back to the first one, too");
}

#[test]
fn a_change_while_closing_opens_a_new_window_from_the_current_owner() {
    assert_eq!(parts(closing().given_to(C, 5_000, TRANSITION)), (C, B, Phase::Open, 5_000 + TRANSITION));
    assert_eq!(parts(closing().given_to(A, 5_000, TRANSITION)), (A, B, Phase::Open, 5_000 + TRANSITION));
}

#[test]
fn a_window_closes_when_it_is_over_and_ends_when_memory_names_nobody_else() {
    assert_eq!(opened().at(NOW + TRANSITION - 1, None, TRANSITION), opened());
    assert_eq!(parts(closing()), (B, A, Phase::Closing, NOW + TRANSITION));
    assert_eq!(closing().closed(), Slot::owned_by(B));
    assert_eq!(opened().closed(), opened(), "never while it is open");
}

#[test]
fn a_window_lasts_one_transition_longer_than_nothing_could_be_remembered() {
    let end = NOW + TRANSITION;
    let flooded = opened().at(end, Some(end - 1), TRANSITION);
    assert_eq!(parts(flooded), (B, A, Phase::Open, end - 1 + TRANSITION));
    assert_eq!(flooded.at(end - 1 + TRANSITION, Some(end - 1), TRANSITION).phase(), Phase::Closing);
    assert_eq!(opened().at(end, Some(NOW - 5), TRANSITION).phase(), Phase::Closing, "a flood before it");
}

#[test]
fn a_previous_owner_that_nothing_could_be_told_from_gives_way_to_the_owner() {
    assert_eq!(parts(opened().without_previous()), (B, B, Phase::Open, NOW + TRANSITION));
    let next = opened().without_previous().given_to(C, NOW + 9, TRANSITION);
    assert_eq!(parts(next), (C, B, Phase::Open, NOW + 9 + TRANSITION), "the last live owner");
}

#[test]
fn what_begins_goes_to_the_owner_and_the_rest_to_the_previous_one_only_while_open() {
    assert_eq!((opened().candidates(true), opened().candidates(false)), ([B, A], [A, B]));
    for slot in [closing(), Slot::owned_by(B)] {
        assert_eq!((slot.candidates(true)[0], slot.candidates(false)[0]), (B, B));
    }
}

#[test]
fn windows_are_told_in_seconds_that_may_wrap() {
    let late = u32::MAX - 10;
    let slot = Slot::owned_by(A).given_to(B, late, TRANSITION);
    assert_eq!(slot.at(u32::MAX, None, TRANSITION).phase(), Phase::Open);
    assert_eq!(slot.at(TRANSITION - 12, None, TRANSITION).phase(), Phase::Open);
    assert_eq!(slot.at(TRANSITION - 10, None, TRANSITION).phase(), Phase::Closing);
}

proptest! {
    /// In memory order, which is what packets and the controller share.
    #[test]
    fn a_slot_and_its_word_are_the_same_bytes(owner: u16, previous: u16, window: u32) {
        let slot = Slot { owner, previous, window };
        let bytes = [&owner.to_ne_bytes()[..], &previous.to_ne_bytes(), &window.to_ne_bytes()].concat();
        prop_assert_eq!(&slot.word().to_ne_bytes()[..], &bytes[..]);
        prop_assert_eq!(Slot::from_word(slot.word()), slot);
    }

    /// Whatever happens, the slot stays with the owner it was given, a window names somebody who had the slot when it
    /// began, and only an unmarked slot has no previous owner.
    #[test]
    fn whatever_happens_a_slot_is_in_a_phase_that_makes_sense(
        steps in prop::collection::vec((0u8..5, 1u16..5, 0u32..1_000), 1..60),
    ) {
        let (mut slot, mut now) = (Slot::owned_by(1), 0u32);
        let mut owners = vec![1];
        for (step, owner, seconds) in steps {
            now += seconds;
            let before = slot;
            slot = match step {
                0 | 1 => slot.given_to(owner, now, TRANSITION),
                2 => slot.at(now, None, TRANSITION),
                3 => slot.closed(),
                _ => slot.without_previous(),
            };
            if step < 2 {
                prop_assert_eq!(slot.owner, owner);
                owners.push(owner);
            } else {
                prop_assert_eq!(slot.owner, before.owner);
            }
            match slot.phase() {
                Phase::Unmarked => prop_assert_eq!(slot, Slot::owned_by(slot.owner)),
                Phase::Open | Phase::Closing => prop_assert!(owners.contains(&slot.previous)),
            }
            if before.phase() == Phase::Open && slot.phase() != Phase::Open {
                prop_assert!(now >= before.end());
            }
        }
    }
}
