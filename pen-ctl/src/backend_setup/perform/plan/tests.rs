//! What is done and undone, for machines in every state.

use super::*;
use crate::backend_setup::LOOPBACK;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn setup(vips: &[&str]) -> Setup {
    Setup::new(&vips.iter().map(|vip| ip(vip)).collect::<Vec<_>>(), LOOPBACK).unwrap()
}

fn machine(arp: &[(&str, u32, u32)], addresses: &[(&str, &str)]) -> Machine {
    let arp = arp.iter().map(|&(name, ignore, announce)| (name.to_owned(), Arp { ignore, announce }));
    let addresses = addresses.iter().map(|(prefix, interface)| {
        let (address, length) = prefix.split_once('/').unwrap();
        let (address, prefix) = (ip(address), length.parse().unwrap());
        Owned { address, prefix, interface: (*interface).to_owned(), silent: !interface.starts_with("eth") }
    });
    Machine { arp: arp.collect(), addresses: addresses.collect() }
}

fn changes(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .filter_map(|step| {
            Some(match step.change.as_ref()? {
                Change::Set(setting) => format!("{setting} {}>{}", setting.before, setting.after),
                Change::Restore(setting) => format!("{setting} {}<{}", setting.before, setting.after),
                Change::Add { address, interface } => format!("+{address} {interface}"),
                Change::Remove { address, interface } => format!("-{address} {interface}"),
            })
        })
        .collect()
}

/// The record after a plan was carried out.
fn recorded(steps: &[Step]) -> Record {
    let mut record = Record::default();
    steps.iter().filter_map(|step| step.change.as_ref()).for_each(|change| record.note(change));
    record
}

#[test]
fn settings_come_before_addresses_and_go_after_them() {
    let fresh = machine(
        &[("all", 0, 0), ("default", 0, 0), ("eth0", 0, 0), ("lo", 0, 0)],
        &[("10.0.0.2/24", "eth0")],
    );
    let steps = apply(&setup(&["10.0.0.100", "2001:db8::100"]), &fresh).unwrap();
    assert_eq!(
        changes(&steps),
        [
            "net.ipv4.conf.all.arp_ignore 0>1",
            "net.ipv4.conf.all.arp_announce 0>2",
            "+10.0.0.100 lo",
            "+2001:db8::100 lo"
        ]
    );
    let done = machine(&[("all", 1, 2)], &[("10.0.0.100/32", "lo"), ("2001:db8::100/128", "lo")]);
    assert_eq!(changes(&apply(&setup(&["10.0.0.100", "2001:db8::100"]), &done).unwrap()), [""; 0]);
    let back = undo(&[], LOOPBACK, &recorded(&steps), true, &done);
    assert_eq!(
        changes(&back),
        [
            "-10.0.0.100 lo",
            "-2001:db8::100 lo",
            "net.ipv4.conf.all.arp_ignore 0<1",
            "net.ipv4.conf.all.arp_announce 0<2"
        ]
    );
}

#[test]
fn an_interface_that_would_answer_in_spite_of_all_is_set_too() {
    let odd = machine(&[("all", 0, 2), ("eth0", 3, 0), ("eth1", 8, 0), ("eth2.5", 4, 0)], &[]);
    assert_eq!(
        changes(&apply(&setup(&["10.0.0.100"]), &odd).unwrap())[..3],
        [
            "net.ipv4.conf.all.arp_ignore 0>1",
            "net.ipv4.conf.eth0.arp_ignore 3>1",
            "net.ipv4.conf.eth2/5.arp_ignore 4>1"
        ]
    );
    let stricter = machine(&[("all", 2, 2), ("eth0", 1, 0)], &[]);
    assert_eq!(changes(&apply(&setup(&["10.0.0.100"]), &stricter).unwrap()), ["+10.0.0.100 lo"]);
}

#[test]
fn ipv6_alone_touches_no_setting() {
    let fresh = machine(&[("all", 0, 0)], &[]);
    let steps = apply(&setup(&["2001:db8::100"]), &fresh).unwrap();
    assert_eq!(changes(&steps), ["+2001:db8::100 lo"]);
    let done = machine(&[("all", 0, 0)], &[("2001:db8::100/128", "lo")]);
    assert_eq!(changes(&undo(&[], LOOPBACK, &recorded(&steps), true, &done)), ["-2001:db8::100 lo"]);
}

#[test]
fn a_vip_where_it_would_be_answered_for_is_refused_with_the_way_out() {
    let vip = setup(&["10.0.0.100"]);
    for (addresses, says) in [
        (("10.0.0.100/24", "eth0"), "take it away first: ip address del 10.0.0.100/24 dev eth0"),
        (("10.0.0.100/32", "dummy0"), "use --interface dummy0"),
        (("10.0.0.100/24", "lo"), "that whole network local"),
    ] {
        let error = apply(&vip, &machine(&[("all", 1, 2)], &[addresses])).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_was_so_before_stays_and_settings_stay_while_another_vip_needs_them() {
    let before = machine(&[("all", 1, 0)], &[("10.0.0.101/32", "lo")]);
    let record = recorded(&apply(&setup(&["10.0.0.100", "10.0.0.101"]), &before).unwrap());
    let now = machine(&[("all", 1, 2)], &[("10.0.0.100/32", "lo"), ("10.0.0.101/32", "lo")]);
    let back = undo(&[ip("10.0.0.100"), ip("10.0.0.101")], LOOPBACK, &record, true, &now);
    assert_eq!(changes(&back), ["-10.0.0.100 lo"]);
    let said: Vec<&str> = back.iter().map(|step| step.document.detail.as_str()).collect();
    assert!(said[1].contains("no record") && said[2].contains("10.0.0.101 on lo needs it"), "{said:?}");
    assert!(back[2].settled.is_none(), "it is to be restored when that one goes");
}

#[test]
fn a_setting_that_somebody_changed_since_is_left_to_them() {
    let record = recorded(&apply(&setup(&["10.0.0.100"]), &machine(&[("all", 0, 0)], &[])).unwrap());
    let now = machine(&[("all", 8, 2)], &[("10.0.0.100/32", "lo")]);
    let back = undo(&[], LOOPBACK, &record, true, &now);
    assert_eq!(changes(&back), ["-10.0.0.100 lo", "net.ipv4.conf.all.arp_announce 0<2"]);
    assert!(back[1].document.detail.contains("somebody changed it"), "{back:?}");
}

#[test]
fn without_a_record_everything_is_left_and_said() {
    let now = machine(&[("all", 1, 2)], &[("10.0.0.100/32", "lo")]);
    let back = undo(&[ip("10.0.0.100")], LOOPBACK, &Record::default(), false, &now);
    assert_eq!(changes(&back), [""; 0]);
    let said: Vec<(&str, bool)> = back
        .iter()
        .map(|step| (step.document.what.as_str(), step.document.outcome == Outcome::Left))
        .collect();
    assert_eq!(
        said,
        [
            ("10.0.0.100/32 on lo", true),
            ("net.ipv4.conf.all.arp_ignore = 1", true),
            ("net.ipv4.conf.all.arp_announce = 2", true)
        ]
    );
}

#[test]
fn applying_twice_keeps_what_was_before_the_first_time() {
    let vip = setup(&["10.0.0.100"]);
    let mut record = recorded(&apply(&vip, &machine(&[("all", 0, 0)], &[])).unwrap());
    let drifted = machine(&[("all", 3, 2)], &[("10.0.0.100/32", "lo")]);
    for step in apply(&vip, &drifted).unwrap() {
        step.change.iter().for_each(|change| record.note(change));
    }
    assert_eq!(record.settings[0].before, 0);
}
