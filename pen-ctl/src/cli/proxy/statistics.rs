//! What `pen-ctl proxy` counted, as text.

use crate::cli::render::table::{Cell, Table};
use crate::cli::render::{Style, Tone};
use crate::dataplane::proxy::count::Statistics;

/// One line for all, and a row for each backend.
pub(super) fn text(statistics: &Statistics, style: Style) -> String {
    let Statistics { accepted, turned_away, remembered, backends } = statistics;
    let mut table =
        Table::new(&["backend", "state", ">open", ">connections", ">failures", ">bytes in", ">bytes out"]);
    for backend in backends {
        let (state, tone) = if backend.failing { ("failing", Tone::Bad) } else { ("up", Tone::Good) };
        let mut row = vec![Cell::new(backend.endpoint.to_string()), Cell::new(state).tone(tone)];
        let open = u64::from(backend.open);
        let numbers = [open, backend.connections, backend.failures, backend.received, backend.sent];
        row.extend(numbers.map(|number| Cell::number(number.to_string())));
        table.row(row);
    }
    let heading = format!(
        "{accepted} clients accepted, {turned_away} turned away, {remembered} addresses remembered\n"
    );
    heading + &table.render(2, style)
}
