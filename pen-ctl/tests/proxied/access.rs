//! Who may use a service of the proxy: refused before a backend is chosen, from the answer to the change on.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use crate::place::{PATIENCE, Pen, eventually};
use crate::servers::{connect_from, echo, name};
use crate::setting::{backend, configuration, dns, servers, web};

/// Connections and datagrams that were refused.
fn denied(pen: &Pen) -> u64 {
    pen.status().packets.dropped.get("denied").copied().unwrap_or_default()
}

#[test]
fn who_may_not_is_reset_or_unanswered_and_who_is_there_stays() {
    let mut pen = Pen::new();
    let _servers = servers(&pen, 1);
    let file = pen.write("pen.toml", &configuration(&pen, &[(1, 1)], ""));
    pen.start(&format!("--dataplane proxy -c {file}"));
    let serves = [backend(&pen, 1)];
    ["web", "dns"].iter().for_each(|service| pen.await_serving(service, &serves));
    let (inside, outside) = (pen.ip(9), pen.ip(10));
    let connect = |from: std::net::Ipv4Addr| {
        let mut stream = connect_from(from.into(), web(&pen))?;
        name(&mut stream).map(|_| stream)
    };
    let ask = |from: std::net::Ipv4Addr, patience| {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.send_to(b"query", dns(&pen)).unwrap();
        socket.recv(&mut [0; 64]).is_ok()
    };
    let mut before = connect(outside).unwrap();
    let accepted = |pen: &Pen| pen.status().services[0].proxy.as_ref().unwrap().connections.accepted;
    let accepted_before = accepted(&pen);

    let list = pen.write("list", &format!("{inside}   # ours\n\n"));
    for service in ["web", "dns"] {
        pen.ok(&format!("service set {service} --allow @{list}"));
    }
    connect(inside).unwrap();
    assert!(ask(inside, PATIENCE));
    assert_eq!(connect(outside).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!ask(outside, Duration::from_millis(200)));
    echo(&mut before, b"still here").unwrap();
    eventually("both are counted", || denied(&pen) == 2);
    let status = pen.status();
    assert_eq!(status.services[0].access.allow, 1);
    let of = |index: usize| status.services[index].refused.unwrap().denied.packets;
    assert_eq!((of(0), of(1)), (1, 1), "and by service");
    assert_eq!(accepted(&pen), accepted_before + 1, "who is refused was not accepted");

    for service in ["web", "dns"] {
        pen.ok(&format!("service set {service} --allow none --deny {inside}"));
    }
    connect(outside).unwrap();
    assert_eq!(connect(inside).unwrap_err().kind(), ErrorKind::ConnectionReset);
    pen.ok("service remove web");
    assert_eq!(denied(&pen), 3, "what was counted stays counted");
}
