//! Every message that tells a user why something was not done, in one table: it says what failed, on what, and what to
//! do. A message that is in the sources and not in the table fails the test with its file and line.

mod rules;
mod sources;
mod stage;
mod table;
mod template;

use std::fmt::Display;
use std::panic::Location;
use std::sync::LazyLock;

/// A message as a user sees it behind `pen-ctl: `, and what in it says what.
pub(crate) struct Row {
    message: String,
    what: &'static str,
    on: String,
    to_do: ToDo,
    /// Where it stands in the table.
    place: &'static Location<'static>,
}

/// What a message says is to be done.
pub(crate) enum ToDo {
    /// These words of it: a command, a range of values, another way.
    Say(&'static str),
    /// Nothing can be done, for this reason.
    Nothing(&'static str),
}

impl From<&'static str> for ToDo {
    fn from(words: &'static str) -> Self {
        ToDo::Say(words)
    }
}

/// The table.
fn rows() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(table::rows);
    &ROWS
}

/// The row of an error.
#[track_caller]
fn row(error: impl Display, what: &'static str, on: impl Into<String>, to_do: impl Into<ToDo>) -> Row {
    let (message, on, to_do) = (error.to_string(), on.into(), to_do.into());
    Row { message, what, on, to_do, place: Location::caller() }
}

/// The row of what is refused.
#[track_caller]
fn refused<T, E: Display>(
    result: Result<T, E>,
    what: &'static str,
    on: impl Into<String>,
    to_do: impl Into<ToDo>,
) -> Row {
    match result {
        Ok(_) => row("nothing was refused", what, on, to_do),
        Err(error) => row(error, what, on, to_do),
    }
}

/// The row of a message that a test in this process cannot bring about: a copy of what is said then.
#[track_caller]
fn copied(message: &str, what: &'static str, on: &'static str, to_do: impl Into<ToDo>) -> Row {
    row(message, what, on, to_do)
}

/// Why a check failed.
const REASON: &str = "why a backend's check failed: status has a column for it";
/// The same, where it could not be asked.
const NOT_ASKED: &str = "why a backend is not checked: status shows it beside the backend";
/// The same, where it is asked on its own address for want of another.
const NOT_ON_THE_VIP: &str = "why a check does not ask the VIP: its detail in status tells it";

/// Texts in the sources that need no row, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("write the request: {error}", "strings, numbers and lists can always be written"),
    ("write the answer: {error}", "strings, numbers and lists can always be written"),
    ("write the metrics: {why}", "text can always be written to memory"),
    ("the controller gave something else", "it answers each question by its own kind"),
    ("there is no status", "it answers each question by its own kind"),
    ("read the clients: {why}", "nobody closes the semaphore, and a task that panics ends the process"),
    ("the controller answers {other:?}", "it answers each question by its own kind"),
    ("make the change: {error}", "a task that panics ends the process"),
    ("an answer that is no event stream", "what is no success is refused before"),
    (
        "a line of the event stream is longer than {LONGEST_LINE} bytes",
        "the stream is opened anew, nobody is told",
    ),
    ("netlink family {name} has no number", "every kernel says it"),
    (
        "transparent = true: {error}",
        "why a service is not opened: the error around it says what, and what to do",
    ),
    ("no MAC: {why}", "why a backend does not serve: status has a column for it"),
    ("waiting for its MAC", "why a backend does not serve: status has a column for it"),
    ("no MAC: a backend with `vlan` needs `mac`", "why a backend does not serve: status has a column for it"),
    (
        "behind interface {name}, which is neither attached nor a VLAN on one that is",
        "why a backend does not serve: status has a column for it",
    ),
    ("HTTP {status}, expected {}", REASON),
    ("body does not contain {}", REASON),
    ("body does not contain {} in its first {size} MiB", REASON),
    ("SMTP: STARTTLS is not offered", REASON),
    ("SMTP: more than an answer came before TLS", REASON),
    ("not SMTP: a reply of more than {LINES_MAX} lines", REASON),
    ("TLS: what came is not TLS", REASON),
    ("TLS: refused by the backend: {alert:?}", REASON),
    ("this host has no certificates of authorities{why}; install them or set `ca`", NOT_ASKED),
    ("is not a file", NOT_ASKED),
    ("holds no certificate (PEM)", NOT_ASKED),
    ("{program} cannot be started: {error}", NOT_ASKED),
    ("its agent says nothing", REASON),
    ("not the words of an agent: {text}", REASON),
    ("DNS {code}, expected {}", REASON),
    ("no answer is {wanted}{cut}", REASON),
    ("an answer of {length} bytes, more than {LARGEST_OVER_TCP}", REASON),
    ("not DNS: {why}", REASON),
    ("the question came back", REASON),
    ("another question's answer", REASON),
    ("the question is none of the DNS", "refused where it is written: never asked"),
    ("answer does not hold \"{expected}\"", REASON),
    ("the object holds no map of probe addresses", NOT_ON_THE_VIP),
    ("interface number {ifindex} has no Ethernet", NOT_ON_THE_VIP),
    ("all probe addresses of {} are taken", NOT_ON_THE_VIP),
    ("make a route to the probe address {alias}: {error}", NOT_ON_THE_VIP),
    ("{name} has no address to ask from that is no VIP", NOT_ON_THE_VIP),
    (
        "the {} filter of priority {FIRST} comes before the one that carries checks; give the former a pref of 2 or more",
        NOT_ON_THE_VIP,
    ),
    (
        "the queueing discipline {kind} is there, which looks at nothing that goes out; put clsact in its place, which takes \
         the same filters and more",
        NOT_ON_THE_VIP,
    ),
    ("{why}: the kernel has no clsact; load its module sch_ingress (CONFIG_NET_SCH_INGRESS)", NOT_ON_THE_VIP),
    ("look at the filters of {interface}: {error}", NOT_ON_THE_VIP),
    (
        "another controller{who} asks VIPs here, and in a network namespace one can at a time; run one of them in another, or \
         have its checks say way = \"direct\"",
        NOT_ON_THE_VIP,
    ),
    ("cut the route to the probe address {}: {error}", NOT_ON_THE_VIP),
    ("listening failed: {error}", "why doctor skips a check: it tells what and what to do beside it"),
    ("listening failed", "why doctor skips a check: it tells what and what to do beside it"),
    ("take a port to ask from", "why doctor skips a check: it tells what and what to do beside it"),
    (
        "asking takes a packet socket (CAP_NET_RAW): {error}",
        "why doctor skips a check: it tells what and what to do beside it",
    ),
];

#[test]
fn every_message_says_what_on_what_and_what_to_do() {
    let wrong: Vec<String> = rows()
        .iter()
        .filter_map(|row| {
            let why = rules::broken(row)?;
            Some(format!("{}:{}: {why}:\n    {}", row.place.file(), row.place.line(), row.message))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_message_in_the_sources_is_in_the_table() {
    let rows = rows();
    let excepted = |text: &str| EXCEPTIONS.iter().any(|(known, _)| *known == text);
    let missing: Vec<String> = sources::templates()
        .into_iter()
        .filter(|template| !excepted(&template.text))
        .filter(|template| !rows.iter().any(|row| template.fits(&row.message)))
        .map(|template| format!("pen-ctl/src/{}: {}", template.place, template.text))
        .collect();
    assert!(missing.is_empty(), "no row in messages/table for\n{}", missing.join("\n"));
}

#[test]
fn exceptions_are_of_texts_that_are_there_and_have_no_row() {
    let (templates, rows) = (sources::templates(), rows());
    for (text, reason) in EXCEPTIONS {
        let template = templates.iter().find(|template| template.text == *text);
        let template = template.unwrap_or_else(|| panic!("nothing says `{text}` ({reason})"));
        let row = rows.iter().find(|row| template.fits(&row.message));
        assert!(row.is_none(), "`{text}` has a row ({reason})");
    }
}
