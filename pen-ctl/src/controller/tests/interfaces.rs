//! Interfaces come, go and are refused; VIPs are announced on them.

use super::*;
use crate::api::Interfaces;
use crate::api::document::InterfaceState;
use crate::dataplane::AttachMode;

fn announced(bench: &Bench) -> Vec<(String, Vec<IpAddr>)> {
    std::mem::take(&mut bench.asked.0.lock().unwrap().announced)
}

fn withdrawn(bench: &Bench) -> Vec<(String, Vec<IpAddr>)> {
    std::mem::take(&mut bench.asked.0.lock().unwrap().withdrawn)
}

fn on_eth0(n: u8) -> Vec<(String, Vec<IpAddr>)> {
    vec![("eth0".into(), vec![ip(n)])]
}

#[test]
fn attaching_is_refused_where_it_cannot_work_and_then_not_wanted_either() {
    let mut bench = Bench::new();
    bench.refused(attach("eth9"), "there is no interface eth9");
    bench.refused(attach("tun0"), "carries no Ethernet frames");
    bench.refused(attach("a-name-that-is-too-long"), "too long");
    bench.plane.lock().occupied.insert("eth1".into(), "program 17 (xdp_firewall) is already there".into());
    bench.refused(attach("eth1"), "program 17 (xdp_firewall) is already there");
    let both = ["eth0", "eth1"].map(InterfaceSpec::new).to_vec();
    bench.refused(Request::Attach(both), "xdp_firewall");
    assert!(bench.status().interfaces.is_empty());
}

#[test]
fn a_bond_is_attached_in_generic_mode_with_a_warning_and_refused_in_native_mode() {
    let mut bench = Bench::new();
    let native = InterfaceSpec { mode: AttachMode::Native, ..InterfaceSpec::new("bond0") };
    bench.refused(Request::Attach(vec![native.clone()]), "attach its ports: eth2, eth3");
    bench.done(attach("bond0"));
    let status = bench.status();
    assert_eq!(status.interfaces[0].mode, AttachMode::Generic);
    let warned = |warning: &String| {
        warning.starts_with("interface bond0: is a bond")
            && warning.contains("attach its ports instead: eth2, eth3")
    };
    assert!(status.warnings.iter().any(warned), "{:?}", status.warnings);
    bench.done(Request::Attach(vec![InterfaceSpec { mode: AttachMode::Generic, ..native }]));
    assert_eq!(bench.status().warnings, [] as [&str; 0]);
}

#[test]
fn a_bond_that_a_state_wants_in_native_mode_waits_and_says_what_to_attach() {
    let mut bench = Bench::new();
    bench.done(Request::Attach(vec![InterfaceSpec {
        mode: AttachMode::Native,
        ..InterfaceSpec::new("eth0")
    }]));
    let mut links = links();
    links.get_mut(&2).unwrap().bond = true;
    links.get_mut(&3).unwrap().master = Some(2);
    bench.hear([Event::Links(links)]);
    let interface = bench.status().interfaces[0].clone();
    assert_eq!(interface.state, InterfaceState::Pending);
    assert!(interface.detail.ends_with("attach its ports: eth1"), "{}", interface.detail);
}

#[test]
fn attaching_twice_and_detaching_what_is_not_attached_are_no_errors() {
    let mut bench = Bench::new();
    bench.done(attach("eth0"));
    bench.done(attach("eth0"));
    assert_eq!(bench.status().interfaces.len(), 1);
    let detach = || Request::Detach(Interfaces::Named(vec!["eth0".into()]));
    let done = |changed| Reply::Changed(ChangeDocument { changed, warnings: vec![], forwards: None });
    assert_eq!(bench.done(detach()), done(true));
    assert_eq!(bench.done(detach()), done(false));
    assert!(bench.plane.lock().observed.interfaces.is_empty());
}

#[test]
fn an_interface_that_vanishes_is_pending_and_attached_when_it_comes_back() {
    let mut bench = Bench::with_web();
    bench.hear([without("eth0")]);
    let interface = bench.status().interfaces[0].clone();
    assert_eq!(interface.state, InterfaceState::Pending);
    assert!(interface.detail.contains("attached when it appears"), "{}", interface.detail);
    assert_eq!(bench.members(), [] as [u8; 0], "what is behind it serves nobody");
    bench.hear([Event::Links(links())]);
    assert_eq!(bench.status().interfaces[0].state, InterfaceState::Attached);
    assert_eq!(bench.members(), [11, 12]);
}

#[test]
fn an_occupied_interface_of_the_state_is_pending_until_it_is_free() {
    let mut bench = Bench::with_web();
    bench.plane.lock().observed.interfaces.clear();
    bench.plane.lock().occupied.insert("eth0".into(), "program 17 is already there".into());
    bench.controller().tick();
    let status = bench.status();
    assert_eq!(status.interfaces[0].state, InterfaceState::Pending);
    assert!(status.warnings.iter().any(|warning| warning.contains("program 17")), "{:?}", status.warnings);
    bench.done(add_backend("web", 13));
    bench.plane.lock().occupied.clear();
    bench.controller().tick();
    assert_eq!(bench.status().interfaces[0].state, InterfaceState::Attached);
}

#[test]
fn what_does_not_work_on_an_attached_interface_is_a_warning() {
    let mut bench = Bench::new();
    let trouble = "its card takes VLAN tags off frames and cannot be told not to: use another card";
    bench.plane.lock().troubles.insert("eth0".into(), vec![trouble.into()]);
    bench.done(attach("eth0"));
    bench.done(attach("eth1"));
    let status = bench.status();
    assert!(status.interfaces.iter().all(|interface| interface.state == InterfaceState::Attached));
    assert_eq!(status.interfaces[0].detail, trouble);
    assert_eq!(status.warnings, [format!("interface eth0: {trouble}")]);
}

#[test]
fn what_somebody_undid_beside_the_program_is_mended_by_attaching_again() {
    let mut bench = Bench::with_web();
    bench.plane.lock().observed.interfaces.get_mut("eth0").unwrap().intact = false;
    bench.operations();
    bench.controller().tick();
    assert!(matches!(&bench.operations()[..], [Operation::Attach { name, .. }] if name == "eth0"));
    assert!(bench.plane.lock().observed.interfaces["eth0"].intact);
}

#[test]
fn forwarding_goes_on_after_a_stop_but_not_after_one_that_detaches() {
    let mut bench = Bench::with_web();
    bench.done(Request::Stop { detach: false });
    assert!(bench.controller().forwards());
    let mut bench = Bench::with_web();
    bench.done(Request::Stop { detach: true });
    assert!(!bench.controller().forwards());
}

#[test]
fn vips_are_announced_when_they_or_their_links_come_and_withdrawn_when_they_go() {
    let mut bench = Bench::new();
    bench.done(attach("eth0"));
    assert!(announced(&bench).is_empty(), "no VIP yet");
    bench.done(add_service("web", "10.0.0.100:80/tcp"));
    assert_eq!(announced(&bench), on_eth0(100));
    bench.done(add_service("tls", "10.0.0.100:443/tcp"));
    bench.controller().tick();
    assert!(announced(&bench).is_empty(), "the VIP is known already");
    bench.done(add_service("dns", "10.0.0.101:53/udp"));
    assert_eq!(announced(&bench), on_eth0(101));

    let mut down = links();
    down.get_mut(&2).unwrap().up = false;
    bench.hear([Event::Links(down)]);
    bench.hear([Event::Links(links())]);
    assert_eq!(announced(&bench), [("eth0".into(), vec![ip(100), ip(101)])], "the link came back");
    assert!(withdrawn(&bench).is_empty());

    bench.done(Request::ServiceRemove { name: "web".into() });
    assert!(withdrawn(&bench).is_empty(), "another service holds the VIP");
    bench.done(Request::ServiceRemove { name: "tls".into() });
    assert_eq!(withdrawn(&bench), on_eth0(100));
    bench.done(Request::Detach(Interfaces::All));
    assert_eq!(withdrawn(&bench), on_eth0(101));
    bench.done(Request::Attach(vec![InterfaceSpec { announce: false, ..InterfaceSpec::new("eth0") }]));
    assert!(announced(&bench).is_empty());
}

#[tokio::test]
async fn requests_wait_for_the_interfaces_and_for_one_that_was_made_just_now() {
    let mut bench = Bench::not_started();
    let (handle, calls) = ControllerHandle::new();
    let (events, arrivals) = tokio::sync::mpsc::channel(8);
    let running = tokio::spawn(serve(bench.controller.take().unwrap(), calls, arrivals));
    let asked = tokio::spawn({
        let handle = handle.clone();
        async move { handle.request(attach("eth0")).await }
    });
    events.send(without("eth0")).await.unwrap();
    tokio::task::yield_now().await;
    events.send(Event::Links(links())).await.unwrap();
    assert!(matches!(asked.await.unwrap(), Ok(Reply::Interfaces(_))));
    let error = handle.request(attach("eth9")).await.unwrap_err();
    assert!(error.to_string().contains("no interface eth9"), "{error}");
    handle.request(Request::Stop { detach: false }).await.unwrap();
    assert!(running.await.unwrap().ended());
    assert_eq!(handle.request(Request::Status).await.unwrap_err().code, ErrorCode::NoController);
}
