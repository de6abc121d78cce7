//! Where the proxy listens and connects to: an address with a port, or the path of a Unix socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use socket2::{Domain, SockAddr};

/// One end of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// An address and a port.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// The same as the system takes it.
    ///
    /// # Errors
    /// The path is longer than the system has room for (`sun_path`, about 100 bytes).
    pub fn to_socket_address(&self) -> std::io::Result<SockAddr> {
        match self {
            Self::Inet(address) => Ok((*address).into()),
            Self::Unix(path) => SockAddr::unix(path),
        }
    }

    /// The family of its sockets.
    pub fn domain(&self) -> Domain {
        match self {
            Self::Inet(address) => Domain::for_address(*address),
            Self::Unix(_) => Domain::UNIX,
        }
    }

    /// Whether it speaks TCP.
    pub fn is_inet(&self) -> bool {
        matches!(self, Self::Inet(_))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; unspecified where there is none (Unix sockets). An IPv4-mapped one is IPv4.
    pub address: IpAddr,
    /// Its port, or 0.
    pub port: u16,
}

impl Peer {
    /// Somebody without an address.
    pub const NAMELESS: Peer = Peer { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), port: 0 };
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        let address = canonical(address);
        Peer { address: address.ip(), port: address.port() }
    }
}

/// An IPv4 address that a socket of IPv6 shows, as IPv4; any other as it is.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
