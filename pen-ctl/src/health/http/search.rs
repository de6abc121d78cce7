//! Whether bytes that come piece by piece hold a text.

/// Looks for one text, each byte in constant time however the pieces are cut (Knuth, Morris and Pratt): what a backend
/// sends must not cost more than its length.
pub(super) struct Search<'a> {
    text: &'a [u8],
    /// For each beginning of the text: how long the longest shorter beginning is that it ends with.
    borders: Vec<usize>,
    /// How much of the text's beginning is what came last.
    matched: usize,
}

impl<'a> Search<'a> {
    /// Nothing came yet.
    pub(super) fn of(text: &'a [u8]) -> Self {
        let mut borders = vec![0];
        for byte in text.iter().skip(1) {
            let last = borders.last().copied().unwrap_or_default();
            borders.push(longer(text, &borders, last, *byte));
        }
        Self { text, borders, matched: 0 }
    }

    /// Whether it was in what came so far.
    pub(super) fn has_found(&self) -> bool {
        self.matched == self.text.len()
    }

    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.has_found() {
                return;
            }
            self.matched = longer(self.text, &self.borders, self.matched, *byte);
        }
    }
}

/// How much of the text's beginning stands at the end when a byte comes behind the first `matched` of it.
fn longer(text: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    while matched > 0 && text[matched] != byte {
        matched = borders[matched - 1];
    }
    matched + usize::from(text[matched] == byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Wherever the pieces are cut, it is found when it is in all of them together, and only then.
        #[test]
        fn pieces_hold_what_they_hold_together(
            text in "[ab]{0,5}",
            pieces in proptest::collection::vec("[ab]{0,6}", 0..8),
        ) {
            let mut search = Search::of(text.as_bytes());
            for piece in &pieces {
                search.feed(piece.as_bytes());
            }
            prop_assert_eq!(search.has_found(), pieces.concat().contains(&text));
        }
    }
}
