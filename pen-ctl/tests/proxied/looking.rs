//! What an administrator sees of a proxy: clients, events, numbers, and files that say the same.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::load::{Load, Way};
use crate::place::Pen;
use crate::servers::{Server, connect_from, echo, name};
use crate::setting::{await_all, backend, clients, configuration, start, web};

fn json(pen: &Pen, line: &str) -> Value {
    serde_json::from_str(&pen.ok(&format!("--json {line}"))).unwrap()
}

#[test]
fn clients_are_listed_shown_and_forgotten() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (_, _all) = start(&mut pen, &text);
    let came: Vec<(u8, u8)> = (10..40)
        .map(|host| (host, name(&mut connect_from(pen.ip(host).into(), web(&pen)).unwrap()).unwrap()))
        .collect();
    let listed = json(&pen, "client list web --sort address");
    assert_eq!(listed["total"], 30, "{listed}");
    for (client, (host, name)) in listed["clients"].as_array().unwrap().iter().zip(&came) {
        assert_eq!(client["address"], pen.ip(*host).to_string());
        assert_eq!(client["backend"], backend(&pen, *name).to_string());
        assert_eq!((&client["service"], &client["status"]), (&"web".into(), &"tracked".into()));
    }
    let of_one = came.iter().filter(|(_, name)| *name == 1).count();
    let counted = json(&pen, &format!("client list --backend {} --limit 0", backend(&pen, 1)));
    assert_eq!(counted["total"], of_one, "{counted}");
    let (host, name_before) = came[0];
    let shown = json(&pen, &format!("client show {}", pen.ip(host)));
    let of_web = shown["services"].as_array().unwrap().iter().find(|one| one["service"] == "web").unwrap();
    assert_eq!(of_web["backend"], backend(&pen, name_before).to_string(), "{shown}");
    assert_eq!(of_web["decided_by"].as_str().or(of_web["by"].as_str()), Some("memory"), "{shown}");
    assert!(pen.ok(&format!("client forget {}", pen.ip(host))).contains('1'));
    assert_eq!(json(&pen, "client list web --limit 0")["total"], 29);
    pen.ok("client forget --service web");
    assert_eq!(json(&pen, "client list web --limit 0")["total"], 0);
    // Where nobody is remembered, the hash says who it will be: the same as before.
    let mut stream = connect_from(pen.ip(host).into(), web(&pen)).unwrap();
    assert_eq!(name(&mut stream).unwrap(), name_before);
}

#[test]
fn events_and_status_tell_what_happens_to_backends() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (_, mut all) = start(&mut pen, &text);
    let load = Load::of(clients(&pen));
    all.remove(0);
    await_all(&pen, &[2, 3]);
    load.await_answers(2);
    pen.ok(&format!("backend set web {} --state drain", backend(&pen, 2)));
    let dead = backend(&pen, 1).to_string();
    let said = json(&pen, "events --service web");
    let said = said["events"].as_array().unwrap();
    let of = |kind: &str, backend: &str| {
        said.iter().any(|event| event["kind"] == kind && event["backend"] == backend)
    };
    for kind in ["serving", "health", "not_serving"] {
        assert!(of(kind, &dead), "{kind}: {said:?}");
    }
    assert!(of("change", &backend(&pen, 2).to_string()), "{said:?}");
    let status = json(&pen, "status");
    assert_eq!(status["controller"]["dataplane"], "proxy");
    let web = status["services"].as_array().unwrap().iter().find(|one| one["name"] == "web").unwrap();
    assert_eq!((&web["on_down"], &web["connect_timeout"]), (&"keep".into(), &"5s".into()), "{web}");
    assert!(
        web["connections"]["accepted"].as_u64() > Some(10) && web["connections"]["open"].as_u64() >= Some(5),
        "{web}"
    );
    assert_eq!(web["connections"]["turned_away"], 0, "{web}");
    for one in web["backends"].as_array().unwrap() {
        assert!(one["connections"]["total"].is_u64() && one["connections"]["failed"].is_u64(), "{one}");
        let serves = one["address"] == backend(&pen, 3).to_string();
        assert_eq!((one["serving"].as_bool(), one["reason"].is_null()), (Some(serves), serves), "{one}");
    }
    for word in ["proxy", "drain", "refused", "127."] {
        assert!(pen.ok("status").contains(word), "{word}: {}", pen.ok("status"));
    }
}

fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let mut pen = Pen::new();
    let http = pen.at(3, 9080);
    let servers = [1, 2].map(|one| Server::tcp(one, backend(&pen, one)));
    pen.start(&format!("--dataplane proxy --http {http}"));
    pen.ok(&format!("service add web {}/tcp --scheduler round-robin --tracking off", web(&pen)));
    servers.iter().for_each(|one| _ = pen.ok(&format!("backend add web {}", one.address)));
    pen.await_serving("web", &[1, 2].map(|one| backend(&pen, one)));
    let mut held: Vec<_> = (0..4).map(|_| connect_from(pen.ip(9).into(), web(&pen)).unwrap()).collect();
    held.iter_mut().for_each(|stream| _ = name(stream).unwrap());
    held.iter_mut().for_each(|stream| echo(stream, &[7; 1000]).unwrap());
    let text = get(http, "/metrics");
    let value = |metric: &str| {
        let of = |line: &str| line.split_once(' ').map(|(_, value)| value.parse::<f64>().unwrap());
        text.lines().filter(|line| line.starts_with(metric)).filter_map(of).sum::<f64>()
    };
    assert_eq!(value("pen_service_connections{") + value("pen_service_connections_open{"), 4.0, "{text}");
    assert!(text.contains("pen_backend_left_out{"), "{text}");
    let mut promtool = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(promtool) => promtool,
        Err(_) => return,
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
}

/// The example as it is shipped, but with addresses and paths that this machine has for this pen.
fn example(pen: &Pen) -> String {
    let of = |number: u8| backend(pen, number).to_string();
    include_str!("../../../docs/proxy.example.toml")
        .replace("0.0.0.0:8080", &pen.at(1, 8080).to_string())
        .replace("0.0.0.0:5353", &pen.at(1, 5353).to_string())
        .replace("/run/", &format!("{}/", pen.path("").display()).replace("//", "/"))
        .replace("10.0.0.11:53", &of(1))
        .replace("10.0.0.12:53", &of(2))
        .replace("127.0.0.1:8000", &of(3))
        .replace("\"10.0.0.11\"", &format!("\"{}\"", pen.ip(211)))
        .replace("10.0.0.12:8000", &of(12))
        .replace("[2001:db8::13]:8000", "[::1]:8000")
}

#[test]
fn what_is_exported_is_the_same_when_it_is_applied() {
    let mut pen = Pen::new();
    pen.start("--dataplane proxy");
    let file = pen.write("example.toml", &example(&pen));
    let checked = pen.ok(&format!("check {file}"));
    assert!(checked.contains("3 services"), "{checked}");
    pen.ok(&format!("apply {file}"));
    let exported = pen.ok("export");
    assert!(exported.contains("dataplane = \"proxy\""), "{exported}");
    let file = pen.write("exported.toml", &exported);
    pen.ok(&format!("check {file}"));
    let again = pen.ok(&format!("apply {file} --dry-run"));
    assert!(again.contains("nothing"), "{again}");
    let before = json(&pen, "status")["controller"]["revision"].clone();
    pen.ok(&format!("apply {file}"));
    assert_eq!(json(&pen, "status")["controller"]["revision"], before);
    // And from nothing.
    let pid = pen.pid();
    pen.ok("stop");
    pen.await_end(pid);
    std::fs::remove_dir_all(pen.state()).unwrap();
    pen.start(&format!("-c {file}"));
    assert_eq!(pen.ok("export"), exported);
}

/// Nothing but addresses differs from what is shipped.
#[test]
fn the_example_runs() {
    let mut pen = Pen::new();
    let dns = [1, 2].map(|one| Server::udp(one, backend(&pen, one)));
    let local = Server::tcp(3, backend(&pen, 3));
    let file = pen.write("example.toml", &example(&pen));
    pen.start(&format!("-c {file}"));
    pen.await_serving("local", &[local.address]);
    pen.await_serving("dns", &dns.each_ref().map(|one| one.address));
    let path = pen.path("pen-web.sock");
    let mut who = [0];
    std::os::unix::net::UnixStream::connect(&path).unwrap().read_exact(&mut who).unwrap();
    assert_eq!(who, [3]);
    let asks = (Way::UdpNewPort, pen.ip(9).into(), pen.at(1, 5353));
    let load = Load::of([asks]);
    load.await_answers(20);
    let seen = load.end();
    // Each port is a flow of its own.
    assert!(seen.failures().is_empty() && seen.moved()[0].1.len() > 2, "{seen:?}");
    // It is a web server's client that speaks to nobody: it is told so.
    let refused = connect_from(pen.ip(9).into(), pen.at(1, 8080)).and_then(|mut stream| name(&mut stream));
    assert!(refused.is_err());
}
