//! Every kind of difference, in words.

use super::*;
use crate::config::Config;

const OLD: &str = "seed = '1'\ninterfaces = ['eth0']\n[[service]]\nname = 'web'\nvip = '10.0.0.100:80/tcp'\n\
                   backend = [{ address = '10.0.0.11' }, { address = '10.0.0.12', health = 'none' }]\n";

fn state(text: &str) -> Desired {
    Config::parse("pen.toml", text).unwrap().onto(&Desired::new(1)).unwrap()
}

fn lines(new: &str) -> Vec<String> {
    between(&state(OLD), &state(new)).iter().map(|one| format!("{:?} {one}", one.what)).collect()
}

#[test]
fn equal_states_differ_in_nothing_and_others_in_something() {
    assert!(between(&state(OLD), &state(OLD)).is_empty());
    assert_eq!(summary(&[]), "nothing changed");
}

#[test]
fn what_is_added_removed_and_changed_is_told_by_key() {
    assert_eq!(
        lines(&OLD.replace("'1'", "'2'")),
        ["Changed settings: seed 0000000000000001 → 0000000000000002"]
    );
    assert_eq!(
        lines(&format!("flood_inserts_per_cpu = 0\n{OLD}")),
        ["Changed settings: flood_inserts_per_cpu 100000 → 0"]
    );
    assert_eq!(
        lines(&OLD.replace("['eth0']", "[{ name = 'eth0', mode = 'generic' }, 'eth1']")),
        ["Changed interface eth0: mode auto → generic", "Added interface eth1"]
    );
    assert_eq!(
        lines(&OLD.replace("'10.0.0.11'", "'10.0.0.13', weight = 2").replace(", health = 'none'", "")),
        [
            "Removed backend 10.0.0.11 of service web",
            "Added backend 10.0.0.13 of service web: weight 2",
            "Changed backend 10.0.0.12 of service web: health none → unset",
        ]
    );
    assert_eq!(
        lines(&OLD.replace("'web'", "'www'\ntransition = '5m'")),
        [
            "Removed service web",
            "Added service www: vip 10.0.0.100:80/tcp, transition 5m",
            "Added backend 10.0.0.11 of service www",
            "Added backend 10.0.0.12 of service www: health none",
        ]
    );
    assert_eq!(
        lines(&OLD.replace("vip", "health = 'tcp,interval=2s'\nvip")),
        ["Changed service web: health unset → tcp,fall=3,interval=2s,rise=2,timeout=500ms"]
    );
}

#[test]
fn short_lists_of_prefixes_are_told_and_long_ones_counted() {
    let list = |count: u32| {
        let all: Vec<String> =
            (0..count).map(|n| format!("'{}'", std::net::Ipv4Addr::from(n << 8))).collect();
        OLD.replace("vip", &format!("allow = [{}]\nvip", all.join(", ")))
    };
    assert_eq!(lines(&list(1)), [r#"Changed service web: allow unset → ["0.0.0.0/32"]"#]);
    assert_eq!(lines(&list(1000)), ["Changed service web: allow unset → 1000 prefixes"]);
    let between = |old: &str, new: &str| between(&state(old), &state(new))[0].to_string();
    let grown = "service web: allow 3 prefixes → 1000 prefixes (997 added, 0 removed)";
    assert_eq!(between(&list(3), &list(1000)), grown);
    let other = list(1000).replace("'0.0.1.0'", "'10.0.0.0/8'");
    let same = "service web: allow 1000 prefixes → 1000 prefixes (1 added, 1 removed)";
    assert_eq!(between(&list(1000), &other), same);
}

#[test]
fn another_order_is_a_difference() {
    let (one, two) = ("{ address = '10.0.0.11' }", "{ address = '10.0.0.12', health = 'none' }");
    let swapped = OLD.replace(one, "X").replace(two, one).replace("X", two);
    assert_eq!(lines(&swapped), ["Reordered backends of service web: in another order"]);
}

#[test]
fn many_are_counted_and_few_are_named() {
    let none = state("seed = '1'\n");
    let some = state(OLD);
    assert_eq!(
        summary(&between(&none, &some)),
        "interface eth0 added; service web added; backend 10.0.0.11, 10.0.0.12 added"
    );
    let more: String = (13..16).map(|n| format!("{{ address = '10.0.0.{n}' }}, ")).collect();
    let more = state(&OLD.replace("backend = [", &format!("backend = [{more}")));
    assert_eq!(summary(&between(&some, &more)), "3 backends added");
}
