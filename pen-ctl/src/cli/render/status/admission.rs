//! Who was refused, and whether a flood is on.

use super::View;
use crate::api::document::ServiceDocument;
use crate::api::document::admission::{FloodDocument, RefusedCount};
use crate::cli::render::{Tone, number, span};

/// What a service refused, for those that ask anything of their clients.
pub(super) fn refused(service: &ServiceDocument) -> Vec<(&'static str, String)> {
    let Some(refused) = service.refused else { return Vec::new() };
    vec![("denied", count(refused.denied)), ("rate limited", count(refused.rate_limited))]
}

fn count(RefusedCount { packets, last, seconds_ago }: RefusedCount) -> String {
    let from = last.map_or_else(String::new, |client| format!(" from {client}"));
    let newest =
        seconds_ago.map_or_else(String::new, |ago| format!(", the last{from} {} ago", span(ago.into())));
    format!("{} packets{newest}", number(packets))
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
