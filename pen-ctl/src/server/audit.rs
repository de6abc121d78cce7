//! What administrators asked for, in words for the journal.

use serde::Serialize;

use crate::api::event::Kind;
use crate::api::{Interfaces, Request};
use crate::journal::Note;
use crate::state::desired::InterfaceSpec;
use crate::state::spec::ServiceSpec;

/// Prefixes of a list that are told one by one.
const LISTED: usize = 16;

/// What was asked for by a user, and what it is about.
pub(super) fn note(request: &Request, user: Option<u32>) -> Note {
    let note = Note { user, ..Note::new(Kind::Change, what(request)) };
    match request {
        Request::ServiceAdd(spec) => Note { service: spec.name.clone(), ..note },
        Request::ServiceSet { name, .. } | Request::ServiceRemove { name } => {
            Note { service: Some(name.clone()), ..note }
        }
        Request::BackendAdd { service, spec } => {
            Note { service: Some(service.clone()), backend: spec.address, ..note }
        }
        Request::BackendSet { service, address, .. }
        | Request::BackendDrain { service, address, .. }
        | Request::BackendRemove { service, address } => {
            Note { service: Some(service.clone()), backend: Some(*address), ..note }
        }
        _ => note,
    }
}

/// What was asked for, in one line; for looks, that somebody looked.
fn what(request: &Request) -> String {
    match request {
        Request::ServiceAdd(spec) => format!("service added: {}", service_keys(spec)),
        Request::ServiceSet { name, spec } => {
            format!("service {} set: {}", name.escape_debug(), service_keys(spec))
        }
        Request::ServiceRemove { name } => format!("service {} removed", name.escape_debug()),
        Request::BackendAdd { service, spec } => {
            format!("backend added to service {}: {}", service.escape_debug(), keys(spec))
        }
        Request::BackendSet { service, address, spec } => {
            format!("backend {address} of service {} set: {}", service.escape_debug(), keys(spec))
        }
        Request::BackendRemove { service, address } => {
            format!("backend {address} of service {} removed", service.escape_debug())
        }
        Request::BackendDrain { service, address, within } => format!(
            "backend {address} of service {} begins to drain, to be removed within {}",
            service.escape_debug(),
            humantime::format_duration(*within)
        ),
        Request::Attach(interfaces) => {
            let all: Vec<String> = interfaces.iter().map(interface).collect();
            format!("interfaces to be attached: {}", all.join(", "))
        }
        Request::Detach(Interfaces::All) => "all interfaces to be detached".to_owned(),
        Request::Detach(Interfaces::Named(names)) => {
            format!("interfaces to be detached: {}", names.join(", ").escape_debug())
        }
        Request::Apply { file, .. } => format!("{} applied", file.escape_debug()),
        Request::Reload => "the controller's file applied again".to_owned(),
        Request::Confirm => "what was on trial confirmed".to_owned(),
        Request::RollBack => "what was on trial rolled back".to_owned(),
        Request::HistoryRestore { number, .. } => format!("state {number} of the history restored"),
        Request::Stop { detach: true } => "told to detach everywhere and to end".to_owned(),
        Request::Stop { detach: false } => "told to end".to_owned(),
        Request::Status
        | Request::ServiceList
        | Request::ServiceShow { .. }
        | Request::BackendList { .. }
        | Request::Clients
        | Request::Metrics
        | Request::Export
        | Request::History
        | Request::HistoryShow { .. }
        | Request::InterfaceList => "looked".to_owned(),
    }
}

/// The keys that were given, as JSON: one line whatever is in them.
fn keys(spec: &impl Serialize) -> String {
    // Keys are strings: cannot fail.
    serde_json::to_string(spec).unwrap_or_default()
}

/// The same of a service. Lists that are too long for a line are counted behind it.
fn service_keys(spec: &ServiceSpec) -> String {
    let mut short = spec.clone();
    let mut counted = Vec::new();
    for (key, list) in [("allow", &mut short.allow), ("deny", &mut short.deny)] {
        if let Some(long) = list.take_if(|list| list.len() > LISTED) {
            counted.push(format!("{key} of {} prefixes", long.len()));
        }
    }
    let told = Some(keys(&short)).filter(|_| counted.is_empty() || short != ServiceSpec::default());
    told.into_iter().chain(counted).collect::<Vec<_>>().join(", ")
}

fn interface(spec: &InterfaceSpec) -> String {
    let quiet = if spec.announce { "" } else { ", no announcements" };
    format!("{} (mode {}{quiet})", spec.name.escape_debug(), keys(&spec.mode).trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::spec::BackendSpec;

    #[test]
    fn a_change_is_told_on_one_line_with_what_was_given_and_nothing_else() {
        let address = "10.0.0.11".parse().unwrap();
        let spec = BackendSpec { weight: Some(2), ..BackendSpec::default() };
        let set = Request::BackendSet { service: "web".into(), address, spec };
        assert_eq!(what(&set), "backend 10.0.0.11 of service web set: {\"weight\":2}");
        let forged = Request::ServiceRemove { name: "web\nINFO all is well".into() };
        assert!(!what(&forged).contains('\n'));
        let attach = Request::Attach(vec![InterfaceSpec::new("eth0")]);
        assert_eq!(what(&attach), "interfaces to be attached: eth0 (mode auto)");
    }

    #[test]
    fn long_lists_are_counted() {
        let list = |count: u32| {
            (0..count).map(|n| std::net::IpAddr::from(std::net::Ipv4Addr::from(n)).into()).collect()
        };
        let spec = ServiceSpec {
            panic: Some(5),
            deny: Some(list(100_000)),
            allow: Some(list(1)),
            ..ServiceSpec::default()
        };
        assert_eq!(
            what(&Request::ServiceSet { name: "web".into(), spec }),
            r#"service web set: {"allow":["0.0.0.0/32"],"panic":5}, deny of 100000 prefixes"#
        );
        let spec = ServiceSpec { deny: Some(list(17)), ..ServiceSpec::default() };
        let set = Request::ServiceSet { name: "web".into(), spec };
        assert_eq!(what(&set), "service web set: deny of 17 prefixes");
    }

    #[test]
    fn a_change_is_noted_with_who_asked_and_what_it_is_about() {
        let address = "10.0.0.11".parse().unwrap();
        let request = Request::BackendRemove { service: "web".into(), address };
        let Note { kind, service, backend, user, .. } = note(&request, Some(1000));
        assert_eq!(
            (kind, service.as_deref(), backend, user),
            (Kind::Change, Some("web"), Some(address), Some(1000))
        );
    }
}
