//! `pen-ctl proxy --transparent` between networks: backends see each client's own address and port, and answers come from
//! the VIP. What is run on the balancer and the backends stands in docs/proxy.md, and is read from there.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use xtask::lab::address::Family;
use xtask::lab::cluster::{Programs, programs_for_test};
use xtask::lab::namespace::Namespace;
use xtask::lab::{Host, Lab, Plan, needs};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const MANUAL: &str = include_str!("../../docs/proxy.md");
const PATIENCE: Duration = Duration::from_secs(10);

/// The networks of the manual: clients and the VIP in one, backends in the other.
const CLIENT: [&str; 2] = ["192.0.2.50", "2001:db8::50"];
const VIP: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const INNER: [&str; 2] = ["10.0.1.1", "fd00:1::1"];
const BACKENDS: [[&str; 2]; 2] = [["10.0.1.11", "fd00:1::11"], ["10.0.1.12", "fd00:1::12"]];
const PORT: u16 = 80;
const INNER_PORT: u16 = 8080;

/// The networks, a server of both protocols on each backend, and what the manual says done everywhere.
struct Place {
    lab: Lab,
    programs: Programs,
}

impl Place {
    /// `None`, and said so, where the machine lacks what it takes.
    fn build() -> Option<Place> {
        if !needs::met_with(&[("nft", "nftables")]) {
            return None;
        }
        let programs = programs_for_test(XTASK);
        let plan = Plan { prefix: "pen-test", balancers: 1, backends: BACKENDS.len() as u8, clients: 1 };
        let lab = Lab::build(&plan).unwrap();
        addresses(&lab.client, &[CLIENT]);
        addresses(&lab.balancers[0], &[VIP, INNER]);
        run(&lab.balancers[0].namespace, &manual("On the balancer"));
        for (host, own) in lab.backends.iter().zip(BACKENDS) {
            addresses(host, &[own]);
            run(&host.namespace, &manual("On each backend"));
            serve(&host.namespace);
        }
        Some(Place { lab, programs })
    }

    /// A proxy that listens on an address, ended when it is dropped.
    fn proxy(&self, listen: &str, backends: &[String], words: &[&str]) -> Proxy {
        let mut command = Command::new(&self.programs.pen_ctl);
        command.arg("proxy").arg(SocketAddr::new(ip(listen), PORT).to_string()).args(backends);
        command.args(["--transparent", "--round-robin"]).args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut process = self.lab.balancers[0].namespace.spawn(&mut command).unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("listening") {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "{said}");
        }
        // Nobody else reads it.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let output = BufReader::new(process.stdout.take().unwrap());
        Proxy(process, output)
    }
}

struct Proxy(Child, BufReader<ChildStdout>);

impl Proxy {
    /// What it counted: a heading, the names of columns, and a line for each backend.
    fn statistics(&mut self) -> [String; 4] {
        kill_process(Pid::from_child(&self.0), Signal::USR1).unwrap();
        [(); 4].map(|()| {
            let mut line = String::new();
            self.1.read_line(&mut line).unwrap();
            line
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// All backends, by their address of a family.
fn backends(family: usize) -> Vec<String> {
    BACKENDS.iter().map(|own| SocketAddr::new(ip(own[family]), INNER_PORT).to_string()).collect()
}

/// Gives a host these addresses in place of those it has.
fn addresses(host: &Host, own: &[[&str; 2]]) {
    let mut lines = "addr flush dev eth0 scope global\n".to_owned();
    for address in own.iter().flatten() {
        let length = if address.contains(':') { "64 dev eth0 nodad" } else { "24 dev eth0" };
        let _ = writeln!(lines, "addr add {address}/{length}");
    }
    host.namespace.ip_batch(&lines).unwrap();
}

/// The commands of the manual below the line that begins so.
fn manual(line: &str) -> String {
    let (_, section) = MANUAL.split_once("## The client's own address").unwrap();
    let (_, below) = section.split_once(&format!("\n{line}")).unwrap();
    let (_, commands) = below.split_once("```sh\n").unwrap();
    commands.split_once("```").unwrap().0.to_owned()
}

/// Runs commands as an administrator would.
fn run(namespace: &Namespace, commands: &str) {
    let output = namespace.run(|| Command::new("sh").args(["-e", "-c", commands]).output()).unwrap();
    assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Tells each client, of TCP and UDP, who it is.
fn serve(namespace: &Namespace) {
    let (listener, socket) = namespace.run(|| {
        let all = SocketAddr::from(([0u16; 8], INNER_PORT));
        (TcpListener::bind(all).unwrap(), UdpSocket::bind(all).unwrap())
    });
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let from = stream.peer_addr().unwrap();
            let _ = std::io::Write::write_all(&mut stream, plain(from).to_string().as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(plain(from).to_string().as_bytes(), from);
        }
    });
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Comes to the VIP by TCP; gives who it is and who it was told to be.
fn ask_tcp(place: &Place, family: usize) -> (String, String) {
    place.lab.client.namespace.run(|| {
        let vip = SocketAddr::new(ip(VIP[family]), PORT);
        let mut stream = TcpStream::connect_timeout(&vip, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        (stream.local_addr().unwrap().to_string(), told)
    })
}

/// The same by UDP, from a socket that hears of the VIP alone.
fn ask_udp(place: &Place, family: usize) -> (String, String) {
    place.lab.client.namespace.run(|| {
        let vip = SocketAddr::new(ip(VIP[family]), PORT);
        let socket = Socket::new(Domain::for_address(vip), Type::DGRAM, None).unwrap();
        socket.bind(&SocketAddr::new(ip(CLIENT[family]), 0).into()).unwrap();
        let socket = UdpSocket::from(socket);
        socket.connect(vip).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"who am I?").unwrap();
        let mut told = [0; 64];
        let length = socket.recv(&mut told).unwrap();
        let told = String::from_utf8(told[..length].to_vec()).unwrap();
        (socket.local_addr().unwrap().to_string(), told)
    })
}

#[test]
fn backends_see_the_clients_own_address_and_port_and_answers_come_from_the_vip() {
    let Some(place) = Place::build() else { return };
    for (family, vip) in VIP.into_iter().enumerate() {
        for (words, ask) in [(vec![], ask_tcp as fn(&Place, usize) -> _), (vec!["--udp"], ask_udp)] {
            let _proxy = place.proxy(vip, &backends(family), &words);
            for _ in 0..6 {
                let (own, told) = ask(&place, family);
                assert_eq!(told, own, "{words:?}");
            }
        }
    }
}

#[test]
fn a_client_is_brought_to_backends_of_its_own_family_alone_and_none_is_held_to_have_failed() {
    let Some(place) = Place::build() else { return };
    let mixed = [backends(0)[0].clone(), backends(1)[1].clone()];
    for (words, ask) in [(vec![], ask_tcp as fn(&Place, usize) -> _), (vec!["--udp"], ask_udp)] {
        let mut proxy = place.proxy("::", &mixed, &words);
        for family in (0..Family::BOTH.len()).cycle().take(8) {
            let (own, told) = ask(&place, family);
            assert_eq!(told, own, "{words:?}");
        }
        let said = proxy.statistics();
        assert!(said[2].contains(" up ") && said[3].contains(" up "), "{said:?}");
    }
}
