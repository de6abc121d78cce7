//! How interfaces are written: `"eth0"`, or a table such as `{ name = "eth0", mode = "native" }`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

use super::desired::InterfaceSpec;
use crate::dataplane::AttachMode;

/// The table form.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    #[serde(default)]
    mode: AttachMode,
    #[serde(default = "yes")]
    announce: bool,
}

impl<'de> Deserialize<'de> for InterfaceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = InterfaceSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an interface such as \"eth0\" or { name = \"eth0\", mode = \"native\" }")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<InterfaceSpec, E> {
                Ok(InterfaceSpec::new(name))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<InterfaceSpec, A::Error> {
                let Table { name, mode, announce } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(InterfaceSpec { name, mode, announce })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn yes() -> bool {
    true
}
