//! Faults of the classic pen that are not ours. Those that are tested elsewhere:
//!
//! | classic pen | the test here |
//! | --- | --- |
//! | loses every second connection for good where one of two backends refuses | `failover::a_backend_that_refuses_costs_no_client_its_connection_and_is_asked_once`, `failover::a_backend_comes_back_by_itself` |
//! | does not see that a backend of UDP is dead | `udp::every_query_is_answered_though_one_backend_is_dead` |
//! | loses an answer that comes after the client has ended its side | `streams::an_answer_that_comes_long_after_the_client_has_ended_its_side_arrives` |
//! | stops at 500 connections without a word | `failover::twelve_hundred_connections_at_once_just_work` |

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use pen_ctl::dataplane::proxy::endpoint::Endpoint;
use pen_ctl::dataplane::proxy::single::{Config, Single};
use pen_ctl::dataplane::{Protocol, Scheduler, Tracking};

use crate::place::{config, connect_from, echo, name, turns};
use crate::udp;

#[test]
fn clients_of_one_network_are_spread_over_all_backends() {
    let backends: Vec<SocketAddr> = (0..4).map(echo).collect();
    let proxy = Single::start(config("127.0.0.1:0", &backends, Scheduler::Maglev, Tracking::Off)).unwrap();
    let mut seen = [0; 4];
    for host in 1..=254 {
        seen[usize::from(name(&mut connect_from([127, 0, 0, host], &proxy)))] += 1;
    }
    // Of 254 draws among four, fewer than 25 for one of them happen less than once in ten million times.
    assert!(seen.iter().all(|clients| *clients >= 25), "{seen:?}");
}

#[test]
fn datagrams_of_ipv6_clients_reach_backends_of_both_families_and_are_answered() {
    for backend in ["127.0.0.1:0", "[::1]:0"] {
        let socket = UdpSocket::bind(backend).unwrap();
        let mut config = turns(&[socket.local_addr().unwrap()]);
        config.listen = vec![Endpoint::Inet("[::1]:0".parse().unwrap())];
        let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((length, from)) = socket.recv_from(&mut buffer[1..]) {
                buffer[0] = 7;
                socket.send_to(&buffer[..=length], from).unwrap();
            }
        });
        for _ in 0..3 {
            assert_eq!(udp::ask(&udp::client(&proxy)), 7);
        }
    }
}
