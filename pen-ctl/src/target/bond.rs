//! How a bond is attached to. In native mode its driver has its ports run the program, so that a packet names the port it
//! came in by, which nobody attached: every packet would be passed on as not for us, without a word.

use crate::dataplane::AttachMode;
use crate::surroundings::{Link, Links};

/// The mode to attach in where this one was asked for: left the choice, a bond is attached in generic mode.
pub(super) fn mode(link: &Link, asked: AttachMode) -> AttachMode {
    match asked {
        AttachMode::Auto if link.bond => AttachMode::Generic,
        _ => asked,
    }
}

/// Why an interface is not attached in the mode that was asked for, and what to do.
pub(crate) fn refusal(link: &Link, asked: AttachMode, links: &Links) -> Option<(&'static str, String)> {
    let refused = link.bond && asked == AttachMode::Native;
    refused.then(|| {
        (
            "is a bond: in native mode it would forward nothing",
            format!("attach its ports{}", ports(link, links)),
        )
    })
}

/// What is faster than a bond that was attached because nobody said how.
pub(crate) fn warning(link: &Link, asked: AttachMode, links: &Links) -> Option<String> {
    let slow = link.bond && asked == AttachMode::Auto;
    slow.then(|| {
        let ports = ports(link, links);
        format!(
            "is a bond and runs in generic mode, which is slower: attach its ports instead{ports} (`--mode generic` is \
             content with it)"
        )
    })
}

/// Its ports as the end of a sentence about them.
fn ports(bond: &Link, links: &Links) -> String {
    let ports = links.values().filter(|link| link.master == Some(bond.index));
    let ports: Vec<&str> = ports.map(|link| link.name.as_str()).collect();
    match ports.is_empty() {
        true => " once it has some".to_owned(),
        false => format!(": {}", ports.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::testing::link;

    fn links() -> Links {
        let port = |index, name| Link { master: Some(9), ..link(index, name) };
        let bond = Link { bond: true, ..link(9, "bond0") };
        let all = [port(2, "eth0"), port(3, "eth1"), link(4, "eth2"), bond];
        all.into_iter().map(|link| (link.index, link)).collect()
    }

    #[test]
    fn a_bond_is_never_attached_in_native_mode() {
        let links = links();
        let modes = [AttachMode::Auto, AttachMode::Native, AttachMode::Generic];
        for (asked, chosen) in
            modes.into_iter().zip([AttachMode::Generic, AttachMode::Native, AttachMode::Generic])
        {
            assert_eq!(mode(&links[&9], asked), chosen);
            assert_eq!(refusal(&links[&9], asked, &links).is_some(), chosen == AttachMode::Native);
            assert_eq!((mode(&links[&2], asked), refusal(&links[&2], asked, &links)), (asked, None));
        }
        let (_, way_out) = refusal(&links[&9], AttachMode::Native, &links).unwrap();
        assert_eq!(way_out, "attach its ports: eth0, eth1");
    }

    #[test]
    fn only_whoever_did_not_ask_for_the_slow_mode_is_warned_of_it() {
        let links = links();
        assert!(
            warning(&links[&9], AttachMode::Auto, &links)
                .unwrap()
                .contains("attach its ports instead: eth0, eth1 (")
        );
        assert_eq!(warning(&links[&9], AttachMode::Generic, &links), None);
        assert_eq!(warning(&links[&2], AttachMode::Auto, &links), None);
        let alone = Links::from([(9, links[&9].clone())]);
        assert!(warning(&links[&9], AttachMode::Auto, &alone).unwrap().contains("once it has some"));
    }
}
