//! Aligned columns.

use super::{Style, Tone};

/// One cell: its text and what it means.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
    right: bool,
}

impl Cell {
    /// Plain text, at the left of its column.
    pub fn new(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), tone: None, right: false }
    }

    /// A number, at the right of its column.
    pub fn number(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), tone: None, right: true }
    }

    /// The same with a meaning.
    pub fn tone(mut self, tone: Tone) -> Cell {
        self.tone = Some(tone);
        self
    }
}

/// Rows under a heading.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with this heading; headings over numbers start with `>`.
    pub fn new(heading: &[&str]) -> Table {
        let cells = heading.iter().map(|text| match text.strip_prefix('>') {
            Some(text) => Cell::number(text).tone(Tone::Faint),
            None => Cell::new(*text).tone(Tone::Faint),
        });
        Table { rows: vec![cells.collect()] }
    }

    /// A table without heading.
    pub fn plain() -> Table {
        Table::default()
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The rows as lines, each indented, without blanks at the end and without columns that are empty.
    pub fn render(&self, indent: usize, style: Style) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut lines = String::new();
        for row in &self.rows {
            lines.push_str(&" ".repeat(indent));
            lines.push_str(&line(row, &widths, style));
            lines.push('\n');
        }
        lines
    }
}

fn line(row: &[Cell], widths: &[usize], style: Style) -> String {
    let last = row.iter().rposition(|cell| !cell.text.is_empty());
    let mut text = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        if Some(index) > last {
            break;
        }
        if *width == 0 {
            continue;
        }
        if !text.is_empty() {
            text.push_str("  ");
        }
        let blanks = " ".repeat(width - cell.text.chars().count());
        let painted = cell.tone.map_or_else(|| cell.text.clone(), |tone| style.paint(tone, &cell.text));
        match (cell.right, Some(index) == last) {
            (true, _) => text.push_str(&format!("{blanks}{painted}")),
            (false, true) => text.push_str(&painted),
            (false, false) => text.push_str(&format!("{painted}{blanks}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["NAME", ">PACKETS", "NOTE"]);
        table.row(vec![Cell::new("web").tone(Tone::Good), Cell::number("12"), Cell::new("")]);
        table.row(vec![Cell::new("dns-über"), Cell::number("1 234 567"), Cell::new("drained")]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let expected = "  NAME        PACKETS  NOTE\n  web              12\n  dns-über  1 234 567  drained\n";
        assert_eq!(sample().render(2, Style { colour: false }), expected);
    }

    #[test]
    fn colour_does_not_disturb_the_alignment() {
        let coloured = sample().render(2, Style { colour: true });
        let bare = coloured.replace("\x1b[32m", "").replace("\x1b[2m", "").replace("\x1b[0m", "");
        assert_eq!(bare, sample().render(2, Style { colour: false }));
        assert_ne!(bare, coloured);
    }
}
