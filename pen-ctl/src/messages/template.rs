//! A text in the sources with its placeholders, and what may have been made of it.

/// A text that an error is made of, as it stands in the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Template {
    /// File and line.
    pub(super) place: String,
    /// With its `{placeholders}`.
    pub(super) text: String,
}

impl Template {
    /// Whether a message may have been made of it: its fixed parts appear in it, in their order.
    pub(super) fn fits(&self, message: &str) -> bool {
        let mut rest = message;
        self.fixed_parts().iter().all(|part| match rest.split_once(part.as_str()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }

    /// It says something by itself: it has a word.
    pub(super) fn says_something(&self) -> bool {
        let letters = |part: &String| part.chars().filter(|letter| letter.is_alphabetic()).count();
        self.fixed_parts().iter().map(letters).sum::<usize>() >= 4
    }

    fn fixed_parts(&self) -> Vec<String> {
        let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0);
        let mut letters = self.text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '{' | '}' if letters.peek() == Some(&letter) => {
                    letters.next();
                    part.push(letter);
                }
                '{' => {
                    depth += 1;
                    parts.push(std::mem::take(&mut part));
                }
                '}' => depth -= 1,
                _ if depth == 0 => part.push(letter),
                _ => {}
            }
        }
        parts.push(part);
        parts.retain(|part| !part.is_empty());
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template { place: String::new(), text: text.to_owned() }
    }

    #[test]
    fn a_template_fits_what_was_made_of_it_and_nothing_else() {
        let one = template("service {name}: {what} is {{odd}}");
        assert!(one.fits("service web: weight 0 is {odd}"));
        assert!(!one.fits("backend web: weight 0 is {odd}"));
        assert!(!one.fits("service web: weight 0 is odd"));
    }
}
