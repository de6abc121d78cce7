//! What the demo claims of its clients between two moments, and whether it was so.

use super::screen::Screen;
use super::traffic::Ledger;
use crate::lab::traffic::failures;

/// Everything claimed so far.
#[derive(Default)]
pub(super) struct Claims {
    broken: usize,
}

impl Claims {
    /// Shows a claim and books whether it holds.
    pub(super) fn check(&mut self, screen: &Screen, held: bool, text: &str) {
        screen.claim(held, text);
        self.broken += usize::from(!held);
    }

    /// Nothing claimed was wrong.
    pub(super) fn all_held(&self) -> bool {
        self.broken == 0
    }
}

/// Claims that every question was answered between two moments; if not, says whose was not, and why.
pub(super) fn check_answered(claims: &mut Claims, screen: &Screen, before: &Ledger, after: &Ledger) {
    let failed = failures(before, after);
    claims.check(screen, failed.is_empty(), "every question was answered");
    for (key, failure) in failed {
        screen.say(&format!("    {key:?}: {}", failure.error));
    }
}
