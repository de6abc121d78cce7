//! Where checks ask and what they say of it, with loopback addresses for the VIP's probe address and the backend's own.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::check::{Check, HttpCheck, Kind, Pace, UdpCheck};
use crate::dataplane::{HealthStatus, Mac, Protocol, ServiceKey};
use crate::health::Health;
use crate::health::place::Places;
use crate::metrics::timings::Timings;
use crate::surroundings::{Event, Hop, Lane, Probe};

const PATIENCE: Duration = Duration::from_secs(30);
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 3, 1));
const ALIAS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 3, 2));
const REFUSES: &str = "refuses the VIP 10.0.0.100 though it answers on its own address: its server does not \
                       listen on the VIP";

fn lane() -> Lane {
    Lane { vip: [10, 0, 0, 100].into(), backend: OWN, mac: Mac([2, 0, 0, 0, 0, 1]), ifindex: 2 }
}

/// A check of one backend on that port, every 50 ms.
struct Bed {
    health: Health,
    places: watch::Sender<Places>,
    events: mpsc::Receiver<Event>,
    port: u16,
    kind: Kind,
}

impl Bed {
    fn new(hop: Hop, port: u16) -> Self {
        Self::asking(Kind::Tcp, hop, port)
    }

    fn asking(kind: Kind, hop: Hop, port: u16) -> Self {
        let (sender, events) = mpsc::channel(100);
        let (places, seen) = watch::channel(Places::new());
        let mut bed =
            Self { health: Health::new(sender, seen, Timings::default()), places, events, port, kind };
        bed.probe(hop);
        bed
    }

    fn probe(&mut self, hop: Hop) {
        let key =
            ServiceKey { address: IpAddr::from([10, 0, 0, 100]).into(), port: 80, protocol: Protocol::Tcp };
        let pace = Pace { interval: Duration::from_millis(50), ..Pace::default() };
        let check = Check { port: Some(self.port), pace, ..Check::of(self.kind.clone()) };
        let probe = Probe { key, address: OWN.into(), check, hop, initial: HealthStatus::Unknown };
        self.health.probe(vec![probe]);
    }

    fn ready(&self, place: Result<IpAddr, &str>) {
        let place = place.map_err(str::to_owned);
        self.places.send_replace(Places::from([(lane(), place)]));
    }

    async fn heard(&mut self) -> (HealthStatus, String) {
        match tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("nothing heard").unwrap() {
            Event::Health { status, detail, .. } => (status, detail),
            other => panic!("{other:?}"),
        }
    }

    async fn until(&mut self, wanted: impl Fn(&(HealthStatus, String)) -> bool) {
        loop {
            let heard = self.heard().await;
            if wanted(&heard) {
                return;
            }
        }
    }
}

fn through(or_own: bool) -> Hop {
    Hop::Link { lane: lane(), or_own }
}

/// A listener on one of the addresses, and its port, which is free on the other.
fn listener(address: IpAddr) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_backend_is_not_asked_before_there_is_a_way_and_at_once_then() {
    let (_server, port) = listener(ALIAS);
    let mut bed = Bed::new(Hop::Waiting("waiting for its MAC".into()), port);
    assert_eq!(bed.heard().await, (HealthStatus::Unknown, "not checked: waiting for its MAC".into()));
    bed.probe(through(true));
    assert_eq!(bed.heard().await.0, HealthStatus::Unknown);
    bed.ready(Ok(ALIAS));
    assert_eq!(bed.heard().await.0, HealthStatus::Up);
}

#[tokio::test]
async fn a_server_that_refuses_the_vip_alone_is_down_with_that_reason_and_told_of_once() {
    let (_server, port) = listener(OWN);
    let mut bed = Bed::new(through(true), port);
    bed.ready(Ok(ALIAS));
    bed.until(|(status, _)| *status != HealthStatus::Unknown).await;
    let vip = TcpListener::bind((ALIAS, port)).unwrap();
    bed.until(|(status, _)| *status == HealthStatus::Up).await;
    drop(vip);
    bed.until(|heard| *heard == (HealthStatus::Down, REFUSES.into())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(bed.events.try_recv().is_err(), "the same is told again and again");
}

#[tokio::test]
async fn a_vip_that_takes_connections_is_not_blamed_for_a_server_that_is_slow_to_answer() {
    let (_slow, port) = listener(ALIAS);
    let well = TcpListener::bind((OWN, port)).unwrap();
    std::thread::spawn(move || {
        for stream in well.incoming() {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            let _ = std::io::Write::write_all(&mut stream.unwrap(), answer.as_bytes());
        }
    });
    let mut bed = Bed::asking(Kind::Http(HttpCheck::default()), through(true), port);
    bed.ready(Ok(ALIAS));
    bed.until(|(status, _)| *status == HealthStatus::Down).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    while let Ok(Event::Health { detail, .. }) = bed.events.try_recv() {
        assert!(detail.starts_with("no answer within"), "{detail}");
    }
}

#[tokio::test]
async fn the_silence_of_a_port_that_nobody_answers_on_is_no_answer() {
    let vip = UdpSocket::bind((ALIAS, 0)).unwrap();
    let port = vip.local_addr().unwrap().port();
    // Open, and nobody reads.
    let _own = UdpSocket::bind((OWN, port)).unwrap();
    drop(vip);
    let mut bed = Bed::asking(Kind::Udp(UdpCheck::default()), through(true), port);
    bed.ready(Ok(ALIAS));
    bed.until(|heard| *heard == (HealthStatus::Down, "port unreachable".into())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    while let Ok(Event::Health { detail, .. }) = bed.events.try_recv() {
        assert!(!detail.contains("on its own address"), "{detail}");
    }
}

#[tokio::test]
async fn who_answers_nowhere_is_down_for_what_the_vip_said() {
    let (server, port) = listener(OWN);
    drop(server);
    let mut bed = Bed::new(through(true), port);
    bed.ready(Ok(ALIAS));
    bed.until(|heard| *heard == (HealthStatus::Down, "connection refused".into())).await;
}

#[tokio::test]
async fn where_no_vip_can_be_asked_the_own_address_is_unless_somebody_insists() {
    let (_server, port) = listener(OWN);
    let mut bed = Bed::new(through(false), port);
    bed.ready(Err("no tc here"));
    let insisted = "not checked: its VIP cannot be asked: no tc here";
    bed.until(|heard| *heard == (HealthStatus::Unknown, insisted.into())).await;
    bed.probe(through(true));
    let own = "connected on its own address, for its VIP cannot be asked (no tc here)";
    bed.until(|(status, detail)| *status == HealthStatus::Up && detail.starts_with(own)).await;
}
