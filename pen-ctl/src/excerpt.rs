//! What others said, cut and made harmless for one line: of a program's output, of an answer.

/// Bytes of it at most.
const LONGEST: usize = 200;

/// The first line that says something; control characters, those that are not seen, and bytes that are no text are escaped.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    let line = lines.into_iter().find(|line| !line.is_empty()).unwrap_or_default();
    let mut text = String::new();
    for chunk in line.utf8_chunks() {
        chunk.valid().chars().for_each(|c| match c.is_control() || is_unseen(c) {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        });
        chunk.invalid().iter().for_each(|byte| text.extend(byte.escape_ascii().map(char::from)));
    }
    if text.len() > LONGEST {
        let dots = "…";
        text.truncate(text.floor_char_boundary(LONGEST - dots.len()));
        text.push_str(dots);
    }
    text
}

/// Whether it is not seen, but may make what stands around it look otherwise: it turns the direction of writing around, or has
/// no width.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_line_that_says_something_is_taken_and_its_odd_bytes_are_escaped() {
        assert_eq!(excerpt(b"\n  \r\ndisk full\r\nreally"), "disk full");
        assert_eq!(excerpt(b"a\x1b[31mb\0\xff\tc"), r"a\u{1b}[31mb\u{0}\xff\tc");
        assert_eq!(excerpt("größer, أكبر".as_bytes()), "größer, أكبر");
        assert_eq!(excerpt(b""), "");
    }

    #[test]
    fn what_is_not_seen_cannot_make_a_line_look_otherwise() {
        assert_eq!(excerpt("ok\u{202e}deliaf".as_bytes()), r"ok\u{202e}deliaf");
        let unseen = "\u{61c}\u{200b}\u{200f}\u{2028}\u{202a}\u{2066}\u{2069}\u{feff}\u{e0041}";
        let text = excerpt(unseen.as_bytes());
        assert_eq!(text, r"\u{61c}\u{200b}\u{200f}\u{2028}\u{202a}\u{2066}\u{2069}\u{feff}\u{e0041}");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_short_line(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let text = excerpt(&bytes);
            prop_assert!(text.len() <= LONGEST && !text.chars().any(|c| c.is_control() || is_unseen(c)));
        }
    }
}
