//! What an event of a worker's poll is about, and the token that says so.

use mio::Token;

/// What has something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Whoever wakes the worker.
    Waker,
    /// A listening socket of TCP.
    Listener(usize),
    /// The client of a TCP session.
    Client(usize),
    /// The backend of a TCP session.
    Backend(usize),
    /// A socket that clients of UDP send to.
    UdpListener(usize),
    /// A UDP session's socket.
    UdpSession(usize),
}

/// The kind is in the low bits, the number above.
const BITS: u32 = 3;

impl Source {
    /// The token that is told.
    pub(crate) const fn token(self) -> Token {
        let (kind, number) = match self {
            Self::Waker => (0, 0),
            Self::Listener(number) => (1, number),
            Self::Client(number) => (2, number),
            Self::Backend(number) => (3, number),
            Self::UdpListener(number) => (4, number),
            Self::UdpSession(number) => (5, number),
        };
        Token(number << BITS | kind)
    }

    /// What a token of [`Source::token`] says.
    pub(crate) const fn of(Token(token): Token) -> Source {
        let number = token >> BITS;
        match token & ((1 << BITS) - 1) {
            1 => Self::Listener(number),
            2 => Self::Client(number),
            3 => Self::Backend(number),
            4 => Self::UdpListener(number),
            5 => Self::UdpSession(number),
            _ => Self::Waker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_it_was_made_for() {
        for number in [0, 1, 7, 8, 1 << 40] {
            let kinds =
                [Source::Listener, Source::Client, Source::Backend, Source::UdpListener, Source::UdpSession];
            for make in kinds {
                assert_eq!(Source::of(make(number).token()), make(number));
            }
        }
        assert_eq!(Source::of(Source::Waker.token()), Source::Waker);
    }
}
