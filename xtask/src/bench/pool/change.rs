//! One change of who serves, asked for over the API, and when it was in force and answered.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::flip::Table;
use super::moment;
use crate::bench::BenchError;

/// What becomes of a backend, one after the other: each gives some slots another owner.
const CHANGES: [&str; 4] =
    [r#"{"state":"drain"}"#, r#"{"state":"up"}"#, r#"{"weight":2}"#, r#"{"weight":1}"#];
/// From one backend that is changed to the next: all over the pool.
const STRIDE: u32 = 7;

/// A change of one backend.
pub(super) struct Change {
    address: Ipv4Addr,
    body: &'static str,
}

/// How long a change took.
pub(super) struct Taken {
    /// Until the table was flipped.
    pub(super) flip: Duration,
    /// Until the answer was there.
    pub(super) answer: Duration,
}

impl Change {
    /// The `number`-th change of a pool.
    pub(super) fn nth(number: u32, backends: u16) -> Self {
        let kinds = CHANGES.len() as u32;
        let backend = (number / kinds * STRIDE) % u32::from(backends);
        Self { address: address(backend as u16), body: CHANGES[(number % kinds) as usize] }
    }

    /// Asks for it, and watches the table.
    pub(super) fn make(&self, socket: &Path, service: &str, table: &Table) -> Result<Taken, BenchError> {
        let Self { address, body } = self;
        let what = format!("change {address} to {body}");
        let request = format!(
            "PATCH /v1/services/{service}/backends/{address} HTTP/1.1\r\nHost: pen\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let before = table.half();
        let begun = Instant::now();
        let mut stream = UnixStream::connect(socket).map_err(BenchError::of("reach the controller"))?;
        let mut answer = String::new();
        stream.write_all(request.as_bytes()).map_err(BenchError::of(&what))?;
        let flipped = moment(|| table.half() != before);
        stream.read_to_string(&mut answer).map_err(BenchError::of(&what))?;
        let answered = begun.elapsed();
        match flipped {
            Some(at) if answer.starts_with("HTTP/1.1 200") => {
                Ok(Taken { flip: at.duration_since(begun), answer: answered })
            }
            Some(_) => Err(BenchError::of(&what)(answer)),
            None => Err(BenchError::of(&what)(format!("the table was not flipped: {answer}"))),
        }
    }
}

/// The address of a backend: on the balancer's link.
pub(super) fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 16 + (n / 250) as u8, 1 + (n % 250) as u8)
}
