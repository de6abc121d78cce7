//! Which desired state it is: a short name that changes with it, and conditions on it (`ETag`, `If-Match`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::desired::Desired;
use super::text::TextError;

/// Hexadecimal digits of a revision: 64 bits, which two states of one controller never share by accident.
const DIGITS: usize = 16;

/// A desired state's name: the first digits of the SHA-256 of its JSON. Equal states have equal names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(String);

impl Revision {
    /// The name of a state.
    pub fn of(desired: &Desired) -> Self {
        // Strings, numbers and lists, in the order of their declaration: cannot fail, and always comes out the same.
        let json = serde_json::to_vec(desired).unwrap_or_default();
        let mut digits: String = Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect();
        digits.truncate(DIGITS);
        Self(digits)
    }

    /// As the header `ETag` has it (RFC 9110, section 8.8.3).
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which states a change may be made to: the header `If-Match` (RFC 9110, section 13.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Any: nothing was said, or `*`.
    #[default]
    Any,
    /// One of these; weak tags are left out, because they never match.
    OneOf(Vec<Revision>),
}

impl Condition {
    /// Whether a change may be made to this state.
    pub fn holds(&self, revision: &Revision) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(wanted) => wanted.contains(revision),
        }
    }
}

impl FromStr for Condition {
    type Err = TextError;

    /// Reads `*`, `"1f2e3d4c5b6a7988"`, a list of such, or one without its quotes, as people type it.
    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || {
            TextError(format!(
                "`{}` is not a revision; write it as `status --json` and the header ETag show it",
                text.escape_debug()
            ))
        };
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let mut wanted = Vec::new();
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            let (weak, tag) = tag.strip_prefix("W/").map_or((false, tag), |tag| (true, tag));
            let quoted = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let plain = quoted.unwrap_or(tag);
            if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(wrong());
            }
            if !weak {
                wanted.push(Revision(plain.to_owned()));
            }
        }
        if wanted.is_empty() && !text.contains("W/") {
            return Err(wrong());
        }
        Ok(Self::OneOf(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::desired::InterfaceSpec;

    #[test]
    fn equal_states_have_equal_names_and_others_others() {
        let state = Desired::new(7);
        let mut other = state.clone();
        assert_eq!(Revision::of(&state), Revision::of(&other));
        other.interfaces.push(InterfaceSpec::new("eth0"));
        assert_ne!(Revision::of(&state), Revision::of(&other));
        assert_ne!(Revision::of(&state), Revision::of(&Desired::new(8)));
    }

    #[test]
    fn conditions_are_read_as_http_and_people_write_them() {
        let revision = Revision::of(&Desired::new(7));
        let holds = |text: &str| text.parse::<Condition>().map(|condition| condition.holds(&revision));
        for text in ["*", &revision.etag(), &revision.to_string(), &format!("\"beef\" , {}", revision.etag())]
        {
            assert_eq!(holds(text), Ok(true), "{text}");
        }
        for text in ["\"beef\"".to_owned(), "beef".to_owned(), format!("W/{}", revision.etag())] {
            assert_eq!(holds(&text), Ok(false), "{text}");
        }
        for text in ["", "\"", "\"\"", "a b", "\"a\nb\""] {
            assert!(holds(text).is_err(), "{text:?}");
        }
    }
}
