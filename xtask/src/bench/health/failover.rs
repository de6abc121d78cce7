//! From the death of one of a hundred backends to the last packet that pen sends it.
//!
//! The backends are addresses of one host, each with a MAC of its own that only forwarded packets go to: the switch
//! sees when the last one went. They are checked every 100 ms (`timeout = 100ms, fall = 2`), on their own addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::BenchError;
use crate::lab::address::Role;
use crate::lab::capture::Capture;
use crate::lab::controller::Controller;
use crate::lab::sys::{self, PacketSocket};
use crate::lab::{self, Host, Lab};

/// Backends.
const BACKENDS: u8 = 100;
/// The service.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 1);
const PORT: u16 = 80;
/// From one packet of the clients to the next.
const PAUSE: Duration = Duration::from_micros(50);
/// How long is waited for a last packet.
const SETTLED: Duration = Duration::from_millis(600);

/// How long it took, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Times {
    how: &'static str,
    trials: usize,
    median_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Times { how, trials, median_ms, p99_ms, max_ms } = self;
        writeln!(
            f,
            "last packet after a backend {how}: median {median_ms:.0} ms, 99 of 100 within {p99_ms:.0} ms, at most {max_ms:.0} ms ({trials} trials)"
        )
    }
}

/// How a backend dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    Refuses,
    IsSilent,
}

/// When the last packet went to each backend.
type Last = Arc<Mutex<BTreeMap<u8, Instant>>>;

/// Measures both ways to die.
pub(super) fn measure(
    pen_ctl: &Path,
    trials: u32,
    tell: &(dyn Fn(String) + Sync),
) -> Result<[Times; 2], BenchError> {
    tell("failover: starting".into());
    let lab = Lab::build(&lab::Plan { prefix: "pen-bench", balancers: 1, backends: 1, clients: 1 })?;
    let host = &lab.backends[0];
    let mut servers = start_servers(host)?;
    let mut pen = Controller::prepare(&lab, 0, pen_ctl)?;
    configure(&lab, &mut pen)?;
    let last = Last::default();
    let noted = last.clone();
    let capture = Capture::start(&lab.switch, (), move |(), captured| {
        if let [0x02, 0x70, 0x65, 0x6e, 9, n] = captured.frame.to_mac {
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(n, Instant::now());
        }
    })?;
    let sender = Sender::start(&lab)?;
    let mut of = |death| try_all(&pen, host, &mut servers, &last, death, trials, tell);
    let times = [of(Death::Refuses)?, of(Death::IsSilent)?];
    sender.stop();
    capture.stop();
    pen.kill();
    Ok(times)
}

fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 9, n)
}

fn start_servers(host: &Host) -> Result<BTreeMap<u8, TcpListener>, BenchError> {
    let lines: Vec<String> =
        (1..=BACKENDS).map(|n| format!("address add {}/16 dev eth0", address(n))).collect();
    host.namespace.ip_batch(&lines.join("\n"))?;
    host.namespace.run(|| {
        let nft = "table ip bench { set silent { type ipv4_addr; }; chain input { type filter hook input priority 0; \
                   ip daddr @silent drop; }; }";
        nft_run(nft)?;
        (1..=BACKENDS).map(|n| Ok((n, listen(n)?))).collect()
    })
}

fn listen(n: u8) -> Result<TcpListener, BenchError> {
    TcpListener::bind(SocketAddr::from((address(n), PORT))).map_err(BenchError::of("listen on a backend"))
}

fn nft_run(text: &str) -> Result<(), BenchError> {
    let failed = BenchError::of("nft (Debian: nftables)");
    let status = std::process::Command::new("nft")
        .arg(text)
        .status()
        .map_err(BenchError::of("start nft (Debian: nftables)"))?;
    if status.success() { Ok(()) } else { Err(failed(status)) }
}

fn configure(lab: &Lab, pen: &mut Controller) -> Result<(), BenchError> {
    let backends: Vec<String> = (1..=BACKENDS)
        .map(|n| format!("{{ address = \"{}\", mac = \"02:70:65:6e:09:{n:02x}\" }}", address(n)))
        .collect();
    let text = format!(
        "interfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"{VIP}:{PORT}/tcp\"\n\
         health = {{ kind = \"tcp\", interval = \"100ms\", timeout = \"100ms\", fall = 2, rise = 1, way = \"direct\" }}\nbackend = [{}]\n",
        backends.join(", ")
    );
    let file = lab.directory().join("failover.toml");
    std::fs::write(&file, text).map_err(BenchError::of("write the configuration"))?;
    pen.start(&format!("-c {}", file.display()))?;
    let all: Vec<_> = (1..=BACKENDS).map(|n| address(n).into()).collect();
    Ok(pen.await_serving("web", &all)?)
}

fn try_all(
    pen: &Controller,
    host: &Host,
    servers: &mut BTreeMap<u8, TcpListener>,
    last: &Last,
    death: Death,
    trials: u32,
    tell: &(dyn Fn(String) + Sync),
) -> Result<Times, BenchError> {
    let how = if death == Death::Refuses { "refuses" } else { "is silent" };
    let mut times = Vec::new();
    for trial in 0..trials {
        if sys::interrupted() {
            return Err(lab::Error::Interrupted.into());
        }
        tell(format!("failover: a backend {how}, {} of {trials}", trial + 1));
        // Each in its turn: none goes down so often that it is held down.
        let n = (trial % u32::from(BACKENDS)) as u8 + 1;
        let died = host.namespace.run(|| die(n, servers, death))?;
        sleep(SETTLED);
        let last = last.lock().unwrap_or_else(PoisonError::into_inner).get(&n).copied().unwrap_or(died);
        times.push(last.saturating_duration_since(died).as_secs_f64() * 1000.0);
        host.namespace.run(|| revive(n, servers, death))?;
        let all: Vec<_> = (1..=BACKENDS).map(|n| address(n).into()).collect();
        pen.await_serving("web", &all)?;
        // Checks are somewhere else in their interval next time.
        sleep(Duration::from_millis(u64::from(trial * 37 % 100)));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1];
    Ok(Times { how, trials: times.len(), median_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) })
}

fn die(n: u8, servers: &mut BTreeMap<u8, TcpListener>, death: Death) -> Result<Instant, BenchError> {
    match death {
        Death::Refuses => drop(servers.remove(&n)),
        Death::IsSilent => nft_run(&format!("add element ip bench silent {{ {} }}", address(n)))?,
    }
    Ok(Instant::now())
}

fn revive(n: u8, servers: &mut BTreeMap<u8, TcpListener>, death: Death) -> Result<(), BenchError> {
    match death {
        Death::Refuses => drop(servers.insert(n, listen(n)?)),
        Death::IsSilent => nft_run(&format!("delete element ip bench silent {{ {} }}", address(n)))?,
    }
    Ok(())
}

/// Clients: one after the other, each with an address of its own, in turn.
struct Sender {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Sender {
    fn start(lab: &Lab) -> Result<Self, BenchError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, namespace, pen) = (stop.clone(), lab.client.namespace.clone(), lab.balancers[0].mac);
        let socket = namespace.run(PacketSocket::open).map_err(BenchError::of("open a packet socket"))?;
        let thread = thread::spawn(move || {
            namespace.enter();
            let mut due = Instant::now();
            for client in 0_u32.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // Lost ones are not missed.
                let _ = socket.send("eth0", &syn(pen, client % 20_000));
                due += PAUSE;
                sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

/// A segment that asks for a connection (RFC 9293); nobody here looks at TCP's checksum.
fn syn(to: [u8; 6], client: u32) -> Vec<u8> {
    let source = u32::from(Ipv4Addr::new(10, 78, 0, 0)) + client;
    let mut frame = Vec::with_capacity(54);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&Role::Client.mac());
    frame.extend_from_slice(&[0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&source.to_be_bytes());
    frame.extend_from_slice(&VIP.octets());
    let sum: u32 = frame[14..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(&[
        0x9c, 0x40, 0, PORT as u8, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    frame
}
