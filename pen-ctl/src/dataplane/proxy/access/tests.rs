//! The layout against the rule: the longest prefix decides.

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;

fn access(allow: &[&str], deny: &[&str]) -> Access {
    let of = |all: &[&str]| all.iter().map(|text| text.parse::<IpNet>().unwrap()).collect();
    Access::from(&AccessList { allow: of(allow), deny: of(deny) })
}

#[track_caller]
fn admits(access: &Access, client: &str, may: bool) {
    assert_eq!(access.admits(client.parse().unwrap()), may, "{client}");
}

#[test]
fn the_longest_prefix_decides_and_who_is_in_none_may_where_nobody_is_allowed() {
    let refused = access(&[], &["10.0.0.0/8", "2001:db8::/32"]);
    for (client, may) in [
        ("9.255.255.255", true),
        ("10.0.0.0", false),
        ("10.255.255.255", false),
        ("11.0.0.0", true),
        ("2001:db8::1", false),
        ("::1", true),
    ] {
        admits(&refused, client, may);
    }
    let nested = access(&["10.0.0.0/8", "10.1.2.3/32"], &["10.1.0.0/16"]);
    for (client, may) in [
        ("10.0.0.1", true),
        ("10.1.2.2", false),
        ("10.1.2.3", true),
        ("10.1.2.4", false),
        ("10.2.0.0", true),
        ("192.0.2.1", false),
        ("2001:db8::1", false),
    ] {
        admits(&nested, client, may);
    }
}

#[test]
fn lists_reach_to_both_ends_of_all_addresses() {
    let ends = access(&["0.0.0.0/0", "::/0"], &["0.0.0.0/32", "255.255.255.255/32", "ffff::/16"]);
    for (client, may) in [
        ("0.0.0.0", false),
        ("0.0.0.1", true),
        ("255.255.255.255", false),
        ("ffff::1", false),
        ("fffe::", true),
    ] {
        admits(&ends, client, may);
    }
    admits(&Access::from(&AccessList::default()), "0.0.0.0", true);
}

proptest! {
    #[test]
    fn any_lists_mean_what_looking_at_each_prefix_means(
        // Few bits, so that prefixes hold each other.
        prefixes in btree_map((0u32..256, 24u8..=32), any::<bool>(), 0..20),
        clients in proptest::collection::vec(0u32..512, 50),
    ) {
        let net = |host: u32, bits: u8| IpNet::new(IpAddr::from(Ipv4Addr::from(host)), bits).unwrap().trunc();
        let all: std::collections::BTreeMap<IpNet, bool> =
            prefixes.into_iter().map(|((host, bits), may)| (net(host, bits), may)).collect();
        let of = |wanted| all.iter().filter(|(_, may)| **may == wanted).map(|(net, _)| *net).collect();
        let list = AccessList { allow: of(true), deny: of(false) };
        let access = Access::from(&list);
        for pair in access.v4.windows(2) {
            prop_assert!(pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1, "no stretch is there for nothing: {:?}", pair);
        }
        for client in clients.into_iter().map(|host| IpAddr::from(Ipv4Addr::from(host))) {
            let around = all.iter().filter(|(net, _)| net.contains(&client));
            let longest = around.max_by_key(|(net, _)| net.prefix_len());
            let expected = longest.map_or(list.allow.is_empty(), |(_, may)| *may);
            prop_assert_eq!(access.admits(client), expected, "{}", client);
            let told = list.admission(client);
            prop_assert_eq!((told.admitted, told.prefix), (expected, longest.map(|(net, _)| *net)), "{}", client);
        }
    }
}
