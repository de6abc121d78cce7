//! Text forms of addresses and prefixes, and of lists of them: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::{TextError, parsed};
use crate::dataplane::Prefixes;

/// Reads an address, or a prefix: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
///
/// # Errors
/// It is neither.
pub fn prefix(text: &str) -> Result<IpNet, TextError> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.ok_or_else(|| {
        let shown = text.escape_debug();
        if text.starts_with('@') {
            return TextError(format!(
                "`{shown}` is neither an address nor a prefix: only --allow and --deny on the command line read a file; \
                 write the prefixes themselves"
            ));
        }
        TextError(format!("`{shown}` is neither an address nor a prefix; write 192.0.2.7 or 192.0.2.0/24"))
    })
}

/// Reads an address, or all of a network: a prefix of which more is said than counts is more likely a mistake.
///
/// # Errors
/// It is neither.
pub fn network(text: &str) -> Result<IpNet, TextError> {
    let net = prefix(text)?;
    match net.trunc() {
        whole if whole == net => Ok(net),
        whole => Err(TextError(format!(
            "`{net}` is an address with the length of a prefix; write {whole} or {}",
            net.addr()
        ))),
    }
}

/// Reads a list of addresses and whole networks.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    struct Network(IpNet);
    impl<'de> Deserialize<'de> for Network {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let expected = "an address or a prefix such as \"192.0.2.0/24\"";
            parsed(deserializer, expected, network).map(Self)
        }
    }
    struct Networks;
    impl<'de> Visitor<'de> for Networks {
        type Value = Vec<IpNet>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of prefixes such as [\"192.0.2.0/24\"]")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<IpNet>, A::Error> {
            let mut read = Vec::new();
            while let Some(Network(net)) = all.next_element()? {
                read.push(net);
            }
            Ok(read)
        }
    }
    deserializer.deserialize_seq(Networks)
}

/// serde form of an optional list of prefixes.
pub(crate) mod optional_prefixes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Vec<IpNet>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<IpNet>>, D::Error> {
        networks(d).map(Some)
    }
}

impl Serialize for Prefixes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Prefixes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        networks(deserializer).map(Self::from_iter)
    }
}
