//! Backends that refuse, are silent, are full, or come back; and very many connections.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use pen_ctl::dataplane::proxy::endpoint::Endpoint;
use pen_ctl::dataplane::proxy::pool::BackendConfig;
use pen_ctl::dataplane::proxy::single::Single;
use pen_ctl::dataplane::{Scheduler, Tracking};

use crate::place::{
    PATIENCE, assert_echoes, config, connect, echo, echo_with_name, eventually, name, nobody, serve_on,
    silent, turns, with,
};

#[test]
fn a_backend_that_refuses_costs_no_client_its_connection_and_is_asked_once() {
    let proxy = Single::start(turns(&[nobody(), echo(1), echo(2)])).unwrap();
    let names: Vec<u8> = (0..60).map(|_| name(&mut connect(&proxy))).collect();
    assert!(names.iter().filter(|name| **name == 1).count().abs_diff(30) <= 1, "{names:?}");
    let statistics = proxy.statistics();
    assert_eq!(statistics.turned_away, 0);
    assert_eq!(statistics.backends[0].totals.failures, 1, "left out after the first");
    assert!(statistics.backends[0].failing && !statistics.backends[1].failing);
}

#[test]
fn a_backend_comes_back_by_itself() {
    let address = nobody();
    let proxy = Single::start(with(turns(&[address, echo(2)]), |settings| {
        settings.out_for = Duration::from_millis(100)
    }))
    .unwrap();
    assert_eq!(name(&mut connect(&proxy)), 2);
    serve_on(TcpListener::bind(address).unwrap(), |stream| echo_with_name(stream, 1));
    eventually("the backend is back", || name(&mut connect(&proxy)) == 1);
    assert!(!proxy.statistics().backends[0].failing);
}

#[test]
fn a_silent_backend_delays_a_client_and_loses_none() {
    let (silent, _kept) = silent();
    let config =
        with(turns(&[silent, echo(2)]), |settings| settings.connect_timeout = Duration::from_millis(200));
    let proxy = Single::start(config).unwrap();
    for _ in 0..10 {
        let mut client = connect(&proxy);
        assert_eq!(name(&mut client), 2);
        assert_echoes(&mut client);
    }
    assert_eq!(proxy.statistics().backends[0].totals.failures, 1);
}

#[test]
fn where_everybody_refuses_the_client_is_reset_and_nobody_is_given_up() {
    let (one, other) = (nobody(), nobody());
    let proxy = Single::start(turns(&[one, other])).unwrap();
    for _ in 0..3 {
        let error = connect(&proxy).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(proxy.statistics().turned_away, 3);
    serve_on(TcpListener::bind(other).unwrap(), |stream| echo_with_name(stream, 1));
    assert_eq!(name(&mut connect(&proxy)), 1, "the very next client, although it has failed just now");
}

#[test]
fn a_full_backend_gets_nobody_and_one_that_has_room_again_does() {
    let mut config = turns(&[echo(1), echo(2)]);
    for (BackendConfig { soft_limit, hard_limit, .. }, max) in config.backends.iter_mut().zip([1, 2]) {
        (*soft_limit, *hard_limit) = (Some(max), Some(max));
    }
    let proxy = Single::start(config).unwrap();
    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(&proxy)).collect();
    let mut names: Vec<u8> = clients.iter_mut().map(name).collect();
    names.sort_unstable();
    assert_eq!(names, [1, 2, 2]);
    assert!(connect(&proxy).read(&mut [0]).is_err(), "no room");
    clients.clear();
    eventually("they have gone", || proxy.statistics().backends.iter().all(|backend| backend.open == 0));
    name(&mut connect(&proxy));
}

#[test]
fn a_client_goes_back_to_its_backend() {
    let backends: Vec<SocketAddr> = (0..5).map(echo).collect();
    for (scheduler, tracking) in [
        (Scheduler::Maglev, Tracking::Full),
        (Scheduler::Maglev, Tracking::Off),
        (Scheduler::RoundRobin, Tracking::Full),
    ] {
        let proxy = Single::start(config("127.0.0.1:0", &backends, scheduler, tracking)).unwrap();
        let first = name(&mut connect(&proxy));
        assert!((0..20).all(|_| name(&mut connect(&proxy)) == first), "{scheduler:?} {tracking:?}");
    }
}

#[test]
fn a_client_of_ipv6_is_brought_to_a_backend_of_ipv4() {
    let proxy = Single::start(config("[::1]:0", &[echo(1)], Scheduler::Maglev, Tracking::Full)).unwrap();
    let mut client = connect(&proxy);
    assert_eq!(name(&mut client), 1);
    assert_echoes(&mut client);
    assert_eq!(proxy.statistics().remembered, 1);
}

#[test]
fn twelve_hundred_connections_at_once_just_work() {
    let proxy = Single::start(turns(&[echo(1), echo(2)])).unwrap();
    let mut clients: Vec<TcpStream> = (0..1200).map(|_| connect(&proxy)).collect();
    for client in &mut clients {
        name(client);
    }
    clients.iter_mut().for_each(assert_echoes);
    assert_eq!(proxy.statistics().backends.iter().map(|backend| backend.open).sum::<u32>(), 1200);
    drop(clients);
    eventually("all have gone", || proxy.statistics().backends.iter().all(|backend| backend.open == 0));
}

#[test]
fn a_unix_socket_where_too_many_wait_is_passed_over_in_time_and_holds_up_nobody_else() {
    use std::os::unix::net::UnixStream;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stuck");
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let _waits = UnixStream::connect(&path).unwrap();
    let mut config = turns(&[nobody(), echo(2)]);
    config.workers = 1;
    config.backends[0].endpoint = Endpoint::Unix(path);
    let patience = Duration::from_secs(2);
    let proxy = Single::start(with(config, |settings| settings.connect_timeout = patience)).unwrap();
    let mut stuck = connect(&proxy);
    eventually("it waits for the first", || proxy.statistics().backends[0].open == 1);
    let mut other = connect(&proxy);
    other.set_read_timeout(Some(patience / 2)).unwrap();
    assert_eq!(name(&mut other), 2, "while the first one still waits");
    assert_eq!(name(&mut stuck), 2);
    assert_eq!(proxy.statistics().backends[0].totals.failures, 1);
}

#[test]
fn a_unix_socket_where_too_many_wait_serves_as_soon_as_there_is_room() {
    use std::os::unix::net::UnixStream;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy");
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let _waits = UnixStream::connect(&path).unwrap();
    let mut config = turns(&[nobody()]);
    config.backends[0].endpoint = Endpoint::Unix(path);
    let proxy = Single::start(with(config, |settings| settings.connect_timeout = 10 * PATIENCE)).unwrap();
    let mut client = connect(&proxy);
    eventually("it waits", || proxy.statistics().backends[0].open == 1);
    listener.accept().unwrap();
    let (backend, _) = listener.accept().unwrap();
    backend.send(b"\x07").unwrap();
    assert_eq!(name(&mut client), 7);
}
