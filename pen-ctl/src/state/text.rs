//! Text forms of the words of this crate: `10.0.0.100:80/tcp`, `02:00:00:00:00:01`, `500ms`, seeds.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::dataplane::{Mac, Protocol, ServiceKey, VipAddress};

mod nullable;
pub(crate) mod number;
mod prefixes;

pub(crate) use nullable::{nullable, nullable_duration, write_nullable_duration};
pub(crate) use prefixes::optional_prefixes;
pub use prefixes::{network, prefix};

/// A text that does not say what it should: one line, with what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(pub String);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            VipAddress::Unix(path) => return path.fmt(f),
            VipAddress::Ip(IpAddr::V4(address)) => write!(f, "{address}:")?,
            VipAddress::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        match self.port {
            0 => write!(f, "*/{}", self.protocol),
            port => write!(f, "{port}/{}", self.protocol),
        }
    }
}

impl FromStr for ServiceKey {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = |why: &str| {
            TextError(format!(
                "`{text}` is not a service address: {why}; write VIP:PORT/PROTO, for example 10.0.0.100:80/tcp, \
                 [2001:db8::1]:53/udp or 10.0.0.100:*/tcp"
            ))
        };
        if text.starts_with('/') {
            return text.parse().map(Self::unix);
        }
        let (rest, protocol) = text.rsplit_once('/').ok_or_else(|| wrong("no protocol"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong("the protocol is neither tcp nor udp")),
        };
        let (address, port) = rest.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
        let address = match address.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').and_then(|v6| v6.parse().ok()).map(IpAddr::V6),
            None => address.parse().ok().map(IpAddr::V4),
        };
        let address = address.ok_or_else(|| wrong("the VIP is not an IP address (IPv6 goes in brackets)"))?;
        let port = match port {
            "*" => 0,
            port if port.starts_with('+') => return Err(wrong("the port is not a number")),
            port => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| wrong("the port is not 1–65535 or *"))?,
        };
        Ok(Self { address: address.into(), port, protocol })
    }
}

impl Serialize for ServiceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a service address such as \"10.0.0.100:80/tcp\"", str::parse)
    }
}

impl FromStr for Mac {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || TextError(format!("`{text}` is not a MAC address; write it as 02:00:00:00:00:01"));
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || part.starts_with('+') {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a MAC address such as \"02:00:00:00:00:01\"", str::parse)
    }
}

/// Reads a duration: `500ms`, `10s`, `1h 30m`, or `0`.
pub fn duration(text: &str) -> Result<Duration, TextError> {
    humantime::parse_duration(text).map_err(|_| {
        TextError(format!("`{text}` is not a duration; write it with a unit, as 500ms, 10s or 10m"))
    })
}

/// The last second of the year 9999, since the Unix epoch: RFC 3339 (5.6, `date-fullyear`) writes years in four digits.
pub const LAST_SECOND: u64 = 253_402_300_799;

/// Seconds since the Unix epoch as RFC 3339: `2026-01-01T12:00:00Z`; those past [`LAST_SECOND`] as `@253402300800`.
pub fn timestamp(unix_seconds: u64) -> String {
    match std::time::UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds)) {
        Some(time) if unix_seconds <= LAST_SECOND => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("@{unix_seconds}"),
    }
}

/// serde form of optional durations: text, or the bare number 0.
pub mod optional_duration {
    use super::*;

    /// Writes `10m`.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => required_duration::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads text or 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        required_duration::deserialize(deserializer).map(Some)
    }
}

/// serde form of durations: text, or the bare number 0.
pub mod required_duration {
    use super::*;

    /// Writes `10m`.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    /// Reads text or 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes such as \"500ms\" or \"10m\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                duration(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
                match number {
                    0 => Ok(Duration::ZERO),
                    _ => Err(E::custom(format!(
                        "{number} is not a duration; write it with a unit, as \"{number}s\""
                    ))),
                }
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
                self.visit_u64(number.unsigned_abs())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// serde form of the seed: hexadecimal in quotes, because not every reader of JSON or TOML keeps 64 bits.
pub mod seed {
    use super::*;

    /// Writes 16 hexadecimal digits.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    /// Reads 1 to 16 hexadecimal digits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        parsed(deserializer, "1 to 16 hexadecimal digits in quotes", |text| {
            let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(text, 16).ok()).flatten().ok_or_else(|| {
                TextError(format!(
                    "seed `{text}` is not 1 to 16 hexadecimal digits, such as \"1f2e3d4c5b6a7988\""
                ))
            })
        })
    }
}

/// serde form of an optional seed.
pub mod optional_seed {
    use super::*;

    /// Writes 16 hexadecimal digits.
    pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => seed::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads 1 to 16 hexadecimal digits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        seed::deserialize(deserializer).map(Some)
    }
}

/// Reads a command: its words in a list, or with spaces between.
pub(crate) fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "expected a command such as [\"/usr/local/bin/tell\", \"-x\"]")]
    enum Either {
        Line(String),
        Words(Vec<String>),
    }
    Ok(Some(match Either::deserialize(deserializer)? {
        Either::Line(line) => line.split_whitespace().map(str::to_owned).collect(),
        Either::Words(words) => words,
    }))
}

/// Deserializes a string with a parser of ours.
pub(crate) fn parsed<'de, D, T, F>(deserializer: D, expected: &'static str, parse: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: Fn(&str) -> Result<T, TextError>,
{
    struct Text<F>(&'static str, F);
    impl<T, F: Fn(&str) -> Result<T, TextError>> Visitor<'_> for Text<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(expected, parse))
}

#[cfg(test)]
mod tests;
