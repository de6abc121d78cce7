//! The desired state as a configuration file: applied to that state it changes nothing, and people can read it.

use std::fmt::Write;
use std::time::Duration;

use ipnet::IpNet;
use toml::Value;

use crate::check::Health;
use crate::dataplane::{AttachMode, Kind, Prefixes};
use crate::state::desired::{AdminState, Backend, Desired, InterfaceSpec, Service};

/// Prefixes of a list that stand on one line.
const ON_A_LINE: usize = 4;

/// Writes a desired state as TOML. Keys at their defaults are left out, but for those of the file as a whole. When a
/// drain ends with the backend's removal is no key: applied where it goes on the file keeps it, elsewhere the backend drains.
///
/// `kind` is what moves packets, where that is known: the proxy is said, because XDP is tried without a word.
pub fn to_toml(desired: &Desired, kind: Option<Kind>) -> String {
    // By name, so that what is added to the state is not forgotten here.
    let Desired { seed, interfaces, tracking_clients, flood_inserts_per_cpu, http, services } = desired;
    let mut text = String::new();
    if kind == Some(Kind::Proxy) {
        line(&mut text, "dataplane", &quoted(Kind::Proxy.name()));
    }
    line(&mut text, "seed", &quoted(&format!("{seed:016x}")));
    let names: Vec<String> = interfaces.iter().map(interface).collect();
    line(&mut text, "interfaces", &format!("[{}]", names.join(", ")));
    line(&mut text, "tracking_clients", &tracking_clients.to_string());
    line(&mut text, "flood_inserts_per_cpu", &flood_inserts_per_cpu.to_string());
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
        allow,
        deny,
        rate_limit,
        panic,
        slow_start,
        on_change,
        connect_timeout,
        idle_timeout,
        max_connections,
        stubborn,
        transparent,
        proxy_protocol,
        proxy_protocol_from,
        on_down,
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
    let mut said = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            line(text, key, &value);
        }
    };
    said("allow", (!allow.is_empty()).then(|| list(allow)));
    said("deny", (!deny.is_empty()).then(|| list(deny)));
    said("rate_limit", rate_limit.as_ref().map(table));
    said("panic", (*panic != plain.panic).then(|| panic.to_string()));
    said("slow_start", (*slow_start != plain.slow_start).then(|| duration(*slow_start)));
    said("on_change", (!on_change.is_empty()).then(|| value(on_change)));
    said("connect_timeout", connect_timeout.map(duration));
    said("idle_timeout", idle_timeout.map(duration));
    said("max_connections", max_connections.map(|most| most.to_string()));
    said("stubborn", stubborn.then(|| "true".to_owned()));
    said("transparent", transparent.then(|| "true".to_owned()));
    said("proxy_protocol", proxy_protocol.as_ref().map(value));
    said(
        "proxy_protocol_from",
        (!proxy_protocol_from.is_empty()).then(|| prefixes(proxy_protocol_from.iter())),
    );
    said("on_down", (*on_down != plain.on_down).then(|| value(on_down)));
    if !backends.is_empty() {
        let all: Vec<String> = backends.iter().map(|one| format!("  {},\n", backend(one))).collect();
        line(text, "backend", &format!("[\n{}]", all.concat()));
    }
}

fn backend(backend: &Backend) -> String {
    let Backend { address, weight, priority, mac, vlan, state, remove_at: _, health, soft_limit, hard_limit } =
        backend;
    let mut table = vec![format!("address = {}", quoted(&address.to_string()))];
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
    table.extend(soft_limit.map(|limit| format!("soft_limit = {limit}")));
    table.extend(hard_limit.map(|limit| format!("hard_limit = {limit}")));
    format!("{{ {} }}", table.join(", "))
}

/// A list that may be long: on a line of its own each, so that a few are read and of many each change is seen.
fn list(all: &Prefixes) -> String {
    if all.len() <= ON_A_LINE {
        return prefixes(all.iter());
    }
    let mut text = String::from("[\n");
    for net in all.iter() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  \"{net}\",");
    }
    text.push(']');
    text
}

fn prefixes<'a>(all: impl Iterator<Item = &'a IpNet>) -> String {
    let all: Vec<String> = all.map(|net| format!("\"{net}\"")).collect();
    format!("[{}]", all.join(", "))
}

fn health_table(health: &Health) -> String {
    match health.check() {
        Some(_) => table(health),
        None => quoted("none"),
    }
}

/// A table of words and numbers, on one line.
fn table(of: &impl serde::Serialize) -> String {
    let mut table = String::new();
    // Words and numbers: cannot fail.
    let _ = of.serialize(toml::ser::ValueSerializer::new(&mut table));
    table
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
