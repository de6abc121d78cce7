//! Questions along the DSR path between two namespaces: a balancer without the VIP, and a backend that has it on `lo`.

mod answers;
mod ends;
mod leaks;
mod others;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType, TestRun, TestRunOptions};
use tokio::sync::mpsc;

use super::programs::Programs;
use super::*;
use crate::dataplane::Mac;
use crate::link::LinkWatch;
use crate::machine::testing::{Net, can_run};

const PATIENCE: Duration = Duration::from_secs(10);
const BACKEND: Mac = Mac([2, 0, 0, 0, 9, 2]);
const VIPS: [&str; 2] = ["10.9.9.100", "fd09:9::64"];

/// A backend's namespace with the VIPs on `lo`; nobody is asked for them by ARP.
fn net() -> Net {
    let net = Net::new();
    net.far(&format!("ip link set far0 address {BACKEND}"));
    net.far("ip addr add 10.9.0.2/24 dev far0");
    net.far("ip addr add fd09::2/64 dev far0 nodad");
    // Without a link-local address it solicits nobody, and its own is still being tried for duplicates.
    net.far("ip addr add fe80::2/64 dev far0 nodad");
    for vip in VIPS {
        net.far(&format!("ip addr add {vip} dev lo{}", if vip.contains(':') { " nodad" } else { "" }));
    }
    net
}

/// A path, and the interfaces it is told of.
struct Bed {
    path: ProbePath,
    _links: LinkWatch,
    events: mpsc::Receiver<Event>,
}

impl Bed {
    fn new(hook: Hook) -> Self {
        let (sender, events) = mpsc::channel(1000);
        let links = LinkWatch::start(sender.clone()).unwrap();
        let path = ProbePath::start_with(links.links(), sender, hook);
        Self { path, _links: links, events }
    }

    /// What is said, the next time, of why VIPs cannot be asked.
    async fn unaskable(&mut self) -> BTreeSet<String> {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("nothing said");
            if let Event::Unaskable(why) = event.unwrap() {
                return why;
            }
        }
    }

    /// The place of a lane, once there is one.
    async fn place(&self, lane: &Lane) -> Result<IpAddr, String> {
        let mut places = self.path.places();
        let found = places.wait_for(|places| places.contains_key(lane));
        let found = tokio::time::timeout(PATIENCE, found).await.expect("no place").unwrap();
        found[lane].clone()
    }

    /// The probe address of a VIP, once it can be asked: who has just looked for leftovers may have the turn for a moment.
    async fn alias(&self, vip: &str) -> IpAddr {
        let lane = lane(vip);
        self.path.want(BTreeSet::from([lane.clone()]));
        let mut places = self.path.places();
        let found = places.wait_for(|places| matches!(places.get(&lane), Some(Ok(_))));
        let found = tokio::time::timeout(PATIENCE, found).await.expect("no place").unwrap();
        found[&lane].clone().unwrap()
    }
}

/// The hooks that this kernel has.
fn hooks() -> Vec<Hook> {
    match Hook::of_this_kernel() {
        Hook::Tcx => vec![Hook::Tcx, Hook::Clsact],
        Hook::Clsact => vec![Hook::Clsact],
    }
}

fn lane(vip: &str) -> Lane {
    let vip: IpAddr = vip.parse().unwrap();
    let backend = if vip.is_ipv4() { "10.9.0.2" } else { "fd09::2" };
    Lane { vip, backend: backend.parse().unwrap(), mac: BACKEND, ifindex: index_of("pen0") }
}

/// By its name, in the network namespace of this thread.
fn index_of(name: &str) -> u32 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    rustix::net::netdevice::name_to_index(&socket, name).unwrap()
}

/// Asks over TCP and gives what is answered.
fn ask(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"hello\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Answers one connection after another with so many bytes, for as long as the test runs.
fn serve(listener: TcpListener, length: usize) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut question = [0; 6];
            if stream.read_exact(&mut question).is_ok() {
                let _ = stream.write_all(&vec![b'a'; length]);
            }
        }
    });
}

/// Our routes, neighbors and programs in the balancer's namespace.
fn left(net: &Net) -> (usize, usize, usize) {
    let lines = |command: &str| net.near_output(command).lines().count();
    let routes = lines("ip route show proto 112") + lines("ip -6 route show proto 112");
    let neighbors = net.near_output("ip neigh show nud permanent").matches("02:70:65:6e").count();
    let places = [TcAttachType::Egress, TcAttachType::Ingress];
    let tcx = places.map(|place| match Hook::of_this_kernel() {
        Hook::Tcx => SchedClassifier::query_tcx("pen0", place).unwrap().1.len(),
        Hook::Clsact => 0,
    });
    let filters = ["egress", "ingress"].map(|place| {
        let shown = net.near_tc(&format!("filter show dev pen0 {place}"));
        shown.matches("direct-action").count()
    });
    (routes, neighbors, tcx.iter().sum::<usize>() + filters.iter().sum::<usize>())
}

/// Where the routes of a balancer lead that does not have better ones: another link, with nobody on it.
fn add_default_route(net: &Net) {
    net.near("ip link add pen9 type veth peer name far9");
    net.near("ip link set far9 up");
    net.near("ip addr add 10.8.0.1/24 dev pen9");
    net.near("ip addr add fd08::1/64 dev pen9 nodad");
    net.near("ip link set pen9 up");
    net.near("ip neigh add 10.8.0.2 lladdr 02:00:00:00:08:02 dev pen9");
    net.near("ip neigh add fd08::2 lladdr 02:00:00:00:08:02 dev pen9");
    net.near("ip route add default via 10.8.0.2");
    net.near("ip -6 route add default via fd08::2");
}

/// A socket that sees every frame that comes to this thread's network namespace, and that leaves it.
fn tap() -> socket2::Socket {
    let every = i32::from(0x0003_u16.to_be());
    let socket =
        socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, Some(every.into())).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

/// How many frames with that address in their IP header were seen.
fn with_address(tap: &mut socket2::Socket, address: IpAddr) -> usize {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut buffer = vec![0; 65_536];
    let mut seen = 0;
    while let Ok(length) = tap.read(&mut buffer) {
        let header = &buffer[..length.min(54)];
        seen += usize::from(header.windows(octets.len()).any(|window| window == octets));
    }
    seen
}

/// Sends a datagram of so many bytes; that may fail.
fn send_to(to: SocketAddr, length: usize) -> io::Result<usize> {
    let here: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((here, 0))?;
    socket.connect(to)?;
    socket.send(&vec![7; length])
}

/// The sum that checksums are made of (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn a_connection_to_a_probe_address_is_one_to_the_vip_at_the_backend() {
    if !can_run() {
        return;
    }
    for hook in hooks() {
        let net = net();
        for vip in VIPS {
            let at = SocketAddr::new(vip.parse().unwrap(), 80);
            serve(net.in_backends(|| TcpListener::bind(at).unwrap()), 2_000_000);
        }
        net.in_balancer(async || {
            let bed = Bed::new(hook);
            for vip in VIPS {
                let alias = bed.alias(vip).await;
                let answer =
                    ask(SocketAddr::new(alias, 80)).unwrap_or_else(|e| panic!("{hook:?} {vip}: {e}"));
                assert_eq!(answer.len(), 2_000_000);
                let refused = ask(SocketAddr::new(alias, 81)).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{hook:?} {vip}");
            }
        });
    }
}

/// Answers each datagram with itself.
fn echo(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

fn udp_to(to: SocketAddr) -> UdpSocket {
    let here: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((here, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.connect(to).unwrap();
    socket
}

#[test]
fn datagrams_to_a_probe_address_are_answered_by_the_vip_or_refused() {
    if !can_run() {
        return;
    }
    let net = net();
    for vip in VIPS {
        let at = SocketAddr::new(vip.parse().unwrap(), 53);
        echo(net.in_backends(|| UdpSocket::bind(at).unwrap()));
    }
    net.in_balancer(async || {
        let bed = Bed::new(Hook::of_this_kernel());
        for vip in VIPS {
            let alias = bed.alias(vip).await;
            let socket = udp_to(SocketAddr::new(alias, 53));
            socket.send(b"question").unwrap();
            let mut answer = [0; 8];
            socket.recv(&mut answer).unwrap_or_else(|error| panic!("{vip}: {error}"));
            assert_eq!(&answer, b"question");

            let socket = udp_to(SocketAddr::new(alias, 54));
            socket.send(b"question").unwrap();
            let refused = socket.recv(&mut answer).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{vip}");
        }
    });
}

/// A connection from that port of ours, which others may have had just before.
fn connect_from(port: u16, from: IpAddr, to: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::new(from, port).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    Ok(socket)
}

#[test]
fn what_the_balancer_itself_has_to_say_to_the_vip_is_no_check() {
    if !can_run() {
        return;
    }
    let net = net();
    let _servers = VIPS.map(|vip| {
        let at = SocketAddr::new(vip.parse().unwrap(), 80);
        net.in_backends(|| TcpListener::bind(at).unwrap())
    });
    net.near(&format!("ip route add {} via 10.9.0.2", VIPS[0]));
    net.near(&format!("ip route add {} via fd09::2", VIPS[1]));
    net.in_balancer(async || {
        let bed = Bed::new(Hook::of_this_kernel());
        for (vip, own) in VIPS.into_iter().zip(["10.9.0.1", "fd09::1"]) {
            let (alias, own) = (bed.alias(vip).await, own.parse().unwrap());
            drop(connect_from(5000, own, SocketAddr::new(alias, 80)).unwrap());
            let at = SocketAddr::new(vip.parse().unwrap(), 80);
            let own = connect_from(5000, own, at);
            own.unwrap_or_else(|error| panic!("taken for an answer to a check: {vip}: {error}"));
        }
    });
}

/// Sends an echo request from a raw socket and gives the type of what comes back.
fn ping(to: IpAddr) -> io::Result<u8> {
    use socket2::{Domain, Protocol, Socket, Type};
    let (domain, protocol, request) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    let mut message = [request, 0, 0, 0, 0x12, 0x34, 0, 1, 7, 7, 7, 7];
    // Of ICMPv6 the kernel makes the checksum.
    let checksum = if to.is_ipv4() { !sum(&message) } else { 0 };
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    socket.send(&message)?;
    let mut answer = [0; 64];
    let length = socket.read(&mut answer)?;
    // Raw sockets of IPv4 are handed the header, too.
    let kind = answer[..length].get(if to.is_ipv4() { 20 } else { 0 });
    kind.copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[test]
fn an_echo_request_to_a_probe_address_is_answered_by_the_vip_and_by_nobody_without_it() {
    if !can_run() {
        return;
    }
    let net = net();
    net.in_balancer(async || {
        let bed = Bed::new(Hook::of_this_kernel());
        for (vip, reply) in VIPS.into_iter().zip([0, 129]) {
            let alias = bed.alias(vip).await;
            assert_eq!(ping(alias).unwrap_or_else(|error| panic!("{vip}: {error}")), reply);
            let length = if alias.is_ipv4() { 32 } else { 128 };
            net.far(&format!("ip addr del {vip}/{length} dev lo"));
            let alone = ping(alias);
            assert!(!matches!(alone, Ok(kind) if kind == reply), "{alone:?}");
        }
    });
}
