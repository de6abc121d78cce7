//! What the proxy takes and what it refuses: without privileges, by its rules, of any family and port.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use crate::place::{PATIENCE, Pen, eventually};
use crate::servers::{Server, connect_from, echo, name};
use crate::setting::backend;

/// A port of `::1` that nobody has.
fn free_v6(udp: bool) -> SocketAddr {
    let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if udp {
        UdpSocket::bind(any).unwrap().local_addr()
    } else {
        TcpListener::bind(any).unwrap().local_addr()
    }
    .unwrap()
}

#[test]
fn a_user_without_rights_gets_the_proxy_and_one_line_that_says_why() {
    let mut pen = Pen::new();
    pen.be_nobody();
    let server = Server::tcp(1, backend(&pen, 1));
    pen.start("");
    assert_eq!(pen.status().controller.dataplane, "proxy");
    let log = pen.log();
    let why: Vec<_> = log.lines().filter(|line| line.contains("because XDP cannot be here")).collect();
    assert!(why.len() == 1 && why[0].contains("CAP_"), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    pen.ok(&format!("service add web {}/tcp", pen.at(1, 8080)));
    pen.ok(&format!("backend add web {}", server.address));
    pen.await_serving("web", &[server.address]);
    let mut stream = connect_from(pen.ip(9).into(), pen.at(1, 8080)).unwrap();
    assert_eq!(name(&mut stream).unwrap(), 1);
    // What takes rights is told apart from what does not work.
    let ended = pen.run(&["service", "add", "low", &format!("{}/tcp", pen.at(1, 80))]);
    let said = format!("{}{}{}", ended.stdout, ended.stderr, pen.ok("status"));
    let unprivileged = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert!(unprivileged.trim() == "0" || said.contains("ports below 1024"), "{said}");
}

#[test]
fn a_state_that_ran_as_xdp_is_never_a_proxy_by_itself() {
    let mut pen = Pen::new();
    pen.be_nobody();
    let pid = pen.start("--dataplane proxy");
    pen.ok("stop");
    pen.await_end(pid);
    let state = pen.state().join("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    let text = text.replace("\"dataplane\": \"proxy\"", "\"dataplane\": \"xdp\"");
    assert!(text.contains("\"xdp\""), "{text}");
    std::fs::write(&state, text).unwrap();
    pen.refused("run", &["last ran as xdp", "CAP_", "run --dataplane proxy"]);
    // The way out is one.
    pen.start("--dataplane proxy");
}

#[test]
fn a_stored_state_that_breaks_the_proxys_rules_is_refused_with_the_ways_out() {
    let mut pen = Pen::new();
    let vip = pen.at(1, 8080);
    let pid = pen.start("--dataplane proxy");
    pen.ok(&format!("service add web {vip}/tcp"));
    pen.ok("stop");
    pen.await_end(pid);
    let state = pen.state().join("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    // As one that ran as XDP left it.
    let text = text.replace(&vip.to_string(), "192.0.2.1:8080");
    let limited = text.replace("\"name\": \"web\",", "\"name\": \"web\", \"rate_limit\": {\"packets\": 5},");
    assert!(limited.contains("rate_limit"), "{limited}");
    std::fs::write(&state, limited).unwrap();
    let ways = ["service web: `rate_limit`", "run --dataplane xdp", "run --dataplane proxy -c FILE"];
    pen.refused("run --dataplane proxy", &ways);
    // The way out without XDP is one.
    let file = pen.write("all.toml", &format!("[[service]]\nname = \"web\"\nvip = \"{vip}/tcp\"\n"));
    pen.start(&format!("--dataplane proxy -c {file}"));
    assert_eq!(pen.status().services.len(), 1);
}

#[test]
fn what_is_about_packets_is_refused_with_the_reason() {
    let mut pen = Pen::new();
    pen.start("--dataplane proxy");
    let vip = pen.at(1, 8080);
    let every = pen.ip(1);
    for (words, says) in [
        (format!("service add all {every}:*/tcp"), "port"),
        (format!("service add web {vip}/tcp --on-empty pass"), "on_empty `pass` is about packets"),
        (
            format!("service add web {vip}/tcp --tracking transitions"),
            "tracking `transitions` is about packets",
        ),
    ] {
        pen.refused(&words, &[says, "proxy"]);
    }
    pen.ok(&format!("service add web {vip}/tcp --scheduler least-connections"));
    for words in ["--mac 02:00:00:00:00:01", "--mac 02:00:00:00:00:01 --vlan 7"] {
        pen.refused(&format!("backend add web {} {words}", pen.at(2, 1)), &["mac", "proxy"]);
    }
    let file = pen.write("all.toml", &format!("[[service]]\nname = \"all\"\nvip = \"{every}:*/tcp\"\n"));
    pen.refused(&format!("apply {file}"), &["port", "proxy"]);
    assert_eq!(pen.status().services.len(), 1);
}

#[test]
fn least_connections_gives_newcomers_to_whoever_has_the_fewest() {
    let mut pen = Pen::new();
    let _servers = [1, 2, 3].map(|one| Server::tcp(one, backend(&pen, one)));
    pen.start("--dataplane proxy");
    pen.ok(&format!("service add web {}/tcp --scheduler least-connections --tracking off", pen.at(1, 8080)));
    for one in [1, 2] {
        pen.ok(&format!("backend add web {}", backend(&pen, one)));
    }
    pen.await_serving("web", &[1, 2].map(|one| backend(&pen, one)));
    let connect = || {
        let mut stream = connect_from(pen.ip(9).into(), pen.at(1, 8080)).unwrap();
        (name(&mut stream).unwrap(), stream)
    };
    let mut held: Vec<_> = (0..20).map(|_| connect()).collect();
    let of = |held: &[(u8, std::net::TcpStream)], one| held.iter().filter(|(name, _)| *name == one).count();
    assert_eq!((of(&held, 1), of(&held, 2)), (10, 10));
    // A new one has none, and gets all that come until it has as many.
    pen.ok(&format!("backend add web {}", backend(&pen, 3)));
    pen.await_serving("web", &[1, 2, 3].map(|one| backend(&pen, one)));
    held.extend((0..10).map(|_| connect()));
    assert_eq!(of(&held, 3), 10);
}

#[test]
fn unix_sockets_other_ports_and_the_other_family_are_all_the_same_to_clients() {
    let mut pen = Pen::new();
    let (v4, v6) = (Server::tcp(4, backend(&pen, 1)), Server::tcp(6, free_v6(false)));
    let unix = UnixServer::at(&pen.path("backend.sock"));
    let vip6 = free_v6(false);
    let front = pen.path("front.sock");
    pen.start("--dataplane proxy");
    for (service, vip, backend) in [
        ("v6v4", format!("{vip6}/tcp"), v4.address.to_string()),
        ("v4v6", format!("{}/tcp", pen.at(1, 8080)), v6.address.to_string()),
        ("v4unix", format!("{}/tcp", pen.at(1, 8081)), unix.0.clone()),
        ("unixv4", front.display().to_string(), v4.address.to_string()),
    ] {
        pen.ok(&format!("service add {service} {vip}"));
        pen.ok(&format!("backend add {service} {backend}"));
    }
    let all_serve = || pen.status().services.iter().all(|one| one.backends.iter().all(|one| one.serving));
    eventually("all serve", all_serve);
    for (source, to, who) in [
        (Ipv6Addr::LOCALHOST.into(), vip6, 4),
        (pen.ip(9).into(), pen.at(1, 8080), 6),
        (pen.ip(9).into(), pen.at(1, 8081), 7),
    ] {
        let mut stream = connect_from(source, to).unwrap();
        assert_eq!(name(&mut stream).unwrap(), who);
        echo(&mut stream, &[1; 3000]).unwrap();
    }
    use std::io::Read;
    let mut stream = std::os::unix::net::UnixStream::connect(&front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut who = [0];
    stream.read_exact(&mut who).unwrap();
    assert_eq!(who, [4]);
}

/// A backend on a Unix socket that says 7 and then sends everything back.
struct UnixServer(String);

impl UnixServer {
    fn at(path: &std::path::Path) -> UnixServer {
        use std::io::{Read, Write};
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    let _ = stream.write_all(&[7]);
                    while let Ok(read @ 1..) = stream.read(&mut bytes) {
                        if stream.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        UnixServer(path.display().to_string())
    }
}

#[test]
fn udp_to_a_wildcard_is_answered_from_the_address_that_was_asked_in_both_families() {
    let mut pen = Pen::new();
    let (server, port) = (Server::udp(4, backend(&pen, 1)), free_v6(true).port());
    pen.start("--dataplane proxy");
    pen.ok(&format!("service add dns [::]:{port}/udp"));
    pen.ok(&format!("backend add dns {}", server.address));
    pen.await_serving("dns", &[server.address]);
    let ask = |to: SocketAddr| {
        let any = if to.is_ipv4() {
            SocketAddr::from((pen.ip(9), 0))
        } else {
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0))
        };
        let client = UdpSocket::bind(any).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.send_to(b"who", to).unwrap();
        let mut answer = [0; 16];
        let (length, from) = client.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..length], from), (&b"\x04who"[..], to));
    };
    for host in [1, 2, 77, 200] {
        ask((pen.ip(host), port).into());
    }
    ask((Ipv6Addr::LOCALHOST, port).into());
}
