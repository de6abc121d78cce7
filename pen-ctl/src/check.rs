//! How backends are checked: what is asked of one, how often, and how many results make a verdict.
//!
//! In files: [`kind`] says what is asked, [`table`] how all of it is written, [`rules`] what it must obey ([`dns`]: its words).

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use kind::{
    AgentCheck, DnsCheck, ExecCheck, HttpCheck, Kind, Payload, SmtpCheck, Statuses, TlsCheck, Transport,
    UdpCheck,
};

pub(crate) use dns::code_name;
pub(crate) use table::KEYS as HEALTH_KEYS;

mod dns;
mod kind;
pub mod rules;
mod table;

/// How a backend is checked. Written `none`, `tcp`, `tcp,interval=2s` or as a table with the key `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not at all: up once its MAC is known.
    None,
    /// In this way.
    Checked(Box<Check>),
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: Kind,
    /// The port that is asked; `None` = the backend's, else the service's. `icmp` and `exec` have none.
    pub port: Option<u16>,
    /// Which way it takes; `None` = that of clients' packets where it can.
    pub way: Option<Way>,
    /// How often, and what makes a verdict.
    pub pace: Pace,
}

/// The way a question takes to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// To the VIP at the backend's MAC, as clients' packets come to it.
    Dsr,
    /// To the backend's own address.
    Direct,
}

/// How often is asked, how long an answer may take, and how many results make a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From one check to the next.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
    /// By how much the interval varies, up and down, so that checks do not fall into step: percent.
    pub jitter: u8,
    /// How long a backend that keeps going down is held down at most before successes count; zero = not at all.
    pub max_hold: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: 2,
            fall: 3,
            jitter: 5,
            max_hold: Duration::from_secs(300),
        }
    }
}

impl Check {
    /// A check of that kind with defaults for all else.
    pub fn of(kind: Kind) -> Check {
        Check { kind, port: None, way: None, pace: Pace::default() }
    }
}

impl Health {
    /// A check of that kind with defaults for all else.
    pub fn of(kind: Kind) -> Health {
        Health::Checked(Box::new(Check::of(kind)))
    }

    /// The check, where there is one.
    pub fn check(&self) -> Option<&Check> {
        match self {
            Health::None => None,
            Health::Checked(check) => Some(check),
        }
    }

    /// Its kind, as it is written.
    pub fn name(&self) -> &'static str {
        self.check().map_or("none", |check| check.kind.name())
    }
}
