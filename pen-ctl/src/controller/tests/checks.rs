//! How backends are checked where nothing is said, and what comes of what their agents ask for.

use super::*;
use crate::api::event::{self as events, Filter};
use crate::dataplane::Kind;

/// What backends of a service of that VIP are asked by a controller of that data plane, as it is written.
fn default_check(kind: Kind, vip: &str) -> String {
    let mut bench = Bench::new();
    bench.plane.lock().kind = kind;
    bench.done(add_service("one", vip));
    bench.done(add_backend("one", 11));
    let shown = bench.status().services[0].health.name().to_owned();
    let probes = bench.asked.0.lock().unwrap().probes.clone();
    let asked = probes.first().map_or("none", |probe| probe.check.kind.name());
    assert_eq!(shown, asked);
    shown
}

#[test]
fn each_service_is_checked_by_default_as_its_port_and_the_data_plane_allow() {
    for (vip, xdp, proxy) in [
        ("10.0.0.100:80/tcp", "tcp", "tcp"),
        ("10.0.0.100:53/tcp", "tcp", "tcp"),
        ("10.0.0.100:53/udp", "dns", "dns"),
        ("10.0.0.100:514/udp", "icmp", "none"),
    ] {
        assert_eq!(default_check(Kind::Xdp, vip), xdp, "{vip}");
        assert_eq!(default_check(Kind::Proxy, vip), proxy, "{vip}");
    }
    assert_eq!(default_check(Kind::Xdp, "10.0.0.100:*/tcp"), "icmp");
    assert_eq!(default_check(Kind::Xdp, "10.0.0.100:*/udp"), "icmp");
}

fn unasked(n: u8, status: HealthStatus) -> Event {
    let detail = "not checked: no such file".to_owned();
    let (ground, advice) = (Ground::Unasked, Advice::default());
    Event::Health { key: vip(), address: at(n), status, detail, ground, advice }
}

#[test]
fn whoever_serves_unasked_is_a_warning_while_it_lasts_and_an_event_if_it_does() {
    let mut bench = Bench::with_web();
    let troubles = |bench: &mut Bench| -> Vec<String> {
        let filter = Filter { kinds: [events::Kind::Trouble].into(), ..Filter::default() };
        let events = bench.controller().journal().list(&filter, None, usize::MAX).events;
        events.iter().map(|event| event.message.clone()).collect()
    };
    let words = "health of 1 of its backends stays as it was: not checked: no such file";
    bench.hear([unasked(11, HealthStatus::Up)]);
    assert!(bench.status().warnings.contains(&format!("service web: {words}")));
    bench.controller().tick();
    assert_eq!(troubles(&mut bench), [""; 0], "it may be over in a moment");
    bench.controller().tick();
    bench.controller().tick();
    assert_eq!(troubles(&mut bench), [words], "told once");
    bench.hear([health(11, HealthStatus::Up)]);
    bench.controller().tick();
    assert_eq!(bench.status().warnings, [""; 0]);
    assert_eq!(troubles(&mut bench).len(), 2, "and that it is over");
    // Of one that gets no clients its reason tells.
    bench.hear([health(11, HealthStatus::Down), unasked(11, HealthStatus::Down)]);
    assert_eq!(bench.reason(11), "down when last checked; not checked: no such file");
    assert_eq!(bench.status().warnings, [""; 0]);
}

#[test]
fn one_that_is_back_on_the_link_is_not_said_to_serve_for_a_check_that_failed() {
    let mut bench = Bench::with_web();
    let serving_again = |bench: &mut Bench, ground| {
        let detail = "no answer within 500 ms".to_owned();
        let (status, advice) = (HealthStatus::Up, Advice::default());
        bench.hear([lost(11), Event::Health { key: vip(), address: at(11), status, detail, ground, advice }]);
        bench.hear([found(11)]);
        let filter = Filter { kinds: [events::Kind::Serving].into(), ..Filter::default() };
        let events = bench.controller().journal().list(&filter, None, usize::MAX).events;
        events.last().unwrap().message.clone()
    };
    let failing = "still up, though its latest check failed: no answer within 500 ms";
    assert_eq!(serving_again(&mut bench, Ground::Failing), failing);
    let unasked = "up when last checked; no answer within 500 ms";
    assert_eq!(serving_again(&mut bench, Ground::Unasked), unasked);
}

fn advised(n: u8, advice: Advice) -> Event {
    let detail = "agent says so".to_owned();
    Event::Health {
        key: vip(),
        address: at(n),
        status: HealthStatus::Up,
        detail,
        ground: Ground::Result,
        advice,
    }
}

fn member_weights(bench: &Bench) -> Vec<u16> {
    let plane = bench.plane.lock();
    plane.observed.services[&vip()].members.as_ref().unwrap().iter().map(|member| member.weight).collect()
}

#[test]
fn what_an_agent_asks_for_is_done_and_shown_until_it_is_asked_no_more() {
    let mut bench = Bench::with_web();
    let check = |text: &str| Request::ServiceSet {
        name: "web".into(),
        spec: ServiceSpec { health: Some(Some(text.parse().unwrap())), ..ServiceSpec::default() },
    };
    bench.done(check("agent,port=9000"));
    bench.done(set_backend(11, BackendSpec { weight: Some(100), ..BackendSpec::default() }));
    bench.hear([advised(11, Advice { weight: Some(25), drain: false })]);
    // Eight times as fine, so that there are parts of a weight of 1.
    assert_eq!(member_weights(&bench), [200, 8]);
    let shown = bench.status().services[0].backends[0].clone();
    assert_eq!((shown.weight, shown.effective_weight, shown.serving), (100, Some(25), true));
    let all = bench.controller().journal().list(&Filter::default(), None, usize::MAX).events;
    let told = "its share is 25 % of its weight: agent says so";
    assert_eq!(all.iter().filter(|event| event.message == told).count(), 1);

    bench.hear([advised(11, Advice { weight: Some(25), drain: true })]);
    assert_eq!(bench.members(), [12]);
    assert_eq!(bench.reason(11), "draining: its agent says so");
    assert!(bench.plane.lock().observed.services[&vip()].backends[&at(11)].usable, "it keeps its clients");

    bench.done(check("none"));
    assert_eq!(member_weights(&bench), [100, 1]);
    assert_eq!(bench.status().services[0].backends[0].effective_weight, Some(100));
}

#[test]
fn why_vips_cannot_be_asked_is_a_warning_while_that_is_so() {
    let mut bench = Bench::with_web();
    bench.hear([health(11, HealthStatus::Up), Event::Unaskable(["no tc here".to_owned()].into())]);
    let words = "health checks cannot ask VIPs: no tc here; those that do not insist (way = \"dsr\") ask backends on their own \
                 addresses";
    assert_eq!(bench.status().warnings, [words]);
    bench.hear([Event::Unaskable([].into())]);
    assert_eq!(bench.status().warnings, [""; 0]);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_warned_of_where_it_is_named_and_in_status() {
    let mut bench = Bench::with_web();
    let spec = toml::from_str("on_change = ['/nonexistent/tell']").unwrap();
    let Reply::Service(service) = bench.done(Request::ServiceSet { name: "web".into(), spec }) else {
        panic!()
    };
    assert_eq!(service.warnings, ["on_change: /nonexistent/tell is not there"]);
    let text = "health = { kind = 'exec', command = ['/nonexistent/check'] }";
    let (service, address, spec) = ("web".into(), at(12), toml::from_str(text).unwrap());
    let Reply::Backend(backend) = bench.done(Request::BackendSet { service, address, spec }) else {
        panic!()
    };
    assert_eq!(backend.warnings, ["health check: /nonexistent/check is not there"]);
    let warnings = bench.status().warnings;
    for missing in ["web: on_change: /nonexistent/tell is", "web: health check: /nonexistent/check is"] {
        assert!(warnings.iter().any(|warning| warning.contains(missing)), "{warnings:?}");
    }
}
