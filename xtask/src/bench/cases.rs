//! The rows of the benchmark: which program, which frame, how many clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::frames;

/// Clients of the `_131k` rows.
pub(super) const MANY: u32 = 131_072;
/// Entries of each tracking table: as many as F2's has.
pub(super) const TRACKED_CLIENTS: u32 = pen_common::bench::FLOOR_FLOWS;
/// From one client to the next while timing: odd, so that all are visited, in an order far from the one of insertion.
pub(super) const STRIDE: u32 = 40_503;

/// VIP of the services that track clients.
pub(super) const TRACKED: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100))];
/// VIP of the services that choose by slot alone.
pub(super) const BY_SLOT: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 101)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x101))];
/// VIP of the services with a short access list, none of which the clients are in.
pub(super) const LISTED: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 103)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x103))];
/// VIP of those with a list of [`PREFIXES`].
pub(super) const LISTED_MANY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 104)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x104))];
/// Prefixes of that list.
pub(super) const PREFIXES: u32 = 100_000;
/// VIP of a service whose clients are limited, to more than they ask for.
pub(super) const LIMITED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 105);
/// VIP of two services that are flooded: TCP and UDP.
pub(super) const FLOODED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 106);
/// First client; the number of each is XORed in.
pub(super) const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 0);

/// XDP actions (linux/bpf.h).
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// A program to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    /// Floor 0.
    F0,
    /// Floor 1.
    F1,
    /// Floor 2.
    F2,
    /// The balancer's own.
    Pen,
    /// The same, loaded with the capabilities of the shipped unit.
    AsUnit,
    /// The same, loaded with those less CAP_PERFMON.
    NoPerfmon,
    /// Floor 2, loaded with those less CAP_PERFMON.
    F2NoPerfmon,
}

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its name.
    pub(super) name: &'static str,
    /// What is timed.
    pub(super) program: Program,
    /// The frame it gets.
    pub(super) frame: Vec<u8>,
    /// Offset of the last four bytes of the source address.
    pub(super) client_at: u32,
    /// Number of clients: 1 (the frame never changes) or a power of two; 0 = never the same twice.
    pub(super) clients: u32,
    /// XDP action it must return.
    pub(super) action: u32,
}

impl Case {
    /// Packets to send before timing: every client once, or, for newcomers, as many as fill the table.
    pub(super) fn warm_up(&self) -> u32 {
        match self.clients {
            0 => TRACKED_CLIENTS,
            clients => clients.max(1024),
        }
    }
}

/// Rows that are measured together.
pub(super) struct Group {
    /// More newcomers a second than this on a CPU are a flood; 0 = none is.
    pub(super) flood: u32,
    /// The rows.
    pub(super) cases: Vec<Case>,
}

/// All rows, in groups that are measured one after the other: the rows that compare with each other, then those whose
/// newcomers are a flood, and last the one whose newcomers fill the table, after which a look-up there costs more than in F2's.
pub(super) fn groups(ours: [u8; 6]) -> [Group; 3] {
    use Program::{F0, F1, F2, Pen};
    let [tracked_v4, tracked_v6] = TRACKED.map(|vip| to_vip(ours, vip));
    let [slot_v4, slot_v6] = BY_SLOT.map(|vip| to_vip(ours, vip));
    let [listed_v4, listed_v6] = LISTED.map(|vip| to_vip(ours, vip));
    let [listed_v4_100k, listed_v6_100k] = LISTED_MANY.map(|vip| to_vip(ours, vip));
    let stranger = frames::tcp_v4(ours, &[], CLIENT_V4, Ipv4Addr::new(10, 0, 9, 9));
    let vlan = frames::tcp_v4(ours, &[VLAN], CLIENT_V4, Ipv4Addr::new(10, 0, 0, 102));
    let echo = frames::echo_v4(ours, CLIENT_V4, Ipv4Addr::new(10, 0, 0, 100));
    let alike = vec![
        case("f0", F0, &tracked_v4, 1, XDP_TX),
        case("f1", F1, &tracked_v4, 1, XDP_TX),
        case("f2", F2, &tracked_v4, 1, XDP_TX),
        case("f2_131k", F2, &tracked_v4, MANY, XDP_TX),
        case("tracked_v4", Pen, &tracked_v4, 1, XDP_TX),
        case("tracked_v4_131k", Pen, &tracked_v4, MANY, XDP_TX),
        case("tracked_v6", Pen, &tracked_v6, 1, XDP_TX),
        case("tracked_v6_131k", Pen, &tracked_v6, MANY, XDP_TX),
        case("slot_v4", Pen, &slot_v4, 1, XDP_TX),
        case("slot_v4_131k", Pen, &slot_v4, MANY, XDP_TX),
        case("slot_v6", Pen, &slot_v6, 1, XDP_TX),
        case("slot_v6_131k", Pen, &slot_v6, MANY, XDP_TX),
        case("not_ours", Pen, &stranger, 1, XDP_PASS),
        case("vlan_v4", Pen, &vlan, 1, XDP_TX),
        case("icmp_echo", Pen, &echo, 1, XDP_TX),
        case("listed_v4", Pen, &listed_v4, 1, XDP_TX),
        case("listed_v4_100k", Pen, &listed_v4_100k, 1, XDP_TX),
        case("listed_v6", Pen, &listed_v6, 1, XDP_TX),
        case("listed_v6_100k", Pen, &listed_v6_100k, 1, XDP_TX),
        case("limited_v4", Pen, &to_vip(ours, LIMITED.into()), 1, XDP_TX),
    ];
    let flood = vec![
        case("flood_floor", F0, &tracked_v4, 1, XDP_TX),
        case("flood_tracked_131k", Pen, &tracked_v4, MANY, XDP_TX),
        case("flood_syn_v4", Pen, &frames::syn_v4(ours, CLIENT_V4, FLOODED), 0, XDP_TX),
        case("flood_udp_v4", Pen, &frames::udp_v4(ours, CLIENT_V4, FLOODED), 0, XDP_TX),
    ];
    let new = vec![case("new_v4", Pen, &tracked_v4, 0, XDP_TX)];
    [Group { flood: 0, cases: alike }, Group { flood: 1, cases: flood }, Group { flood: 0, cases: new }]
}

/// The rows of `--as-unit`: two floors, and two paths of each copy of the balancer's program.
pub(super) fn as_unit(ours: [u8; 6]) -> Vec<Case> {
    use Program::{AsUnit, F0, F2, F2NoPerfmon, NoPerfmon, Pen};
    let [tracked_v4, slot_v4] = [TRACKED[0], BY_SLOT[0]].map(|vip| to_vip(ours, vip));
    vec![
        case("f0", F0, &tracked_v4, 1, XDP_TX),
        case("f2", F2, &tracked_v4, 1, XDP_TX),
        case("f2_no_perfmon", F2NoPerfmon, &tracked_v4, 1, XDP_TX),
        case("slot_v4", Pen, &slot_v4, 1, XDP_TX),
        case("slot_v4_as_unit", AsUnit, &slot_v4, 1, XDP_TX),
        case("slot_v4_no_perfmon", NoPerfmon, &slot_v4, 1, XDP_TX),
        case("tracked_v4", Pen, &tracked_v4, 1, XDP_TX),
        case("tracked_v4_as_unit", AsUnit, &tracked_v4, 1, XDP_TX),
        case("tracked_v4_no_perfmon", NoPerfmon, &tracked_v4, 1, XDP_TX),
    ]
}

/// What `--veth` sends, and through which program: each row's frames are the harness's, and F0 has them leave by the
/// interface of the client that they pretend to have come in by. The first is the reflector.
pub(super) fn over_veth(ours: [u8; 6]) -> [(Program, Case); 6] {
    use Program::{F0, F1, F2, Pen};
    let [tracked_v4, slot_v4] = [TRACKED[0], BY_SLOT[0]].map(|vip| to_vip(ours, vip));
    [
        (F1, case("reflector", F0, &tracked_v4, 1, XDP_TX)),
        (F2, case("f2", F0, &tracked_v4, 1, XDP_TX)),
        (Pen, case("slot_v4", F0, &slot_v4, 1, XDP_TX)),
        (Pen, case("slot_v4_131k", F0, &slot_v4, MANY, XDP_TX)),
        (Pen, case("tracked_v4", F0, &tracked_v4, 1, XDP_TX)),
        (Pen, case("tracked_v4_131k", F0, &tracked_v4, MANY, XDP_TX)),
    ]
}

fn case(name: &'static str, program: Program, frame: &[u8], clients: u32, action: u32) -> Case {
    let client_at = if frame[12..14] == [0x86, 0xdd] { 34 } else { 26 };
    Case { name, program, frame: frame.to_owned(), client_at, clients, action }
}

fn to_vip(ours: [u8; 6], vip: IpAddr) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => frames::tcp_v4(ours, &[], CLIENT_V4, vip),
        IpAddr::V6(vip) => frames::tcp_v6(ours, CLIENT_V6, vip),
    }
}

/// VIP of the service whose backends are on a VLAN.
pub(super) const ON_VLAN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 102));
/// That VLAN.
pub(super) const VLAN: u16 = 100;
