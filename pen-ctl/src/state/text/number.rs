//! serde forms of numbers, refused with their range rather than with the name of a Rust type.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

struct InRange<T>(&'static str, i64, i64, std::marker::PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for InRange<T> {
    type Value = Option<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from {} to {}", self.1, self.2)
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<T>, E> {
        let Self(what, low, high, _) = self;
        let value = T::try_from(number).ok().filter(|_| (low..=high).contains(&number));
        value
            .map(Some)
            .ok_or_else(|| E::custom(format!("{what} {number} is out of range; use {low} to {high}")))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<T>, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

fn in_range<'de, D, T>(d: D, what: &'static str, low: i64, high: i64) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    d.deserialize_i64(InRange(what, low, high, std::marker::PhantomData))
}

pub(crate) fn weight<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
    in_range(d, "weight", 1, 1000)
}

pub(crate) fn priority<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
    in_range(d, "priority", 0, u16::MAX.into())
}

pub(crate) fn nullable_vlan<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<u16>>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Vlan(#[serde(deserialize_with = "vlan")] Option<u16>);
    let said: Option<Vlan> = Option::deserialize(d)?;
    Ok(Some(said.and_then(|Vlan(number)| number)))
}

fn vlan<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
    in_range(d, "vlan", 1, 4094)
}

pub(crate) fn nullable_limit<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<u32>>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Limit(#[serde(deserialize_with = "limit")] Option<u32>);
    let said: Option<Limit> = Option::deserialize(d)?;
    Ok(Some(said.and_then(|Limit(number)| number)))
}

fn limit<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    in_range(d, "limit", 1, u32::MAX.into())
}

pub(crate) fn port<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
    in_range(d, "port", 1, u16::MAX.into())
}

pub(crate) fn times<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    in_range(d, "rise or fall", 1, 100)
}

pub(crate) fn jitter<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u8>, D::Error> {
    in_range(d, "jitter", 0, 50)
}

pub(crate) fn panic<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u8>, D::Error> {
    in_range(d, "panic", 0, 100)
}

pub(crate) fn packets<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    rate(d, "packets")
}

pub(crate) fn packets_burst<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    rate(d, "packets_burst")
}

pub(crate) fn flows<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    rate(d, "flows")
}

pub(crate) fn flows_burst<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    rate(d, "flows_burst")
}

/// Of packets or flows a second, or how many at once.
fn rate<'de, D: Deserializer<'de>>(d: D, what: &'static str) -> Result<Option<u32>, D::Error> {
    in_range(d, what, 1, 10_000_000)
}

pub(crate) fn prefix_v4<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u8>, D::Error> {
    in_range(d, "prefix_v4", 0, 32)
}

pub(crate) fn prefix_v6<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u8>, D::Error> {
    in_range(d, "prefix_v6", 0, 128)
}

pub(crate) fn flood_inserts_per_cpu<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    in_range(d, "flood_inserts_per_cpu", 0, 1_000_000_000)
}

pub(crate) fn tracking_clients<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    in_range(d, "tracking_clients", 1024, 16_777_216)
}
