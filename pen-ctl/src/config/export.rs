//! The desired state as a configuration file: applied to that state it changes nothing, and people can read it.

use std::fmt::Write;
use std::time::Duration;

use toml::Value;

use crate::dataplane::AttachMode;
use crate::state::desired::{AdminState, Backend, Desired, Health, InterfaceSpec, Service, TcpHealth};

/// Writes a desired state as TOML. Keys at their defaults are left out, but for those of the file as a whole. When a
/// drain ends with the backend's removal is no key: applied where it goes on the file keeps it, elsewhere the backend drains.
pub fn to_toml(desired: &Desired) -> String {
    // By name, so that what is added to the state is not forgotten here.
    let Desired { seed, interfaces, tracking_clients, http, services } = desired;
    let mut text = format!("seed = \"{seed:016x}\"\n");
    let names: Vec<String> = interfaces.iter().map(interface).collect();
    line(&mut text, "interfaces", &format!("[{}]", names.join(", ")));
    line(&mut text, "tracking_clients", &tracking_clients.to_string());
    if let Some(http) = http {
        line(&mut text, "http", &quoted(&http.to_string()));
    }
    for one in services {
        service(&mut text, one);
    }
    text
}

fn interface(spec: &InterfaceSpec) -> String {
    let InterfaceSpec { name, mode, announce } = spec;
    if (*mode, *announce) == (AttachMode::default(), true) {
        return quoted(name);
    }
    let mut table = vec![format!("name = {}", quoted(name))];
    if *mode != AttachMode::default() {
        table.push(format!("mode = {}", value(mode)));
    }
    if !announce {
        table.push("announce = false".to_owned());
    }
    format!("{{ {} }}", table.join(", "))
}

fn service(text: &mut String, service: &Service) {
    let Service {
        name,
        vip,
        affinity,
        scheduler,
        tracking,
        tracking_timeout,
        transition,
        on_empty,
        health,
        backends,
    } = service;
    let plain = Service::new(name.clone(), *vip);
    text.push_str("\n[[service]]\n");
    line(text, "name", &quoted(name));
    line(text, "vip", &quoted(&vip.to_string()));
    let mut unless = |key: &str, same: bool, value: String| {
        if !same {
            line(text, key, &value);
        }
    };
    unless("affinity", *affinity == plain.affinity, value(affinity));
    unless("scheduler", *scheduler == plain.scheduler, value(scheduler));
    // What affinity or scheduler imply need not be said, but may be.
    unless("tracking", *tracking == plain.tracking, value(tracking));
    unless("tracking_timeout", *tracking_timeout == plain.tracking_timeout, duration(*tracking_timeout));
    unless("transition", *transition == plain.transition, duration(*transition));
    unless("on_empty", *on_empty == plain.on_empty, value(on_empty));
    if let Some(check) = health {
        line(text, "health", &health_table(check));
    }
    if !backends.is_empty() {
        let all: Vec<String> = backends.iter().map(|one| format!("  {},\n", backend(one))).collect();
        line(text, "backend", &format!("[\n{}]", all.concat()));
    }
}

fn backend(backend: &Backend) -> String {
    let Backend { address, weight, priority, mac, vlan, state, remove_at: _, health } = backend;
    let mut table = vec![format!("address = \"{address}\"")];
    if *weight != 1 {
        table.push(format!("weight = {weight}"));
    }
    if *priority != 0 {
        table.push(format!("priority = {priority}"));
    }
    table.extend(mac.map(|mac| format!("mac = \"{mac}\"")));
    table.extend(vlan.map(|vlan| format!("vlan = {vlan}")));
    if *state != AdminState::Up {
        table.push(format!("state = {}", value(state)));
    }
    table.extend(health.as_ref().map(|check| format!("health = {}", health_table(check))));
    format!("{{ {} }}", table.join(", "))
}

/// Every key: the defaults of a check depend on each other.
fn health_table(health: &Health) -> String {
    match health {
        Health::None => quoted("none"),
        Health::Tcp(TcpHealth { port, interval, timeout, rise, fall }) => {
            let port = port.map(|port| format!(", port = {port}")).unwrap_or_default();
            format!(
                "{{ kind = \"tcp\"{port}, interval = {}, timeout = {}, rise = {rise}, fall = {fall} }}",
                duration(*interval),
                duration(*timeout)
            )
        }
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{key} = {value}");
}

fn duration(time: Duration) -> String {
    quoted(&humantime::format_duration(time).to_string())
}

/// A word of ours, as the file has it.
fn value(word: &impl serde::Serialize) -> String {
    // Names of variants: cannot fail.
    Value::try_from(word).map(|word| word.to_string()).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
