//! What became of packets, and how full the tables of clients are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{View, admission};
use crate::api::document::{PacketsDocument, TrackingDocument};
use crate::cli::render::table::{Cell, Table};
use crate::cli::render::{Tone, number};
use crate::dataplane::TableUse;

/// By verdict and reason.
pub(super) fn packets(packets: &PacketsDocument, view: View) -> String {
    let mut table = Table::plain();
    let mut row = |verdict: &str, reason: &str, count: u64, tone: Option<Tone>| {
        let reason = Cell::new(reason);
        let reason = if let Some(tone) = tone { reason.tone(tone) } else { reason };
        table.row(vec![Cell::new(verdict), reason, Cell::number(number(count))]);
    };
    row("received", "", packets.received, None);
    row("forwarded", "", packets.forwarded, None);
    let kinds: [(&str, &BTreeMap<String, u64>, Option<Tone>); 3] = [
        ("answered", &packets.answered, None),
        ("passed", &packets.passed, None),
        ("dropped", &packets.dropped, Some(Tone::Attention)),
    ];
    for (verdict, reasons, tone) in kinds {
        let seen: Vec<_> = reasons.iter().filter(|(_, count)| **count > 0).collect();
        if seen.is_empty() {
            row(verdict, "", 0, None);
        }
        for (index, (reason, count)) in seen.into_iter().enumerate() {
            row(if index == 0 { verdict } else { "" }, reason, *count, tone);
        }
    }
    table.render(2, view.style)
}

/// By family, with what there is to say of floods.
pub(super) fn tracking(tracking: &TrackingDocument, view: View) -> String {
    let TrackingDocument { tables, age_seconds, inserts_per_second: pace, flood } = tracking;
    let flood = admission::flood(*flood, view);
    let Some(age_seconds) = age_seconds else {
        return format!("  not counted yet: ask again in a moment\n{flood}");
    };
    let mut table = Table::plain();
    let families =
        [("IPv4", tables.v4, pace.map(|pace| pace.v4)), ("IPv6", tables.v6, pace.map(|pace| pace.v6))];
    for (family, TableUse { used, max, evicted, .. }, pace) in families {
        let cell = Cell::number(number(used));
        let full = max > 0 && used >= max - max / 10;
        table.row(vec![
            Cell::new(family),
            if full { cell.tone(Tone::Attention) } else { cell },
            Cell::new(format!("of {}", number(max))),
            Cell::new(pace.map_or_else(String::new, |pace| format!("{} new/s", number(pace)))),
            Cell::new(format!("{} evicted", number(evicted))),
        ]);
    }
    let mut text = table.render(2, view.style);
    if *age_seconds > 0 {
        let age = humantime::format_duration(Duration::from_secs(*age_seconds));
        text.push_str(&format!("  counted {age} ago\n"));
    }
    text + &flood
}
