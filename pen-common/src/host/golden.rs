//! Golden frames: headers that few packets have, each under a name, with what becomes of it in the [`sample`] world. The
//! host's tests and the parity test run the same ones, in their order, from one world.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::frames::{self, Ethernet, kind};
use super::sample::{self, BACKENDS, CLIENT_MAC, OWN_MAC, SEED, VIP4, VIP6, port};
use super::{Frame, HostTables, SplitFrame};
use crate::abi::Address;
use crate::service::{TCP, UDP};
use crate::verdict::{Drop, Egress, Pass, Verdict};
use crate::{hash, pipeline};

mod errors;
mod fragments;
mod headers;
mod lies;
mod shapes;

/// Bytes in a frame's first buffer: what a page leaves beside headroom and footer is more, in the kernel's test runs and in
/// veth's and generic mode's copies.
pub const FIRST_BUFFER: usize = 3000;

const CLIENT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// The client's port.
const CLIENT_PORT: u16 = 40_000;
/// A host that is no VIP.
const STRANGER4: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const STRANGER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);
/// Numbers of extension headers (RFC 8200, 4.3 to 4.6).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Where the seed of the sample sends both clients, where the client alone decides: to a service's first backend.
const FIRST: u16 = 0;

/// A frame that comes in by [`sample::INGRESS`], and what becomes of it.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Frames that come in before it: what it needs to be remembered of.
    pub before: Vec<Vec<u8>>,
    /// The frame.
    pub frame: Vec<u8>,
    /// What must become of it.
    pub fate: Fate,
}

/// What must become of a golden frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to a service's backend of this number, from our MAC; all after the MACs is as it was.
    To {
        /// Index of the service.
        service: u16,
        /// Number of its backend: that of the same packet without these headers.
        number: u16,
    },
    /// It comes to this verdict, unchanged.
    Stays(Verdict),
}

impl Golden {
    /// One that needs no others.
    fn new(name: impl Into<String>, about: impl Into<String>, frame: Vec<u8>, fate: Fate) -> Self {
        Self { name: name.into(), about: about.into(), before: vec![], frame, fate }
    }

    /// The same after this frame.
    fn after(self, frame: Vec<u8>) -> Self {
        Self { before: vec![frame], ..self }
    }

    /// Runs it on the host; an error says what came out instead.
    ///
    /// # Errors
    /// Another verdict, or other bytes.
    pub fn check(&self, tables: &HostTables) -> Result<Verdict, String> {
        for frame in &self.before {
            come_in(frame, tables);
        }
        let (verdict, came_out) = come_in(&self.frame, tables);
        let (expected, out) = self.expected(tables);
        match verdict == expected && came_out == out {
            true => Ok(verdict),
            false => Err(format!("{} ({}): {verdict:?} rather than {expected:?}", self.name, self.about)),
        }
    }

    /// The verdict and the bytes that must come out.
    pub fn expected(&self, tables: &HostTables) -> (Verdict, Vec<u8>) {
        match self.fate {
            Fate::Stays(verdict) => (verdict, self.frame.clone()),
            Fate::To { service, number } => {
                let first = tables.backends.iter().position(|backend| backend.service == service);
                let backend = first.unwrap_or_default() as u16 + number;
                let macs = [sample::backend_mac(service, number), OWN_MAC].concat();
                let out = [&macs, &self.frame[12..]].concat();
                (Verdict::Forwarded { backend, egress: Egress::Same }, out)
            }
        }
    }
}

/// What becomes of a frame, and the frame then.
fn come_in(bytes: &[u8], tables: &HostTables) -> (Verdict, Vec<u8>) {
    let first = bytes.len().min(FIRST_BUFFER);
    let mut split = SplitFrame { frame: Frame(bytes.to_vec()), first };
    (pipeline::run(&mut split, tables, sample::INGRESS), split.frame.0)
}

/// All of them.
pub fn frames() -> Vec<Golden> {
    [headers::cases(), shapes::cases(), fragments::cases(), lies::cases(), errors::cases()].concat()
}

fn link(vlans: &[u16]) -> Ethernet {
    Ethernet { to: OWN_MAC, from: CLIENT_MAC, vlans: vlans.to_vec() }
}

fn to(v6: bool, port: u16, number: u16) -> Fate {
    Fate::To { service: sample::service_index(v6, port), number }
}

/// To the backend that the flow from [`CLIENT_PORT`] has in a service with affinity `flow`.
fn to_flows(v6: bool, port: u16, protocol: u8) -> Fate {
    let [client, vip]: [Address; 2] =
        if v6 { [CLIENT6.into(), VIP6.into()] } else { [CLIENT4.into(), VIP4.into()] };
    let hash = hash::flow(SEED, &client, &vip, CLIENT_PORT.to_be(), port.to_be(), protocol);
    to(v6, port, (hash::slot(hash) % u32::from(BACKENDS)) as u16)
}

/// A flow of each kind that has a fate of its own, by name, protocol and port.
fn flows(v6: bool) -> [(&'static str, u8, u16, Fate); 9] {
    let drop = |why| Fate::Stays(Verdict::Dropped(why));
    let pass = |why| Fate::Stays(Verdict::Passed(why));
    [
        ("udp_flow", UDP, port::DNS, to_flows(v6, port::DNS, UDP)),
        ("tcp_flow", TCP, port::STATELESS, to_flows(v6, port::STATELESS, TCP)),
        ("every_port", UDP, 9999, to(v6, port::EVERY, FIRST)),
        ("unknown_port", TCP, 999, pass(Pass::NoService)),
        ("nobody_serving", TCP, port::EMPTY_DROP, drop(Drop::NoBackend)),
        ("empty_pool", TCP, port::EMPTY_PASS, pass(Pass::EmptyPool)),
        ("local_backend", TCP, port::LOCAL, pass(Pass::LocalBackend)),
        ("wrong_vlan", TCP, port::VLAN, drop(Drop::WrongVlan)),
        ("not_listed", UDP, port::DENIED, drop(Drop::Denied)),
    ]
}

/// How many VLAN tags a frame has, as its name says it: the sample's services have backends on these VLANs.
const TAGS: [(&str, &[u16]); 3] = [("", &[]), ("_vlan", &[5]), ("_qinq", &[6, 5])];

/// The port of TCP that has its backends on as many tags.
const fn tcp_port(tags: &[u16]) -> u16 {
    [port::WEB, port::VLAN, port::DOUBLE_VLAN][tags.len()]
}

/// The same of UDP.
const fn udp_port(tags: &[u16]) -> u16 {
    use sample::port::{DATAGRAMS, DOUBLE_VLAN_DATAGRAMS, VLAN_DATAGRAMS};
    [DATAGRAMS, VLAN_DATAGRAMS, DOUBLE_VLAN_DATAGRAMS][tags.len()]
}

/// Extension headers of these numbers and lengths (in words of eight bytes) around a payload: the first one named stands
/// first. And what the payload begins with then.
fn extended(headers: &[(u8, u8)], mut next: u8, mut payload: Vec<u8>) -> (u8, Vec<u8>) {
    for &(header, words) in headers.iter().rev() {
        payload = frames::extension(next, words, &payload);
        next = header;
    }
    (next, payload)
}

/// An IPv4 packet with this identification, and with its checksum right again.
fn numbered(mut packet: Vec<u8>, id: u16) -> Vec<u8> {
    let header = usize::from(packet[0] & 0x0f) * 4;
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[10..12].fill(0);
    let checksum = frames::checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A part of an IPv6 datagram with this identification: offset in units of eight bytes, and whether more follow.
fn part6(id: u32, next: u8, (offset, more): (u16, bool), payload: &[u8]) -> Vec<u8> {
    let mut part = frames::fragment_header(next, offset, more, payload);
    part[4..8].copy_from_slice(&id.to_be_bytes());
    part
}

/// A frame of either family from the client.
fn frame(link: &Ethernet, v6: bool, packet: &[u8]) -> Vec<u8> {
    link.frame(if v6 { kind::IPV6 } else { kind::IPV4 }, packet)
}
