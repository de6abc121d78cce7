//! The kinds of data planes, and what only the proxy does: settings of services and backends, connections.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Protocol;
use crate::state::text::{self, TextError};

/// What moves packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// XDP: frames, in the kernel.
    #[default]
    Xdp,
    /// The proxy: connections and datagrams, in this process.
    Proxy,
}

/// What is asked to move packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// What the state ran as last; else XDP where it can be, else the proxy
    #[default]
    Auto,
    /// In the kernel, with XDP
    Xdp,
    /// In this process: connections are accepted, made and copied; needs no privileges
    Proxy,
}

impl Choice {
    /// The kind that is asked for, if one is.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Auto => None,
            Self::Xdp => Some(Kind::Xdp),
            Self::Proxy => Some(Kind::Proxy),
        }
    }
}

/// How long the proxy waits for a backend to accept where nothing is said.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long without a datagram the proxy forgets a UDP session where nothing is said.
pub const UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings of a service that only the proxy acts on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySettings {
    /// How long a backend may take to accept a connection before the next one is tried.
    #[serde(with = "text::required_duration")]
    pub connect_timeout: Duration,
    /// After how long without a byte either way a connection or session ends; zero = never.
    #[serde(with = "text::required_duration")]
    pub idle_timeout: Duration,
    /// How many connections or sessions it has at once at most; `None` = as many as there is room for.
    pub max_connections: Option<u32>,
    /// Clients stay with the backend they were given, even while it refuses them: no other one is tried.
    pub stubborn: bool,
    /// Backends are connected to from the client's own address.
    pub transparent: bool,
    /// Backends are told the client's address first, in this form.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Clients with these addresses (other proxies) say first, in the PROXY protocol, for whom they come.
    pub proxy_protocol_from: Vec<IpNet>,
    /// What becomes of a backend's connections when it goes down.
    pub on_down: OnDown,
}

impl ProxySettings {
    /// What holds where nothing is said.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout: match protocol {
                Protocol::Tcp => Duration::ZERO,
                Protocol::Udp => UDP_IDLE_TIMEOUT,
            },
            max_connections: None,
            stubborn: false,
            transparent: false,
            proxy_protocol: None,
            proxy_protocol_from: Vec::new(),
            on_down: OnDown::default(),
        }
    }
}

/// How a backend is told the client's address: version of the PROXY protocol (proxy-protocol.txt of HAProxy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// A line of text; streams only.
    V1,
    /// A binary header.
    V2,
}

/// What becomes of a backend's connections when it goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They go on for as long as they work; only newcomers go elsewhere.
    #[default]
    Keep,
    /// They are closed.
    Close,
}

/// What the proxy knows of a backend beside whether it is usable and serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyBackend {
    /// Its share of newcomers: 1 to 1000.
    pub weight: u16,
    /// The lowest number that has anybody serving serves.
    pub priority: u16,
    /// Newcomers pass it over while it has as many connections.
    pub soft_limit: Option<u32>,
    /// Nobody is connected to it, not even clients it had before, while it has as many connections.
    pub hard_limit: Option<u32>,
    /// It would serve, were not others of a lower priority there.
    pub standby: bool,
    /// It keeps the clients it has and gets no newcomers.
    pub draining: bool,
}

/// What a backend's connections came to. UDP sessions count as connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Open now.
    pub open: u64,
    /// Opened since the data plane was built; never goes back.
    pub total: u64,
    /// Attempts that failed since the data plane was built: refused, silent, or no room here; never goes back.
    pub failed: u64,
    /// Why newcomers pass it over just now, in words: `connect: connection refused`; `None` = they do not.
    #[serde(skip)]
    pub left_out: Option<String>,
}

/// What a service's connections came to. UDP sessions count as connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConnections {
    /// Open now, from clients.
    pub open: u64,
    /// Accepted since the data plane was built; never goes back.
    pub accepted: u64,
    /// Those of them that were turned away because there was no room or nobody serving; never goes back.
    pub turned_away: u64,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Xdp, Kind::Proxy];

    /// As flags, the file and documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            TextError(format!("unknown data plane `{}`; use xdp or proxy", text.escape_debug()))
        })
    }
}
