//! What an interface's driver counts, by the names it has for it: `ethtool -S`. Netlink has no request for these.

use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

// Numbers of linux/ethtool.h and linux/sockios.h (stable kernel interface).
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
/// `ETH_SS_STATS`, the set of names that goes with the numbers.
const STATISTICS: u32 = 1;
/// `ETH_GSTRING_LEN`: bytes of a name.
const NAME: usize = 32;
/// Numbers at most that a driver is asked for: hundreds of queues have some thousands.
const MOST: usize = 16 * 1024;
/// Room for answers. The kernel writes as many as the driver has by then, whatever was asked for; they cannot become
/// four times as many between two requests.
const ROOM: usize = 4 * MOST;

/// The driver's numbers with their names; empty where it has none.
pub(in super::super) fn driver_statistics(interface: &str) -> io::Result<Vec<(String, u64)>> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let Some(count) = count(&socket, interface)? else { return Ok(Vec::new()) };
    if count > MOST {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // `struct ethtool_gstrings` (command, set, count, names) and `ethtool_stats` (command, count, numbers).
    let claimed = count as u32;
    let mut names = vec![0_u64; 2 + ROOM * NAME / 8];
    (names[0], names[1]) = (two_words(ETHTOOL_GSTRINGS, STATISTICS), two_words(claimed, 0));
    ask(&socket, interface, &mut names)?;
    let mut numbers = vec![0_u64; 1 + ROOM];
    numbers[0] = two_words(ETHTOOL_GSTATS, claimed);
    ask(&socket, interface, &mut numbers)?;
    if words(names[1])[0] != claimed || words(numbers[0])[1] != claimed {
        // It got other queues just now.
        return Err(io::ErrorKind::Interrupted.into());
    }
    // Three words come before the names.
    let bytes: Vec<u8> =
        names.iter().flat_map(|word| word.to_ne_bytes()).skip(12).take(count * NAME).collect();
    let named = bytes.chunks_exact(NAME).map(|name| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    Ok(named.zip(numbers.into_iter().skip(1)).collect())
}

/// How many numbers the driver has; `None` = it keeps none.
fn count(socket: &Socket, interface: &str) -> io::Result<Option<usize>> {
    // `struct ethtool_sset_info`: command, reserved, mask of sets; then one count for each set it has.
    let mut request = [two_words(ETHTOOL_GSSET_INFO, 0), 1 << STATISTICS, 0];
    match ask(socket, interface, &mut request) {
        Ok(()) if request[1] & (1 << STATISTICS) != 0 => Ok(Some(words(request[2])[0] as usize)),
        Ok(()) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Two words of 32 bits as they lie in memory.
fn two_words(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// The same back.
fn words(both: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = both.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// One request; the answer takes its place.
fn ask(socket: &Socket, interface: &str, request: &mut [u64]) -> io::Result<()> {
    // SAFETY: all zeroes are a valid `ifreq`: integers, and a union of integers and pointers.
    let mut header: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= header.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, byte) in header.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = byte as libc::c_char;
    }
    header.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: `header` names the interface and points to `request`, both alive until the call returns. The kernel
    // writes into it: for GSSET_INFO one count, since the mask names one set; else as many names or numbers as the
    // driver has, for which there is room (see `ROOM`).
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &mut header) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
