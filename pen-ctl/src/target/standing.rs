//! How each backend of a service stands, and why.

use std::collections::{BTreeMap, BTreeSet};

use super::{Seen, Sighting, Standing, advised, has_result, path};
use crate::dataplane::{BackendAddress, HealthStatus, Kind};
use crate::health::NOT_CHECKED;
use crate::state::desired::{AdminState, Backend, Service};
use crate::surroundings::Ground;

/// How the backends of a service stand. Of those who could serve, the lowest priority does.
pub(super) fn stand(
    service: &Service,
    kind: Kind,
    seen: &Seen,
    attached: &BTreeSet<u32>,
) -> BTreeMap<BackendAddress, Standing> {
    let mut standings: BTreeMap<BackendAddress, Standing> = service
        .backends
        .iter()
        .map(|backend| (backend.address, stand_alone(service, backend, kind, seen, attached)))
        .collect();
    let could_serve = |backend: &&Backend| standings.get(&backend.address).is_some_and(|one| one.serving);
    let serving = service.backends.iter().filter(could_serve).map(|backend| backend.priority).min();
    panic(service, kind, seen, serving, &mut standings);
    let Some(serving) = serving else { return standings };
    for backend in service.backends.iter().filter(|backend| backend.priority > serving) {
        if let Some(standing) = standings.get_mut(&backend.address).filter(|standing| standing.serving) {
            (standing.serving, standing.standby) = (false, true);
            standing.reason = Some(format!("standby: priority {serving} is serving"));
        }
    }
    standings
}

/// Where too few serve, those few would not bear the load, and checks may be what is wrong: all that are not down by
/// order serve. That is asked of those whose turn it is: the priority that serves, or everybody where nobody does.
fn panic(
    service: &Service,
    kind: Kind,
    seen: &Seen,
    serving: Option<u16>,
    standings: &mut BTreeMap<BackendAddress, Standing>,
) {
    let health = |address| seen.health.get(&(service.vip, address)).map(|sighting| sighting.status);
    let asked = service.backends.iter().filter(|backend| {
        let turn = serving.is_none_or(|priority| backend.priority == priority);
        turn && backend.state == AdminState::Up && health(backend.address) != Some(HealthStatus::Unknown)
    });
    let asked: Vec<_> = asked.map(|backend| backend.address).collect();
    let well = asked.iter().filter(|one| standings.get(one).is_some_and(|standing| standing.serving)).count();
    if well * 100 >= usize::from(service.panic) * asked.len() {
        return;
    }
    for address in asked.into_iter().filter(|address| health(*address) == Some(HealthStatus::Down)) {
        // Without a MAC it cannot be reached, whatever its health.
        if let Some(standing) =
            standings.get_mut(&address).filter(|one| kind == Kind::Proxy || one.path.is_some())
        {
            (standing.usable, standing.serving, standing.panic) = (true, true, true);
            (standing.unhealthy, standing.reason) = (false, None);
        }
    }
}

/// How a backend stands were it the only one.
fn stand_alone(
    service: &Service,
    backend: &Backend,
    kind: Kind,
    seen: &Seen,
    attached: &BTreeSet<u32>,
) -> Standing {
    let path = match kind {
        Kind::Xdp => path(service, backend, seen, attached).map(Some),
        // The system's routes say where it is.
        Kind::Proxy => Ok(None),
    };
    let sighting = seen.health.get(&(service.vip, backend.address)).cloned().unwrap_or_default();
    let advice = advised::advice(service, backend, seen);
    let healthy = sighting.status == HealthStatus::Up;
    let usable = backend.state != AdminState::Down && healthy && path.is_ok();
    let reason = match (&path, backend.state) {
        (_, AdminState::Down) => Some("down by the operator".to_owned()),
        (Err(why), _) => Some(why.clone()),
        _ if !healthy => Some(unhealthy(&sighting)),
        (_, AdminState::Drain) => Some("draining".to_owned()),
        _ => advised::draining(advice).map(str::to_owned),
    };
    Standing {
        known: has_result(service, backend, seen),
        unhealthy: backend.state != AdminState::Down && path.is_ok() && !healthy,
        path: path.ok().flatten(),
        usable,
        serving: reason.is_none(),
        standby: false,
        panic: false,
        weight: advised::share(backend.weight, advice),
        draining: backend.state == AdminState::Drain || advised::draining(advice).is_some(),
        reason,
    }
}

fn unhealthy(sighting: &Sighting) -> String {
    match (sighting.status, sighting.detail.as_str()) {
        (HealthStatus::Unknown, "") => "waiting for the first health check".to_owned(),
        (HealthStatus::Unknown, detail) => match detail.strip_prefix(NOT_CHECKED) {
            Some(why) => format!("not checked yet{why}"),
            None => format!("waiting for the first health check: {detail}"),
        },
        (_, "") => "health check failed".to_owned(),
        (_, detail) => match sighting.ground {
            Ground::Result | Ground::Failing => format!("health check failed: {detail}"),
            Ground::Recovering => detail.to_owned(),
            Ground::Unasked => format!("down when last checked; {detail}"),
        },
    }
}
