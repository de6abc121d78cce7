//! What clients lose when a backend is left out, and what they may lose.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Instant;

use xtask::lab::address::Family;
use xtask::lab::traffic::{Ledger, failures, moved, totals};

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// On a connection for each question.
    New,
    /// On one connection for as long as it lasts.
    Kept,
}

/// Somebody who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) family: Family,
    pub(crate) client: u8,
    pub(crate) way: Way,
}

/// What may be lost by the clients of a backend that is left out. Everybody else loses nothing, ever.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It serves nobody: what was asked before that was noticed; and each kept connection breaks.
    UntilNoticed,
    /// Nothing: each question is a packet of its own, and answered by whoever gets it.
    Nothing,
    /// What was asked on a kept connection: new ones wait for a backend that takes them.
    Kept,
    /// It serves all the same, only checks fail: what was on its way when they moved; and each kept connection breaks.
    OnTheWay,
}

impl Loss {
    /// Nobody but these lost a question between two moments, and they none but those that had to be; or who did.
    pub(crate) fn check(
        self,
        before: &Ledger<Key>,
        after: &Ledger<Key>,
        theirs: &BTreeSet<Key>,
        noticed: Instant,
    ) -> Result<(), String> {
        let mut counts = BTreeMap::<Key, u32>::new();
        for (key, failure) in failures(before, after) {
            if !theirs.contains(&key) {
                return Err(format!("{key:?} was elsewhere: {failure:?}"));
            }
            if failure.asked > noticed || self != Loss::UntilNoticed {
                let count = counts.entry(key).or_default();
                *count += 1;
                if *count > self.forgiven(key.way) {
                    return Err(format!("{key:?}, failure {count}: {failure:?}"));
                }
            }
        }
        Ok(())
    }

    /// So many failures of somebody who asks this way; those before it was noticed come on top where they may be.
    fn forgiven(self, way: Way) -> u32 {
        // A connection that was kept breaks when its backend lets go of it, and its successor when they move.
        match (self, way) {
            (Loss::Nothing, _) | (Loss::Kept | Loss::UntilNoticed, Way::New) => 0,
            (Loss::Kept | Loss::UntilNoticed, Way::Kept) | (Loss::OnTheWay, Way::New) => 1,
            (Loss::OnTheWay, Way::Kept) => 2,
        }
    }
}

/// Says how many requests were answered and failed meanwhile, and who moved.
pub(crate) fn report(what: &str, began: Instant, before: &Ledger<Key>, after: &Ledger<Key>) {
    let answered = totals(after).0 - totals(before).0;
    let failed = failures(before, after);
    let whose: BTreeSet<Key> = failed.iter().map(|(key, _)| *key).collect();
    let moves = moved(before, after).len();
    let (took, everybody) = (began.elapsed().as_secs_f32(), after.len());
    say(&format!(
        "{what}: {answered} requests answered in {took:.1} s, {} failed, of {} of {everybody} who asked; {moves} moved",
        failed.len(),
        whose.len()
    ));
}

/// Tells a number that was seen, past the test harness, which would hide what a passing test prints.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "    {what}");
}
