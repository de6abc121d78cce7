//! Text forms of addresses and prefixes, and of lists of them: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

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
        let mut all = serializer.serialize_seq(Some(self.len()))?;
        let mut text = String::new();
        for prefix in self.iter() {
            text.clear();
            write(&mut text, prefix);
            all.serialize_element(&text)?;
        }
        all.end()
    }
}

/// Writes a prefix as [`IpNet`] shows it. Each change writes whole lists several times, and the machinery of formats takes
/// five times as long for an IPv4 prefix as its digits do.
fn write(text: &mut String, prefix: &IpNet) {
    match prefix {
        IpNet::V4(prefix) => {
            for (octet, behind) in prefix.addr().octets().into_iter().zip(['.', '.', '.', '/']) {
                write_number(text, octet);
                text.push(behind);
            }
            write_number(text, prefix.prefix_len());
        }
        // A string takes all there is.
        IpNet::V6(prefix) => _ = write!(text, "{prefix}"),
    }
}

/// Writes a number without leading zeros.
fn write_number(text: &mut String, number: u8) {
    let digit = |digit: u8| char::from(b'0' + digit);
    if number >= 100 {
        text.push(digit(number / 100));
    }
    if number >= 10 {
        text.push(digit(number / 10 % 10));
    }
    text.push(digit(number % 10));
}

impl<'de> Deserialize<'de> for Prefixes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        networks(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefixes_are_written_as_they_are_shown(address: IpAddr, length in 0..=128u8) {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let prefix = IpNet::new(address, length.min(most)).unwrap();
            let mut text = String::new();
            write(&mut text, &prefix);
            prop_assert_eq!(text, prefix.to_string());
        }
    }
}
