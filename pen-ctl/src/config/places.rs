//! Where in a file each part of a state is written, so that what breaks a rule is told with its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::api::{ApiError, ErrorCode};
use crate::dataplane::Kind;
use crate::state::desired::{Desired, InterfaceSpec};
use crate::state::spec::ServiceSpec;
use crate::state::validate;

/// Bytes from and to.
type Span = Range<usize>;

/// Where the parts are, in the order of the file.
pub(super) struct Places {
    interfaces: Vec<Span>,
    services: Vec<Span>,
    /// For each service.
    backends: Vec<Vec<Span>>,
}

impl Places {
    pub(super) fn new(
        interfaces: &Option<Vec<Spanned<InterfaceSpec>>>,
        services: &[Spanned<ServiceSpec>],
        file: &DeTable<'_>,
    ) -> Self {
        let tables = file.get("service").into_iter().flat_map(|tables| elements(tables.get_ref()));
        let backends = tables.map(|service| {
            let service = service.get_ref().as_table();
            let backends = service.and_then(|service| service.get("backend"));
            backends.into_iter().flat_map(|all| elements(all.get_ref())).map(Spanned::span).collect()
        });
        Self {
            interfaces: interfaces.iter().flatten().map(Spanned::span).collect(),
            services: services.iter().map(Spanned::span).collect(),
            backends: backends.collect(),
        }
    }

    /// Checks the state that a file alone makes. What is wrong is found where it begins to be: of two that clash, at
    /// the second.
    pub(super) fn check(&self, alone: &Desired, kind: Option<Kind>) -> Result<(), (Option<Span>, String)> {
        let validate = |part: &Desired| validate::desired_for(part, kind);
        let Err(whole) = validate(alone) else { return Ok(()) };
        let (place, part) = self.first_wrong_part(alone, validate);
        // Something else may come first in the file than in the order of the rules.
        let error = validate(&part).err().unwrap_or(whole);
        Err((place, told(&error)))
    }

    /// The place where the file begins to be wrong, and the state that it makes up to there.
    fn first_wrong_part(
        &self,
        alone: &Desired,
        validate: impl Fn(&Desired) -> Result<(), ApiError>,
    ) -> (Option<Span>, Desired) {
        let mut part = Desired { interfaces: Vec::new(), services: Vec::new(), ..alone.clone() };
        let interfaces = first_wrong(alone.interfaces.len(), |count| {
            part.interfaces = alone.interfaces[..count].to_vec();
            validate(&part)
        });
        if let Some(interface) = interfaces {
            part.interfaces = alone.interfaces[..=interface].to_vec();
            return (self.interfaces.get(interface).cloned(), part);
        }
        let service = first_wrong(alone.services.len(), |count| {
            part.services = alone.services[..count].to_vec();
            validate(&part)
        });
        let Some(service) = service else { return (None, part) };
        part.services = alone.services[..=service].to_vec();
        let backends = std::mem::take(&mut part.services[service].backends);
        if validate(&part).is_err() {
            return (self.services.get(service).cloned(), part);
        }
        let backend = first_wrong(backends.len(), |count| {
            part.services[service].backends = backends[..count].to_vec();
            validate(&part)
        });
        let Some(backend) = backend else { return (None, part) };
        part.services[service].backends = backends[..=backend].to_vec();
        (self.backends.get(service).and_then(|all| all.get(backend)).cloned(), part)
    }
}

fn elements<'a, 'i>(value: &'a DeValue<'i>) -> impl Iterator<Item = &'a Spanned<DeValue<'i>>> {
    value.as_array().into_iter().flat_map(|all| all.iter())
}

/// The first of `all` with which the ones up to it are wrong: more never make wrong ones right.
fn first_wrong(all: usize, mut check: impl FnMut(usize) -> Result<(), ApiError>) -> Option<usize> {
    let (mut good, mut wrong) = (0, all);
    if check(all).is_ok() {
        return None;
    }
    while wrong - good > 1 {
        let middle = good + (wrong - good) / 2;
        match check(middle) {
            Ok(()) => good = middle,
            Err(_) => wrong = middle,
        }
    }
    wrong.checked_sub(1)
}

/// In a file nothing is added to what is there, as a command does.
fn told(error: &ApiError) -> String {
    match error.code {
        ErrorCode::Exists => format!("{}; it can be in the file only once", error.message),
        _ => error.to_string(),
    }
}
