//! A flood of newcomers, with a drain in its midst: on the real tables nobody who is there moves, and nobody is driven out.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::collections::BTreeMap;

use pen_ctl::dataplane::xdp::{OpenOptions, XdpPlane};
use pen_ctl::dataplane::{BackendTarget, DataPlane, InterfaceTarget, Operation};

use crate::packets::{Wire, behind, set_backend};
use crate::place::Place;
use crate::wants::{Do, key};

/// Entries of the tracking table.
const TABLE: u32 = 65_536;
/// Who is remembered before the flood: nearly half of the table.
const BEFORE: u32 = 30_000;
/// Whose connections are followed, of those who came before the flood and of those who came in it.
const FOLLOWED: u32 = 10_000;
/// Newcomers of the flood from one look at the others to the next.
const WAVE: u32 = 20_000;
/// More newcomers a second than this are one, on one CPU; on both together an eighth of the table.
const LIMIT: u32 = 100_000;
const BACKENDS: [u8; 4] = [11, 12, 13, 14];

struct Bed {
    plane: XdpPlane,
    interface: InterfaceTarget,
    wire: Wire,
    /// Newcomers of the flood so far.
    flooded: u32,
}

impl Bed {
    fn new(place: &Place) -> Bed {
        let interface = place.interface("a0", "a1");
        let options = OpenOptions { tracking_clients: TABLE, ..place.options() };
        let mut plane = XdpPlane::open(&options).unwrap();
        plane.apply(&Operation::SetSeed(1)).unwrap();
        plane.attach("a0", &interface);
        plane.set_service(key(0));
        for number in BACKENDS {
            set_backend(&mut plane, number, behind(&interface, number));
        }
        plane.set_table(key(0), &BACKENDS);
        let wire = Wire::new(place, &interface);
        Bed { plane, interface, wire, flooded: 0 }
    }

    /// A wave of SYNs, each of another client.
    fn flood(&mut self) {
        for number in self.flooded..self.flooded + WAVE {
            let [_, b, c, d] = number.to_be_bytes();
            self.wire.backend_of_frame(number, &self.wire.syn_from([198, b, c, d]));
        }
        self.flooded += WAVE;
    }

    /// Where these clients' packets go: SYNs, or of connections that are there.
    fn backends_of(&self, net: u8, clients: u32, bits: u8) -> BTreeMap<u32, u8> {
        let backend = |number: u32| {
            let [_, b, c, d] = number.to_be_bytes();
            let mut frame = self.wire.syn_from([net, b, c, d]);
            frame[47] = bits;
            (number, self.wire.backend_of_frame(number, &frame))
        };
        (0..clients).map(backend).collect()
    }

    fn remembered(&mut self) -> u64 {
        self.plane.clients().unwrap().occupancy().unwrap().v4.used
    }
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// First byte of the addresses of who came before the flood, and in it.
const OLD: u8 = 10;
const NEW: u8 = 172;

#[test]
fn nobody_moves_and_nobody_is_forgotten_through_a_flood_with_a_drain_in_its_midst() {
    let Some(place) = Place::enter() else { return };
    let mut bed = Bed::new(&place);
    let old = bed.backends_of(OLD, BEFORE, SYN);
    assert_eq!(bed.remembered(), u64::from(BEFORE));
    bed.plane.set_flood(LIMIT);

    bed.flood();
    let at_most = u64::from(BEFORE + 2 * TABLE / 8 + 64);
    let remembered = bed.remembered();
    assert!(remembered <= at_most, "{remembered} of a flood that was noticed");
    bed.flood();
    assert_eq!(bed.remembered(), remembered, "a flood that goes on is remembered");
    let new = bed.backends_of(NEW, FOLLOWED, SYN);
    assert_eq!(bed.remembered(), remembered, "nobody new is remembered in a flood");

    bed.plane.set_table(key(0), &BACKENDS[1..]);
    let drains = BackendTarget { serving: false, ..behind(&bed.interface, BACKENDS[0]) };
    set_backend(&mut bed.plane, BACKENDS[0], drains);
    bed.flood();
    for bits in [ACK, SYN] {
        assert_eq!(broken(&new, &bed.backends_of(NEW, FOLLOWED, bits)), 0, "who came in the flood");
        assert_eq!(broken(&old, &bed.backends_of(OLD, BEFORE, bits)), 0, "who was there before");
        bed.flood();
    }
    assert_eq!(bed.remembered(), remembered, "somebody was driven out, or remembered");
    assert!(bed.plane.suppression().unwrap().is_some_and(|told| told.active));
}

/// How many of them go elsewhere now.
fn broken(before: &BTreeMap<u32, u8>, now: &BTreeMap<u32, u8>) -> usize {
    before.iter().filter(|(client, backend)| now[client] != **backend).count()
}
