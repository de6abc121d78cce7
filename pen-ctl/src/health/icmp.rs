//! The check `icmp`: a backend answers an echo request (RFC 792, RFC 4443).

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::again::once_more;
use super::ask::{Answer, Failed, Question};
use super::datagram;

/// What a request is known by in the answer to it: type and code, checksum, identifier, sequence, eight random bytes.
const LENGTH: usize = 16;
/// Room for an answer with the longest IPv4 header, which raw sockets of IPv4 are handed, too.
const ROOM: usize = 60 + LENGTH;

/// Sends an echo request and waits for its own answer.
pub(super) async fn ask(question: &Question) -> Result<Answer, Failed> {
    let Some(backend) = question.backend.ip() else {
        return Err(Failed::no_address());
    };
    once_more(question.limit(), || echo(backend)).await
}

async fn echo(backend: IpAddr) -> Result<Answer, Failed> {
    let (socket, identifies) = socket(backend)?;
    let socket = datagram::connected(socket, SocketAddr::new(backend, 0))?;
    let request = Echo::new(backend)?;
    socket.send(&request.message()).await.map_err(|error| datagram::failed(&error))?;
    let mut buffer = [0; ROOM];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|error| datagram::failed(&error))?;
        if request.is_answered_by(&buffer[..length], identifies) {
            return Ok(Answer::new("echo reply"));
        }
    }
}

/// A socket that anybody may have where the administrator says so; else one that takes a privilege. And whether the
/// identifier is ours to choose: of the former, Linux chooses it and sorts the answers by it.
///
/// A raw socket is handed every answer of its peer: as it is connected, the kernel has compared the address before it
/// makes a copy, and no socket lives longer than its check.
fn socket(backend: IpAddr) -> Result<(Socket, bool), Failed> {
    let (domain, protocol) = match backend {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    if let Ok(socket) = Socket::new(domain, Type::DGRAM, Some(protocol)) {
        return Ok((socket, false));
    }
    match Socket::new(domain, Type::RAW, Some(protocol)) {
        Ok(socket) => Ok((socket, true)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(not_permitted()),
        Err(error) => Err(Failed::asking(&error)),
    }
}

fn not_permitted() -> Failed {
    Failed::Asking("sending echo requests takes CAP_NET_RAW, or a group of net.ipv4.ping_group_range".into())
}

/// An echo request.
struct Echo {
    v4: bool,
    identifier: [u8; 2],
    sequence: [u8; 2],
    payload: [u8; 8],
}

impl Echo {
    fn new(backend: IpAddr) -> Result<Echo, Failed> {
        let random = getrandom::u64().and_then(|payload| Ok((getrandom::u32()?, payload)));
        let (chosen, payload) = random.map_err(|error| Failed::Asking(error.to_string()))?;
        let [a, b, c, d] = chosen.to_ne_bytes();
        let payload = payload.to_ne_bytes();
        Ok(Echo { v4: backend.is_ipv4(), identifier: [a, b], sequence: [c, d], payload })
    }

    /// Of ICMPv6 the kernel fills in the checksum: it covers addresses.
    fn message(&self) -> [u8; LENGTH] {
        let mut message = [0; LENGTH];
        message[0] = if self.v4 { 8 } else { 128 };
        message[4..6].copy_from_slice(&self.identifier);
        message[6..8].copy_from_slice(&self.sequence);
        message[8..].copy_from_slice(&self.payload);
        if self.v4 {
            let sum = checksum(&message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
        }
        message
    }

    /// Others' answers, requests of our own to this host, and all else that a raw socket is handed, are none.
    fn is_answered_by(&self, packet: &[u8], identifies: bool) -> bool {
        let message = if self.v4 { without_header(packet) } else { packet };
        let reply = if self.v4 { 0 } else { 129 };
        let Some((header, payload)) = message.split_at_checked(8) else { return false };
        header[..2] == [reply, 0]
            && (!identifies || header[4..6] == self.identifier)
            && header[6..] == self.sequence
            && payload == self.payload
    }
}

/// Raw sockets of IPv4 are handed the IP header as well, which begins with a 4; no message of ICMP does.
fn without_header(packet: &[u8]) -> &[u8] {
    match packet.first() {
        Some(first) if first >> 4 == 4 => packet.get(usize::from(first & 0xf) * 4..).unwrap_or_default(),
        _ => packet,
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(to: &Echo) -> Vec<u8> {
        let mut reply = to.message().to_vec();
        reply[0] = if to.v4 { 0 } else { 129 };
        reply
    }

    #[test]
    fn only_the_answer_to_a_request_answers_it() {
        for address in ["10.0.0.1", "fd00::1"] {
            let ours = Echo::new(address.parse().unwrap()).unwrap();
            let other = Echo::new(address.parse().unwrap()).unwrap();
            assert!(ours.is_answered_by(&reply(&ours), true));
            assert!(!ours.is_answered_by(&reply(&other), false));
            assert!(
                !ours.is_answered_by(&ours.message(), true),
                "the request itself, as loopback hands it back"
            );
            let mut renamed = reply(&ours);
            renamed[5] ^= 1;
            assert!(!ours.is_answered_by(&renamed, true) && ours.is_answered_by(&renamed, false));
            let mut said = reply(&ours);
            said[15] ^= 1;
            assert!(!ours.is_answered_by(&said, true), "other bytes come back than were sent");
            let sequel = Echo { sequence: [ours.sequence[0], ours.sequence[1] ^ 1], ..ours };
            assert!(!sequel.is_answered_by(&renamed, false));
        }
    }

    #[test]
    fn an_ip_header_before_it_is_passed_over() {
        let echo = Echo::new(IpAddr::from([10, 0, 0, 1])).unwrap();
        let mut header = vec![0; 24];
        header[0] = 0x46;
        assert!(echo.is_answered_by(&[header, reply(&echo)].concat(), true));
    }

    #[test]
    fn a_message_with_its_checksum_sums_up_to_nothing() {
        let echo = Echo { v4: true, identifier: [0xff; 2], sequence: [0xff, 0xfe], payload: [0xfe; 8] };
        assert_eq!(checksum(&echo.message()), 0);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_looked_at(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            for address in ["10.0.0.1", "fd00::1"] {
                let echo = Echo::new(address.parse().unwrap()).unwrap();
                prop_assert!(!echo.is_answered_by(&packet, false));
            }
        }
    }

    #[cfg(target_os = "linux")]
    mod on_the_wire {
        use std::time::Duration;

        use super::*;
        use crate::health::testing::{BRIEF, PATIENT, UNREACHABLE, asked, question, router};

        async fn ping(address: &str, timeout: Duration) -> String {
            let backend = SocketAddr::new(address.parse().unwrap(), 80);
            asked(&question("icmp", backend, timeout)).await
        }

        /// With a raw socket, as the tests' user is root, and with the socket that a group may have.
        #[test]
        fn who_answers_is_up_and_who_cannot_be_reached_is_down_with_the_reason() {
            let Some(net) = router() else { return };
            net.far("ip link set lo up");
            for groups in ["1 0", "0 2147483647"] {
                net.in_balancer(async || {
                    std::fs::write("/proc/sys/net/ipv4/ping_group_range", groups).unwrap();
                    let datagram = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)).is_ok();
                    assert_eq!(datagram, groups != "1 0");
                    for address in ["10.9.0.2", "fd09::2", "10.9.0.1", "fd09::1", "127.0.0.1"] {
                        assert_eq!(ping(address, PATIENT).await, "good: echo reply", "{address} {groups}");
                    }
                    for (address, why) in UNREACHABLE {
                        assert_eq!(ping(address, PATIENT).await, why, "{address} {groups}");
                    }
                    assert_eq!(ping("10.9.0.77", BRIEF).await, "bad: no answer within 200 ms", "{groups}");
                    assert_eq!(ping("192.0.2.1", BRIEF).await, "bad: network unreachable", "{groups}");
                });
            }
        }

        #[test]
        fn many_at_once_each_get_their_own_answer() {
            let Some(net) = router() else { return };
            net.in_balancer(async || {
                let all = (0..200).map(|n| ping(if n % 2 == 0 { "10.9.0.2" } else { "fd09::2" }, PATIENT));
                for said in futures_util::future::join_all(all).await {
                    assert_eq!(said, "good: echo reply");
                }
            });
        }

        /// A thread may give its privileges away: only this one's are gone.
        #[test]
        fn without_the_privilege_nothing_is_said_about_the_backend() {
            use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
            let Some(net) = router() else { return };
            net.in_balancer(async || {
                std::fs::write("/proc/sys/net/ipv4/ping_group_range", "1 0").unwrap();
                let mut mine = capabilities(None).unwrap();
                mine.effective.remove(CapabilitySet::NET_RAW);
                set_capabilities(None, mine).unwrap();
                let why = "unable: sending echo requests takes CAP_NET_RAW, or a group of net.ipv4.ping_group_range";
                assert_eq!(ping("10.9.0.2", PATIENT).await, why);
            });
        }
    }
}
