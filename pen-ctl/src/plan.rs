//! Compares what should be with what is: a pure diff, as operations in an order in which no packet is lost.
//!
//! The order: what nobody wants any more goes first, so that there is room; services exist before interfaces are
//! attached, so that no packet for a VIP reaches the local stack meanwhile; within a service, who starts serving is
//! ready before the table names it, and the table forgets who stops before it is marked so.

use std::collections::{BTreeMap, BTreeSet};

use crate::dataplane::{
    BackendAddress, BackendTarget, InterfaceTarget, Member, Observed, ObservedInterface, ObservedService,
    Operation, ServiceKey, ServiceTarget, Target,
};

/// The steps from `observed` to `target`; none when they agree.
pub fn plan(target: &Target, observed: &Observed) -> Vec<Operation> {
    let mut steps = Vec::new();
    for key in observed.services.keys().filter(|key| !target.services.contains_key(key)) {
        steps.push(Operation::RemoveService { key: *key });
    }
    if observed.seed != target.seed {
        steps.push(Operation::SetSeed(target.seed));
    }
    if observed.flood_inserts_per_cpu != target.flood_inserts_per_cpu {
        steps.push(Operation::SetFlood(target.flood_inserts_per_cpu));
    }
    for (key, service) in &target.services {
        if observed.services.get(key).map(|found| &found.settings) != Some(&service.settings) {
            steps.push(Operation::SetService { key: *key, settings: service.settings.clone() });
        }
    }
    let (detach_first, detach_last) = detachments(target, observed);
    steps.extend(detach_first);
    for (name, interface) in &target.interfaces {
        if observed.interfaces.get(name).is_none_or(|found| differs(interface, found)) {
            steps.push(Operation::Attach { name: name.clone(), target: interface.clone() });
        }
    }
    for (key, service) in &target.services {
        within_service(*key, service, observed, observed.seed != target.seed, &mut steps);
    }
    steps.extend(detach_last);
    steps
}

fn differs(wanted: &InterfaceTarget, found: &ObservedInterface) -> bool {
    !found.attached || !found.intact || found.target != *wanted
}

/// An interface that goes by another name now is let go before it is attached under that; others last, so that
/// what is behind them stops serving first.
fn detachments(target: &Target, observed: &Observed) -> (Vec<Operation>, Vec<Operation>) {
    let wanted: BTreeSet<u32> = target.interfaces.values().map(|interface| interface.ifindex).collect();
    let gone = observed.interfaces.iter().filter(|(name, _)| !target.interfaces.contains_key(*name));
    let (first, last): (Vec<_>, Vec<_>) = gone.partition(|(_, found)| wanted.contains(&found.target.ifindex));
    let detach = |all: Vec<(&String, &ObservedInterface)>| {
        all.into_iter().map(|(name, _)| Operation::Detach { name: name.clone() }).collect()
    };
    (detach(first), detach(last))
}

fn within_service(
    key: ServiceKey,
    service: &ServiceTarget,
    observed: &Observed,
    new_seed: bool,
    steps: &mut Vec<Operation>,
) {
    let nobody = BTreeMap::new();
    let found = observed.services.get(&key);
    let before = found.map_or(&nobody, |found| &found.backends);
    let changed = service.backends.iter().filter(|(address, target)| before.get(address) != Some(*target));
    let stops = |(address, target): &(&BackendAddress, &BackendTarget)| {
        !target.serving && before.get(address).is_some_and(|before| before.serving)
    };
    let (stopping, others): (Vec<_>, Vec<_>) = changed.partition(stops);
    let set = |(address, target): (&BackendAddress, &BackendTarget)| Operation::SetBackend {
        key,
        address: *address,
        target: *target,
    };
    steps.extend(others.into_iter().map(set));
    if let Some(members) = table(service, found, new_seed) {
        steps.push(Operation::SetTable { key, members });
    }
    steps.extend(stopping.into_iter().map(set));
    for address in before.keys().filter(|address| !service.backends.contains_key(address)) {
        steps.push(Operation::RemoveBackend { key, address: *address });
    }
}

/// Who is to share the table, if that is other than now.
fn table(service: &ServiceTarget, found: Option<&ObservedService>, new_seed: bool) -> Option<Vec<Member>> {
    let now = match found {
        None => Some(&[][..]),
        Some(found) if !found.has_table => Some(&[][..]),
        Some(found) => found.members.as_deref(),
    };
    let wanted = match &service.members {
        Some(members) => members.clone(),
        // Not due yet: but whoever leaves, leaves it.
        None => {
            now?.iter().filter(|member| service.backends.contains_key(&member.address)).copied().collect()
        }
    };
    let same = now == Some(&wanted[..]) && (!new_seed || wanted.is_empty());
    (!same).then_some(wanted)
}

#[cfg(test)]
mod tests;
