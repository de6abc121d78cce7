//! What backends are told of the client, and what it is not their fault that they cannot be told.

use super::*;
use crate::dataplane::proxy::preface::{self, Preface, Transport, Version};

/// Every datagram has the header: a single one, one that is sent again to another backend, each of several that the
/// client's kernel joined (GSO).
#[cfg(target_os = "linux")]
#[test]
fn each_datagram_begins_with_the_addresses_resent_and_joined_ones_too() {
    use std::os::fd::AsFd;

    let server = socket(V6);
    let mut driver = Driver::new(Config::default(), &[closed(V4), server.local_addr().unwrap()]);
    driver.backends.manner = Manner { preface: true, ..Manner::default() };
    let to = driver.listen(V4);
    let client = client(to);
    let addresses = Preface { source: client.local_addr().unwrap(), destination: to };
    let with_header = |payload: &[u8]| {
        let mut datagram = Vec::new();
        preface::write(Version::V2, Transport::Datagram, Some(addresses), &mut datagram);
        datagram.extend_from_slice(payload);
        datagram
    };
    client.send(b"query").unwrap();
    assert_eq!(driver.receive(&server).0, with_header(b"query"));
    assert_eq!(driver.udp.counters().resent, 1);
    let contents: Vec<u8> = (0..10_500).map(|at| (at / 1000) as u8).collect();
    let joined = sys::Outgoing { before: &[], contents: &contents, segment: 1000, to: None, from: None };
    sys::send(client.as_fd(), std::iter::once(joined)).unwrap();
    for part in contents.chunks(1000) {
        assert!(driver.receive(&server).0 == with_header(part));
    }
}

/// A client without an address of a backend's family cannot be seen by it: that backend is passed over for this client,
/// and nothing is held against it.
#[test]
fn a_backend_is_not_blamed_for_a_client_of_the_other_family() {
    let server = socket(V6);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    driver.backends.manner = Manner { transparent: true, ..Manner::default() };
    let client = client(driver.listen(V4));
    client.send(b"query").unwrap();
    driver.until(|driver| driver.udp.counters().dropped.no_backend == 1);
    assert_eq!(driver.backends.failed, [0; 0]);
}
