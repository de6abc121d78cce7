//! Which data plane a start takes, from what is asked, what ran last and what this system can do.

use crate::dataplane::{Choice, Kind};

/// What is known before a start.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What the flag asks for, else the file.
    pub(super) asked: Choice,
    /// What moved packets for this state last.
    pub(super) last: Option<Kind>,
    /// XDP is attached by the pins of this state: packets flow past a proxy.
    pub(super) attached: bool,
    /// Why XDP cannot be here, in words; `None` = nothing stands in its way that can be seen.
    pub(super) no_xdp: Option<String>,
}

/// The data plane to take, and why it is not XDP where nobody said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) kind: Kind,
    pub(super) instead_of_xdp: Option<String>,
}

/// Decides, or says in one line why not and what can be done.
pub(super) fn choose(facts: &Facts) -> Result<Chosen, String> {
    let chosen = |kind| Ok(Chosen { kind, instead_of_xdp: None });
    match (facts.asked.kind().or(facts.last), &facts.no_xdp) {
        (Some(Kind::Proxy), _) if facts.attached => Err(
            "the proxy cannot run while XDP is attached with the pins of this state: packets would flow past it; \
             `pen-ctl stop --detach` ends that first"
                .to_owned(),
        ),
        (Some(Kind::Proxy), _) => chosen(Kind::Proxy),
        (Some(Kind::Xdp), Some(why)) if facts.asked == Choice::Auto => Err(format!(
            "this state last ran as xdp, and XDP cannot be here now: {why}; mend that, or run the proxy with `pen-ctl run \
             --dataplane proxy`"
        )),
        (Some(Kind::Xdp), _) | (None, None) => chosen(Kind::Xdp),
        (None, Some(why)) => Ok(Chosen { kind: Kind::Proxy, instead_of_xdp: Some(why.clone()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(asked: Choice, last: Option<Kind>, no_xdp: Option<&str>) -> Facts {
        Facts { asked, last, attached: false, no_xdp: no_xdp.map(str::to_owned) }
    }

    fn kind(facts: &Facts) -> Kind {
        choose(facts).unwrap().kind
    }

    const DENIED: Option<&str> = Some("CAP_BPF is missing");

    #[test]
    fn what_is_asked_for_is_taken_whatever_ran_last() {
        for last in [None, Some(Kind::Xdp), Some(Kind::Proxy)] {
            for no_xdp in [None, DENIED] {
                assert_eq!(kind(&facts(Choice::Proxy, last, no_xdp)), Kind::Proxy);
                // Opening it says why not, as ever.
                assert_eq!(kind(&facts(Choice::Xdp, last, no_xdp)), Kind::Xdp);
            }
        }
    }

    #[test]
    fn a_state_goes_on_as_what_it_ran_last() {
        assert_eq!(kind(&facts(Choice::Auto, Some(Kind::Proxy), None)), Kind::Proxy);
        assert_eq!(kind(&facts(Choice::Auto, Some(Kind::Xdp), None)), Kind::Xdp);
    }

    #[test]
    fn a_state_that_ran_as_xdp_never_becomes_a_proxy_by_itself() {
        let refused = choose(&facts(Choice::Auto, Some(Kind::Xdp), DENIED)).unwrap_err();
        assert!(refused.contains("CAP_BPF is missing"), "{refused}");
        assert!(refused.contains("--dataplane proxy"), "{refused}");
    }

    #[test]
    fn a_new_state_is_xdp_where_that_can_be_and_else_a_proxy_that_says_why() {
        assert_eq!(choose(&facts(Choice::Auto, None, None)).unwrap().instead_of_xdp, None);
        assert_eq!(kind(&facts(Choice::Auto, None, None)), Kind::Xdp);
        let chosen = choose(&facts(Choice::Auto, None, DENIED)).unwrap();
        assert_eq!((chosen.kind, chosen.instead_of_xdp.as_deref()), (Kind::Proxy, DENIED));
    }

    #[test]
    fn no_proxy_runs_beside_xdp_that_is_attached() {
        for (asked, last) in [(Choice::Proxy, Some(Kind::Xdp)), (Choice::Auto, Some(Kind::Proxy))] {
            let refused = choose(&Facts { attached: true, ..facts(asked, last, None) }).unwrap_err();
            assert!(refused.contains("pen-ctl stop --detach"), "{refused}");
        }
        assert_eq!(kind(&Facts { attached: true, ..facts(Choice::Auto, None, None) }), Kind::Xdp);
    }
}
