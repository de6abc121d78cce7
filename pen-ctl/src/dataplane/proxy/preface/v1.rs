//! Version 1 (2.1 of the specification): one line of text, `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443` and CR LF.

use std::io::Write;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::{Addresses, Ends, PrefaceError, Progress};

/// Bytes that the longest line may have, its end included.
pub const LONGEST: usize = 107;
/// What every line begins with.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// The line that names nobody; anything may follow on it.
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";

/// Appends the line.
pub(super) fn write(ends: Option<Ends>, out: &mut Vec<u8>) {
    let Some(Ends { addresses, ports: [from, to] }) = ends else {
        out.extend(UNKNOWN);
        out.extend(b"\r\n");
        return;
    };
    // Memory takes all that is written to it.
    let _ = match addresses {
        Addresses::V4([source, destination]) => {
            write!(out, "PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        Addresses::V6(addresses) => {
            let [source, destination] = addresses.map(hexadecimal);
            write!(out, "PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
    };
}

/// An address in hexadecimal groups alone, as the specification has it: a mapped one usually ends in dots and decimals.
fn hexadecimal(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("::ffff:{high:x}:{low:x}"),
        _ => address.to_string(),
    }
}

/// Reads a line that begins with as much of [`SIGNATURE`] as there is.
pub(super) fn read(bytes: &[u8]) -> Result<Progress, PrefaceError> {
    let seen = bytes.get(..LONGEST).unwrap_or(bytes);
    let Some(line) = line(seen)? else {
        let progress = Ok(Progress::NeedMore);
        return if seen.len() < LONGEST { progress } else { Err(PrefaceError::LineEnd) };
    };
    let preface = ends(line)?.map(Into::into);
    Ok(Progress::Done { preface, length: line.len() + 2 })
}

/// The line before CR LF, if that has come: CR and LF have no other place in one that names somebody.
fn line(seen: &[u8]) -> Result<Option<&[u8]>, PrefaceError> {
    let ends = |at: usize| seen.get(at..at + 2) == Some(b"\r\n");
    if seen.starts_with(UNKNOWN) {
        return Ok((0..seen.len()).find(|&at| ends(at)).map(|at| &seen[..at]));
    }
    let Some(at) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return Ok(None) };
    if ends(at) {
        Ok(Some(&seen[..at]))
    } else if seen[at..] == *b"\r" {
        Ok(None)
    } else {
        Err(PrefaceError::LineEnd)
    }
}

/// What a whole line says.
fn ends(line: &[u8]) -> Result<Option<Ends>, PrefaceError> {
    let mut fields = line.split(|byte| *byte == b' ').skip(1);
    let addresses = match fields.next() {
        Some(b"UNKNOWN") => return Ok(None),
        Some(b"TCP4") => Addresses::V4(addresses(&mut fields)?),
        Some(b"TCP6") => Addresses::V6(addresses(&mut fields)?),
        _ => return Err(PrefaceError::Field("protocol (TCP4, TCP6 or UNKNOWN)")),
    };
    let ports = [field(&mut fields, "source port", port)?, field(&mut fields, "destination port", port)?];
    match fields.next() {
        None => Ok(Some(Ends { addresses, ports })),
        Some(_) => Err(PrefaceError::Surplus),
    }
}

fn addresses<'a, T: FromStr>(fields: &mut impl Iterator<Item = &'a [u8]>) -> Result<[T; 2], PrefaceError> {
    let address = |text: &str| text.parse().ok();
    Ok([field(fields, "source address", address)?, field(fields, "destination address", address)?])
}

/// The next field; two spaces in a row have an empty one between them.
fn field<'a, T>(
    fields: &mut impl Iterator<Item = &'a [u8]>,
    name: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, PrefaceError> {
    let text = fields.next().and_then(|field| std::str::from_utf8(field).ok());
    text.and_then(read).ok_or(PrefaceError::Field(name))
}

/// A number without sign and leading zeros.
fn port(text: &str) -> Option<u16> {
    let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| canonical)
}
