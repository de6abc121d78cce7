//! Who was refused, and whether a flood is on.

use super::View;
use crate::api::document::admission::{FloodDocument, RefusedCount};
use crate::api::document::{AccessDocument, ServiceDocument};
use crate::cli::render::{Tone, number, plural, span};
use crate::dataplane::Protocol;

/// What a service asks of its clients, and how many it refused, in a line below its own; nothing for those that never
/// asked anything.
pub(super) fn guards(service: &ServiceDocument) -> String {
    let AccessDocument { allow, deny } = service.access;
    let mut asks = Vec::new();
    asks.extend((allow > 0).then(|| format!("allow {}", number(allow as u64))));
    asks.extend((deny > 0).then(|| format!("deny {}", number(deny as u64))));
    asks.extend(service.rate_limit.map(|limit| format!("rate_limit {limit}")));
    let refused = service.refused.unwrap_or_default();
    let (denied, limited) = (refused.denied.packets, refused.rate_limited.packets);
    let mut counts = Vec::new();
    counts.extend((allow + deny > 0 || denied > 0).then(|| format!("{} denied", number(denied))));
    let limits = service.rate_limit.is_some() || limited > 0;
    counts.extend(limits.then(|| format!("{} rate_limited", number(limited))));
    match (asks.is_empty(), counts.is_empty()) {
        (_, true) => String::new(),
        (true, _) => format!("    refused so far: {}\n", counts.join(", ")),
        (false, _) => format!("    {}; refused so far: {}\n", asks.join(", "), counts.join(", ")),
    }
}

/// What a service refused, for those that ask anything of their clients.
pub(super) fn refused(service: &ServiceDocument) -> Vec<(&'static str, String)> {
    let Some(refused) = service.refused else { return Vec::new() };
    if service.proxy.is_none() {
        let words = |found| count(found, "packet");
        return vec![("denied", words(refused.denied)), ("rate limited", words(refused.rate_limited))];
    }
    // The proxy knows no limits of packets.
    let unit = if service.vip.protocol == Protocol::Tcp { "connection" } else { "datagram" };
    vec![("denied", count(refused.denied, unit))]
}

fn count(RefusedCount { packets, last, seconds_ago }: RefusedCount, unit: &str) -> String {
    let from = last.map_or_else(String::new, |client| format!(" from {client}"));
    let newest =
        seconds_ago.map_or_else(String::new, |ago| format!(", the last{from} {} ago", span(ago.into())));
    format!("{}{newest}", plural(packets, unit))
}

/// What there is to say of floods; nothing where there was none.
pub(super) fn flood(flood: Option<FloodDocument>, view: View) -> String {
    let Some(flood) = flood else { return String::new() };
    let FloodDocument { active, suppressed, suppressed_now, last_seconds_ago } = flood;
    let ago = last_seconds_ago.map_or_else(String::new, |ago| format!(", the last {} ago", span(ago.into())));
    match (active, suppressed) {
        (true, _) => {
            let line = format!(
                "  flood: newcomers are not remembered now, {} so far",
                number(suppressed_now.unwrap_or(suppressed))
            );
            format!("{}\n", view.style.paint(Tone::Attention, &line))
        }
        (false, 0) => String::new(),
        (false, _) => format!("  {} newcomers were not remembered in floods{ago}\n", number(suppressed)),
    }
}
