//! What the proxy has in the place of packets and MACs: connections, and its own settings.

use std::time::Duration;

use super::word;
use crate::api::document::{BackendDocument, ProxyDocument, ServiceDocument};
use crate::cli::render::table::Cell;
use crate::cli::render::{bytes, number};

/// Headings of what a backend carried, under either data plane.
pub(super) fn headings(proxied: bool) -> &'static [&'static str] {
    match proxied {
        true => &[">OPEN", ">TOTAL", ">FAILED", ">BYTES"],
        false => &["MAC", ">PACKETS", ">BYTES"],
    }
}

/// What a backend carried, under the same headings.
pub(super) fn cells(backend: &BackendDocument, proxied: bool) -> Vec<Cell> {
    let mut cells = match (proxied, backend.connections.clone().unwrap_or_default()) {
        (true, found) => {
            [found.open, found.total, found.failed].map(|count| Cell::number(number(count))).into()
        }
        (false, _) => vec![
            Cell::new(backend.mac.map_or_else(|| "-".into(), |mac| mac.to_string())),
            Cell::number(number(backend.packets)),
        ],
    };
    cells.push(Cell::number(bytes(backend.bytes)));
    cells
}

/// What a service carried, in one line.
pub(super) fn carried(service: &ServiceDocument) -> String {
    let bytes = bytes(service.bytes);
    match &service.proxy {
        None => format!("{} packets, {bytes}", number(service.packets)),
        Some(ProxyDocument { connections: found, .. }) => format!(
            "{} connections open of {}, {} turned away, {bytes}",
            number(found.open),
            number(found.accepted),
            number(found.turned_away)
        ),
    }
}

/// Settings that only the proxy has, with their names for people.
pub(super) fn settings(proxy: &ProxyDocument) -> Vec<(&'static str, String)> {
    let settings = &proxy.settings;
    let time = |time: Duration| humantime::format_duration(time).to_string();
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let from: Vec<String> = settings.proxy_protocol_from.iter().map(ToString::to_string).collect();
    vec![
        ("connect timeout", time(settings.connect_timeout)),
        (
            "idle timeout",
            if settings.idle_timeout.is_zero() { "none".into() } else { time(settings.idle_timeout) },
        ),
        ("max connections", settings.max_connections.map_or("none".into(), |most| number(most.into()))),
        ("stubborn", yes(settings.stubborn)),
        ("transparent", yes(settings.transparent)),
        ("proxy protocol", settings.proxy_protocol.map_or("none".into(), |version| word(&version))),
        ("proxy protocol from", if from.is_empty() { "nobody".into() } else { from.join(", ") }),
        ("on down", word(&settings.on_down)),
    ]
}
