//! Desired states on trial: what was before is kept beside them and comes back unless somebody confirms.

use super::files::NotPut;
use super::kept::{Kept, Trial};
use super::{Store, StoreError};
use crate::state::desired::Desired;

/// How long a trial lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialTime {
    /// What is applied on trial.
    pub what: String,
    /// When it is rolled back, in Unix seconds.
    pub until: u64,
    /// How far off that is.
    pub seconds: u64,
}

impl Store {
    /// [`Store::replace`] for a change that is to outlive the trial that goes on: `before`, what a rollback brings, is replaced
    /// together with it.
    pub fn replace_beyond_trial(&mut self, desired: Desired, before: Desired) -> Result<(), StoreError> {
        let trial = self.kept.trial.clone().map(|trial| Trial { before, ..trial });
        self.write_asked(Kept { desired, trial, ..self.kept.clone() })
    }

    /// A trial that would bring back the state that holds now.
    pub(super) fn trial_from_now(&self, TrialTime { what, until, seconds }: TrialTime) -> Trial {
        let Kept { desired, applied, .. } = self.kept.clone();
        Trial { what, until, seconds, before: desired, before_applied: applied }
    }

    /// What waits to be confirmed.
    pub fn trial(&self) -> Option<&Trial> {
        self.kept.trial.as_ref()
    }

    /// It is rolled back then, in Unix seconds, not when it was to be.
    pub fn end_trial_by(&mut self, until: u64) -> Result<(), StoreError> {
        let trial = self.kept.trial.clone().map(|trial| Trial { until, ..trial });
        self.write(Kept { trial, ..self.kept.clone() })
    }

    /// What is on trial stays.
    pub fn confirm(&mut self) -> Result<(), StoreError> {
        self.write(Kept { trial: None, ..self.kept.clone() })
    }

    /// Brings back the state from before what is on trial; gives what that was. It holds even where it cannot be written:
    /// a trial on disk whose time is up means the same.
    pub fn roll_back(&mut self) -> Option<Trial> {
        let trial = self.kept.trial.clone()?;
        let back = self.kept.rolled_back()?;
        if let Err(NotPut { source, .. }) = self.put(&back.to_text()) {
            self.unsettled = Some(self.lags_behind(&source));
        } else {
            self.unsettled = None;
        }
        self.keep(back);
        Some(trial)
    }
}
