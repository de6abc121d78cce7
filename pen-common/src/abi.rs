//! The map ABI: every byte that the kernel program and the controller share.
//!
//! All types are `repr(C)` without implicit padding and without enums, so that any bit pattern is a valid
//! value. *Wire order* means: the bytes as they stand in a packet, loaded by a native (little-endian) load
//! without swapping. Everything else is in the machine's own order. `docs/map-abi.md` tells the same in prose.

/// Version of everything in this file. A controller adopts pinned maps of its own version only. Maps and flags that
/// older programs and controllers may ignore are added without a new one.
pub const ABI_VERSION: u32 = 1;
/// First eight bytes of the instance record: `pen\0lbal`, read as a little-endian word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"pen\0lbal");

/// Entries of a service's Maglev table: a prime, as Maglev (NSDI 2016, section 3.4) asks for.
pub const SLOTS: u32 = 65_537;
/// Slots of one inner map: two halves, one in use, one to write the next table into.
pub const SLOTS_BOTH_HALVES: u32 = 2 * SLOTS;
/// Turns of one round of round-robin at most, and so backends of a service that has it.
pub const RING_TURNS: usize = 4096;
/// Services at most; also the size of the outer map of slot tables, and of the rings.
pub const MAX_SERVICES: u32 = 256;
/// Backends at most, over all services (a backend of two services counts twice).
pub const MAX_BACKENDS: u32 = 16_384;
/// Attached interfaces at most.
pub const MAX_INTERFACES: usize = 64;
/// Entries of the service hash: services and their VIPs together fill at most half of it.
pub const DIRECTORY_ENTRIES: usize = 1024;
/// Buckets of the service hash, each with a displacement of its own.
pub const DIRECTORY_BUCKETS: usize = 512;
/// Words of the filter that tells most source MACs from those of backends.
pub const LOOP_FILTER_WORDS: usize = 1024;
/// Lines of the map of first fragments, of eight words each.
pub const FRAGMENT_LINES: u32 = 4096;
/// Lines of one table of token buckets, of four buckets each.
pub const BUCKET_LINES: u32 = 16_384;
/// Tables of token buckets at most: two for each service, of packets and of new flows ([`limit_table`]).
pub const MAX_LIMITS: u32 = 2 * MAX_SERVICES;
/// Lines that stand before an access list: with IPv4 one for each /16 ([`crate::blocks`]), with IPv6 as many of what packets
/// were told of late ([`crate::recent`]).
pub const BLOCK_LINES: u32 = 1 << 16;
/// Prefixes of one access list at most, by family.
pub const MAX_PREFIXES: u32 = 1 << 20;
/// "No backend": an owner or previous owner that names nobody.
pub const NO_BACKEND: u16 = u16::MAX;

/// An IP address as four words in wire order; IPv4 is mapped into `::ffff:0:0/96` (RFC 4291, 2.5.5.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The 16 bytes, four at a time, each word in wire order.
    pub words: [u32; 4],
}

/// One entry of the service hash: a VIP or a service, on one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The VIP.
    pub address: Address,
    /// Destination port in wire order; 0 = every port (and in VIP entries).
    pub port: u16,
    /// IP protocol number: 6 or 17; 0 in VIP entries.
    pub protocol: u8,
    /// One of [`entry_kind`].
    pub kind: u8,
    /// Index of the service: of its slot tables, and part of tracking keys.
    pub service: u16,
    /// Bits of [`service_flags`] (services) or [`vip_flags`] (VIPs).
    pub flags: u16,
    /// Which half of the slot table, and of the ring, is in use: 0 or 1. The one word whose store flips a table.
    pub table_half: u32,
    /// Seconds after which an unused tracking entry no longer counts; 0 = never.
    pub tracking_timeout: u32,
    /// Seconds that a window of changing owners stays open.
    pub transition: u32,
    /// How many packets of one source prefix are let through.
    pub packets: Limit,
    /// How many new flows of one source prefix are let through.
    pub flows: Limit,
    /// Bits of a source address that share a limit, IPv4: 0 to 32.
    pub limit_prefix_v4: u8,
    /// The same of IPv6: 0 to 128.
    pub limit_prefix_v6: u8,
    /// Zero.
    pub spare: u16,
    /// Zero.
    pub reserved: [u32; 2],
}

/// A token bucket's measures: [`crate::limit`]. All zero where nothing is limited.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// What one token costs, in units of time of which a jiffy has 2²⁰.
    pub cost: u32,
    /// Tokens that a bucket holds.
    pub burst: u32,
}

impl ServiceEntry {
    /// An entry that is none.
    pub const EMPTY: Self = Self {
        address: Address { words: [0; 4] },
        port: 0,
        protocol: 0,
        kind: entry_kind::EMPTY,
        service: 0,
        flags: 0,
        table_half: 0,
        tracking_timeout: 0,
        transition: 0,
        packets: Limit { cost: 0, burst: 0 },
        flows: Limit { cost: 0, burst: 0 },
        limit_prefix_v4: 0,
        limit_prefix_v6: 0,
        spare: 0,
        reserved: [0; 2],
    };
}

/// Values of [`ServiceEntry::kind`].
pub mod entry_kind {
    /// Nothing here.
    pub const EMPTY: u8 = 0;
    /// A virtual address.
    pub const VIP: u8 = 1;
    /// A service.
    pub const SERVICE: u8 = 2;
}

/// Bits of [`ServiceEntry::flags`] of a service.
pub mod service_flags {
    /// The choice hashes the 5-tuple rather than the source address.
    pub const AFFINITY_FLOW: u16 = 1 << 0;
    /// Tracking `full`: every client (or flow) is remembered.
    pub const TRACK_FULL: u16 = 1 << 1;
    /// Tracking `transitions`: only slots that are changing owner are remembered.
    pub const TRACK_TRANSITIONS: u16 = 1 << 2;
    /// Nobody serving: pass to the local stack rather than drop.
    pub const PASS_WHEN_EMPTY: u16 = 1 << 3;
    /// Newcomers take turns ([`super::Ring`]) rather than go to the owner of their slot.
    pub const ROUND_ROBIN: u16 = 1 << 4;
    /// There is an access list ([`super::access`]).
    pub const LISTED: u16 = 1 << 5;
    /// Who is not in the list is refused.
    pub const LISTED_ONLY: u16 = 1 << 6;
    /// Packets are limited by source prefix.
    pub const LIMITS_PACKETS: u16 = 1 << 7;
    /// New flows are limited by source prefix.
    pub const LIMITS_FLOWS: u16 = 1 << 8;
    /// Any of the four: more is to be asked about a packet than where it goes.
    pub const GUARDED: u16 = LISTED | LIMITS_PACKETS | LIMITS_FLOWS;
}

/// Values of an access list's entries.
pub mod access {
    /// Let in.
    pub const ALLOW: u32 = 1;
    /// Refused.
    pub const DENY: u32 = 2;
    /// In none of the prefixes that are let in, and so refused.
    pub const REST: u32 = 3;
}

/// Key of an access list of IPv4: the tries that map `access_v4` holds by service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AccessKeyV4 {
    /// Bits that count.
    pub bits: u32,
    /// The address, wire order.
    pub address: u32,
}

/// Key of an access list of IPv6: the tries that map `access_v6` holds by service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AccessKeyV6 {
    /// Bits that count.
    pub bits: u32,
    /// The address, wire order.
    pub address: [u32; 4],
}

/// Where the packets' table of buckets of a service stands in map `limits`; that of its new flows is the next one.
pub const fn limit_table(service: u16) -> u32 {
    2 * service as u32
}

/// One record of the per-CPU map `refused`, by service and reason ([`refused_record`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Packets refused.
    pub packets: u64,
    /// Where the newest one came from.
    pub client: Address,
    /// When, in seconds of the data plane's clock.
    pub second: u32,
    /// Zero.
    pub reserved: u32,
}

/// Where a service's packets that its access list refuses are counted in map `refused`; those above a limit are in the next.
pub const fn refused_record(service: u16) -> u32 {
    2 * service as u32
}

/// Words of one element of `inserts`, what a CPU wanted to insert into the tracking tables: [`crate::flood`].
pub mod inserts {
    /// A second in the upper half; how many newcomers it had so far in the lower one.
    pub const PACE: u32 = 0;
    /// The second until which nothing is inserted.
    pub const UNTIL: u32 = 1;
    /// The last second in which anything was not inserted that should have been; only where there was any.
    pub const LAST: u32 = 2;
    /// How many newcomers were not inserted so far.
    pub const SUPPRESSED: u32 = 3;
}

/// Elements of `inserts` behind the one of [`inserts`], for each CPU: flows that came of late in a flood ([`crate::flood`]).
pub const NEWCOMER_LINES: u32 = 1 << 10;

/// Bits of [`ServiceEntry::flags`] of a VIP.
pub mod vip_flags {
    /// There is an every-port TCP service on this address.
    pub const ANY_TCP: u16 = 1 << 0;
    /// There is an every-port UDP service on this address.
    pub const ANY_UDP: u16 = 1 << 1;
    /// pen answers ARP requests and neighbor solicitations for this address.
    pub const ANNOUNCE: u16 = 1 << 2;
}

/// An attached interface: which destination MACs are ours there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The interface's own MAC in the low 48 bits, first byte lowest; bits of [`interface_flags`] above.
    pub word: u64,
    /// MAC of its bond or bridge, or of itself where it has none, in the low 48 bits.
    pub master_mac: u64,
    /// Kernel interface index; 0 = empty.
    pub ifindex: u32,
    /// Zero.
    pub reserved: u32,
}

/// Bits 48 and up of [`Interface::word`].
pub mod interface_flags {
    /// Requests for VIPs that arrive here are answered.
    pub const ANNOUNCE: u64 = 1 << 48;
    /// The card took IEEE 802.1Q tags off frames before pen came, and is to do so again afterwards (controllers only).
    pub const STRIPPED_C_TAGS: u64 = 1 << 49;
    /// The same for IEEE 802.1ad service tags.
    pub const STRIPPED_S_TAGS: u64 = 1 << 50;
    /// Both.
    pub const STRIPPED: u64 = STRIPPED_C_TAGS | STRIPPED_S_TAGS;
}

/// The part of the directory that is written whole and then made active.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryHalf {
    /// VIPs and services by hashed key. First, so that each is on one cache line.
    pub entries: [ServiceEntry; DIRECTORY_ENTRIES],
    /// What each bucket's keys are displaced by.
    pub displacement: [u16; DIRECTORY_BUCKETS],
    /// Attached interfaces by hashed index.
    pub interfaces: [Interface; MAX_INTERFACES],
    /// Seed under which `entries` is free of collisions.
    pub hash_seed: u64,
    /// Multiplier under which `interfaces` is: index = (ifindex × multiplier mod 2³²) >> 26.
    pub interface_multiplier: u32,
    /// Zero.
    pub reserved: u32,
    /// A set bit means "surely none of the VIPs in `entries`": [`crate::service::is_no_vip`]. All clear where nobody knows.
    pub no_vip: [u64; 4],
    /// A set bit means "surely no MAC of any backend": [`crate::mac::backend_bit`]. All clear where nobody knows.
    pub no_backend: [u64; 2],
}

impl DirectoryHalf {
    /// A half that holds nothing.
    pub const EMPTY: Self = Self {
        entries: [ServiceEntry::EMPTY; DIRECTORY_ENTRIES],
        displacement: [0; DIRECTORY_BUCKETS],
        interfaces: [Interface { word: 0, master_mac: 0, ifindex: 0, reserved: 0 }; MAX_INTERFACES],
        hash_seed: 0,
        interface_multiplier: 0,
        reserved: 0,
        no_vip: [0; 4],
        no_backend: [0; 2],
    };
}

/// The one element of map `directory`: settings and the collision-free service hash, twice.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Which of `halves` is in use: 0 or 1.
    pub active: u32,
    /// Zero.
    pub reserved: u32,
    /// The seed of the desired state: keys the choice of slots.
    pub seed: u64,
    /// Seconds = ((jiffies64 >> 2) × this) >> 24; the controller derives it from the kernel's HZ.
    pub clock_multiplier: u64,
    /// More newcomers a second than this on one CPU are a flood; 0 = none is.
    pub flood_per_cpu: u32,
    /// The same on all CPUs together.
    pub flood_in_all: u32,
    /// Zero.
    pub spare: [u64; 4],
    /// The two halves.
    pub halves: [DirectoryHalf; 2],
}

/// One entry of map `backends`, by backend index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// MAC in the low 48 bits, first byte lowest; bits of [`backend_flags`] above. Always stored whole.
    pub word: u64,
    /// Interface the backend is behind.
    pub ifindex: u32,
    /// VLAN IDs the backend is on: outer in the low 16 bits, inner in the high ones; 0 = untagged.
    pub vlan: u32,
    /// Changes whenever the index is given to another backend.
    pub generation: u16,
    /// The service this backend belongs to.
    pub service: u16,
    /// Zero.
    pub reserved: u32,
    /// The backend's own address: says who the index means to a controller that adopts the maps.
    pub address: Address,
    /// When its health last changed, seconds since the Unix epoch (written and read by controllers only).
    pub health_since: u64,
    /// Zero.
    pub spare: [u64; 2],
}

/// Bits 48 and up of [`Backend::word`].
pub mod backend_flags {
    /// The index belongs to a backend.
    pub const IN_USE: u64 = 1 << 48;
    /// Keeps the clients it has.
    pub const USABLE: u64 = 1 << 49;
    /// Gets newcomers.
    pub const SERVING: u64 = 1 << 50;
    /// Is on this host: packets pass to the local stack.
    pub const LOCAL: u64 = 1 << 51;
    /// Health has been seen (else `unknown`).
    pub const HEALTH_KNOWN: u64 = 1 << 52;
    /// Health is `up`.
    pub const HEALTH_UP: u64 = 1 << 53;
    /// No client keeps it any more, but its index may still be named: not to be given away yet.
    pub const RETIRED: u64 = 1 << 54;
}

/// The low 48 bits of a MAC word.
pub const MAC_MASK: u64 = (1 << 48) - 1;

/// One entry of a slot table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Backend index of the owner, or [`NO_BACKEND`].
    pub owner: u16,
    /// Backend index of the previous owner while the slot is marked, else [`NO_BACKEND`].
    pub previous: u16,
    /// Phase in the top two bits ([`slot_phase`]), end of the window (seconds) below.
    pub window: u32,
}

/// Top two bits of [`Slot::window`].
pub mod slot_phase {
    /// The owner alone decides.
    pub const UNMARKED: u32 = 0;
    /// Flows from before the change stay with the previous owner.
    pub const OPEN: u32 = 1 << 30;
    /// Only remembered flows stay with the previous owner.
    pub const CLOSING: u32 = 2 << 30;
    /// The bits that hold the phase.
    pub const MASK: u32 = 3 << 30;
}

/// One entry of map `rings`, by service: whose turn it is with round-robin.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Turns taken so far, by all CPUs; each newcomer adds one.
    pub taken: u64,
    /// Zero; keeps the word that is written away from those that are read.
    pub spare: [u64; 7],
    /// The rounds, each of which goes with the half of the slot table of the same number.
    pub halves: [Round; 2],
}

/// One round of turns, which begins again when it is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Turns in it; 0 = none: slots alone decide.
    pub length: u32,
    /// Zero.
    pub reserved: u32,
    /// Backend index of each turn.
    pub backends: [u16; RING_TURNS],
}

/// Key of map `track_v4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrackKeyV4 {
    /// Source address, wire order.
    pub client: u32,
    /// Source port, wire order; 0 when clients are remembered as a whole.
    pub client_port: u16,
    /// Destination port, wire order; 0 when clients are remembered as a whole.
    pub service_port: u16,
    /// Index of the service.
    pub service: u16,
    /// Zero.
    pub reserved: u16,
}

/// Key of map `track_v6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrackKeyV6 {
    /// Source address, wire order.
    pub client: [u32; 4],
    /// Source port, wire order; 0 when clients are remembered as a whole.
    pub client_port: u16,
    /// Destination port, wire order; 0 when clients are remembered as a whole.
    pub service_port: u16,
    /// Index of the service.
    pub service: u16,
    /// Zero.
    pub reserved: u16,
}

impl TrackKeyV4 {
    /// Its bytes as they stand, and four of zero, in words of eight. The kernel reads keys four and eight bytes at a time,
    /// which costs a processor dearly where they were just written two at a time.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 2] {
        let ports = (self.client_port as u64) << 32 | (self.service_port as u64) << 48;
        [self.client as u64 | ports, self.service as u64 | (self.reserved as u64) << 16]
    }
}

impl TrackKeyV6 {
    /// Its bytes as they stand, in words of eight, as [`TrackKeyV4::words`].
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        let [a, b, c, d] = self.client;
        let ports = self.client_port as u64 | (self.service_port as u64) << 16;
        [
            a as u64 | (b as u64) << 32,
            c as u64 | (d as u64) << 32,
            ports | (self.service as u64) << 32 | (self.reserved as u64) << 48,
        ]
    }
}

/// Value of the tracking maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// Backend index.
    pub backend: u16,
    /// Generation of that index when the entry was written.
    pub generation: u16,
    /// Second of the data plane's clock in which a packet last used it.
    pub seen: u32,
}

/// One record of the per-CPU map `counters`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Frames.
    pub packets: u64,
    /// Bytes from the Ethernet header on.
    pub bytes: u64,
}

/// Records of `counters` below this index count reasons ([`crate::verdict`]) and [`records`]; from it on, backends.
pub const COUNTER_BACKENDS: u32 = 64;

/// Records of `counters` that are no packet's verdict; what they count stands in the place of frames.
pub mod records {
    /// Entries that packets inserted into `track_v4`; the kernel tells nothing of those that it evicts.
    pub const INSERTED_V4: u32 = 59;
    /// The same of `track_v6`.
    pub const INSERTED_V6: u32 = 60;
    /// Entries that the controller deleted from `track_v4`; packets never write it.
    pub const DELETED_V4: u32 = 61;
    /// The same of `track_v6`.
    pub const DELETED_V6: u32 = 62;
    /// What puzzled the pipeline ([`crate::tables::Puzzle`]).
    pub const PUZZLES: u32 = 63;
}

/// Records of map `counters`.
pub const COUNTERS: u32 = COUNTER_BACKENDS + MAX_BACKENDS;

/// The one element of map `instance`: says whose the pins are. Its layout never changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`] of the other maps.
    pub abi_version: u32,
    /// Zero.
    pub reserved: u32,
    /// The id that this set of pins and its state share.
    pub id: [u8; 16],
}

const _: () = {
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<ServiceEntry>() == 64);
    assert!(size_of::<Interface>() == 24);
    assert!(size_of::<DirectoryHalf>() == 1024 * 64 + 512 * 2 + 64 * 24 + 64);
    assert!(size_of::<DirectoryHalf>().is_multiple_of(64));
    assert!(size_of::<Directory>() == 64 + 2 * size_of::<DirectoryHalf>());
    assert!(size_of::<AccessKeyV4>() == 8);
    assert!(size_of::<AccessKeyV6>() == 20);
    assert!(size_of::<Refused>() == 32);
    assert!(FRAGMENT_LINES.is_power_of_two() && BUCKET_LINES.is_power_of_two());
    assert!(size_of::<Backend>() == 64);
    assert!(size_of::<Slot>() == 8);
    assert!(size_of::<Round>() == 8 + 2 * RING_TURNS);
    assert!(size_of::<Ring>() == 64 + 2 * size_of::<Round>());
    assert!(size_of::<TrackKeyV4>() == 12);
    assert!(size_of::<TrackKeyV6>() == 24);
    assert!(size_of::<Tracked>() == 8);
    assert!(size_of::<Counter>() == 16);
    assert!(size_of::<Instance>() == 32);
    assert!(DIRECTORY_ENTRIES.is_power_of_two() && DIRECTORY_BUCKETS.is_power_of_two());
    assert!(RING_TURNS.is_power_of_two());
    assert!(MAX_BACKENDS.is_power_of_two() && MAX_BACKENDS < NO_BACKEND as u32);
};
