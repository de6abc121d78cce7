//! As many open files as the system allows: connections, checks under way and tables each take some.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files, a leftover from `select`, to the hard one (getrlimit(2), `RLIMIT_NOFILE`). Where
/// that is refused the controller makes do with what it has.
pub(super) fn allow_all() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let (from, to) = (shown(current), shown(maximum));
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!("open files: at most {to} (was {from})"),
        Err(error) => tracing::debug!("open files: at most {from}; {to} are refused: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let lower = maximum.map(|hard| hard - 1);
        setrlimit(Resource::Nofile, Rlimit { current: lower, maximum }).unwrap();
        allow_all();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: maximum, maximum });
    }
}
