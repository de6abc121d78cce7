//! Shares of newcomers: weights, smaller for a while after a backend came back, and as agents ask.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Seen, advised};
use crate::dataplane::BackendAddress;
use crate::state::desired::{Backend, Service};
use crate::state::validate::WEIGHTS;

/// In how many steps a share grows until it is whole.
const STEPS: u32 = 10;
/// By how much weights are multiplied at most where parts of them are needed: parts finer than that would be invisible.
const FINEST: u32 = 64;

/// The weights that the data plane acts on. Where parts of a weight may be needed all are multiplied by the same number,
/// at all times, so that nothing changes but the one that grows.
pub(super) fn shares(service: &Service, seen: &Seen, now: Duration) -> BTreeMap<BackendAddress, u16> {
    let scale = scale(service);
    let share = |backend: &Backend| {
        let percent = advised::advice(service, backend, seen).weight.map_or(100, u32::from);
        let whole = (u32::from(backend.weight) * scale * percent + 50) / 100;
        let steps = seen
            .recovering
            .get(&(service.vip, backend.address))
            .map_or(STEPS, |since| step(service.slow_start, now.saturating_sub(*since)));
        let part = u16::try_from(whole * steps / STEPS).unwrap_or(u16::MAX);
        (backend.address, part.clamp(*WEIGHTS.start(), *WEIGHTS.end()))
    };
    service.backends.iter().map(share).collect()
}

/// In how long the share of a backend that came back at `since` grows next; `None` = it is whole.
pub fn grows_in(service: &Service, since: Duration, now: Duration) -> Option<Duration> {
    let passed = now.saturating_sub(since);
    let steps = step(service.slow_start, passed);
    (steps < STEPS).then(|| (service.slow_start * steps / STEPS).saturating_sub(passed))
}

/// Which part of its share a backend has that came back at `since`, in percent; `None` = it is whole.
pub fn grown(service: &Service, since: Duration, now: Duration) -> Option<u32> {
    let steps = step(service.slow_start, now.saturating_sub(since));
    (steps < STEPS).then(|| steps * 100 / STEPS)
}

/// How many steps of its share a backend has, so long after it came back: from one, at once, to all.
fn step(slow_start: Duration, passed: Duration) -> u32 {
    if passed >= slow_start {
        return STEPS;
    }
    let step = passed.as_nanos() * u128::from(STEPS) / slow_start.as_nanos();
    u32::try_from(step).map_or(STEPS, |step| (step + 1).min(STEPS))
}

/// A power of two, which changes no proportion of the table.
fn scale(service: &Service) -> u32 {
    if service.slow_start.is_zero() && !service.backends.iter().any(|backend| service.asks_agent(backend)) {
        return 1;
    }
    let largest = service.backends.iter().map(|backend| u32::from(backend.weight)).max().unwrap_or(1).max(1);
    let mut scale = 1;
    while scale < FINEST && largest * scale * 2 <= u32::from(*WEIGHTS.end()) {
        scale *= 2;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn service(weights: &str, slow_start: Duration) -> Service {
        let backends: Vec<String> = weights
            .split(' ')
            .zip(11..)
            .map(|(weight, host)| format!("{{ address = '10.0.0.{host}', weight = {weight} }}"))
            .collect();
        let text = format!("name = 'web'\nvip = '10.0.0.100:80/tcp'\nbackend = [{}]", backends.join(", "));
        let spec: crate::state::spec::ServiceSpec = toml::from_str(&text).unwrap();
        Service { slow_start, ..spec.complete().unwrap() }
    }

    fn first_back(service: &Service) -> Seen {
        let mut seen = Seen::default();
        seen.recovering.insert((service.vip, service.backends[0].address), 5 * SECOND);
        seen
    }

    fn all(service: &Service, seen: &Seen, now: Duration) -> Vec<u16> {
        shares(service, seen, now).into_values().collect()
    }

    #[test]
    fn a_share_grows_step_by_step_and_nobody_elses_changes() {
        let service = service("1 1", 10 * SECOND);
        let seen = first_back(&service);
        let grown: Vec<_> = (5..16).map(|now| all(&service, &seen, now * SECOND)).collect();
        let first: Vec<u16> = grown.iter().map(|shares| shares[0]).collect();
        assert_eq!(first, [6, 12, 19, 25, 32, 38, 44, 51, 57, 64, 64]);
        assert!(grown.iter().all(|shares| shares[1] == 64));
        assert_eq!(all(&service, &Seen::default(), 5 * SECOND), [64, 64], "who did not go has all of it");
    }

    #[test]
    fn it_is_looked_at_again_when_the_next_step_is_due() {
        let service = service("1 1", 10 * SECOND);
        let since = 5 * SECOND;
        assert_eq!(grows_in(&service, since, since), Some(SECOND));
        assert_eq!(grows_in(&service, since, since + SECOND / 4), Some(SECOND * 3 / 4));
        assert_eq!(grows_in(&service, since, since + 9 * SECOND), None, "the last step is whole");
        assert_eq!(grows_in(&service, since, since + 10 * SECOND), None);
        assert_eq!(grown(&service, since, since + 2 * SECOND), Some(30));
        assert_eq!(grown(&service, since, since + 10 * SECOND), None);
    }

    #[test]
    fn weights_stay_as_they_are_without_a_slow_start_and_in_range_with_one() {
        assert_eq!(all(&service("1 1000", Duration::ZERO), &Seen::default(), SECOND), [1, 1000]);
        assert_eq!(all(&service("3 400", SECOND), &Seen::default(), SECOND), [6, 800]);
        let slow = service("1 1000", 10 * SECOND);
        assert_eq!(all(&slow, &first_back(&slow), 5 * SECOND), [1, 1000], "never nothing");
    }
}
