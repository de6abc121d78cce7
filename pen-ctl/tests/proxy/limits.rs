//! How many connections there may be, and where the next one goes.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use pen_ctl::dataplane::proxy::single::{Config, Single};
use pen_ctl::dataplane::{Scheduler, Tracking};

use crate::place::{
    PATIENCE, address, assert_echoes, config, connect, connect_from, echo, eventually, name, patient, turns,
    with,
};

#[test]
fn there_are_never_more_than_the_most_connections_and_who_waits_is_served() {
    for most in [1, 5] {
        let config = with(turns(&[echo(1), echo(2)]), |settings| settings.max_connections = Some(most));
        let proxy = Single::start(Config { workers: 4, ..config }).unwrap();
        let (now, peak) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let mut client = connect(&proxy);
                        name(&mut client);
                        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        assert_echoes(&mut client);
                        now.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        assert!(peak.load(SeqCst) <= most, "{peak:?} of {most}");
        let statistics = proxy.statistics();
        assert_eq!((statistics.accepted, statistics.turned_away), (200, 0));
    }
}

/// Who waits for a limit must not keep the sockets open for others to come.
#[test]
fn draining_ends_although_somebody_waits_for_room() {
    let config = with(turns(&[echo(1)]), |settings| settings.max_connections = Some(1));
    let proxy = Single::start(Config { workers: 1, ..config }).unwrap();
    let mut first = connect(&proxy);
    name(&mut first);
    let _waiting = connect(&proxy);
    let to = address(&proxy);
    proxy.drain();
    eventually("nobody new can come", || TcpStream::connect(to).is_err());
    assert_echoes(&mut first);
    drop(first);
    proxy.workers().join().unwrap();
}

#[test]
fn a_burst_of_five_hundred_is_neither_refused_nor_lost_while_nobody_is_accepted() {
    let config = with(turns(&[echo(1)]), |settings| settings.max_connections = Some(1));
    let proxy = Single::start(Config { workers: 1, ..config }).unwrap();
    let mut first = connect(&proxy);
    name(&mut first);
    let to = address(&proxy);
    let waiting: Vec<TcpStream> =
        (0..500).map(|_| patient(TcpStream::connect_timeout(&to, PATIENCE).unwrap())).collect();
    assert_eq!(proxy.statistics().accepted, 1);
    drop(first);
    for mut client in waiting {
        name(&mut client);
    }
    let statistics = proxy.statistics();
    assert_eq!((statistics.accepted, statistics.turned_away), (501, 0));
}

#[test]
fn from_the_soft_limit_on_a_backend_gets_only_whom_it_had_and_from_the_hard_one_on_nobody() {
    let mut config = config("127.0.0.1:0", &[echo(1), echo(2)], Scheduler::Maglev, Tracking::Full);
    config.backends[0].soft_limit = Some(1);
    config.backends[0].hard_limit = Some(2);
    let proxy = Single::start(config).unwrap();
    let comes = |host| {
        let mut client = connect_from([127, 0, 0, host], &proxy);
        (name(&mut client), client)
    };
    // Whose slot is the first backend's.
    let (old, _first) = (1..100).map(|host| (host, comes(host))).find(|(_, (name, _))| *name == 1).unwrap();
    let newcomers: Vec<_> = (100..200).map(comes).collect();
    assert!(newcomers.iter().all(|(name, _)| *name == 2), "it is at its soft limit");
    let (second, _second) = comes(old);
    assert_eq!(second, 1, "it had this client before");
    let (third, _third) = comes(old);
    assert_eq!(third, 2, "it is at its hard limit");
}

#[test]
fn the_next_connection_goes_to_who_has_fewest_for_its_weight() {
    let mut config = config("127.0.0.1:0", &[echo(1), echo(2)], Scheduler::LeastConnections, Tracking::Off);
    config.backends[1].weight = 2;
    let proxy = Single::start(config).unwrap();
    let comes = || {
        let mut client = connect(&proxy);
        (name(&mut client), client)
    };
    let mut clients: Vec<(u8, TcpStream)> = (0..9).map(|_| comes()).collect();
    let of = |clients: &[(u8, TcpStream)], wanted| clients.iter().filter(|(name, _)| *name == wanted).count();
    assert_eq!((of(&clients, 1), of(&clients, 2)), (3, 6));
    clients.retain(|(name, _)| *name == 1);
    eventually("those of the second have gone", || proxy.statistics().backends[1].open == 0);
    clients.extend((0..6).map(|_| comes()));
    assert_eq!((of(&clients, 1), of(&clients, 2)), (3, 6), "the second one has room for six");
}

#[test]
fn clients_of_udp_beyond_the_most_get_no_session_until_one_has_ended() {
    use crate::udp;
    use pen_ctl::dataplane::Protocol;
    use std::time::Duration;

    let backends: Vec<SocketAddr> = vec![udp::echo(1)];
    let config = with(turns(&backends), |settings| {
        settings.max_connections = Some(1);
        settings.idle_timeout = Duration::from_millis(300);
    });
    let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
    let (first, second) = (udp::client(&proxy), udp::client(&proxy));
    assert_eq!(udp::ask(&first), 1);
    second.send(b"too many").unwrap();
    eventually("the second one is turned away", || proxy.statistics().turned_away == 1);
    eventually("the first one has ended", || proxy.statistics().backends[0].open == 0);
    assert_eq!(udp::ask(&second), 1);
}
