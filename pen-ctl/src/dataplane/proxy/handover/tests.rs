//! One proxy takes over from another while clients come.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::dataplane::clients::Fate;
use crate::dataplane::proxy::plane::tests::{connect, echo, eventually, serve, vip};
use crate::dataplane::proxy::plane::{ProxyPlane, open};
use crate::dataplane::{DataPlane, Operation, Protocol};

fn remembered(plane: &mut ProxyPlane) -> Vec<(std::net::IpAddr, Option<crate::dataplane::BackendAddress>)> {
    let mut all = Vec::new();
    let clients = plane.clients().unwrap();
    clients
        .read(&mut |one| {
            all.push((one.client, one.backend));
            Fate::Keep
        })
        .unwrap();
    all
}

#[test]
fn a_successor_takes_over_without_a_client_refused_or_moved_and_what_is_open_ends_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover");
    let listener = UnixListener::bind(&path).unwrap();
    let (key, backends) = (vip(Protocol::Tcp), [echo(1), echo(2), echo(3)]);
    let mut old = open(1000).unwrap();
    serve(&mut old, key, &backends);
    let (mut stream, name) = connect(key);
    let (before, bytes) = (remembered(&mut old), old.counters().unwrap().forwarded().bytes);
    let (stop, came) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients = {
        let (stop, came) = (stop.clone(), came.clone());
        thread::spawn(move || {
            let mut names = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                names.push(connect(key).1);
                came.fetch_add(1, Ordering::Relaxed);
            }
            names
        })
    };
    let (estate, proxy) = (old.estate(), old.proxy());
    let keeper = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        Successor::greet(stream).unwrap().hand_over(&estate, &proxy).unwrap();
    });
    let mut takeover = Takeover::from(&path).unwrap();
    let mut new = open(1000).unwrap();
    let heirs = new.inherit(takeover.inherited());
    takeover.expect(new.proxy(), heirs);
    let adopted = &new.observe().unwrap().services[&key];
    assert!(adopted.backends.len() == 3 && adopted.has_table && adopted.members.is_none(), "{adopted:?}");
    assert!(new.counters().unwrap().forwarded().bytes >= bytes);
    serve(&mut new, key, &backends);
    takeover.ready().unwrap();
    keeper.join().unwrap();
    let until_then = came.load(Ordering::Relaxed);
    eventually("clients go on coming", || came.load(Ordering::Relaxed) > until_then + 10);
    stop.store(true, Ordering::Relaxed);
    let names = clients.join().unwrap();
    assert!(names.iter().all(|one| *one == name), "{names:?}");
    assert_eq!(remembered(&mut new), before);
    let accepted = new.service_connections()[&key].accepted;
    assert!(accepted > 0);
    let mut answer = [0; 2];
    stream.write_all(b"hi").unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hi");
    drop(stream);
    // It ends with its last connection.
    old.proxy().join().unwrap();
}

#[test]
fn a_successor_that_fails_leaves_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover");
    let listener = UnixListener::bind(&path).unwrap();
    let (key, backends) = (vip(Protocol::Tcp), [echo(1)]);
    let mut old = open(1000).unwrap();
    serve(&mut old, key, &backends);
    let (estate, proxy) = (old.estate(), old.proxy());
    let keeper = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        Successor::greet(stream).unwrap().hand_over(&estate, &proxy)
    });
    let mut takeover = Takeover::from(&path).unwrap();
    drop(takeover.inherited());
    drop(takeover);
    assert!(keeper.join().unwrap().is_err());
    assert_eq!(connect(key).1, Some(1));
}

/// The path of a Unix socket belongs to whoever serves there, and nobody is let in by whoever does not yet.
#[test]
fn a_successor_that_fails_late_has_served_nobody_and_leaves_paths_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover");
    let listener = UnixListener::bind(&path).unwrap();
    let front = directory.path().join("front");
    let key: ServiceKey = front.to_str().unwrap().parse().unwrap();
    let backend = echo(1);
    let mut old = open(1000).unwrap();
    serve(&mut old, key, &[backend]);
    let (estate, proxy) = (old.estate(), old.proxy());
    let keeper = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        Successor::greet(stream).unwrap().hand_over(&estate, &proxy)
    });
    let mut takeover = Takeover::from(&path).unwrap();
    let mut new = open(1000).unwrap();
    let heirs = new.inherit(takeover.inherited());
    takeover.expect(new.proxy(), heirs);
    serve(&mut new, key, &[backend]);
    let ask = || {
        let mut stream = UnixStream::connect(&front).unwrap();
        let mut name = [0];
        stream.read_exact(&mut name).unwrap();
        assert_eq!(name, [1]);
    };
    (0..20).for_each(|_| ask());
    assert_eq!(new.service_connections()[&key].accepted, 0);
    drop(takeover);
    drop(new);
    assert!(keeper.join().unwrap().is_err());
    ask();
    drop(old);
}

#[test]
fn whatever_connects_and_says_something_else_is_refused() {
    let (mut odd, heard) = UnixStream::pair().unwrap();
    odd.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(matches!(Successor::greet(heard), Err(HandoverError::Broken(_))));
    let (mut newer, heard) = UnixStream::pair().unwrap();
    send(&mut newer, &Hello { format: FORMAT + 1 }).unwrap();
    assert!(matches!(Successor::greet(heard), Err(HandoverError::Format { theirs }) if theirs == FORMAT + 1));
}

#[test]
fn services_removed_since_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover");
    let listener = UnixListener::bind(&path).unwrap();
    let key = vip(Protocol::Udp);
    let mut old = open(1000).unwrap();
    serve(&mut old, key, &["127.0.0.1:1".parse().unwrap()]);
    let (estate, proxy) = (old.estate(), old.proxy());
    let keeper = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        Successor::greet(stream).unwrap().hand_over(&estate, &proxy).unwrap();
    });
    let mut takeover = Takeover::from(&path).unwrap();
    let mut new = open(1000).unwrap();
    let heirs = new.inherit(takeover.inherited());
    takeover.expect(new.proxy(), heirs);
    new.apply(&Operation::RemoveService { key }).unwrap();
    takeover.ready().unwrap();
    keeper.join().unwrap();
    drop(old);
    eventually("nobody has the port", || std::net::UdpSocket::bind((key.ip().unwrap(), key.port)).is_ok());
}
