//! What tests of all kinds of checks need: a question, what came of it in words, servers that answer as told.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::agent::Memory;
use super::ask::{self, Outcome, Question};
use crate::background::Background;
use crate::check::{Check, Health, Pace};

pub(super) mod staged;

/// What a check that should answer may take: much, as the machine may be busy.
pub(super) const PATIENT: Duration = Duration::from_secs(20);
/// What a check that hears nothing may take: little, as it takes all of it.
pub(super) const BRIEF: Duration = Duration::from_millis(200);

/// A check as it is written, of the service 10.0.0.100:80/tcp.
pub(super) fn question(check: &str, backend: SocketAddr, timeout: Duration) -> Question {
    let Ok(Health::Checked(check)) = check.parse::<Health>() else { panic!("{check}") };
    let check = Check { pace: Pace { timeout, ..check.pace }, ..*check };
    Question {
        service: "10.0.0.100:80/tcp".parse().unwrap(),
        backend: backend.into(),
        check,
        agent: Memory::default(),
    }
}

/// What came of it: `good: …`, `bad: …`, `unable: …`.
pub(super) async fn asked(question: &Question) -> String {
    match ask::ask(question).await {
        Outcome::Success(answer, _) => format!("good: {}", answer.what),
        Outcome::Failure(why, _) => format!("bad: {why}"),
        Outcome::Unable(why) => format!("unable: {why}"),
    }
}

/// A server on loopback that answers each datagram by those that `behave` gives; it ends with what is returned.
pub(super) async fn datagrams(
    mut behave: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, Background) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serve = async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            for answer in behave(&buffer[..length]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    };
    (address, Background::spawn(serve))
}

/// A server on loopback that says `answer` to each connection once it has heard `wait_for` bytes, and then closes it
/// or, with `holds`, keeps it open.
pub(super) async fn stream(wait_for: usize, answer: Vec<u8>, holds: bool) -> (SocketAddr, Background) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let mut held: Vec<TcpStream> = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; wait_for];
            // Whoever asked may be gone.
            if stream.read_exact(&mut heard).await.is_ok() && stream.write_all(&answer).await.is_ok() && holds
            {
                held.push(stream);
            }
        }
    };
    (address, Background::spawn(serve))
}

/// An address on loopback where nobody listens.
pub(super) fn nobody() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = std::net::TcpListener::bind(socket.local_addr().unwrap());
    listener.map_or_else(|_| nobody(), |listener| listener.local_addr().unwrap())
}

/// Addresses that the router of [`router`] says it cannot reach, each with what comes of asking there.
#[cfg(target_os = "linux")]
pub(super) const UNREACHABLE: [(&str, &str); 2] =
    [("10.8.0.9", "bad: no route to host"), ("fd08::9", "bad: network unreachable")];

/// A network with 10.9.0.2 and fd09::2 in the backends' namespace, which is a router for [`UNREACHABLE`]; `None` where
/// there can be none.
#[cfg(target_os = "linux")]
pub(super) fn router() -> Option<crate::machine::testing::Net> {
    use crate::machine::testing::{Net, can_run};
    if !can_run() {
        return None;
    }
    let net = Net::new();
    net.far("ip addr add 10.9.0.2/24 dev far0");
    net.far("ip addr add fd09::2/64 dev far0 nodad");
    net.far("ip route add unreachable 10.8.0.0/24");
    net.far("ip route add unreachable fd08::/64");
    net.near("ip route add 10.8.0.0/24 via 10.9.0.2");
    net.near("ip route add fd08::/64 via fd09::2");
    // As seen by this thread, which is in that namespace.
    net.in_backends(|| {
        for forwards in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{forwards}"), "1").unwrap();
        }
    });
    Some(net)
}
