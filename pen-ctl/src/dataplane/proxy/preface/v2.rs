//! Version 2 (2.2 of the specification): a signature, 4 bytes that say what follows, two addresses, TLVs. Numbers are
//! big-endian.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Addresses, Ends, PrefaceError, Progress, Transport};

/// Bytes that the longest header may have, TLVs included: more than the specification's own ones take (it wants headers
/// to fit into one segment), fewer than any buffer.
pub const LONGEST: usize = 2048;
/// What every header begins with: nothing that another protocol sends first.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses.
const FIXED: usize = 16;

/// Upper half of the 13th byte: the version.
const VERSION: u8 = 2;
/// Lower half of the 13th byte: the proxy's own connection, such as a probe; it names nobody.
const LOCAL: u8 = 0;
/// Lower half of the 13th byte: a connection on behalf of the client that is named.
const PROXY: u8 = 1;

/// Upper half of the 14th byte: the addresses' family (none of the system's numbers).
const UNSPEC: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;

/// Lower half of the 14th byte: the transport; 0 is unspecified.
const STREAM: u8 = 1;
const DGRAM: u8 = 2;

/// Appends the header.
pub(super) fn write(transport: Transport, ends: Option<Ends>, out: &mut Vec<u8>) {
    let transport = match transport {
        Transport::Stream => STREAM,
        Transport::Datagram => DGRAM,
    };
    out.extend(SIGNATURE);
    let Some(Ends { addresses, ports }) = ends else {
        out.extend([VERSION << 4 | LOCAL, UNSPEC, 0, 0]);
        return;
    };
    match addresses {
        Addresses::V4(addresses) => {
            out.extend([VERSION << 4 | PROXY, INET << 4 | transport, 0, needed(INET) as u8]);
            addresses.iter().for_each(|address| out.extend(address.octets()));
        }
        Addresses::V6(addresses) => {
            out.extend([VERSION << 4 | PROXY, INET6 << 4 | transport, 0, needed(INET6) as u8]);
            addresses.iter().for_each(|address| out.extend(address.octets()));
        }
    }
    ports.iter().for_each(|port| out.extend(port.to_be_bytes()));
}

/// Reads a header that begins with as much of [`SIGNATURE`] as there is.
pub(super) fn read(bytes: &[u8]) -> Result<Progress, PrefaceError> {
    // Each byte is judged when it is there: who sends nonsense shall not be waited for.
    let byte = |at: usize| bytes.get(at).copied();
    let Some(command) = byte(12) else { return Ok(Progress::NeedMore) };
    if command >> 4 != VERSION {
        return Err(PrefaceError::Version(command >> 4));
    }
    let names_somebody = match command & 0xf {
        LOCAL => false,
        PROXY => true,
        unknown => return Err(PrefaceError::Command(unknown)),
    };
    let Some(kind) = byte(13) else { return Ok(Progress::NeedMore) };
    // The kind of what names nobody means nothing.
    let family = if names_somebody { family(kind)? } else { UNSPEC };
    let (Some(high), Some(low)) = (byte(14), byte(15)) else { return Ok(Progress::NeedMore) };
    let following = usize::from(u16::from_be_bytes([high, low]));
    if following < needed(family) {
        return Err(PrefaceError::Short { length: following, needed: needed(family) });
    }
    let length = FIXED + following;
    if length > LONGEST {
        return Err(PrefaceError::Long(length));
    }
    let Some(block) = bytes.get(FIXED..length) else { return Ok(Progress::NeedMore) };
    Ok(Progress::Done { preface: ends(family, block).map(Into::into), length })
}

/// The family of the addresses to be read; unspecified too where the transport is, as then they are to be ignored.
fn family(kind: u8) -> Result<u8, PrefaceError> {
    let (family, transport) = (kind >> 4, kind & 0xf);
    if family > UNIX {
        Err(PrefaceError::Family(family))
    } else if transport > DGRAM {
        Err(PrefaceError::Transport(transport))
    } else if transport == 0 {
        Ok(UNSPEC)
    } else {
        Ok(family)
    }
}

/// Bytes of two addresses of a family, with their ports.
const fn needed(family: u8) -> usize {
    match family {
        INET => 2 * (4 + 2),
        INET6 => 2 * (16 + 2),
        UNIX => 2 * 108,
        _ => 0,
    }
}

/// The addresses at the beginning of a block; none of Unix sockets, which are names on the sender's machine.
fn ends(family: u8, block: &[u8]) -> Option<Ends> {
    match family {
        INET => {
            let (source, rest) = block.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            let addresses = Addresses::V4([source, destination].map(|octets| Ipv4Addr::from(*octets)));
            Some(Ends { addresses, ports: ports(rest)? })
        }
        INET6 => {
            let (source, rest) = block.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let addresses = Addresses::V6([source, destination].map(|octets| Ipv6Addr::from(*octets)));
            Some(Ends { addresses, ports: ports(rest)? })
        }
        _ => None,
    }
}

fn ports(bytes: &[u8]) -> Option<[u16; 2]> {
    let (source, rest) = bytes.split_first_chunk::<2>()?;
    let (destination, _) = rest.split_first_chunk::<2>()?;
    Some([source, destination].map(|port| u16::from_be_bytes(*port)))
}
