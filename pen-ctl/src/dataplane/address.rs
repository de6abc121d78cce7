//! Addresses of services and backends: IP addresses, endpoints with a port, and paths of Unix sockets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::{Protocol, ServiceKey};
use crate::state::text::{TextError, parsed};

/// Bytes of a Unix socket's path at most: `sun_path` of the BSDs and macOS holds 104, the terminating NUL included
/// (Linux's and illumos's holds 108).
pub const UNIX_PATH_MAX: usize = 103;

/// The absolute path of a Unix socket, kept inline so that it can be copied like an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixPath {
    /// UTF-8, zeros behind it: in the order of its bytes.
    bytes: [u8; UNIX_PATH_MAX],
    length: u8,
}

/// Where a backend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendAddress {
    /// On the service's port: `10.0.0.11`.
    Ip(IpAddr),
    /// On a port of its own: `10.0.0.11:8080`.
    Port(SocketAddr),
    /// On a Unix socket: `/run/app.sock`.
    Unix(UnixPath),
}

/// Where a service is reached, its port aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VipAddress {
    /// On an IP address.
    Ip(IpAddr),
    /// On a Unix socket.
    Unix(UnixPath),
}

impl UnixPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        let written = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        // It was made from a `str`.
        std::str::from_utf8(written).unwrap_or_default()
    }

    /// The path, to bind or to connect.
    pub fn as_path(&self) -> &Path {
        Path::new(self.as_str())
    }
}

impl FromStr for UnixPath {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = |why: &str| {
            let text = text.escape_debug();
            TextError(format!("`{text}` is not the path of a Unix socket: {why}; write it as /run/app.sock"))
        };
        if !text.starts_with('/') {
            return Err(wrong("it does not start with `/`"));
        }
        if text.ends_with('/') {
            return Err(wrong("it ends with `/`"));
        }
        if text.contains(char::is_control) {
            return Err(wrong("it contains a control character"));
        }
        let mut bytes = [0; UNIX_PATH_MAX];
        let place = bytes.get_mut(..text.len()).ok_or_else(|| wrong("it is longer than 103 bytes"))?;
        place.copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).map_err(|_| wrong("it is longer than 103 bytes"))?;
        Ok(Self { bytes, length })
    }
}

impl fmt::Display for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BackendAddress {
    /// Its IP address; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Port(endpoint) => Some(endpoint.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Its port, where it has one of its own.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Port(endpoint) => Some(endpoint.port()),
            Self::Ip(_) | Self::Unix(_) => None,
        }
    }

    /// Where a service with that port reaches it: never [`BackendAddress::Ip`].
    pub fn endpoint(&self, service_port: u16) -> Self {
        match self {
            Self::Ip(address) => Self::Port(SocketAddr::new(*address, service_port)),
            Self::Port(_) | Self::Unix(_) => *self,
        }
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Port(endpoint) => endpoint.fmt(f),
            Self::Unix(path) => path.fmt(f),
        }
    }
}

impl FromStr for BackendAddress {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = |why: &str| {
            let text = text.escape_debug();
            TextError(format!(
                "backend address `{text}` is {why}; write it as 10.0.0.11, 2001:db8::11, 10.0.0.11:8080, \
                 [2001:db8::11]:8080 or /run/app.sock"
            ))
        };
        if text.starts_with('/') {
            return text.parse().map(Self::Unix);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        match text.parse::<SocketAddr>() {
            Ok(endpoint) if endpoint.port() == 0 => Err(wrong("on port 0, which cannot be")),
            Ok(SocketAddr::V6(endpoint)) if endpoint.scope_id() != 0 => Err(wrong("one with a zone")),
            Ok(endpoint) => Ok(Self::Port(endpoint)),
            Err(_) => {
                Err(wrong("neither an IP address, with or without a port, nor the path of a Unix socket"))
            }
        }
    }
}

impl Serialize for BackendAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackendAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "an address such as \"10.0.0.11\"", str::parse)
    }
}

impl From<IpAddr> for BackendAddress {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<SocketAddr> for BackendAddress {
    fn from(endpoint: SocketAddr) -> Self {
        Self::Port(endpoint)
    }
}

impl From<UnixPath> for BackendAddress {
    fn from(path: UnixPath) -> Self {
        Self::Unix(path)
    }
}

impl VipAddress {
    /// Its IP address; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for VipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => path.fmt(f),
        }
    }
}

impl From<IpAddr> for VipAddress {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<UnixPath> for VipAddress {
    fn from(path: UnixPath) -> Self {
        Self::Unix(path)
    }
}

/// Whatever an IP address is made from makes an address here too.
macro_rules! from_ip_parts {
    ($($address:ty: $($part:ty),+;)+) => {$($(
        impl From<$part> for $address {
            fn from(part: $part) -> Self {
                Self::Ip(part.into())
            }
        }
    )+)+};
}

from_ip_parts! {
    BackendAddress: Ipv4Addr, Ipv6Addr, [u8; 4], [u16; 8];
    VipAddress: Ipv4Addr, Ipv6Addr, [u8; 4], [u16; 8];
}

impl ServiceKey {
    /// A service on a Unix socket: streams, without a port.
    pub fn unix(path: UnixPath) -> Self {
        Self { address: VipAddress::Unix(path), port: 0, protocol: Protocol::Tcp }
    }

    /// The VIP's IP address; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.ip()
    }

    /// The path it listens on, if it is a Unix socket.
    pub fn unix_path(&self) -> Option<UnixPath> {
        match self.address {
            VipAddress::Unix(path) => Some(path),
            VipAddress::Ip(_) => None,
        }
    }

    /// It takes whatever port of its IP address no other service has.
    pub fn is_every_port(&self) -> bool {
        self.port == 0 && self.ip().is_some()
    }
}

#[cfg(test)]
mod tests;
