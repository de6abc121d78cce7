//! What a message must be like, whatever it is about.

use super::{Row, ToDo};

/// What Rust prints for programmers.
const FOR_PROGRAMMERS: &[&str] =
    &["Some(", "None)", "Ok(", "Err(", "Os {", "kind: ", "code: ", "Error {", "unwrap", "\\n", "{}", "{:"];

/// The first rule that a message breaks.
pub(super) fn broken(row: &Row) -> Option<String> {
    let message = row.message.as_str();
    let says = |words: &str| (!message.contains(words)).then(|| format!("it does not say `{words}`"));
    says(row.what)
        .or_else(|| says(&row.on))
        .or_else(|| match row.to_do {
            ToDo::Say(words) => says(words).or_else(|| said_twice(message, words)),
            ToDo::Nothing(reason) => {
                reason.is_empty().then(|| "no reason why nothing can be done".to_owned())
            }
        })
        .or_else(|| empty(row))
        .or_else(|| bad_form(message))
}

fn empty(row: &Row) -> Option<String> {
    let to_do = match row.to_do {
        ToDo::Say(words) | ToDo::Nothing(words) => words,
    };
    [row.what, &row.on, to_do].contains(&"").then(|| "the row leaves something out".to_owned())
}

fn said_twice(message: &str, words: &str) -> Option<String> {
    (message.matches(words).count() > 1).then(|| format!("it says `{words}` twice"))
}

fn bad_form(message: &str) -> Option<String> {
    let first = message.chars().next()?;
    let odd_start = !(first.is_alphanumeric() || matches!(first, '`' | '/' | '-'));
    let ends_badly = message.ends_with(['.', ':', ';', ',', ' ']);
    let glued = [";;", ": :", "; ;", ":;", ";:", ": ;", "  ", " ;", " ,", "()"];
    let words: Vec<&str> = message.split([' ', ';', ':', ',']).collect();
    let doubled = words.windows(2).find(|pair| {
        // As in `mount -t bpf bpf DIR`.
        pair[0] == pair[1]
            && pair[0] != "bpf"
            && !pair[0].is_empty()
            && pair[0].chars().all(char::is_alphabetic)
    });
    if message.contains('\n') {
        Some("it has more than one line".to_owned())
    } else if odd_start {
        Some("it begins with neither a letter nor a name".to_owned())
    } else if ends_badly {
        Some("it ends in a sign".to_owned())
    } else if let Some(sign) = glued.iter().find(|sign| message.contains(**sign)) {
        Some(format!("`{sign}` joins nothing"))
    } else if let Some(word) = FOR_PROGRAMMERS.iter().find(|word| message.contains(**word)) {
        Some(format!("`{word}` is for programmers"))
    } else if let Some(word) = words.iter().find(|word| is_type(word)) {
        Some(format!("`{word}` is the name of a type"))
    } else if let Some(pair) = doubled {
        Some(format!("`{} {}` says the same twice", pair[0], pair[1]))
    } else if message.matches('`').count() % 2 == 1 {
        Some("a quote has no other end".to_owned())
    } else {
        (message.split(' ').count() < 3).then(|| "it is no sentence".to_owned())
    }
}

/// `ServiceKey`, `u16`, `std::io`: two capitals each followed by a small letter, a primitive, a path.
fn is_type(word: &str) -> bool {
    let humps = word
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0].is_ascii_uppercase() && pair[1].is_ascii_lowercase())
        .count();
    let camel = humps > 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    camel || ["u8", "u16", "u32", "u64", "i64", "usize", "bool", "struct", "enum", "variant"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::row;

    #[test]
    fn a_good_message_breaks_no_rule() {
        let good = "backend 10.0.0.11 of service web is a loopback address; use the address of a server";
        assert_eq!(broken(&row(good, "is a loopback address", "10.0.0.11", "use the address")), None);
    }

    #[test]
    fn each_rule_is_broken_by_what_it_is_about() {
        for (bad, why) in [
            ("attach eth0: refused", "does not say `try again`"),
            ("attach eth0: refused; try again; try again", "twice"),
            ("attach eth0: refused\ntry again", "more than one line"),
            (": attach eth0: refused; try again", "begins with"),
            ("attach eth0: refused; try again.", "ends in a sign"),
            ("attach eth0: refused;; try again", "joins nothing"),
            ("attach eth0: Some(refused); try again", "for programmers"),
            ("attach eth0: refused by ServiceKey; try again", "name of a type"),
            ("attach eth0: refused refused; try again", "same twice"),
            ("attach eth0: `refused; try again", "no other end"),
        ] {
            let found = broken(&row(bad, "refused", "eth0", "try again"));
            assert!(found.as_ref().is_some_and(|found| found.contains(why)), "{bad}: {found:?}");
        }
    }
}
