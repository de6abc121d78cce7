//! Every packet is counted once on a network, too: what a client sends is what pen counts as forwarded, and of that, what the
//! backend does not receive is what the driver says it lost (`tx_errors`), to the last frame.
//!
//! Exact, because nothing else can lose a frame here: a client sends no more at a time than a queue holds, and the next ones when
//! the last ones have arrived. Where queues before the balancer or behind the driver overflow, nobody at pen can know.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use pen_common::host::frames::{self, Ethernet, kind};
use xtask::lab::address::{Family, vip};
use xtask::lab::await_that;
use xtask::lab::cluster::Cluster;
use xtask::lab::namespace::Namespace;
use xtask::lab::second::{self, INTERFACE, PORT, SecondLink};
use xtask::lab::sys::{PacketSocket, set_receive_offload};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// Frames sent at a time: a quarter of what a veth queues.
const BATCH: u64 = 64;
/// Batches that are lost, and as many that arrive.
const BATCHES: u64 = 16;
const UDP_PORT: u16 = 9000;
const BALANCER: [u8; 6] = [2, 0x70, 0x65, 0x6e, 3, 1];
const CLIENT: [u8; 6] = [2, 0x70, 0x65, 0x6e, 2, 1];
const BOUND: Duration = Duration::from_secs(20);

/// The clients behind the balancer's second interface, and what they send.
struct Clients {
    /// In their namespace, whoever sends by it; opened once, because the kernel takes long to close one.
    socket: PacketSocket,
    frame: Vec<u8>,
}

impl Clients {
    fn of(second: &SecondLink) -> Self {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (second::client(Family::V4), vip(Family::V4, 1)) else {
            panic!("IPv4 addresses of IPv4");
        };
        let datagram = frames::udp(40_000, UDP_PORT, b"count me");
        let link = Ethernet { to: BALANCER, from: CLIENT, vlans: vec![] };
        let frame = link.frame(kind::IPV4, &frames::ipv4(from, to, 17, &[], 0x4000, &datagram));
        Self { socket: second.client.run(PacketSocket::open).unwrap(), frame }
    }

    /// Sends so many batches, each when `arrived` says that all before it are there; gives the number of frames.
    fn send(&self, batches: u64, mut arrived: impl FnMut() -> u64) -> u64 {
        let before = arrived();
        for batch in 1..=batches {
            (0..BATCH).for_each(|_| self.socket.send("eth0", &self.frame).unwrap());
            await_that("a batch to arrive", BOUND, || {
                let there = arrived() - before;
                Ok(if there >= batch * BATCH { Ok(()) } else { Err(there) })
            })
            .unwrap();
        }
        batches * BATCH
    }
}

/// How many frames an interface received (`/proc/net/dev`).
fn received(namespace: &Namespace, interface: &str) -> u64 {
    let table = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev")).unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_is_forwarded_and_does_not_arrive_is_in_tx_errors() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    let mut second = SecondLink::build(&cluster.lab).unwrap();
    second.move_behind(&cluster.lab, &cluster.lab.backends[0]).unwrap();
    // Without a program at the other end, or GRO there, a veth takes nothing that XDP sends.
    second.join_without_program(&cluster.lab, 1).unwrap();
    let pen = cluster.pen();
    pen.ok(&format!("attach {INTERFACE}")).unwrap();
    let backend = cluster.address(Family::V4, "b1");
    pen.ok(&format!("service add count {}:{UDP_PORT}/udp --health none", vip(Family::V4, 1))).unwrap();
    pen.ok(&format!("backend add count {backend}")).unwrap();
    pen.await_serving("count", &[backend]).unwrap();

    let (balancer, server) = (&cluster.lab.balancers[0].namespace, &cluster.lab.backends[0].namespace);
    let clients = Clients::of(&second);
    let datagrams = || server.udp_datagrams().unwrap();
    let before = datagrams();
    let lost = clients.send(BATCHES, || received(balancer, INTERFACE));
    assert_eq!(datagrams(), before, "something arrived that could not");
    cluster.lab.switch.run(|| set_receive_offload(PORT, true)).unwrap();
    let arrived = clients.send(BATCHES, datagrams);

    // The driver's numbers in `status` are some seconds old.
    let status = pen
        .await_status("the losses", |status| {
            status.interfaces.iter().any(|one| one.name == INTERFACE && one.tx_errors == Some(lost))
        })
        .unwrap();
    let service = status.services.iter().find(|service| service.name == "count").unwrap();
    let sent = lost + arrived;
    let bytes = sent * clients.frame.len() as u64;
    assert_eq!((service.packets, service.bytes), (sent, bytes), "sent, and counted as forwarded");
    assert_eq!(service.packets, datagrams() - before + lost, "forwarded: received, or in tx_errors");
}
