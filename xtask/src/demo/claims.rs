//! What the demo claims of its clients between two moments, and whether it was so.

use std::collections::BTreeSet;

use super::screen::Screen;
use super::traffic::{Key, Ledger};

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

/// Clients whom this backend answered last.
pub(super) fn clients_of(ledger: &Ledger, backend: &str) -> BTreeSet<Key> {
    let theirs = ledger.iter().filter(|(_, record)| record.backend.as_deref() == Some(backend));
    theirs.map(|(key, _)| *key).collect()
}

/// Clients that were answered by somebody new between two moments.
pub(super) fn moved(before: &Ledger, after: &Ledger) -> BTreeSet<Key> {
    changed(before, after, |record| record.moves)
}

/// Clients that had a question unanswered between two moments.
pub(super) fn failed(before: &Ledger, after: &Ledger) -> BTreeSet<Key> {
    changed(before, after, |record| record.failed)
}

fn changed(before: &Ledger, after: &Ledger, count: impl Fn(&super::traffic::Record) -> u64) -> BTreeSet<Key> {
    let grown = after.iter().filter(|(key, record)| before.get(key).map_or(0, &count) < count(record));
    grown.map(|(key, _)| *key).collect()
}

/// Claims that every question was answered between two moments; if not, says whose was not, and why.
pub(super) fn check_answered(claims: &mut Claims, screen: &Screen, before: &Ledger, after: &Ledger) {
    let failed = failed(before, after);
    claims.check(screen, failed.is_empty(), "every question was answered");
    for key in failed {
        screen.say(&format!("    {key:?}: {}", after[&key].error));
    }
}

/// Questions of all clients: answered, and not.
pub(super) fn totals(ledger: &Ledger) -> (u64, u64) {
    (ledger.values().map(|record| record.answered).sum(), ledger.values().map(|record| record.failed).sum())
}
