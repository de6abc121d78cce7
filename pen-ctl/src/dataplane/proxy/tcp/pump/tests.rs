//! One direction over real sockets, with all that may end it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::super::buffers::{Kit, READ};
use super::{Count, End, PROOF, Way};

/// A peer, and this side's end of its connection.
fn connection() -> (TcpStream, End) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (own, _) = listener.accept().unwrap();
    own.set_nonblocking(true).unwrap();
    let mut end = End::new(own.into());
    (end.readable, end.writable) = (true, true);
    (peer, end)
}

/// A direction that has proved to be bulk, and its ends: sender, from, to, receiver.
fn bulk(kit: &mut Kit, count: &Count) -> (Way, TcpStream, End, End, TcpStream) {
    let ((mut sender, mut from), (mut receiver, mut to)) = (connection(), connection());
    let mut way = Way::default();
    for _ in 0..PROOF {
        sender.write_all(&vec![7; READ]).unwrap();
        from.readable = true;
        way.pump(&mut from, &mut to, kit, count);
        receiver.read_exact(&mut vec![0; READ]).unwrap();
    }
    (way, sender, from, to, receiver)
}

#[test]
fn a_reset_in_the_midst_of_bulk_is_no_end() {
    let (mut kit, count) = (Kit::default(), Count::default());
    let (mut way, sender, mut from, mut to, _receiver) = bulk(&mut kit, &count);
    socket2::SockRef::from(&sender).set_linger(Some(Duration::ZERO)).unwrap();
    drop(sender);
    from.readable = true;
    way.pump(&mut from, &mut to, &mut kit, &count);
    assert!(way.torn && !way.ended, "{way:?}");
}

#[test]
fn the_end_of_bulk_is_no_reset() {
    let (mut kit, count) = (Kit::default(), Count::default());
    let (mut way, sender, mut from, mut to, _receiver) = bulk(&mut kit, &count);
    drop(sender);
    from.readable = true;
    way.pump(&mut from, &mut to, &mut kit, &count);
    assert!(way.ended && !way.torn, "{way:?}");
}
