//! Who may use a service, and how much of it: access lists and limits, as a data plane holds them; and what it refuses, or
//! does not remember in a flood.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Who may use a service. The longest prefix that an address is in decides; where there is no `allow`, who is in none may.
///
/// Cheap to clone, and to compare with its clones: a list may have a hundred thousand prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    /// Let in, sorted, each once. Where there are any, all others are refused.
    pub allow: Prefixes,
    /// Refused, sorted, each once, none of them also in `allow`.
    pub deny: Prefixes,
}

impl AccessList {
    /// Whether it lets everybody in.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// What becomes of a client. Looks at every prefix: what decides on packets or connections is laid out to be asked
    /// faster, by the same rule.
    pub fn admission(&self, client: IpAddr) -> Admission {
        let longest = |list: &Prefixes| {
            let around = list.iter().filter(|net| net.contains(&client));
            around.max_by_key(|net| net.prefix_len()).copied()
        };
        let (allow, deny) = (longest(&self.allow), longest(&self.deny));
        // No prefix is in both lists.
        match (allow, deny) {
            (Some(allow), Some(deny)) if deny.prefix_len() > allow.prefix_len() => {
                Admission::refused(Some(deny))
            }
            (Some(allow), _) => Admission { admitted: true, prefix: Some(allow) },
            (None, Some(deny)) => Admission::refused(Some(deny)),
            (None, None) if self.allow.is_empty() => Admission { admitted: true, prefix: None },
            (None, None) => Admission::refused(None),
        }
    }
}

/// What an access list says of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Whether it is let in.
    pub admitted: bool,
    /// The prefix that decides: of `allow` if it is let in, of `deny` if it is refused; absent if the client is in none,
    /// and then `allow` decides by holding others or nothing.
    pub prefix: Option<IpNet>,
}

impl Admission {
    fn refused(prefix: Option<IpNet>) -> Self {
        Self { admitted: false, prefix }
    }
}

/// Prefixes, sorted, without bits beyond their length, each once.
#[derive(Clone, Default, Eq)]
pub struct Prefixes(Arc<[IpNet]>);

/// A few of them and how many there are: all would fill a log.
impl fmt::Debug for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        match self.0.get(..SHOWN) {
            Some(first) if self.len() > SHOWN => write!(f, "{first:?} and {} more", self.len() - SHOWN),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

impl Prefixes {
    /// No more than how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, IpNet> {
        self.0.iter()
    }

    /// Those that are in another list, too, in order.
    pub fn common(&self, other: &Self) -> impl Iterator<Item = IpNet> {
        let (mut ours, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        std::iter::from_fn(move || {
            loop {
                match ours.peek()?.cmp(theirs.peek()?) {
                    Ordering::Less => ours.next(),
                    Ordering::Greater => theirs.next(),
                    Ordering::Equal => {
                        theirs.next();
                        return ours.next().copied();
                    }
                };
            }
        })
    }
}

impl FromIterator<IpNet> for Prefixes {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        let mut all: Vec<IpNet> = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }
}

impl PartialEq for Prefixes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// How much one source prefix may ask of a service: token buckets, of packets and of new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Packets of any kind; `None` = no limit.
    pub packets: Option<Rate>,
    /// New flows: TCP packets that ask for a connection, datagrams of UDP whose flow (or client) nobody remembers.
    pub flows: Option<Rate>,
    /// Bits of an IPv4 source that share a limit: 0 to 32.
    pub prefix_v4: u8,
    /// The same of IPv6: 0 to 128.
    pub prefix_v6: u8,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Tokens that come in a second: 1 to 10,000,000.
    pub per_second: u32,
    /// Tokens that it holds, those of one second by default: 1 to 10,000,000.
    pub burst: u32,
}

/// What a service refused since it was added; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedClients {
    /// By its access list.
    pub denied: RefusedPackets,
    /// Above a limit.
    pub rate_limited: RefusedPackets,
}

/// Packets that were refused for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedPackets {
    /// How many.
    pub packets: u64,
    /// The newest; `None` while there was none.
    pub newest: Option<NewestRefused>,
}

/// The newest packet that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestRefused {
    /// Where it came from.
    pub client: IpAddr,
    /// How many seconds ago.
    pub seconds_ago: u32,
}

/// Newcomers that were not remembered, because there were too many at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suppression {
    /// That goes on now.
    pub active: bool,
    /// How many, since the data plane was built; never goes back.
    pub newcomers: u64,
    /// How many seconds ago the last one came; `None` while there was none.
    pub last_seconds_ago: Option<u32>,
    /// How many are too many.
    pub limits: FloodLimits,
}

/// Newcomers that are remembered in a second; more are a flood. Both 0 = there are no floods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloodLimits {
    /// By one CPU.
    pub per_cpu: u32,
    /// By all of them together.
    pub in_all: u32,
}
