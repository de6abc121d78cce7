//! What is other in a desired state, and the states from before, for people.

use super::table::{Cell, Table};
use super::{Style, Tone};
use crate::api::configuration::{HistoryDocument, StateDocument};
use crate::state::difference::{Became, Difference};

/// One line each: `+` added, `-` removed, `~` changed.
pub fn lines(differences: &[Difference], style: Style) -> String {
    let line = |one: &Difference| {
        let (sign, tone) = match one.what {
            Became::Added => ('+', Tone::Good),
            Became::Removed => ('-', Tone::Bad),
            Became::Changed | Became::Reordered => ('~', Tone::Attention),
        };
        style.paint(tone, &format!("{sign} {one}")) + "\n"
    };
    differences.iter().map(line).collect()
}

/// The states from before, one a line.
pub fn history(document: &HistoryDocument, style: Style) -> String {
    let mut table = Table::new(&[">NUMBER", "TIME", "BY", "HOW", "WHAT"]);
    for state in &document.states {
        let number = match state.current {
            true => Cell::number(format!("*{}", state.number)).tone(Tone::Strong),
            false => Cell::number(state.number.to_string()),
        };
        let mut row = vec![number];
        row.extend(match &state.damaged {
            Some(why) => {
                let why = Cell::new(format!("cannot be read: {why}")).tone(Tone::Bad);
                vec![Cell::new(""), Cell::new(""), Cell::new(""), why]
            }
            None => vec![
                Cell::new(&state.time),
                Cell::new(user(state)),
                Cell::new(&state.cause),
                Cell::new(what(state)),
            ],
        });
        table.row(row);
    }
    table.render(0, style)
}

fn user(state: &StateDocument) -> String {
    match state.user {
        Some(0) => "root".to_owned(),
        Some(user) => format!("user {user}"),
        None => String::new(),
    }
}

fn what(state: &StateDocument) -> String {
    match state.changes {
        0 | 1 => state.summary.clone(),
        many => format!("{} ({many} changes)", state.summary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_a_table_that_marks_what_holds_and_what_is_damaged() {
        let state = |number, current, damaged: Option<&str>| StateDocument {
            number,
            current,
            revision: None,
            time: "2026-01-01T12:00:00Z".into(),
            user: Some(0),
            cause: "changed at run time".into(),
            changes: 3,
            summary: "3 backends added".into(),
            damaged: damaged.map(str::to_owned),
        };
        let states = vec![state(12, true, None), state(11, false, Some("it ends in the middle"))];
        let text = history(&HistoryDocument { states }, Style::default());
        assert!(
            text.contains(
                "*12  2026-01-01T12:00:00Z  root  changed at run time  3 backends added (3 changes)"
            ),
            "{text}"
        );
        assert!(text.contains("11") && text.contains("cannot be read: it ends in the middle"), "{text}");
    }
}
