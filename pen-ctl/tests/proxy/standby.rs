//! What becomes of clients when their backend fails: somebody who stands by, or nobody.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use pen_ctl::dataplane::Protocol;
use pen_ctl::dataplane::proxy::endpoint::Endpoint;
use pen_ctl::dataplane::proxy::pool::{BackendConfig, Role};
use pen_ctl::dataplane::proxy::single::{Config, Single};

use crate::place::{connect, echo, echo_with_name, eventually, name, nobody, serve_on, turns, with};
use crate::udp;

/// The same with those, who stand by in this order.
fn standing_by(mut config: Config, backends: &[SocketAddr]) -> Config {
    let roles = (1..).map(Role::Standby);
    let standby = backends
        .iter()
        .zip(roles)
        .map(|(address, role)| BackendConfig { role, ..BackendConfig::new(Endpoint::Inet(*address)) });
    config.backends.extend(standby);
    config
}

#[test]
fn who_stands_by_serves_only_while_everybody_else_fails_and_in_order() {
    let (serving, first) = (nobody(), nobody());
    let config = standing_by(turns(&[serving, nobody()]), &[first, echo(9)]);
    let proxy =
        Single::start(with(config, |settings| settings.out_for = Duration::from_millis(100))).unwrap();
    assert!((0..10).all(|_| name(&mut connect(&proxy)) == 9), "nobody else is left");
    serve_on(TcpListener::bind(first).unwrap(), |stream| echo_with_name(stream, 8));
    eventually("the first one to stand by has come", || name(&mut connect(&proxy)) == 8);
    serve_on(TcpListener::bind(serving).unwrap(), |stream| echo_with_name(stream, 1));
    eventually("one who serves has come", || name(&mut connect(&proxy)) == 1);
    assert!((0..10).all(|_| name(&mut connect(&proxy)) == 1), "nobody stands in for long");
    assert_eq!(proxy.statistics().turned_away, 0);
}

#[test]
fn who_stands_by_takes_whom_those_who_serve_have_no_room_for() {
    let mut config = standing_by(turns(&[echo(1), echo(2)]), &[echo(9)]);
    for serving in &mut config.backends[..2] {
        serving.soft_limit = Some(1);
    }
    config.backends[2].soft_limit = Some(2);
    let proxy = Single::start(config).unwrap();
    let come = || {
        let mut client = connect(&proxy);
        (name(&mut client), client)
    };
    let mut clients: Vec<_> = (0..4).map(|_| come()).collect();
    let mut names: Vec<u8> = clients.iter().map(|(name, _)| *name).collect();
    names[..2].sort_unstable();
    assert_eq!(names, [1, 2, 9, 9]);
    let refused = connect(&proxy).read(&mut [0]).unwrap_err().kind();
    assert_eq!(refused, ErrorKind::ConnectionReset, "nobody at all has room");
    clients.retain(|(name, _)| *name != 1);
    eventually("there is room again", || proxy.statistics().backends[0].open == 0);
    assert_eq!(come().0, 1, "who serves comes first");
}

#[test]
fn who_stands_by_takes_datagrams_while_everybody_else_fails() {
    let config = standing_by(turns(&[udp::nobody()]), &[udp::echo(9)]);
    let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
    for _ in 0..5 {
        assert_eq!(udp::ask(&udp::client(&proxy)), 9);
    }
}

#[test]
fn a_stubborn_service_turns_away_who_met_the_failure_and_nobody_else() {
    let config = with(turns(&[nobody(), echo(2)]), |settings| settings.stubborn = true);
    let proxy = Single::start(config).unwrap();
    assert_eq!(connect(&proxy).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!((0..10).all(|_| name(&mut connect(&proxy)) == 2));
    assert_eq!(proxy.statistics().turned_away, 1);
}

#[test]
fn a_stubborn_service_of_udp_drops_what_met_the_failure_and_nothing_else() {
    let config = with(turns(&[udp::nobody(), udp::echo(2)]), |settings| settings.stubborn = true);
    let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
    let unlucky = udp::client(&proxy);
    unlucky.send(b"lost").unwrap();
    eventually("it is turned away", || proxy.statistics().turned_away == 1);
    for _ in 0..5 {
        assert_eq!(udp::ask(&udp::client(&proxy)), 2);
    }
    assert_eq!(udp::ask(&unlucky), 2, "what it sends now meets no failure, and what was lost stays so");
}
