//! How health checks are written: `none`, `tcp,interval=2s`, or a table with the key `kind`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::{Serialize, Serializer};

use super::desired::{Health, TcpHealth};
use super::text::{self, TextError};
use crate::dataplane::Scheduler;

/// Kinds of checks that the design names and that are not built yet.
const KINDS_NOT_YET: [&str; 7] = ["http", "https", "tls", "udp", "dns", "smtp", "exec"];
/// Schedulers that the design names and that are not built yet.
const SCHEDULERS_NOT_YET: [&str; 1] = ["least-connections"];

/// The table form.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(deserialize_with = "known_kind")]
    kind: String,
    #[serde(default, deserialize_with = "text::number::port", skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    interval: Option<Duration>,
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "text::number::times", skip_serializing_if = "Option::is_none")]
    rise: Option<u32>,
    #[serde(default, deserialize_with = "text::number::times", skip_serializing_if = "Option::is_none")]
    fall: Option<u32>,
}

impl Table {
    fn health(self) -> Result<Health, TextError> {
        if self.kind == "none" {
            let alone = self.port.is_none() && self.interval.is_none() && self.timeout.is_none();
            return match alone && self.rise.is_none() && self.fall.is_none() {
                true => Ok(Health::None),
                false => Err(TextError("health check `none` takes no other keys; leave them out".into())),
            };
        }
        let default = TcpHealth::default();
        let interval = self.interval.unwrap_or(default.interval);
        Ok(Health::Tcp(TcpHealth {
            port: self.port,
            interval,
            timeout: self.timeout.unwrap_or(default.timeout.min(interval)),
            rise: self.rise.unwrap_or(default.rise),
            fall: self.fall.unwrap_or(default.fall),
        }))
    }
}

impl From<&Health> for Table {
    fn from(health: &Health) -> Self {
        match health {
            Health::None => Self { kind: "none".into(), ..Self::default() },
            Health::Tcp(tcp) => Self {
                kind: "tcp".into(),
                port: tcp.port,
                interval: Some(tcp.interval),
                timeout: Some(tcp.timeout),
                rise: Some(tcp.rise),
                fall: Some(tcp.fall),
            },
        }
    }
}

impl FromStr for Health {
    type Err = TextError;

    /// Reads the short form: `KIND[,key=value…]`.
    fn from_str(text: &str) -> Result<Self, TextError> {
        let mut parts = text.split(',').map(str::trim);
        let mut table = Table { kind: check_kind(parts.next().unwrap_or_default())?, ..Table::default() };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                TextError(format!("health check `{text}`: `{part}` is not key=value, as in tcp,interval=2s"))
            })?;
            let number = |most: u32| {
                value.parse::<u32>().ok().filter(|number| (1..=most).contains(number)).ok_or_else(|| {
                    TextError(format!("health check `{text}`: {key} must be a number from 1 to {most}"))
                })
            };
            match key {
                "port" => table.port = Some(number(u16::MAX.into())? as u16),
                "interval" => table.interval = Some(text::duration(value)?),
                "timeout" => table.timeout = Some(text::duration(value)?),
                "rise" => table.rise = Some(number(100)?),
                "fall" => table.fall = Some(number(100)?),
                _ => {
                    return Err(TextError(format!(
                        "health check `{text}`: unknown key `{key}`; known are port, interval, timeout, rise, fall"
                    )));
                }
            }
        }
        table.health()
    }
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Table::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Health {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Health;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"tcp\" or a table such as { kind = \"tcp\", interval = \"1s\" }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Health, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Health, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.health().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl FromStr for Scheduler {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "maglev" => Ok(Self::Maglev),
            "round-robin" => Ok(Self::RoundRobin),
            _ if SCHEDULERS_NOT_YET.contains(&text) => {
                Err(TextError(format!("scheduler `{text}` is not supported yet; use maglev or round-robin")))
            }
            _ => Err(TextError(format!("unknown scheduler `{text}`; use maglev or round-robin"))),
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maglev => "maglev",
            Self::RoundRobin => "round-robin",
        })
    }
}

impl<'de> Deserialize<'de> for Scheduler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, "\"maglev\" or \"round-robin\"", str::parse)
    }
}

fn known_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text::parsed(deserializer, "\"none\" or \"tcp\"", check_kind)
}

fn check_kind(kind: &str) -> Result<String, TextError> {
    match kind {
        "none" | "tcp" => Ok(kind.to_owned()),
        _ if KINDS_NOT_YET.contains(&kind) => {
            Err(TextError(format!("health check `{kind}` is not supported yet; use tcp or none")))
        }
        _ => Err(TextError(format!("unknown health check `{kind}`; use tcp or none"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_forms_say_the_same() {
        let short: Health = "tcp,interval=2s,timeout=100ms,rise=1,fall=5,port=81".parse().unwrap();
        let json = serde_json::to_string(&short).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&json).unwrap(), short);
        assert_eq!(serde_json::from_str::<Health>("\"none\"").unwrap(), Health::None);
        assert_eq!("tcp".parse::<Health>().unwrap(), Health::Tcp(TcpHealth::default()));
    }

    #[test]
    fn what_is_not_built_yet_is_told_apart_from_the_unknown() {
        assert!("http".parse::<Health>().unwrap_err().0.contains("not supported yet"));
        assert!("ping-pong".parse::<Health>().unwrap_err().0.contains("unknown"));
        assert!("least-connections".parse::<Scheduler>().unwrap_err().0.contains("not supported yet"));
        assert!("random".parse::<Scheduler>().unwrap_err().0.contains("unknown"));
        assert!("none,rise=3".parse::<Health>().is_err());
        assert!("tcp,port=70000".parse::<Health>().is_err());
    }
}
