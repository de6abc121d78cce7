//! `status`, and the lists that are parts of it.

use std::time::{Duration, SystemTime};

use pen_common::abi::SLOTS;

use super::table::{Cell, Table};
use super::{Style, Tone, bytes, number, span};
use crate::api::document::{
    AccessDocument, BackendDocument, InterfaceDocument, InterfaceState, ServiceDocument, StatusDocument,
};
use crate::check::Health;
use crate::dataplane::{AttachMode, HealthStatus, Kind};
use crate::health::NOT_CHECKED;
use crate::state::desired::AdminState;

mod admission;
mod connections;
mod counts;

/// How documents are shown: when, and in which colours.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// What times are told against.
    pub now: SystemTime,
    /// Colours.
    pub style: Style,
}

impl View {
    /// As fits stdout, now.
    pub fn for_stdout() -> View {
        View { now: SystemTime::now(), style: Style::for_stdout() }
    }

    pub(super) fn heading(self, text: &str) -> String {
        format!("\n{}\n", self.style.paint(Tone::Strong, text))
    }
}

/// Everything: what needs a look comes first.
pub fn status(document: &StatusDocument, view: View) -> String {
    let mut text = controller(document, view);
    for warning in &document.warnings {
        text.push_str(&view.style.paint(Tone::Attention, &format!("  ! {warning}")));
        text.push('\n');
    }
    let proxied = document.controller.dataplane == Kind::Proxy.name();
    if !proxied || !document.interfaces.is_empty() {
        text.push_str(&view.heading("Interfaces"));
        text.push_str(&interfaces(&document.interfaces, view));
    }
    text.push_str(&view.heading("Services"));
    if document.services.is_empty() {
        text.push_str("  none: pen-ctl service add NAME VIP:PORT/PROTO\n");
    }
    let blocks: Vec<String> =
        document.services.iter().map(|service| with_backends(service, false, view)).collect();
    text.push_str(&blocks.join("\n"));
    if !proxied {
        text.push_str(&view.heading("Packets"));
        text.push_str(&counts::packets(&document.packets, view));
    }
    text.push_str(&view.heading("Clients remembered"));
    text.push_str(&counts::tracking(&document.tracking, view));
    text
}

fn controller(document: &StatusDocument, view: View) -> String {
    let controller = &document.controller;
    let name = view.style.paint(Tone::Strong, &format!("pen {}", controller.version));
    let mut line = format!(
        "{name}, data plane {}, pid {}, up {}",
        controller.dataplane,
        controller.pid,
        span(controller.uptime_seconds)
    );
    if let Some(file) = &controller.file {
        line.push_str(&format!(", file {file}"));
        if controller.file_differs {
            line.push_str(" (differs from what was applied: SIGHUP applies it)");
        }
    }
    if let Some(http) = controller.http {
        line.push_str(&format!(", http://{http}"));
    }
    line.push('\n');
    line
}

/// Interfaces, one a line.
pub fn interfaces(list: &[InterfaceDocument], view: View) -> String {
    if list.is_empty() {
        return "  none: pen-ctl attach IFACE\n".into();
    }
    let mut table = Table::plain();
    for interface in list {
        let state = match interface.state {
            InterfaceState::Attached => Cell::new("attached").tone(Tone::Good),
            InterfaceState::Pending => Cell::new("pending").tone(Tone::Attention),
            InterfaceState::Unused => Cell::new("unused").tone(Tone::Faint),
        };
        let mode = match interface.mode {
            AttachMode::Auto => "auto",
            AttachMode::Native => "native",
            AttachMode::Generic => "generic",
        };
        let announce = if interface.announce { "announces VIPs" } else { "announces nothing" };
        table.row(vec![
            Cell::new(&interface.name),
            state,
            Cell::new(mode),
            Cell::new(announce),
            Cell::new(detail(interface)),
        ]);
    }
    table.render(2, view.style)
}

/// What is to be said of an interface beside how it is attached.
fn detail(interface: &InterfaceDocument) -> String {
    let lost = match (interface.tx_errors, interface.tx_errors_last_minute) {
        (None | Some(0), _) => None,
        (Some(all), lately) => {
            Some(format!("tx errors: {} ({} in the last minute)", number(all), number(lately)))
        }
    };
    let detail = Some(interface.detail.clone()).filter(|detail| !detail.is_empty());
    detail.into_iter().chain(lost).collect::<Vec<_>>().join("; ")
}

/// Services, one a line.
pub fn services(list: &[ServiceDocument], view: View) -> String {
    if list.is_empty() {
        return "no services\n".into();
    }
    let proxied = list.iter().any(|service| service.proxy.is_some());
    let carried = if proxied { ">OPEN" } else { ">PACKETS" };
    let mut table =
        Table::new(&["NAME", "VIP", "SERVING", "HEALTH", "AFFINITY", "TRACKING", carried, ">BYTES"]);
    for service in list {
        let open = service.proxy.as_ref().map(|proxy| proxy.connections.open);
        table.row(vec![
            Cell::new(&service.name),
            Cell::new(service.vip.to_string()),
            serving_cell(service),
            Cell::new(check(&service.health)),
            Cell::new(word(&service.affinity)),
            Cell::new(word(&service.tracking)),
            Cell::number(number(open.unwrap_or(service.packets))),
            Cell::number(bytes(service.bytes)),
        ]);
    }
    table.render(0, view.style)
}

/// One service with all its settings and backends.
pub fn service(service: &ServiceDocument, view: View) -> String {
    let time = |time: Duration| humantime::format_duration(time).to_string();
    let timeout = match service.tracking_timeout {
        Duration::ZERO => "none: until the table is full".into(),
        timeout => time(timeout),
    };
    let mut settings = vec![
        ("affinity", word(&service.affinity)),
        ("scheduler", word(&service.scheduler)),
        ("tracking", word(&service.tracking)),
        ("tracking timeout", timeout),
    ];
    match &service.proxy {
        None => {
            let changing = match service.slots_in_transition {
                0 => String::new(),
                slots => format!(" ({slots} of {SLOTS} slots are changing owner)"),
            };
            let transition = format!("{}{changing}", time(service.transition));
            settings.extend([("transition", transition), ("on empty", word(&service.on_empty))]);
        }
        Some(proxy) => settings.extend(connections::settings(proxy)),
    }
    settings.push(("health", check(&service.health)));
    settings.extend(guard(service));
    settings.extend(admission::refused(service));
    settings.extend(policy(service));
    let mut table = Table::plain();
    for (key, value) in settings {
        table.row(vec![Cell::new(key).tone(Tone::Faint), Cell::new(value)]);
    }
    let warning = |text: &String| view.style.paint(Tone::Attention, &format!("! {text}\n"));
    let warnings: String = service.warnings.iter().map(warning).collect();
    format!("{warnings}{}\n{}", table.render(0, view.style).trim_end(), with_backends(service, true, view))
}

/// Who may use it, and how much of it, as far as anything was said.
fn guard(service: &ServiceDocument) -> Vec<(&'static str, String)> {
    let prefixes = |count: usize| match count {
        1 => "1 prefix (pen-ctl export shows it)".to_owned(),
        many => format!("{} prefixes (pen-ctl export shows them)", number(many as u64)),
    };
    let AccessDocument { allow, deny } = service.access;
    let mut settings = Vec::new();
    settings.extend((allow > 0).then(|| ("allow", prefixes(allow))));
    settings.extend((deny > 0).then(|| ("deny", prefixes(deny))));
    settings.extend(service.rate_limit.map(|limit| ("rate limit", limit.to_string())));
    settings
}

/// What follows from health, as far as anything was said.
fn policy(service: &ServiceDocument) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if service.panic > 0 {
        settings.push(("panic", format!("when fewer than {} % are well", service.panic)));
    }
    if !service.slow_start.is_zero() {
        settings.push(("slow start", humantime::format_duration(service.slow_start).to_string()));
    }
    if !service.on_change.is_empty() {
        settings.push(("on change", service.on_change.join(" ")));
    }
    settings
}

/// Backends, one a line, with the names of their services.
pub fn backends(list: &[BackendDocument], view: View) -> String {
    if list.is_empty() {
        return "no backends\n".into();
    }
    let proxied = list.iter().any(|backend| backend.connections.is_some());
    let mut table = Table::new(&[&["SERVICE"][..], &backend_headings(proxied)].concat());
    for backend in list {
        let mut cells = vec![Cell::new(&backend.service)];
        cells.extend(backend_cells(backend, proxied, view));
        table.row(cells);
    }
    table.render(0, view.style)
}

/// A service's line and its backends below. `listed`: what it asks of its clients stands above.
fn with_backends(service: &ServiceDocument, listed: bool, view: View) -> String {
    let (serving, tone) = serving(service);
    let mut text = format!(
        "  {}  {}  {}, {}\n",
        view.style.paint(Tone::Strong, &service.name),
        service.vip,
        view.style.paint(tone, &serving),
        connections::carried(service),
    );
    if !listed {
        text.push_str(&admission::guards(service));
    }
    if service.backends.is_empty() {
        text.push_str(&format!("    no backends: pen-ctl backend add {} ADDR\n", service.name));
        return text;
    }
    let proxied = service.proxy.is_some();
    let mut table = Table::new(&backend_headings(proxied));
    for backend in &service.backends {
        table.row(backend_cells(backend, proxied, view));
    }
    text.push_str(&table.render(4, view.style));
    text
}

fn backend_headings(proxied: bool) -> Vec<&'static str> {
    let first = &["BACKEND", "STATE", "HEALTH", ">FOR", ">WEIGHT"][..];
    [first, connections::headings(proxied), &["SERVING"]].concat()
}

fn backend_cells(backend: &BackendDocument, proxied: bool, view: View) -> Vec<Cell> {
    let state = match backend.state {
        AdminState::Up => Cell::new("up"),
        AdminState::Drain => Cell::new("drain").tone(Tone::Attention),
        AdminState::Down => Cell::new("down").tone(Tone::Attention),
    };
    let health = match backend.health.status {
        HealthStatus::Up if backend.health.detail == NOT_CHECKED => Cell::new("unchecked"),
        HealthStatus::Up => Cell::new("up").tone(Tone::Good),
        HealthStatus::Down => Cell::new("down").tone(Tone::Bad),
        HealthStatus::Unknown => Cell::new("unknown").tone(Tone::Attention),
    };
    let serving = match not_serving(backend) {
        None => serving_in_words(backend),
        Some(reason) => {
            let tone = if backend.state == AdminState::Up { Tone::Bad } else { Tone::Attention };
            let leaves = backend.drain.as_ref().map_or_else(String::new, |drain| {
                format!("; removed within {}: {}", span(drain.seconds_left), drain.detail)
            });
            Cell::new(format!("no: {reason}{leaves}")).tone(tone)
        }
    };
    let mut cells = vec![
        Cell::new(backend.address.to_string()),
        state,
        health,
        Cell::number(since(&backend.since, view.now)),
        Cell::number(match backend.effective_weight {
            Some(now) if now != backend.weight => format!("{now} (of {})", backend.weight),
            _ => backend.weight.to_string(),
        }),
    ];
    cells.extend(connections::cells(backend, proxied));
    cells.push(serving);
    cells
}

/// That a backend gets newcomers, with what should be known of that.
fn serving_in_words(backend: &BackendDocument) -> Cell {
    let detail = &backend.health.detail;
    let unasked = detail.strip_prefix(NOT_CHECKED).is_some_and(|why| !why.is_empty());
    match (backend.health.status, backend.growing) {
        (HealthStatus::Up, _) if unasked => Cell::new(format!("yes; {detail}")).tone(Tone::Attention),
        (HealthStatus::Up, Some(percent)) => {
            Cell::new(format!("yes; slow start: {percent} % of its share")).tone(Tone::Good)
        }
        (HealthStatus::Up, None) => Cell::new("yes").tone(Tone::Good),
        _ => Cell::new(format!("yes, in panic, although: {detail}")).tone(Tone::Attention),
    }
}

/// Why a backend gets no newcomers; `None` if it does.
pub fn not_serving(backend: &BackendDocument) -> Option<&str> {
    match &backend.reason {
        _ if backend.serving => None,
        Some(reason) => Some(reason),
        None if !backend.health.detail.is_empty() => Some(&backend.health.detail),
        None => Some("no reason known"),
    }
}

fn serving(service: &ServiceDocument) -> (String, Tone) {
    let serving = service.backends.iter().filter(|backend| backend.serving).count();
    let tone = match serving {
        0 => Tone::Bad,
        _ if serving < service.backends.len() => Tone::Attention,
        _ => Tone::Good,
    };
    (format!("{serving} of {} serving", service.backends.len()), tone)
}

fn serving_cell(service: &ServiceDocument) -> Cell {
    let (text, tone) = serving(service);
    Cell::new(text.trim_end_matches(" serving")).tone(tone)
}

/// How long ago a time of the document was; empty where it says nothing.
fn since(time: &str, now: SystemTime) -> String {
    let Ok(time) = humantime::parse_rfc3339(time) else { return String::new() };
    match now.duration_since(time) {
        Ok(ago) => span(ago.as_secs()),
        Err(_) => span(0),
    }
}

fn check(health: &Health) -> String {
    let Some(check) = health.check() else { return health.name().into() };
    let port = check.port.map_or(String::new(), |port| format!(" port {port}"));
    format!("{}{port} every {}", health.name(), humantime::format_duration(check.pace.interval))
}

/// A word of the documents as they write it.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
