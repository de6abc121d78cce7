//! Frames put through the pinned program: what the controller wrote is what packets find.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pen_ctl::dataplane::xdp::XdpPlane;
use pen_ctl::dataplane::{BackendTarget, DataPlane, InterfaceTarget, Mac, Operation};

use crate::kernel;
use crate::place::Place;
use crate::wants::{Do, address, key, serving};

pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;

/// The pinned program, and the interface that its frames come in by.
pub(crate) struct Wire {
    program: OwnedFd,
    interface: InterfaceTarget,
}

impl Wire {
    pub(crate) fn new(place: &Place, interface: &InterfaceTarget) -> Self {
        Self { program: kernel::open_pin(&place.pins().join("progs/xdp")), interface: interface.clone() }
    }

    /// Sends a frame; returns the action and the frame afterwards.
    pub(crate) fn send(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        kernel::run(&self.program, frame, self.interface.ifindex)
    }

    /// A TCP SYN of a client to service 0 that arrives for us.
    pub(crate) fn syn(&self, client: u8) -> Vec<u8> {
        self.syn_from([10, 9, 0, client])
    }

    /// The same of whoever has this address.
    pub(crate) fn syn_from(&self, [a, b, c, d]: [u8; 4]) -> Vec<u8> {
        let mut frame = self.interface.mac.0.to_vec();
        frame.extend([2, 9, 9, 9, 9, d, 0x08, 0x00]);
        frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, a, b, c, d, 10, 0, 0, 100]);
        frame.extend([0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        frame
    }

    /// A TCP SYN to port 80 of an IPv6 address.
    pub(crate) fn syn_v6(&self, client: Ipv6Addr, vip: Ipv6Addr) -> Vec<u8> {
        let mut frame = self.interface.mac.0.to_vec();
        frame.extend([2, 9, 9, 9, 9, 6, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        frame.extend([client.octets(), vip.octets()].concat());
        frame.extend([0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        frame
    }

    /// The number of the backend that a client's packet is sent to.
    pub(crate) fn backend_of(&self, client: u8) -> u8 {
        self.backend_of_frame(client, &self.syn(client))
    }

    /// The same for a packet of a connection that is there already.
    pub(crate) fn backend_of_old(&self, client: u8) -> u8 {
        let mut frame = self.syn(client);
        // The bits of TCP's header that say what a segment is for: ACK alone.
        frame[47] = 0x10;
        self.backend_of_frame(client, &frame)
    }

    /// The number of the backend that a frame is sent to; `client` for who reads of a failure.
    pub(crate) fn backend_of_frame(&self, client: impl std::fmt::Debug, frame: &[u8]) -> u8 {
        let (action, after) = self.send(frame);
        assert_eq!(action, XDP_TX, "client {client:?}");
        assert_eq!(after[..5], [2, 0, 0, 0, 0]);
        assert_eq!(after[6..12], self.interface.mac.0);
        after[5]
    }

    pub(crate) fn everyones_backend(&self) -> BTreeMap<u8, u8> {
        (1..=60).map(|client| (client, self.backend_of(client))).collect()
    }
}

/// A backend behind this interface.
pub(crate) fn behind(interface: &InterfaceTarget, number: u8) -> BackendTarget {
    let mut target = serving(number);
    target.path =
        target.path.map(|path| pen_ctl::dataplane::BackendPath { ifindex: interface.ifindex, ..path });
    target
}

pub(crate) fn set_backend(plane: &mut XdpPlane, number: u8, target: BackendTarget) {
    plane.apply(&Operation::SetBackend { key: key(0), address: address(number), target }).unwrap();
}

/// A plane that is attached and shares service 0 among these.
pub(crate) fn sharing(place: &Place, numbers: &[u8]) -> (XdpPlane, InterfaceTarget) {
    let interface = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.apply(&Operation::SetSeed(1)).unwrap();
    plane.attach("a0", &interface);
    plane.set_service(key(0));
    for number in numbers {
        set_backend(&mut plane, *number, behind(&interface, *number));
    }
    plane.set_table(key(0), numbers);
    (plane, interface)
}

#[test]
fn a_packet_is_sent_to_the_backend_and_counted() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    assert_eq!(wire.backend_of(1), 11);

    let mut elsewhere = wire.syn(1);
    elsewhere[..6].copy_from_slice(&[2, 8, 8, 8, 8, 8]);
    assert_eq!(wire.send(&elsewhere), (XDP_PASS, elsewhere.clone()));
    // Whatever is written anew, whose the MACs are stays known.
    plane.set_service(key(0));
    let mut looped = wire.syn(1);
    looped[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 11]);
    assert_eq!(wire.send(&looped).0, XDP_DROP);
    let mut other_port = wire.syn(1);
    other_port[37] = 99;
    assert_eq!(wire.send(&other_port).0, XDP_PASS);

    let counted = plane.counters().unwrap();
    let traffic = counted.backends[&(key(0), address(11))];
    assert_eq!((traffic.packets, traffic.bytes), (1, 54));
    assert_eq!(counted.passed["not_addressed_to_us"].packets, 1);
    assert_eq!(counted.passed["no_service"].packets, 1);
    assert_eq!(counted.dropped["loop"].packets, 1);
    assert_eq!(plane.clients().unwrap().occupancy().unwrap().v4.used, 1);
}

#[test]
fn what_puzzles_the_program_reaches_the_log() {
    let Some(place) = Place::enter() else { return };
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).init();
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    let mut cut_short = wire.syn(1);
    cut_short.truncate(40);
    assert_eq!(wire.send(&cut_short).0, XDP_DROP);
    plane.drain_log();
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("WARN") && said.contains("malformed frame of 40 bytes"), "{said}");
}

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_interface_whose_mac_changed_is_known_by_the_new_one() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, mut interface) = sharing(&place, &[11]);
    interface.mac = Mac([2, 7, 7, 7, 7, 7]);
    plane.attach("a0", &interface);
    assert_eq!(Wire::new(&place, &interface).backend_of(1), 11);
}

#[test]
fn a_client_keeps_its_backend_through_changes_and_adoption_until_that_is_gone() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11, 12]);
    let wire = Wire::new(&place, &interface);
    let first = wire.everyones_backend();
    assert!(first.values().any(|backend| *backend == 11) && first.values().any(|backend| *backend == 12));

    set_backend(&mut plane, 13, behind(&interface, 13));
    plane.set_table(key(0), &[11, 12, 13]);
    assert_eq!(wire.everyones_backend(), first);
    drop(plane);
    let mut plane = place.open().unwrap();
    let wire = Wire::new(&place, &interface);
    assert_eq!(wire.everyones_backend(), first, "adopted");
    plane.set_table(key(0), &[13]);
    assert_eq!(wire.everyones_backend(), first, "draining");

    let down = BackendTarget { usable: false, serving: false, ..behind(&interface, 12) };
    set_backend(&mut plane, 12, down);
    let moved = wire.everyones_backend();
    for (client, backend) in &moved {
        assert_eq!(*backend, if first[client] == 12 { 13 } else { 11 }, "client {client}");
    }
    plane.remove_backend(key(0), 12);
    set_backend(&mut plane, 14, behind(&interface, 14));
    assert_eq!(wire.everyones_backend(), moved, "nobody follows an index to its next owner");
}

#[test]
fn no_packet_is_lost_while_everything_changes() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11, 12]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let wire = Wire::new(&place, &interface);
            let mut sent = 0u64;
            while !stop.load(Ordering::SeqCst) {
                for client in 0..=255 {
                    let backend = wire.backend_of(client);
                    assert!(matches!(backend, 11 | 12), "sent to {backend}");
                    sent += 1;
                }
            }
            sent
        });
        for round in 0..12u16 {
            plane.set_service(key(1 + round % 3));
            plane.set_table(key(0), if round % 2 == 0 { &[12] } else { &[11, 12] });
            plane.remove_service(key(1 + (round + 1) % 3));
            plane.attach("a0", &InterfaceTarget { announce: round % 2 == 0, ..interface.clone() });
            if sent.is_finished() {
                break;
            }
        }
        stop.store(true, Ordering::SeqCst);
        assert!(sent.join().unwrap() > 0);
    });
}
