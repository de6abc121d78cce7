//! Headers byte by byte as the specification has them, and what holds of any header and any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The example of 2.1.
const LINE: &[u8] = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";

fn preface(source: &str, destination: &str) -> Option<Preface> {
    Some(Preface { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

fn written(version: Version, transport: Transport, preface: Option<Preface>) -> Vec<u8> {
    let mut out = Vec::new();
    write(version, transport, preface, &mut out);
    out
}

/// A header of version 2: everything behind its signature.
fn binary(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a".as_slice(), &[command, kind], &length, block]
        .concat()
}

fn done(bytes: &[u8]) -> Option<Preface> {
    let expected = bytes.len();
    match read(&[bytes, REQUEST].concat()) {
        Ok(Progress::Done { preface, length }) if length == expected => preface,
        other => panic!("{other:?}, not all {expected} bytes of {}", bytes.escape_ascii()),
    }
}

fn refused(bytes: &[u8]) -> PrefaceError {
    match read(bytes) {
        Err(error) => error,
        Ok(progress) => panic!("{progress:?} of {}", bytes.escape_ascii()),
    }
}

#[test]
fn lines_are_those_of_the_specification() {
    let v4 = preface("192.168.0.1:56324", "192.168.0.11:443");
    assert_eq!(written(Version::V1, Transport::Stream, v4), LINE);
    assert_eq!(done(LINE), v4);
    let v6 = preface("[2001:db8::1]:0", "[2001:db8::2:0:0:5]:65535");
    assert_eq!(
        written(Version::V1, Transport::Stream, v6),
        b"PROXY TCP6 2001:db8::1 2001:db8::2:0:0:5 0 65535\r\n"
    );
    assert_eq!(written(Version::V1, Transport::Stream, None), b"PROXY UNKNOWN\r\n");
    // Version 1 has no word for datagrams.
    assert_eq!(written(Version::V1, Transport::Datagram, v4), b"PROXY UNKNOWN\r\n");
}

#[test]
fn binary_headers_are_those_of_the_specification() {
    let v4 = preface("192.0.2.1:4660", "198.51.100.2:443");
    let block = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0x01, 0xbb];
    assert_eq!(written(Version::V2, Transport::Stream, v4), binary(0x21, 0x11, &block));
    assert_eq!(written(Version::V2, Transport::Datagram, v4), binary(0x21, 0x12, &block));
    let v6 = preface("[2001:db8::1]:4660", "[2001:db8::2]:443");
    let mut block = [0; 36];
    block[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    block[15] = 1;
    block[16..20].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    block[31..].copy_from_slice(&[2, 0x12, 0x34, 0x01, 0xbb]);
    assert_eq!(written(Version::V2, Transport::Stream, v6), binary(0x21, 0x21, &block));
    assert_eq!(written(Version::V2, Transport::Datagram, v6), binary(0x21, 0x22, &block));
    assert_eq!(written(Version::V2, Transport::Stream, None), binary(0x20, 0x00, &[]));
}

#[test]
fn addresses_of_two_families_are_both_written_as_ipv6() {
    let mixed = preface("192.0.2.1:4660", "[2001:db8::2]:443");
    let line = written(Version::V1, Transport::Stream, mixed);
    assert_eq!(line, b"PROXY TCP6 ::ffff:c000:201 2001:db8::2 4660 443\r\n");
    let header = written(Version::V2, Transport::Stream, mixed);
    assert_eq!(header[13], 0x21);
    assert_eq!(header[16..32], Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
    // Read, they are again what they were; so they are in the form that inet_ntop(3) gives.
    assert_eq!(done(&line), mixed);
    assert_eq!(done(&header), mixed);
    assert_eq!(done(b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 4660 443\r\n"), mixed);
    // A socket for both families gives mapped addresses; the client is an IPv4 one all the same.
    let mapped = preface("[::ffff:192.168.0.1]:56324", "[::ffff:192.168.0.11]:443");
    assert_eq!(written(Version::V1, Transport::Stream, mapped), LINE);
}

#[test]
fn headers_that_name_nobody_leave_the_connection_its_own_addresses() {
    assert_eq!(done(b"PROXY UNKNOWN\r\n"), None);
    // "The receiver must ignore anything presented before the CRLF is found."
    assert_eq!(done(b"PROXY UNKNOWN ffff:: nonsense\r \n \xff\r\n"), None);
    // LOCAL: the family is ignored, whatever it is; the bytes that are announced are skipped.
    assert_eq!(done(&binary(0x20, 0x00, &[])), None);
    assert_eq!(done(&binary(0x20, 0xff, &[7; 3])), None);
    // PROXY with addresses that are to be ignored.
    assert_eq!(done(&binary(0x21, 0x00, &[7; 5])), None);
    assert_eq!(done(&binary(0x21, 0x10, &[7; 12])), None);
    assert_eq!(done(&binary(0x21, 0x31, &[7; 216])), None);
    assert_eq!(done(&binary(0x21, 0x32, &[7; 300])), None);
}

#[test]
fn what_follows_the_addresses_is_skipped() {
    let v4 = preface("192.0.2.1:4660", "198.51.100.2:443");
    let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0x01, 0xbb];
    let authority = b"\x02\x00\x0bexample.com";
    assert_eq!(done(&binary(0x21, 0x11, &[&addresses[..], authority].concat())), v4);
    let most = LONGEST_V2 - 16 - addresses.len();
    assert_eq!(done(&binary(0x21, 0x11, &[&addresses[..], &vec![4; most]].concat())), v4);
    let more = binary(0x21, 0x11, &[&addresses[..], &vec![4; most + 1]].concat());
    assert_eq!(refused(&more), PrefaceError::Long(LONGEST_V2 + 1));
    assert_eq!(refused(&more[..16]), PrefaceError::Long(LONGEST_V2 + 1), "before it is waited for");
}

/// As HAProxy 2.6 sent them: with `send-proxy-v2 proxy-v2-options crc32c,unique-id`, and from an IPv6 listener.
#[test]
fn headers_of_another_product_are_read() {
    let with_tlvs = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x23\x7f\x00\x00\x01\x7f\x00\x00\x01\x86\xea\x42\x6a\
        \x03\x00\x04T\x83w\x1d\x05\x00\x0d7F000001:86EA";
    assert_eq!(done(with_tlvs), preface("127.0.0.1:34538", "127.0.0.1:17002"));
    let v6 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xe3\x48\x42\x6c";
    assert_eq!(done(v6), preface("[::1]:58184", "[::1]:17004"));
}

#[test]
fn lines_that_are_not_canonical_are_refused() {
    for (line, error) in [
        ("GET / HTTP/1.1\r\n", PrefaceError::Start),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", PrefaceError::Start),
        ("PROXY\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n", PrefaceError::Start),
        ("PROXY\r\n", PrefaceError::Start),
        ("PROXY \r\n", PrefaceError::Field("protocol (TCP4, TCP6 or UNKNOWN)")),
        ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", PrefaceError::Field("protocol (TCP4, TCP6 or UNKNOWN)")),
        ("PROXY UNKNOWNS\r\n", PrefaceError::Field("protocol (TCP4, TCP6 or UNKNOWN)")),
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", PrefaceError::Field("protocol (TCP4, TCP6 or UNKNOWN)")),
        ("PROXY TCP4\r\n", PrefaceError::Field("source address")),
        ("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", PrefaceError::Field("source address")),
        ("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", PrefaceError::Field("source address")),
        ("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", PrefaceError::Field("source address")),
        ("PROXY TCP4 ::1 1.2.3.4 1 2\r\n", PrefaceError::Field("source address")),
        ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", PrefaceError::Field("source address")),
        ("PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n", PrefaceError::Field("destination address")),
        ("PROXY TCP6 ::1 1.2.3.4 1 2\r\n", PrefaceError::Field("destination address")),
        ("PROXY TCP6 ::1 ::1::2 1 2\r\n", PrefaceError::Field("destination address")),
        ("PROXY TCP6 fe80::1%1 ::1 1 2\r\n", PrefaceError::Field("source address")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4\r\n", PrefaceError::Field("source port")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", PrefaceError::Field("source port")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", PrefaceError::Field("source port")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", PrefaceError::Field("source port")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", PrefaceError::Field("source port")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", PrefaceError::Field("destination port")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", PrefaceError::Field("destination port")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n", PrefaceError::Field("destination port")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", PrefaceError::Surplus),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", PrefaceError::Surplus),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", PrefaceError::LineEnd),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r \r\n", PrefaceError::LineEnd),
    ] {
        assert_eq!(refused(line.as_bytes()), error, "{line:?}");
    }
}

#[test]
fn a_line_ends_within_107_bytes() {
    let longest = |fill: usize| [b"PROXY UNKNOWN ".as_slice(), &vec![b'x'; fill], b"\r\n"].concat();
    assert_eq!(done(&longest(91)), None);
    assert_eq!(refused(&longest(92)), PrefaceError::LineEnd);
    assert_eq!(read(&longest(92)[..106]), Ok(Progress::NeedMore));
    assert_eq!(
        refused(&longest(92)[..107]),
        PrefaceError::LineEnd,
        "the last byte is CR: it is not waited for"
    );
    assert_eq!(refused(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 96]].concat()), PrefaceError::LineEnd);
}

#[test]
fn binary_headers_with_anything_unknown_are_refused_at_that_byte() {
    let block = [1; 36];
    for (header, error, at) in [
        (binary(0x11, 0x11, &block), PrefaceError::Version(1), 12),
        (binary(0x31, 0x11, &block), PrefaceError::Version(3), 12),
        (binary(0x22, 0x11, &block), PrefaceError::Command(2), 12),
        (binary(0x2f, 0x11, &block), PrefaceError::Command(15), 12),
        (binary(0x21, 0x41, &block), PrefaceError::Family(4), 13),
        (binary(0x21, 0x13, &block), PrefaceError::Transport(3), 13),
        (binary(0x21, 0x03, &block), PrefaceError::Transport(3), 13),
        (binary(0x21, 0x11, &block[..11]), PrefaceError::Short { length: 11, needed: 12 }, 15),
        (binary(0x21, 0x22, &block[..35]), PrefaceError::Short { length: 35, needed: 36 }, 15),
        (binary(0x21, 0x31, &[0; 215]), PrefaceError::Short { length: 215, needed: 216 }, 15),
    ] {
        assert_eq!(refused(&header), error);
        assert_eq!(refused(&header[..=at]), error);
        assert_eq!(read(&header[..at]), Ok(Progress::NeedMore));
    }
    let mut spoiled = binary(0x21, 0x11, &block);
    spoiled[11] = b'\r';
    assert_eq!(refused(&spoiled), PrefaceError::Start);
}

#[test]
fn a_datagram_has_its_header_whole_and_of_version_2() {
    let v4 = preface("192.0.2.1:4660", "198.51.100.2:53");
    let datagram = [&written(Version::V2, Transport::Datagram, v4)[..], b"query"].concat();
    assert_eq!(read_datagram(&datagram), Ok((v4, b"query".as_slice())));
    let empty = written(Version::V2, Transport::Datagram, v4);
    assert_eq!(read_datagram(&empty), Ok((v4, b"".as_slice())));
    for end in 0..empty.len() {
        assert_eq!(read_datagram(&datagram[..end]), Err(PrefaceError::Datagram), "{end} bytes");
    }
    assert_eq!(read_datagram(LINE), Err(PrefaceError::Start));
    assert_eq!(read_datagram(b"query"), Err(PrefaceError::Start));
}

fn address() -> impl Strategy<Value = IpAddr> {
    let mapped = any::<[u8; 4]>().prop_map(|v4| IpAddr::V6(Ipv4Addr::from(v4).to_ipv6_mapped()));
    // Zeros in many places: they have more than one way to be written.
    let sparse = vec(prop_oneof![Just(0), Just(0xffff), any::<u16>()], 8)
        .prop_map(|groups| IpAddr::V6(<[u16; 8]>::try_from(groups).unwrap().into()));
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), sparse, mapped]
}

fn any_preface() -> impl Strategy<Value = Option<Preface>> {
    let end = || (address(), any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port));
    proptest::option::weighted(
        0.9,
        (end(), end()).prop_map(|(source, destination)| Preface { source, destination }),
    )
}

fn any_version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

/// The same with IPv4 addresses that look like such.
fn canonical(preface: Preface) -> Preface {
    let of = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    Preface { source: of(preface.source), destination: of(preface.destination) }
}

/// Bytes that come far into either version before they are wrong, if they are.
fn almost() -> impl Strategy<Value = Vec<u8>> {
    let header = (any_version(), any_preface(), vec(any::<u8>(), 0..200))
        .prop_map(|(version, preface, rest)| [written(version, Transport::Stream, preface), rest].concat());
    let spoiled =
        (header, vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(|(mut header, changes)| {
            changes.iter().for_each(|(at, byte)| *at.get_mut(&mut header) = *byte);
            header
        });
    let signed = (prop_oneof![Just(v1::SIGNATURE), Just(v2::SIGNATURE)], vec(any::<u8>(), 0..300))
        .prop_map(|(signature, rest)| [signature, &rest].concat());
    prop_oneof![4 => spoiled, 2 => signed, 1 => vec(any::<u8>(), 0..300)]
}

proptest! {
    #[test]
    fn what_is_written_is_read(version in any_version(), preface in any_preface(), datagram: bool) {
        let transport = if datagram { Transport::Datagram } else { Transport::Stream };
        let header = written(version, transport, preface);
        prop_assert!(header.len() <= LONGEST_V1);
        let lost = datagram && version == Version::V1;
        prop_assert_eq!(done(&header), preface.map(canonical).filter(|_| !lost));
    }

    #[test]
    fn every_part_of_a_header_wants_more(version in any_version(), preface in any_preface()) {
        let header = written(version, Transport::Stream, preface);
        for end in 0..header.len() {
            prop_assert_eq!(read(&header[..end]), Ok(Progress::NeedMore), "{} bytes", end);
        }
    }

    /// However the bytes are split: waiting comes first, then what is found stays, whatever else comes.
    #[test]
    fn any_bytes_are_found_the_same_however_they_are_split(bytes in almost()) {
        let mut found = None;
        for end in 0..=bytes.len() {
            let now = read(&bytes[..end]);
            if let Ok(Progress::Done { length, .. }) = now {
                prop_assert!(length <= end, "{} of {} bytes", length, end);
            }
            prop_assert!(end < LONGEST_V2 || now != Ok(Progress::NeedMore));
            match found {
                Some(before) => prop_assert_eq!(now, before, "{} bytes", end),
                None => found = (now != Ok(Progress::NeedMore)).then_some(now),
            }
        }
    }

    #[test]
    fn a_datagram_and_a_connection_read_the_same_header(bytes in almost()) {
        let of_datagram = read_datagram(&bytes);
        match read(&bytes) {
            Ok(Progress::Done { preface, length }) if bytes.starts_with(v2::SIGNATURE) => {
                prop_assert_eq!(of_datagram, Ok((preface, &bytes[length..])));
            }
            _ => prop_assert!(of_datagram.is_err()),
        }
    }
}
