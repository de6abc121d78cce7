//! What values flags may have: times, threads, clients at once.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::state::text;
use crate::state::validate::{CONNECT_TIMEOUTS, IDLE_TIMEOUT_MAX};

/// Threads for each processor at most: more of them only take turns, and each has a poll and sockets of its own.
const WORKERS_PER_PROCESSOR: usize = 4;

/// Processors that this process may use.
pub(super) fn processors() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Reads how many threads there are to be.
pub(super) fn workers(text: &str) -> Result<usize, String> {
    let most = WORKERS_PER_PROCESSOR * processors();
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("use 1 to {most}: at most {WORKERS_PER_PROCESSOR} for each processor"))
}

/// Reads how many clients there may be at once.
pub(super) fn clients_at_once(text: &str) -> Result<NonZero<u32>, String> {
    text.parse().map_err(|_| format!("use 1 to {}, or leave it out for no limit", u32::MAX))
}

/// Reads how long a backend may take.
pub(super) fn connect_timeout(text: &str) -> Result<Duration, String> {
    let time = text::duration(text).map_err(|error| error.to_string())?;
    let fits = CONNECT_TIMEOUTS.contains(&time);
    fits.then_some(time).ok_or_else(|| "that is out of range; use 1ms to 10m".to_owned())
}

/// Reads how long nothing may come.
pub(super) fn idle_timeout(text: &str) -> Result<Duration, String> {
    let time = text::duration(text).map_err(|error| error.to_string())?;
    let fits = time <= IDLE_TIMEOUT_MAX;
    fits.then_some(time).ok_or_else(|| "that is too long; use at most 1year, or 0 for never".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_at_most_a_few_threads_for_each_processor() {
        let most = processors() * 4;
        assert_eq!(workers("1"), Ok(1));
        assert_eq!(workers(&most.to_string()), Ok(most));
        for text in ["0", "100000", "-1", "many", &(most + 1).to_string()] {
            assert!(workers(text).unwrap_err().starts_with(&format!("use 1 to {most}")), "{text}");
        }
    }

    #[test]
    fn times_have_a_unit_and_stay_in_the_range_that_they_have_in_a_file() {
        assert_eq!(connect_timeout("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(idle_timeout("0"), Ok(Duration::ZERO));
        for text in ["abc", "5", ""] {
            let errors = [connect_timeout(text), idle_timeout(text)].map(Result::unwrap_err);
            assert!(errors.iter().all(|error| error.contains("write it with a unit")), "{errors:?}");
        }
        for text in ["0s", "11m"] {
            assert!(connect_timeout(text).unwrap_err().contains("use 1ms to 10m"), "{text}");
        }
        assert!(idle_timeout("2years").unwrap_err().contains("at most 1year"));
    }

    #[test]
    fn nobody_at_once_is_no_limit() {
        assert_eq!(clients_at_once("7"), Ok(NonZero::new(7).unwrap()));
        for text in ["0", "-1", "x", "4294967296"] {
            assert!(clients_at_once(text).unwrap_err().starts_with("use 1 to 4294967295"), "{text}");
        }
    }
}
