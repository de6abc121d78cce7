//! Backends that refuse, are silent or hang behind the controller, and come back.

use std::net::{Ipv4Addr, SocketAddr};

use pen_ctl::dataplane::HealthStatus;

use crate::load::{Client, Load, Way};
use crate::place::{HEALTH, Pen, eventually};
use crate::servers::{Broken, Fault, Server, connect_from, echo, name};

/// Where backend N listens.
fn backend(pen: &Pen, number: u8) -> SocketAddr {
    pen.at(200 + number, 9000)
}

/// A service `web` with three backends and one that serves when nobody else does, number 9.
fn web(pen: &mut Pen, words: &str) -> (SocketAddr, Vec<Option<Server>>) {
    let vip = pen.at(1, 8080);
    let servers: Vec<_> =
        [1, 2, 3, 9].into_iter().map(|one| Some(Server::tcp(one, backend(pen, one)))).collect();
    pen.start("--dataplane proxy");
    pen.ok(&format!("service add web {vip}/tcp {words}"));
    for number in [1, 2, 3] {
        pen.ok(&format!("backend add web {}", backend(pen, number)));
    }
    pen.ok(&format!("backend add web {} --priority 1", backend(pen, 9)));
    pen.await_serving("web", &[1, 2, 3].map(|one| backend(pen, one)));
    (vip, servers)
}

/// Clients on new and on kept connections, each with an address of its own.
fn clients(pen: &Pen, vip: SocketAddr) -> Vec<Client> {
    let way = |host| if host % 3 == 0 { Way::Kept } else { Way::New };
    (10..34).map(|host| (way(host), pen.ip(host).into(), vip)).collect()
}

/// One, two, all backends fail, then the emergency's too; then they come back one by one. A client loses at most what
/// was under way to a server that died, moves, and stays where it moved to.
fn failover(fault: Fault) {
    let mut pen = Pen::new();
    let (vip, mut servers) = web(&mut pen, &format!("--health {HEALTH} --connect-timeout 300ms"));
    let load = Load::of(clients(&pen, vip));
    let mut broken = Vec::new();
    let serving: [&[u8]; 3] = [&[2, 3], &[3], &[9]];
    for (dead, serving) in (0..3).zip(serving) {
        let before = load.ledger();
        let number = servers[dead].take().unwrap().name;
        broken.push(Broken::with(fault, backend(&pen, number)));
        load.await_answers(3);
        let after = load.ledger();
        for (client, record) in &after {
            let (was, lost) = (before[client].by.last(), record.failed.len() - before[client].failed.len());
            let theirs = was == Some(&number) || before[client].by.contains(&number);
            assert!(lost <= usize::from(theirs), "{number} died, {client:?}: {record:?}; log: {}", pen.log());
            assert!(theirs || record.by == before[client].by, "{client:?} was not on {number}: {record:?}");
            assert_ne!(record.by.last(), Some(&number), "{client:?}");
        }
        let serving: Vec<_> = serving.iter().map(|one| backend(&pen, *one)).collect();
        pen.await_serving("web", &serving);
    }
    // The last one: nobody is left, and whoever comes is told so at once, not left waiting.
    servers[3] = None;
    broken.push(Broken::with(fault, backend(&pen, 9)));
    pen.await_serving("web", &[]);
    assert!(connect_from(pen.ip(99).into(), vip).and_then(|mut stream| name(&mut stream)).is_err());
    // Back, one by one: everybody is served again, and whoever has a backend keeps it.
    broken.clear();
    servers[1] = Some(Server::tcp(2, backend(&pen, 2)));
    pen.await_serving("web", &[backend(&pen, 2)]);
    load.await_answers(3);
    let before = load.ledger();
    assert!(before.values().all(|record| record.by.last() == Some(&2)), "{before:?}");
    for (place, number) in [(0, 1), (2, 3), (3, 9)] {
        servers[place] = Some(Server::tcp(number, backend(&pen, number)));
    }
    pen.await_serving("web", &[1, 2, 3].map(|one| backend(&pen, one)));
    load.await_answers(3);
    let after = load.ledger();
    for (client, record) in &after {
        assert_eq!((&record.by, &record.failed), (&before[client].by, &before[client].failed), "{client:?}");
    }
    // Newcomers are for all that are back.
    let mut newcomers: Vec<u8> =
        (100..160).map(|host| name(&mut connect_from(pen.ip(host).into(), vip).unwrap()).unwrap()).collect();
    newcomers.sort_unstable();
    newcomers.dedup();
    assert_eq!(newcomers, [1, 2, 3]);
    load.end().say(&format!("backends that had died: {fault:?}"));
}

#[test]
fn backends_that_refuse_cost_a_client_what_was_under_way_and_nothing_else() {
    failover(Fault::Refuses);
}

#[test]
fn backends_that_are_silent_cost_a_client_what_was_under_way_and_nothing_else() {
    failover(Fault::IsSilent);
}

/// Nothing can be seen of it from outside: the administrator takes it down, and its clients are free again.
#[test]
fn a_backend_that_hangs_disturbs_only_its_own_clients_until_it_is_taken_down() {
    let mut pen = Pen::new();
    let (vip, mut servers) = web(&mut pen, &format!("--health {HEALTH} --on-down close"));
    let load = Load::of(clients(&pen, vip));
    let before = load.ledger();
    servers[0] = None;
    let _hanging = Broken::with(Fault::Hangs, backend(&pen, 1));
    let others = |record: &crate::load::Record| record.by != [1];
    eventually("the others are served", || {
        let ledger = load.ledger();
        let mut served = ledger.iter().filter(|(_, record)| others(record));
        served.all(|(client, record)| record.answered > before[client].answered + 10)
    });
    pen.ok(&format!("backend set web {} --state down", backend(&pen, 1)));
    load.await_answers(3);
    for (client, record) in load.ledger() {
        // One died with the server, one hung.
        let most = if before[&client].by == [1] { 2 } else { 0 };
        assert!(record.failed.len() <= most, "{client:?}: {record:?}");
        assert_ne!(record.by.last(), Some(&1));
    }
}

/// With checks an hour apart only connections tell.
#[test]
fn what_connections_meet_counts_before_the_check_sees_it_and_is_shown_as_the_reason() {
    let mut pen = Pen::new();
    let (vip, mut servers) = web(&mut pen, "--health tcp,interval=1h --scheduler round-robin --tracking off");
    let dead = backend(&pen, 1);
    servers[0] = None;
    for host in 10..40 {
        let mut stream = connect_from(pen.ip(host).into(), vip).unwrap();
        assert_ne!(name(&mut stream).unwrap(), 1);
        echo(&mut stream, b"hello").unwrap();
    }
    let shown = pen.await_backend(("web", dead), "it is shown as left out", |one| !one.serving);
    assert_eq!(shown.health.status, HealthStatus::Up, "{shown:?}");
    let reason = shown.reason.clone().unwrap_or_default();
    assert!(reason.contains("connect: ") && reason.contains("refused"), "{shown:?}");
    assert_eq!(shown.connections.as_ref().unwrap().failed, 1, "asked once: {shown:?}");
    assert!(pen.ok("status").contains("refused"), "{}", pen.ok("status"));
    // Back: one connection tries it, the rest follow.
    servers[0] = Some(Server::tcp(1, dead));
    eventually("it gets connections again", || {
        let mut stream = connect_from(pen.ip(50).into(), vip).unwrap();
        name(&mut stream).unwrap() == 1
    });
    pen.await_backend(("web", dead), "it is shown as serving", |one| one.serving && one.reason.is_none());
}

#[test]
fn tcp_is_checked_where_nothing_is_said_and_udp_is_not() {
    let mut pen = Pen::new();
    pen.start("--dataplane proxy");
    for (service, protocol) in [("web", "tcp"), ("dns", "udp")] {
        pen.ok(&format!("service add {service} {}/{protocol}", pen.at(1, 8080)));
        pen.ok(&format!("backend add {service} {}", pen.at(201, 9000)));
    }
    pen.await_serving("dns", &[pen.at(201, 9000)]);
    let shown = pen.await_backend(("web", pen.at(201, 9000)), "checked and down", |one| {
        one.health.status == HealthStatus::Down
    });
    assert!(shown.reason.as_deref().is_some_and(|reason| reason.contains("refused")), "{shown:?}");
    let _server = Server::tcp(1, pen.at(201, 9000));
    pen.await_serving("web", &[pen.at(201, 9000)]);
}

#[test]
fn newcomers_are_shared_by_weight() {
    let mut pen = Pen::new();
    let vip = pen.at(1, 8080);
    let _servers = [1, 2, 3].map(|one| Server::tcp(one, backend(&pen, one)));
    pen.start("--dataplane proxy");
    for (service, at, words) in
        [("turns", vip, "--scheduler round-robin --tracking off"), ("hash", pen.at(2, 8080), "")]
    {
        pen.ok(&format!("service add {service} {at}/tcp {words}"));
        for number in [1, 2, 3] {
            pen.ok(&format!("backend add {service} {} --weight {number}", backend(&pen, number)));
        }
        pen.await_serving(service, &[1, 2, 3].map(|one| backend(&pen, one)));
    }
    let count = |to: SocketAddr, clients: &mut dyn Iterator<Item = Ipv4Addr>| {
        let mut count = [0_u16; 3];
        for client in clients {
            let name = name(&mut connect_from(client.into(), to).unwrap()).unwrap();
            count[usize::from(name) - 1] += 1;
        }
        count
    };
    // Each worker takes turns of its own.
    let [one, two, three] = count(vip, &mut (10..190).map(|host| pen.ip(host)));
    assert!(
        u16::abs_diff(one, 30) <= 4 && u16::abs_diff(two, 60) <= 4 && u16::abs_diff(three, 90) <= 4,
        "{one} {two} {three}"
    );
    // The seed is drawn: so many clients that chance cannot change the order (five standard deviations). Nobody's blocks
    // of addresses begin with these numbers.
    let [_, _, block, _] = pen.ip(0).octets();
    let mut clients =
        (251..=255).flat_map(|test| (1..=180).map(move |host| Ipv4Addr::new(127, test, block, host)));
    let [one, two, three] = count(pen.at(2, 8080), &mut clients);
    assert!(one < two && two < three && one > 75, "{one} {two} {three}");
}

#[test]
fn udp_finds_out_by_itself_who_is_dead_or_mute() {
    let mut pen = Pen::new();
    let vip = pen.at(1, 5353);
    let mut servers = [1, 2, 3].map(|one| Some(Server::udp(one, backend(&pen, one))));
    pen.start("--dataplane proxy");
    pen.ok(&format!("service add dns {vip}/udp"));
    for number in [1, 2, 3] {
        pen.ok(&format!("backend add dns {}", backend(&pen, number)));
    }
    pen.await_serving("dns", &[1, 2, 3].map(|one| backend(&pen, one)));
    let way = |host| if host % 2 == 0 { Way::Udp } else { Way::UdpNewPort };
    let load = Load::of((10..34).map(|host| (way(host), pen.ip(host).into(), vip)));
    // Refused by ICMP: the next one is asked at once, and nothing is lost.
    let before = load.ledger();
    servers[0] = None;
    load.await_answers(5);
    let seen = load.end();
    seen.say("one of three DNS servers was killed");
    for (client, record) in &seen.0 {
        let was = &before[client].by;
        assert!(was == &[1] || record.by == *was, "{client:?}: {record:?}");
        // What the dying one had read is lost, and nothing else.
        assert!(record.failed.len() <= usize::from(was == &[1]), "{client:?}: {record:?}");
    }
    let shown = pen.backend("dns", backend(&pen, 1));
    assert!(
        shown.reason.as_deref().is_some_and(|reason| reason.contains("unreachable: Connection refused")),
        "{shown:?}"
    );
}
