//! Who has which address in a lab: 10.77.0.0/16 and fd00:77::/64, with MACs that tell the role.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// What a host of a lab is, and which one (counted from 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Where the clients are.
    Client,
    /// Where pen runs.
    Balancer(u8),
    /// Where a server is.
    Backend(u8),
}

impl Role {
    /// `client`, `pen1`, `b2`.
    pub fn name(self) -> String {
        match self {
            Self::Client => "client".to_owned(),
            Self::Balancer(n) => format!("pen{n}"),
            Self::Backend(n) => format!("b{n}"),
        }
    }

    /// A locally administered MAC: `02:70:65:6e:ROLE:N` (`pe n`).
    pub fn mac(self) -> [u8; 6] {
        let (role, n) = match self {
            Self::Balancer(n) => (0, n),
            Self::Backend(n) => (1, n),
            Self::Client => (2, 0),
        };
        [0x02, 0x70, 0x65, 0x6e, role, n]
    }

    /// Its first address.
    pub fn address(self, family: Family) -> IpAddr {
        match self {
            Self::Balancer(n) => address(family, 0, n),
            Self::Backend(n) => address(family, 1, n),
            Self::Client => client(family, 1),
        }
    }

    /// All addresses it has, where a client has `clients` of each family.
    pub fn addresses(self, clients: u8) -> Vec<IpAddr> {
        let numbers = 1..=if self == Self::Client { clients.max(1) } else { 1 };
        let of = |family| match self {
            Self::Client => numbers.clone().map(|n| client(family, n)).collect(),
            _ => vec![self.address(family)],
        };
        Family::BOTH.into_iter().flat_map(of).collect::<Vec<IpAddr>>()
    }
}

/// The `n`-th source address of the clients: `10.77.2.n`, `fd00:77::2:n`.
pub fn client(family: Family, n: u8) -> IpAddr {
    address(family, 2, n)
}

/// The `n`-th virtual address: `10.77.0.100`, `fd00:77::64` and on.
pub fn vip(family: Family, n: u8) -> IpAddr {
    address(family, 0, 99 + n)
}

/// The `n`-th address of a group: of balancers (0; VIPs too), backends (1), clients (2), the second link (3, 4).
pub(super) fn address(family: Family, group: u8, n: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, group, n).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, group.into(), n.into()).into(),
    }
}
