//! serde forms of numbers, refused with their range rather than with the name of a Rust type.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The least and the most that a number may be, and what else can be done than to use one of these.
#[derive(Clone, Copy)]
pub(crate) struct Range(i64, i64, &'static str);

/// Packets or flows a second.
pub(crate) const RATE: Range =
    Range(1, 10_000_000, ", leave it out, or have no limit at all with `none` on the command line");
/// How many at once.
pub(crate) const BURST: Range = Range(1, 10_000_000, "");
/// Bits of an IPv4 address.
pub(crate) const PREFIX_V4: Range = Range(0, 32, "");
/// Bits of an IPv6 address.
pub(crate) const PREFIX_V6: Range = Range(0, 128, "");

/// What is said of a number that is too small or too large.
pub(crate) fn out_of_range(what: &str, number: impl fmt::Display, range: Range) -> String {
    let Range(low, high, or_else) = range;
    format!("{what} {number} is out of range; use {low} to {high}{or_else}")
}

struct InRange<T>(&'static str, Range, std::marker::PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for InRange<T> {
    type Value = Option<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range(low, high, _) = self.1;
        write!(f, "a number from {low} to {high}")
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<T>, E> {
        let Self(what, range, _) = self;
        let Range(low, high, _) = range;
        let value = T::try_from(number).ok().filter(|_| (low..=high).contains(&number));
        value.map(Some).ok_or_else(|| E::custom(out_of_range(what, number, range)))
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
    within(d, what, Range(low, high, ""))
}

fn within<'de, D, T>(d: D, what: &'static str, range: Range) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    d.deserialize_i64(InRange(what, range, std::marker::PhantomData))
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
    within(d, "packets", RATE)
}

pub(crate) fn packets_burst<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    within(d, "packets_burst", BURST)
}

pub(crate) fn flows<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    within(d, "flows", RATE)
}

pub(crate) fn flows_burst<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    within(d, "flows_burst", BURST)
}

pub(crate) fn prefix_v4<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u8>, D::Error> {
    within(d, "prefix_v4", PREFIX_V4)
}

pub(crate) fn prefix_v6<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u8>, D::Error> {
    within(d, "prefix_v6", PREFIX_V6)
}

pub(crate) fn flood_inserts_per_cpu<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    in_range(d, "flood_inserts_per_cpu", 0, 1_000_000_000)
}

pub(crate) fn tracking_clients<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    in_range(d, "tracking_clients", 1024, 16_777_216)
}
