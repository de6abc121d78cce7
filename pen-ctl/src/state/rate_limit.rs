//! How rate limits are written: a table, or the short form `packets=10000,flows=100`.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::text::{self, TextError};
use crate::dataplane::{Rate, RateLimit};

/// All keys.
pub(crate) const KEYS: &[&str] =
    &["packets", "flows", "packets_burst", "flows_burst", "prefix_v4", "prefix_v6"];
/// Bits of a source that share a limit where nothing is said: of IPv4 each address by itself, of IPv6 each network, in
/// which a host takes as many addresses as it likes.
const PREFIX_V4: u8 = 32;
const PREFIX_V6: u8 = 64;

/// The keys as far as they are said.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    #[serde(deserialize_with = "text::number::packets", skip_serializing_if = "Option::is_none")]
    packets: Option<u32>,
    #[serde(deserialize_with = "text::number::flows", skip_serializing_if = "Option::is_none")]
    flows: Option<u32>,
    #[serde(deserialize_with = "text::number::packets_burst", skip_serializing_if = "Option::is_none")]
    packets_burst: Option<u32>,
    #[serde(deserialize_with = "text::number::flows_burst", skip_serializing_if = "Option::is_none")]
    flows_burst: Option<u32>,
    #[serde(deserialize_with = "text::number::prefix_v4", skip_serializing_if = "Option::is_none")]
    prefix_v4: Option<u8>,
    #[serde(deserialize_with = "text::number::prefix_v6", skip_serializing_if = "Option::is_none")]
    prefix_v6: Option<u8>,
}

impl Table {
    fn limit(self) -> Result<RateLimit, TextError> {
        let packets = rate("packets", self.packets, self.packets_burst)?;
        let flows = rate("flows", self.flows, self.flows_burst)?;
        if packets.is_none() && flows.is_none() {
            return Err(TextError(
                "a rate limit of nothing limits nobody; give `packets` or `flows`, or leave rate_limit out (on the command \
                 line `--rate-limit none`)"
                    .into(),
            ));
        }
        let prefix_v4 = self.prefix_v4.unwrap_or(PREFIX_V4);
        Ok(RateLimit { packets, flows, prefix_v4, prefix_v6: self.prefix_v6.unwrap_or(PREFIX_V6) })
    }
}

fn rate(what: &str, rate: Option<u32>, burst: Option<u32>) -> Result<Option<Rate>, TextError> {
    match (rate, burst) {
        (Some(per_second), burst) => Ok(Some(Rate { per_second, burst: burst.unwrap_or(per_second) })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(TextError(format!(
            "`{what}_burst` is how far `{what}` may be exceeded for a moment, and there is none; give `{what}`, too"
        ))),
    }
}

impl From<&RateLimit> for Table {
    /// What is by default is left out.
    fn from(limit: &RateLimit) -> Self {
        let RateLimit { packets, flows, prefix_v4, prefix_v6 } = *limit;
        let burst =
            |rate: Option<Rate>| rate.filter(|rate| rate.burst != rate.per_second).map(|rate| rate.burst);
        Self {
            packets: packets.map(|rate| rate.per_second),
            flows: flows.map(|rate| rate.per_second),
            packets_burst: burst(packets),
            flows_burst: burst(flows),
            prefix_v4: (prefix_v4 != PREFIX_V4).then_some(prefix_v4),
            prefix_v6: (prefix_v6 != PREFIX_V6).then_some(prefix_v6),
        }
    }
}

impl FromStr for RateLimit {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let mut table = Map::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let shown = part.escape_debug();
            let wrong = |why: &str| TextError(format!("`{shown}` {why}"));
            let (key, word) = part
                .split_once('=')
                .ok_or_else(|| wrong("is not key=value; write it as in packets=10000,flows=100"))?;
            if !KEYS.contains(&key) {
                let known = KEYS.join(", ");
                return Err(TextError(format!(
                    "a rate limit has no key `{}`; known are {known}",
                    key.escape_debug()
                )));
            }
            if word.contains([' ', '\t', ';']) {
                return Err(wrong(
                    "is more than one key; separate them by commas, as in packets=10000,flows=100",
                ));
            }
            if !is_whole(word) {
                return Err(wrong("is not a number; write it as in packets=10000"));
            }
            // Too large even for this: no range holds it.
            let number: i64 =
                word.parse().map_err(|_| TextError(text::number::out_of_range(key, word, range(key))))?;
            if table.insert(key.to_owned(), number.into()).is_some() {
                return Err(wrong("is said twice; leave one of them out"));
            }
        }
        let table: Table =
            serde_json::from_value(table.into()).map_err(|error| TextError(error.to_string()))?;
        table.limit()
    }
}

/// Whether that is a whole number, of whatever size.
fn is_whole(word: &str) -> bool {
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// What the number of a key may be.
fn range(key: &str) -> text::number::Range {
    match key {
        "packets" | "flows" => text::number::RATE,
        "prefix_v4" => text::number::PREFIX_V4,
        "prefix_v6" => text::number::PREFIX_V6,
        _ => text::number::BURST,
    }
}

impl fmt::Display for RateLimit {
    /// The short form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Numbers: cannot fail, and is an object.
        let Ok(Value::Object(said)) = serde_json::to_value(Table::from(self)) else { return Ok(()) };
        let in_order = KEYS.iter().filter_map(|key| Some((key, said.get(*key)?)));
        let parts: Vec<String> = in_order.map(|(key, number)| format!("{key}={number}")).collect();
        f.write_str(&parts.join(","))
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Table::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RateLimit;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as { packets = 10000, flows = 100 }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RateLimit, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateLimit, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.limit().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests;
