//! `pen-ctl proxy` as a user meets it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::Signal;

use crate::place::{PATIENCE, assert_echoes, echo, eventually, name, nobody};
use crate::process::OneLiner;

#[test]
fn it_drains_when_told_to_end_and_ends_at_once_when_told_twice() {
    let backend = echo(1).to_string();
    let mut proxy = OneLiner::start(1000, &["127.0.0.1:0", &backend]);
    let mut client = proxy.connect();
    name(&mut client);
    proxy.signal(Signal::TERM);
    proxy.logs("accepting nobody new");
    eventually("nobody new", || TcpStream::connect(proxy.address.unwrap()).is_err());
    assert_echoes(&mut client);
    assert!(proxy.ended().is_none());
    drop(client);
    eventually("it ends with its last connection", || proxy.ended().is_some_and(|status| status.success()));

    let mut proxy = OneLiner::start(1000, &["127.0.0.1:0", &backend]);
    let mut client = proxy.connect();
    name(&mut client);
    proxy.signal(Signal::TERM);
    proxy.logs("accepting nobody new");
    proxy.signal(Signal::TERM);
    eventually("it ends at once", || proxy.ended().is_some_and(|status| status.success()));
    assert!(client.read(&mut [0]).is_err(), "reset, not an end that looks whole");
}

#[test]
fn it_says_what_it_counted_as_often_as_it_is_asked() {
    let (dead, alive) = (nobody().to_string(), echo(1).to_string());
    let proxy = OneLiner::start(1000, &["127.0.0.1:0", &dead, &format!("{alive}:7"), "--round-robin"]);
    for _ in 0..3 {
        let mut client = proxy.connect();
        name(&mut client);
        assert_echoes(&mut client);
    }
    for _ in 0..20 {
        proxy.signal(Signal::USR1);
        let heading = proxy.output.recv_timeout(PATIENCE).unwrap();
        assert_eq!(heading, "3 clients accepted, 0 turned away, 0 addresses remembered");
        let rows: Vec<String> = (0..3).map(|_| proxy.output.recv_timeout(PATIENCE).unwrap()).collect();
        let words = |row: usize| rows[row].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(1)[..2], [dead.clone(), "failing".to_owned()]);
        assert_eq!([&words(2)[..2], &words(2)[3..]].concat(), [&alive, "up", "3", "0", "15", "18"]);
    }
    assert_echoes(&mut {
        let mut client = proxy.connect();
        name(&mut client);
        client
    });
}

#[test]
fn with_json_what_it_counted_is_a_document_in_one_line_and_so_is_its_end() {
    let backend = echo(1).to_string();
    let mut proxy = OneLiner::start(1000, &["127.0.0.1:0", &backend, "--json", "--round-robin"]);
    let mut client = proxy.connect();
    name(&mut client);
    assert_echoes(&mut client);
    let document = |open: u32| {
        serde_json::json!({"accepted": 1, "turned_away": 0, "remembered": 0, "backends": [{
            "address": backend, "failing": false, "open": open, "connections": 1, "failures": 0, "datagrams": 0,
            "received": 5, "sent": 6
        }]})
    };
    let said = |proxy: &OneLiner| -> serde_json::Value {
        serde_json::from_str(&proxy.output.recv_timeout(PATIENCE).unwrap()).unwrap()
    };
    proxy.signal(Signal::USR1);
    assert_eq!(said(&proxy), document(1));
    drop(client);
    proxy.signal(Signal::TERM);
    eventually("it ends", || proxy.ended().is_some_and(|status| status.success()));
    assert_eq!(said(&proxy), document(0));
    assert!(proxy.output.recv().is_err(), "nothing else");
}

#[test]
fn without_file_descriptors_old_connections_go_on_and_new_ones_wait_for_their_turn() {
    let backend = echo(1).to_string();
    let proxy = OneLiner::start(60, &["127.0.0.1:0", &backend, "--workers", "1"]);
    let mut old: Vec<TcpStream> = (0..10).map(|_| proxy.connect()).collect();
    for client in &mut old {
        name(client);
    }
    // More than there is room for; the kernel takes them into the queue of the listener.
    let mut new: Vec<TcpStream> = (0..60).map(|_| proxy.connect()).collect();
    proxy.logs("no new connections for now");
    old.iter_mut().for_each(assert_echoes);
    drop(old);
    // Each that ends makes room for another: all are served, and none was lost.
    while !new.is_empty() {
        let mut client = new.remove(0);
        name(&mut client);
        assert_echoes(&mut client);
    }
    let mut said_again = 0;
    eventually("it says that it is over", || {
        name(&mut proxy.connect());
        let lines: Vec<String> = proxy.log.try_iter().collect();
        said_again += lines.iter().filter(|line| line.contains("no new connections")).count();
        lines.iter().any(|line| line.contains("accepted again"))
    });
    assert_eq!(said_again, 0, "said once");
}

#[test]
fn unix_sockets_are_good_for_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let inner = OneLiner::start(1000, &[&path("inner"), &echo(7).to_string()]);
    let mut outer = OneLiner::start(1000, &[&path("outer"), &path("inner")]);
    let mut client = UnixStream::connect(path("outer")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x07hello");
    drop(client);
    outer.signal(Signal::TERM);
    eventually("it ends", || outer.ended().is_some());
    assert!(!dir.path().join("outer").exists(), "its socket is gone");
    drop(inner);
    // One that was killed leaves its path behind; the next one takes it over.
    let again = OneLiner::start(1000, &[&path("inner"), &echo(8).to_string()]);
    let mut client = UnixStream::connect(path("inner")).unwrap();
    client.read_exact(&mut answer[..1]).unwrap();
    assert_eq!(answer[0], 8);
    drop(again);
}

#[test]
fn a_port_that_somebody_has_is_refused_even_if_that_is_another_proxy() {
    let backend = echo(1).to_string();
    let first = OneLiner::start(1000, &["127.0.0.1:0", &backend, "--workers", "2"]);
    let address = first.address.unwrap().to_string();
    let second =
        Command::new(env!("CARGO_BIN_EXE_pen-ctl")).args(["proxy", &address, &backend]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(
        error.contains(&format!("pen-ctl: listen on {address}")) && error.contains("another process"),
        "{error}"
    );
}

#[test]
fn udp_has_no_unix_sockets() {
    for words in [["/run/app.sock", "127.0.0.1:53"], ["127.0.0.1:0", "/run/app.sock"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_pen-ctl"))
            .args(["proxy", "--udp"])
            .args(words)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("UDP has no Unix sockets"), "{said}");
    }
}

#[test]
fn a_backend_that_is_the_proxy_itself_is_refused() {
    for (listen, backend) in
        [("127.0.0.1:28111", "127.0.0.1:28111"), ("28112", "127.0.0.1"), ("[::1]:28113", "[::1]")]
    {
        let words = ["proxy", listen, backend];
        let output = Command::new(env!("CARGO_BIN_EXE_pen-ctl")).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("where the proxy itself listens"), "{said}");
    }
}

#[test]
fn what_can_only_fail_is_refused_before_anybody_can_come() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let _live = std::os::unix::net::UnixListener::bind(path("live")).unwrap();
    std::fs::write(path("file"), "kept").unwrap();
    let (live, file, missing) = (path("live"), path("file"), path("no/socket"));
    for (status, words, says) in [
        (2, &["127.0.0.1:0", "http://www1:80"][..], "write www1:80"),
        (1, &[&live, "127.0.0.1:1"], "another process listens there (see `ss -lxp`)"),
        (1, &[&file, "127.0.0.1:1"], "a file that is no socket is there"),
        (1, &[&missing, "127.0.0.1:1"], "its directory does not exist"),
        (1, &["127.0.0.1:0", "0.0.0.0:1"], "is the unspecified address"),
        (1, &["127.0.0.1:0", "127.0.0.1:1", "127.0.0.1:1"], "is there twice"),
        (
            2,
            &["127.0.0.1:0", "127.0.0.1:1", "--proxy-protocol-from", "10.0.0.1/8"],
            "write 10.0.0.0/8 or 10.0.0.1",
        ),
        (2, &["127.0.0.1:0", "127.0.0.1:1", "--workers", "100000"], "for each processor"),
        (2, &["127.0.0.1:0", "127.0.0.1:1", "--workers", "0"], "use 1 to"),
        (2, &["127.0.0.1:0", "127.0.0.1:1", "--idle-timeout", "abc"], "write it with a unit"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pen-ctl")).arg("proxy").args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(says), "{words:?}: {said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}
