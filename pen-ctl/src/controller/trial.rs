//! What is applied on trial: rolled back unless it is confirmed in time, by this controller or the next one.

use std::time::Duration;

use super::Controller;
use crate::api::configuration::TrialDocument;
use crate::api::event::Kind;
use crate::api::{ApiError, ErrorCode, Reply, Request};
use crate::journal::{Journal, Note};
use crate::state::desired::Desired;
use crate::state::spec::BackendSpec;
use crate::state::store::{self, Cause, Store, Trial, TrialTime};
use crate::state::text;

/// The longest trial: who is not back by then has forgotten it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Rolls back what is on trial if its time was up before this start; says so in the journal. `now` in Unix seconds. By a
/// clock that was set back it has its whole time again: that is counted from this start, not anew from each.
pub fn expire_at_start(store: &mut Store, now: u64, journal: &Journal) {
    let Some(trial) = store.trial() else { return };
    let left = left(trial, now);
    if left > 0 {
        let latest = now.saturating_add(left);
        if trial.until > latest {
            // Where this fails, changes do, too, and say so.
            let _ = store.end_trial_by(latest);
        }
        return;
    }
    if let Some(trial) = store.roll_back() {
        note(journal, &trial.what, "its time was up while no controller ran");
        // The history lags behind if this fails; the controller tries again and says so.
        let _ = store.record(&store::Note { time: now, user: None, cause: Cause::RolledBack(trial.what) });
    }
}

/// Seconds that a trial has left; a clock that was set back does not prolong it.
pub(super) fn left(trial: &Trial, now: u64) -> u64 {
    trial.until.saturating_sub(now).min(trial.seconds).min(LONGEST.as_secs())
}

fn note(journal: &Journal, what: &str, why: &str) {
    let message = format!("{} rolled back: {why}", what.escape_debug());
    journal.warn(Note::new(Kind::RolledBack, message));
}

impl Controller {
    /// From now on for so long.
    pub(super) fn trial_time(&self, what: &str, time: Duration) -> Result<TrialTime, ApiError> {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        if seconds == 0 || time > LONGEST {
            let message = format!("{} is no time for a trial", humantime::format_duration(time));
            return Err(ApiError::invalid(message, "use 1s to 24h, as in --confirm 10m"));
        }
        let until = self.clock.unix_seconds() + seconds;
        Ok(TrialTime { what: what.to_owned(), until, seconds })
    }

    /// Takes note of when what is on trial is to be rolled back: counted by a clock that nobody sets.
    pub(super) fn begin_trial(&mut self) {
        let left = self.store.trial().map(|trial| left(trial, self.clock.unix_seconds()));
        self.trial_due = left.map(|left| self.clock.uptime() + Duration::from_secs(left));
    }

    /// In how long what is on trial is rolled back.
    pub(super) fn trial_in(&self) -> Option<Duration> {
        Some(self.trial_due?.saturating_sub(self.clock.uptime()))
    }

    /// Rolls back what is on trial if its time is up.
    pub(super) fn expire_trial(&mut self) {
        if self.trial_in() == Some(Duration::ZERO) {
            self.take_back("it was not confirmed in time", None);
        }
    }

    /// What is on trial stays.
    pub(super) fn confirm(&mut self) -> Result<Reply, ApiError> {
        self.trial()?;
        self.store.confirm()?;
        self.trial_due = None;
        Ok(super::change::changed(true))
    }

    /// What is on trial goes, before its time is up.
    pub(super) fn roll_back(&mut self) -> Result<Reply, ApiError> {
        self.trial()?;
        self.take_back("as asked", self.user);
        self.reconcile();
        Ok(super::change::changed(true))
    }

    fn take_back(&mut self, why: &str, user: Option<u32>) {
        self.trial_due = None;
        let Some(trial) = self.store.roll_back() else { return };
        note(self.journal(), &trial.what, why);
        self.record(user, Cause::RolledBack(trial.what));
    }

    fn trial(&self) -> Result<&Trial, ApiError> {
        self.store.trial().ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                "nothing is on trial",
                "it was confirmed already, or rolled back: see `pen-ctl history`",
            )
        })
    }

    /// What waits to be confirmed.
    pub(super) fn trial_document(&self) -> Option<TrialDocument> {
        let (trial, left) = (self.store.trial()?, self.trial_in()?);
        let seconds_left = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(TrialDocument {
            what: trial.what.clone(),
            until: text::timestamp(self.clock.unix_seconds() + seconds_left),
            seconds_left,
        })
    }

    /// What to say of it to whoever looks.
    pub(super) fn trial_warning(&self) -> Option<String> {
        let TrialDocument { what, seconds_left, .. } = self.trial_document()?;
        let left = humantime::format_duration(Duration::from_secs(seconds_left));
        Some(format!(
            "{} is on trial and rolled back in {left}: `pen-ctl apply --confirmed` keeps it, `pen-ctl apply \
             --rollback` takes it back now",
            what.escape_debug()
        ))
    }

    /// What to say of it to whoever ends the controller: nobody rolls it back while none runs.
    pub fn unconfirmed(&self) -> Option<String> {
        let TrialDocument { what, seconds_left, .. } = self.trial_document()?;
        let left = humantime::format_duration(Duration::from_secs(seconds_left));
        Some(format!(
            "{} is on trial for another {left}: it stays in force until a controller starts after that, or `pen-ctl apply \
             --rollback` is heard by one that starts before",
            what.escape_debug()
        ))
    }

    /// While something is on trial, nothing else is changed that its rollback would sweep away. What an operator must
    /// be able to do at any time is done to both states: a backend's state, and detaching.
    pub(super) fn refuse_on_trial(&self, request: &Request) -> Result<(), ApiError> {
        let Some(TrialDocument { what, seconds_left, .. }) = self.trial_document() else { return Ok(()) };
        let harmless = match request {
            Request::ServiceAdd(_)
            | Request::ServiceSet { .. }
            | Request::ServiceRemove { .. }
            | Request::BackendAdd { .. }
            | Request::BackendRemove { .. }
            | Request::Attach(_)
            | Request::Reload => false,
            Request::BackendSet { spec, .. } => {
                *spec == BackendSpec { address: spec.address, state: spec.state, ..BackendSpec::default() }
            }
            Request::Apply { how, .. } | Request::HistoryRestore { how, .. } => how.dry_run,
            _ => true,
        };
        if harmless {
            return Ok(());
        }
        let left = humantime::format_duration(Duration::from_secs(seconds_left));
        Err(ApiError::new(
            ErrorCode::Refused,
            format!(
                "{} is on trial for another {left}: until then only states of backends change and interfaces detach",
                what.escape_debug()
            ),
            "`pen-ctl apply --confirmed` keeps it, `pen-ctl apply --rollback` takes it back",
        ))
    }

    /// Makes a change durable, in what a rollback would bring back, too.
    pub(super) fn replace(&mut self, desired: Desired) -> Result<(), ApiError> {
        let Some(trial) = self.store.trial() else { return Ok(self.store.replace(desired)?) };
        let before = carried_over(self.store.desired(), &desired, trial.before.clone());
        Ok(self.store.replace_beyond_trial(desired, before)?)
    }
}

/// What changes from `old` to `new` (interfaces that go, states of backends), done to another state.
fn carried_over(old: &Desired, new: &Desired, mut other: Desired) -> Desired {
    let named = |state: &Desired, name: &str| state.interfaces.iter().any(|one| one.name == name);
    other.interfaces.retain(|one| named(new, &one.name) || !named(old, &one.name));
    for service in &new.services {
        let (Some(was), Some(target)) = (old.service(&service.name), other.service_mut(&service.name)) else {
            continue;
        };
        for backend in &service.backends {
            let asked = was.backend(backend.address).map(|was| (was.state, was.remove_at));
            let Some(target) = target.backend_mut(backend.address) else { continue };
            if asked.is_some_and(|asked| asked != (backend.state, backend.remove_at)) {
                (target.state, target.remove_at) = (backend.state, backend.remove_at);
            }
        }
    }
    other
}
