//! The PROXY protocol: a header before a connection's first byte, or in each datagram, that names the client.
//!
//! Source of every rule and number here and below: "The PROXY protocol, versions 1 & 2", `doc/proxy-protocol.txt` of
//! HAProxy. [`write`] makes headers of both versions; [`read`] takes them apart as they arrive and [`read_datagram`] at
//! once. Nothing here does I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

mod v1;
mod v2;

pub use v1::LONGEST as LONGEST_V1;
pub use v2::LONGEST as LONGEST_V2;

/// The connection, or flow of datagrams, that a header stands for: not the one that it came on.
///
/// An IPv4 address is one however it was written: headers with addresses of both families map it to IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Preface {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected or sent to.
    pub destination: SocketAddr,
}

/// The two forms of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text; knows TCP alone.
    V1,
    /// Binary.
    V2,
}

/// What a header stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// The bytes of a connection.
    Stream,
    /// The payload of a datagram.
    Datagram,
}

/// What the bytes that have come so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The beginning of a header.
    NeedMore,
    /// A whole header.
    Done {
        /// What it says; none: it names nobody, the connection's own addresses hold.
        preface: Option<Preface>,
        /// Its bytes; what follows is the client's.
        length: usize,
    },
}

/// Why bytes are no header; whatever follows, they never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefaceError {
    /// Neither version begins so.
    #[error(
        "no PROXY protocol header where one must be; let the sender put it first, or do not expect it from there"
    )]
    Start,
    /// Version 1: a line that does not end, or ends in CR or LF alone.
    #[error("PROXY protocol header: no CR LF within {LONGEST_V1} bytes; correct the sender")]
    LineEnd,
    /// Version 1: what stands at that place is missing or not written as it must be.
    #[error("PROXY protocol header: the {0} is missing or not canonical; correct the sender")]
    Field(&'static str),
    /// Version 1: more on the line than belongs there.
    #[error("PROXY protocol header: more than two addresses and two ports; correct the sender")]
    Surplus,
    /// The binary signature with that version.
    #[error("PROXY protocol header: version {0} is not known; let the sender use version 1 or 2")]
    Version(u8),
    /// Version 2: neither LOCAL nor PROXY.
    #[error("PROXY protocol header: command {0} is not known; correct the sender")]
    Command(u8),
    /// Version 2: an address family that the specification does not have.
    #[error("PROXY protocol header: address family {0} is not known; correct the sender")]
    Family(u8),
    /// Version 2: a transport that the specification does not have.
    #[error("PROXY protocol header: transport {0} is not known; correct the sender")]
    Transport(u8),
    /// Version 2: too short for the addresses of its family.
    #[error(
        "PROXY protocol header: {length} bytes of addresses where there must be {needed}; correct the sender"
    )]
    Short {
        /// Bytes announced.
        length: usize,
        /// Bytes that two addresses of the family take.
        needed: usize,
    },
    /// Version 2: longer than [`LONGEST_V2`].
    #[error("PROXY protocol header: {0} bytes, {LONGEST_V2} at most are read; let the sender leave TLVs out")]
    Long(usize),
    /// A datagram that ends before its header does.
    #[error("PROXY protocol header: the datagram ends within it; correct the sender")]
    Datagram,
}

/// Appends a header to `out`: at most [`LONGEST_V1`] bytes, or 52 of version 2.
///
/// Without a preface it is the one that names nobody (`UNKNOWN`, `LOCAL`), and so is a datagram's in version 1, which
/// has none. Addresses of two families are both written as IPv6 ones, the IPv4 one mapped; scopes are not passed on.
pub fn write(version: Version, transport: Transport, preface: Option<Preface>, out: &mut Vec<u8>) {
    let ends = preface.map(Ends::from);
    match (version, transport) {
        (Version::V1, Transport::Stream) => v1::write(ends, out),
        (Version::V1, Transport::Datagram) => v1::write(None, out),
        (Version::V2, _) => v2::write(transport, ends, out),
    }
}

/// Reads the header, of either version, that a connection begins with. `bytes` is all that has come so far, and may be
/// more than the header; [`LONGEST_V2`] bytes always suffice.
///
/// The addresses hold whatever transport the header names: the client may have come by another than the header.
/// TLVs are skipped, the one with a checksum (PP2_TYPE_CRC32C) unverified: TCP has its own.
///
/// # Errors
/// The bytes are no header.
pub fn read(bytes: &[u8]) -> Result<Progress, PrefaceError> {
    if begins(bytes, v2::SIGNATURE) {
        v2::read(bytes)
    } else if begins(bytes, v1::SIGNATURE) {
        v1::read(bytes)
    } else {
        Err(PrefaceError::Start)
    }
}

/// Reads the header of a datagram, of version 2, and gives the payload behind it.
///
/// # Errors
/// The datagram does not begin with a whole header.
pub fn read_datagram(bytes: &[u8]) -> Result<(Option<Preface>, &[u8]), PrefaceError> {
    if !begins(bytes, v2::SIGNATURE) {
        return Err(PrefaceError::Start);
    }
    match v2::read(bytes)? {
        Progress::Done { preface, length } => Ok((preface, bytes.get(length..).unwrap_or_default())),
        Progress::NeedMore => Err(PrefaceError::Datagram),
    }
}

/// Whether `bytes` is the beginning of `signature`, or begins with all of it.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

/// Source and destination, in that order, in one family as a header has them.
#[derive(Clone, Copy)]
struct Ends {
    addresses: Addresses,
    ports: [u16; 2],
}

#[derive(Clone, Copy)]
enum Addresses {
    V4([Ipv4Addr; 2]),
    V6([Ipv6Addr; 2]),
}

impl From<Preface> for Ends {
    /// IPv4 where both are, mapped ones too.
    fn from(preface: Preface) -> Ends {
        let ends = [preface.source, preface.destination];
        let addresses = match ends.map(|end| end.ip().to_canonical()) {
            [IpAddr::V4(source), IpAddr::V4(destination)] => Addresses::V4([source, destination]),
            mixed => Addresses::V6(mixed.map(|address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            })),
        };
        Ends { addresses, ports: ends.map(|end| end.port()) }
    }
}

impl From<Ends> for Preface {
    fn from(ends: Ends) -> Preface {
        let [source, destination] = match ends.addresses {
            Addresses::V4(addresses) => addresses.map(IpAddr::V4),
            Addresses::V6(addresses) => addresses.map(|v6| v6.to_canonical()),
        };
        let [from, to] = ends.ports;
        Preface { source: SocketAddr::new(source, from), destination: SocketAddr::new(destination, to) }
    }
}

#[cfg(test)]
mod tests;
