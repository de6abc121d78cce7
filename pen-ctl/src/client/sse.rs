//! Reads an event stream (WHATWG HTML Living Standard, section 9.2.6, "Interpreting an event stream"). Pure.

/// The longest line taken, in bytes.
const LONGEST_LINE: usize = 1 << 20;

/// A server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSent {
    /// Its type; `message` where the server names none.
    pub event: String,
    /// Its data; lines are parted by line feeds.
    pub data: String,
}

/// The stream has a line that no controller would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the event stream is longer than {LONGEST_LINE} bytes")]
pub struct TooLong;

/// What was read so far.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The line before ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// A byte order mark may only come first.
    begun: bool,
    event: String,
    data: Option<String>,
    /// The id that goes with the event being read.
    id: String,
    last_id: String,
}

impl Parser {
    /// Nothing was read yet, or a stream that ended goes on: `last_id` is what was heard last.
    pub fn resuming(last_id: &str) -> Parser {
        Parser { id: last_id.to_owned(), last_id: last_id.to_owned(), ..Parser::default() }
    }

    /// Takes the next bytes, however they were cut; gives the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<ServerSent>, TooLong> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.take_line(&line));
                }
                _ if self.line.len() == LONGEST_LINE => return Err(TooLong),
                _ => {
                    self.after_return = false;
                    self.line.push(*byte);
                }
            }
        }
        Ok(events)
    }

    /// What to send as `Last-Event-ID` to hear what comes after; empty at first.
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    fn take_line(&mut self, line: &[u8]) -> Option<ServerSent> {
        let line = String::from_utf8_lossy(line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix('\u{feff}').unwrap_or(&line) } else { &line };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.to_owned(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            // Comments (no field name), `retry` (we wait as we like), and what is yet to be invented.
            _ => {}
        }
        None
    }

    /// An empty line ends an event; one without data only says how far we have heard.
    fn dispatch(&mut self) -> Option<ServerSent> {
        self.last_id.clone_from(&self.id);
        let event = std::mem::take(&mut self.event);
        let data = self.data.take()?;
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(ServerSent { event, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(event: &str, data: &str) -> ServerSent {
        ServerSent { event: event.into(), data: data.into() }
    }

    fn read(text: &str) -> (Vec<ServerSent>, String) {
        let mut parser = Parser::default();
        let events = parser.feed(text.as_bytes()).unwrap();
        (events, parser.last_id().to_owned())
    }

    #[test]
    fn fields_comments_and_line_ends_are_read_as_the_standard_says() {
        for (text, events, id) in [
            ("data: one\n\n", vec![sent("message", "one")], ""),
            ("id: a-1\nevent: serving\ndata: {}\n\n", vec![sent("serving", "{}")], "a-1"),
            ("data:one\r\ndata:  two\r\n\r\n", vec![sent("message", "one\n two")], ""),
            (
                "data: one\rdata: two\r\rdata: three\r\r",
                vec![sent("message", "one\ntwo"), sent("message", "three")],
                "",
            ),
            ("\u{feff}data: marked\n\n", vec![sent("message", "marked")], ""),
            (": comment\nretry: 5\nnonsense: 1\ndata\n\n", vec![sent("message", "")], ""),
            ("id: 7\nevent: x\n\ndata: y\n\n", vec![sent("message", "y")], "7"),
            ("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", vec![sent("message", "a"), sent("message", "b")], "1"),
            ("id: 1\ndata: a\n\nid\ndata: b\n\n", vec![sent("message", "a"), sent("message", "b")], ""),
            ("id: 3\ndata: not complete\n", vec![], ""),
        ] {
            assert_eq!(read(text), (events, id.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(&vec![b'x'; LONGEST_LINE]), Ok(vec![]));
        assert_eq!(parser.feed(b"x"), Err(TooLong));
    }

    proptest! {
        /// How a stream is cut into pieces on its way makes no difference.
        #[test]
        fn pieces_make_no_difference(
            lines in proptest::collection::vec("(id: [0-9]|data: [a-zü]{0,3}|event: x|: c|)(\n|\r|\r\n)", 0..30),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let text = lines.concat();
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for piece in cuts.windows(2) {
                events.extend(parser.feed(&bytes[piece[0]..piece[1]]).unwrap());
            }
            prop_assert_eq!((events, parser.last_id().to_owned()), read(&text));
        }
    }
}
