//! The configuration file: TOML in, checked whole, with line and column of what is wrong.

pub mod export;
mod keys;
mod places;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;

use crate::api::{ApiError, plain, split_hint_behind};
use crate::dataplane::{Choice, Kind};
use crate::server::tcp;
use crate::state::desired::{Desired, InterfaceSpec, Service};
use crate::state::spec::ServiceSpec;
use crate::state::text;
use places::Places;

/// Bytes of a file at most.
pub const FILE_MAX: u64 = 16 << 20;

/// Why a file is not what it should be, or cannot be read: one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", place(*.position))]
pub struct ConfigError {
    /// What the file is called.
    pub file: String,
    /// Line and column, both from 1, where the place is known.
    pub position: Option<(usize, usize)>,
    /// What is wrong and what to do.
    pub message: String,
}

/// A file that was read and found good.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    dataplane: Choice,
    seed: Option<u64>,
    interfaces: Option<Vec<InterfaceSpec>>,
    http: Option<SocketAddr>,
    tracking_clients: Option<u32>,
    flood_inserts_per_cpu: Option<u32>,
    specs: Vec<ServiceSpec>,
    digest: String,
}

/// The file's own shape.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    dataplane: Choice,
    #[serde(default, with = "text::optional_seed")]
    seed: Option<u64>,
    interfaces: Option<Vec<Spanned<InterfaceSpec>>>,
    #[serde(default, deserialize_with = "tcp::key")]
    http: Option<SocketAddr>,
    #[serde(default, deserialize_with = "text::number::tracking_clients")]
    tracking_clients: Option<u32>,
    #[serde(default, deserialize_with = "text::number::flood_inserts_per_cpu")]
    flood_inserts_per_cpu: Option<u32>,
    #[serde(default, rename = "service")]
    services: Vec<Spanned<ServiceSpec>>,
}

/// Reads a file: its text, if it is one.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let wrong = |message: String| ConfigError { file: path.display().to_string(), position: None, message };
    let unreadable =
        |error: io::Error| wrong(format!("cannot be read: {error}; give one that is there and readable"));
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_MAX {
        return Err(wrong(format!(
            "has {size} bytes, more than the {FILE_MAX} a configuration may have; is it the right file?"
        )));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes)
        .map_err(|_| wrong("is not UTF-8 text, as TOML always is; save it as UTF-8".into()))
}

impl Config {
    /// Checks a file's text, whole, by the rules of the data plane that it names; where it names none, it must be right
    /// for one. `file` is what messages call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        Self::parse_for(file, text, None)
    }

    /// The same by the rules of `kind`, whatever the file says.
    pub fn parse_for(file: &str, text: &str, kind: Option<Kind>) -> Result<Self, ConfigError> {
        let at = |span: Option<Range<usize>>, message: &str| ConfigError {
            file: file.to_owned(),
            position: span.map(|span| position(text, span.start)),
            message: plain(message).replace('\n', " ").trim_end().to_owned(),
        };
        let toml_error = |error: toml::de::Error| at(error.span(), error.message());
        let table = toml::de::DeTable::parse(text).map_err(toml_error)?;
        keys::check(table.get_ref()).map_err(|(span, message)| at(Some(span), &message))?;
        let File { dataplane, seed, interfaces, http, tracking_clients, flood_inserts_per_cpu, services } =
            toml::from_str(text).map_err(toml_error)?;

        for spec in &services {
            spec.get_ref().complete().map_err(|error| at(Some(spec.span()), &error.to_string()))?;
        }
        let places = Places::new(&interfaces, &services, table.get_ref());
        let config = Self {
            dataplane,
            seed,
            interfaces: interfaces.map(|all| all.into_iter().map(Spanned::into_inner).collect()),
            http,
            tracking_clients,
            flood_inserts_per_cpu,
            specs: services.into_iter().map(Spanned::into_inner).collect(),
            digest: digest(text),
        };
        let alone = config.onto(&Desired::new(0)).map_err(|error| at(None, &error.to_string()))?;
        places.check(&alone, kind.or(dataplane.kind())).map_err(|(span, message)| at(span, &message))?;
        Ok(config)
    }

    /// What the file makes of a desired state: services and backends are replaced; a backend keeps a `state` that
    /// the file does not mention, and its removal after a drain unless the file says another `state`; interfaces and seed stay when their keys are absent.
    pub fn onto(&self, old: &Desired) -> Result<Desired, text::TextError> {
        let mut new = Desired::new(self.seed.unwrap_or(old.seed));
        new.interfaces = self.interfaces.clone().unwrap_or_else(|| old.interfaces.clone());
        new.http = self.http;
        new.tracking_clients = self.tracking_clients.unwrap_or(new.tracking_clients);
        new.flood_inserts_per_cpu = self.flood_inserts_per_cpu.unwrap_or(new.flood_inserts_per_cpu);
        for spec in &self.specs {
            let mut service = spec.complete()?;
            keep_states(spec, &mut service, old);
            new.services.push(service);
        }
        Ok(new)
    }

    /// What the file wants to move packets.
    pub fn dataplane(&self) -> Choice {
        self.dataplane
    }

    /// SHA-256 of the text, in hexadecimal: says whether a file is the one applied last.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// SHA-256 of a file's text, in hexadecimal.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl From<ConfigError> for ApiError {
    fn from(error: ConfigError) -> Self {
        let line = error.to_string();
        let (message, hint) = split_hint_behind(&line, &error.file);
        Self::invalid(message, hint)
    }
}

fn keep_states(spec: &ServiceSpec, service: &mut Service, old: &Desired) {
    let Some(before) = old.service(&service.name) else {
        return;
    };
    for (backend, spec) in service.backends.iter_mut().zip(&spec.backends) {
        let Some(before) = before.backend(backend.address) else { continue };
        if spec.state.is_none_or(|state| state == before.state) {
            backend.state = before.state;
            backend.remove_at = before.remove_at;
        }
    }
}

fn place(position: Option<(usize, usize)>) -> String {
    position.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default()
}

/// Line and column (in characters), both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
