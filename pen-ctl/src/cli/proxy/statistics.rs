//! What `pen-ctl proxy` counted, as text or as a document.

use crate::cli::error::CliError;
use crate::cli::render::table::{Cell, Table};
use crate::cli::render::{self, Style, Tone};
use crate::cli::values::body;
use crate::dataplane::proxy::count::Totals;
use crate::dataplane::proxy::single::Statistics;

/// Prints it, as a document in one line where `json` asks for that.
pub(super) fn print(statistics: &Statistics, json: bool) -> Result<(), CliError> {
    let shown = if json { body(statistics)? } else { text(statistics, Style::for_stdout()) };
    render::print(&shown);
    Ok(())
}

/// One line for all, and a row for each backend.
fn text(statistics: &Statistics, style: Style) -> String {
    let Statistics { accepted, turned_away, remembered, backends } = statistics;
    let mut table =
        Table::new(&["backend", "state", ">open", ">connections", ">failures", ">bytes in", ">bytes out"]);
    for backend in backends {
        let (state, tone) = if backend.failing { ("failing", Tone::Bad) } else { ("up", Tone::Good) };
        let mut row = vec![Cell::new(backend.endpoint.to_string()), Cell::new(state).tone(tone)];
        let open = u64::from(backend.open);
        let Totals { connections, failures, received, sent, .. } = backend.totals;
        let numbers = [open, connections, failures, received, sent];
        row.extend(numbers.map(|number| Cell::number(number.to_string())));
        table.row(row);
    }
    let heading = format!(
        "{accepted} clients accepted, {turned_away} turned away, {remembered} addresses remembered\n"
    );
    heading + &table.render(2, style)
}
