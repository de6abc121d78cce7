//! Flags as keys of the file: read by the very rules that the file and the API are read by.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::CliError;
use crate::api::{ApiError, decode};

/// Keys and values under construction; flags that were not given leave no key.
#[derive(Debug, Default)]
pub struct Keys(Map<String, Value>);

impl Keys {
    /// Sets `key` if there is a value.
    pub fn set(mut self, key: &str, value: Option<impl Into<Value>>) -> Keys {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Sets `key` if there is a value; to nothing at all (`null`) if that is the word for it.
    pub fn set_unless(self, key: &str, value: Option<impl Into<Value>>, word: &str) -> Keys {
        let said = value.map(Into::into);
        self.set(key, said.map(|value: Value| if value == *word { Value::Null } else { value }))
    }

    /// Wrong usage if no flag was given; `about` is what would have been changed.
    pub fn not_empty(self, about: &str) -> Result<Keys, CliError> {
        match self.0.is_empty() {
            true => Err(CliError::Usage(format!(
                "{about}: nothing to change; give at least one option (see --help)"
            ))),
            false => Ok(self),
        }
    }

    /// The typed request they make; `about` is what complaints are about.
    pub fn read<T: DeserializeOwned>(self, about: &str) -> Result<T, CliError> {
        let read = decode(Value::Object(self.0).to_string().as_bytes());
        Ok(read.map_err(|error| ApiError { message: format!("{about}: {}", error.message), ..error })?)
    }
}

/// A number as one, so that the rule for numbers is what refuses another.
pub fn number_or_word(text: String) -> Value {
    text.parse::<i64>().map_or(Value::String(text), Value::from)
}

/// A typed request as the body that goes over the socket.
pub fn body<T: Serialize>(request: &T) -> Result<String, CliError> {
    serde_json::to_string(request).map_err(|error| CliError::failed(format!("write the request: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Health;
    use crate::dataplane::Mac;
    use crate::state::spec::{BackendSpec, ServiceSpec};

    #[test]
    fn flags_obey_the_rules_of_the_file() {
        let spec: BackendSpec =
            Keys::default().set("weight", Some(2)).set("mac", None::<String>).read("backend").unwrap();
        assert_eq!(spec, BackendSpec { weight: Some(2), ..BackendSpec::default() });

        let spec: ServiceSpec =
            Keys::default().set("health", Some("tcp,rise=5")).read("service web").unwrap();
        assert_eq!(spec.health, Some(Some("tcp,rise=5".parse::<Health>().unwrap())));

        let mac = |text: &str| {
            let spec: BackendSpec =
                Keys::default().set_unless("mac", Some(text), "auto").read("backend").unwrap();
            spec.mac
        };
        assert_eq!(mac("auto"), Some(None), "taken back, which is not the same as not named");
        assert_eq!(mac("02:00:00:00:00:12"), Some(Some(Mac([2, 0, 0, 0, 0, 0x12]))));

        let refused = |key: &str, value: &str| {
            Keys::default().set(key, Some(value)).read::<ServiceSpec>("service web").unwrap_err().to_string()
        };
        let error = refused("affinity", "bogus");
        assert!(error.starts_with("service web: affinity: ") && error.contains("bogus"), "{error}");
    }
}
