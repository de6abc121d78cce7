//! serde forms of keys that can be taken back: `null` is something said.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde::ser::Serializer;

use super::{optional_duration, required_duration};

/// serde form of a key that can be taken back: `null` is something said.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// serde form of a duration that can be taken back: text, the bare number 0, or `null`.
pub(crate) fn nullable_duration<'de, D>(deserializer: D) -> Result<Option<Option<Duration>>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Time(Duration);
    impl<'de> Deserialize<'de> for Time {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            required_duration::deserialize(deserializer).map(Self)
        }
    }
    let said: Option<Time> = Option::deserialize(deserializer)?;
    Ok(Some(said.map(|Time(time)| time)))
}

/// Writes `10m`, or `null`.
pub(crate) fn write_nullable_duration<S: Serializer>(
    value: &Option<Option<Duration>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    optional_duration::serialize(&value.flatten(), serializer)
}
