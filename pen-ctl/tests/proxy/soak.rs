//! Everything at once for a while, with every byte checked: backends that are killed and come back, ends of streams in
//! any order, standstills, resets, transfers from nothing to megabytes, over both families.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use pen_ctl::dataplane::proxy::endpoint::Endpoint;
use pen_ctl::dataplane::proxy::single::Single;
use socket2::{Domain, Socket, Type};

use crate::place::{PATIENCE, eventually, turns, with};
use backends::{Ground, NARROW};
use plan::{Plan, Random, Side};
use stream::{WAIT, Wanted, fault, read, write};

#[path = "soak/backends.rs"]
mod backends;
#[path = "soak/plan.rs"]
mod plan;
#[path = "soak/stream.rs"]
mod stream;

const LASTS: Duration = Duration::from_secs(15);
const BACKENDS: u8 = 4;
const CLIENTS: usize = 48;

/// How connections ended, as their clients saw it.
#[derive(Debug, Default)]
struct Tally {
    whole: AtomicU64,
    reset_by_client: AtomicU64,
    reset_by_backend: AtomicU64,
    killed: AtomicU64,
}

/// The seed of this run: `PEN_SOAK_SEED`, or the time.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    std::env::var("PEN_SOAK_SEED").map_or(now as u64, |seed| seed.parse().unwrap())
}

#[cfg(target_os = "linux")]
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Elsewhere the number is not to be had so easily.
#[cfg(not(target_os = "linux"))]
fn open_descriptors() -> usize {
    0
}

#[test]
fn every_byte_arrives_once_and_in_its_place_and_only_who_was_killed_or_reset_ends_a_connection_early() {
    let seed = seed();
    println!("PEN_SOAK_SEED={seed}");
    let before = open_descriptors();
    let ground = Arc::new(Ground {
        seed,
        faults: Mutex::default(),
        seats: Mutex::default(),
        kills: Mutex::default(),
        served: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let tally = Tally::default();
    let places = places();
    let mut config = with(turns(&places), |settings| settings.out_for = Duration::from_millis(100));
    config.listen.push(Endpoint::Inet("[::1]:0".parse().unwrap()));
    let alive = AtomicU64::new(u64::from(BACKENDS));
    thread::scope(|scope| {
        for (number, place) in (0..).zip(places) {
            let (ground, alive) = (&ground, &alive);
            scope.spawn(move || ground.backend(place, alive, number));
        }
        let proxy = Single::start(config).unwrap();
        clients(&ground, &proxy, &tally);
        ground.over.store(true, SeqCst);
        let left = || proxy.statistics().backends.iter().map(|one| one.open).sum::<u32>();
        let patience = Instant::now() + PATIENCE;
        while left() > 0 {
            let at_backends = ground.served.load(SeqCst);
            assert!(Instant::now() < patience, "{} sessions are left, {at_backends} at backends", left());
            thread::sleep(Duration::from_millis(5));
        }
        let statistics = proxy.statistics();
        assert_eq!(statistics.turned_away, 0, "somebody was always there; {statistics:?}");
    });
    eventually("backends have ended", || ground.served.load(SeqCst) == 0);
    let faults = ground.faults.lock().unwrap();
    assert!(faults.is_empty(), "PEN_SOAK_SEED={seed}\n{}", faults.join("\n"));
    println!("{tally:?}");
    for count in [&tally.whole, &tally.reset_by_client, &tally.reset_by_backend, &tally.killed] {
        assert!(count.load(SeqCst) > 0, "the soak was none: {tally:?}");
    }
    eventually("all descriptors are closed", || open_descriptors() <= before);
}

/// Addresses of backends: not the one that the proxy connects from, so that no connection of its takes a port that a
/// backend wants back.
fn places() -> Vec<SocketAddr> {
    let free = |number| {
        TcpListener::bind(SocketAddr::from(([127, 0, 0, 2 + number], 0))).unwrap().local_addr().unwrap()
    };
    (0..BACKENDS).map(free).collect()
}

/// Connects, one after the other in each of several threads, for as long as it is to last.
fn clients(ground: &Ground, proxy: &Single, tally: &Tally) {
    let (start, ids) = (Instant::now(), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while start.elapsed() < LASTS {
                    client(ground, proxy, ids.fetch_add(1, SeqCst), tally);
                }
            });
        }
    });
}

fn connect(address: SocketAddr, narrow: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if narrow {
        socket.set_recv_buffer_size(NARROW)?;
    }
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// A client's end of a connection.
fn client(ground: &Ground, proxy: &Single, id: u64, tally: &Tally) {
    let (start, plan) = (Instant::now(), Plan::of(ground.seed, id));
    let mut random = Random::new(ground.seed ^ id);
    let Endpoint::Inet(address) = proxy.addresses()[random.between(0, 2) as usize] else { return };
    let mut stream = match connect(address, plan.narrow) {
        Ok(stream) => stream,
        Err(error) => return ground.fault(id, &format!("not accepted: {error}")),
    };
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    if random.once_in(30) {
        // Says nothing at all.
        return;
    }
    let _ = stream.write_all(&id.to_le_bytes());
    let (own, never) = (AtomicBool::new(false), AtomicBool::new(false));
    let wanted = Wanted { own: &own, killed: &never };
    let (wrote, heard) = thread::scope(|scope| {
        let writes = scope.spawn(|| {
            let mut random = Random::new(ground.seed ^ id ^ 3);
            write(&stream, &plan.up, plan.reset_by(Side::Client), &wanted, &mut random)
        });
        let heard = read(&stream, &plan.down, &wanted, &mut random);
        (writes.join().unwrap(), heard)
    });
    let was_killed = was_killed(ground, id, start);
    let count = match (&plan.reset, was_killed) {
        (_, true) => &tally.killed,
        (Some((Side::Client, _)), _) => &tally.reset_by_client,
        (Some((Side::Backend, _)), _) => &tally.reset_by_backend,
        (None, false) => &tally.whole,
    };
    count.fetch_add(1, SeqCst);
    if let Some(fault) = fault(&wrote, &heard, plan.reset.is_some(), was_killed) {
        ground.fault(id, &format!("at the client: {fault}"));
    }
}

/// Whether the backend of that connection was killed; one that no backend knows may have waited for one that was.
fn was_killed(ground: &Ground, id: u64, start: Instant) -> bool {
    let seats: &HashMap<_, _> = &ground.seats.lock().unwrap();
    match seats.get(&id) {
        Some(life) => life.killed.load(SeqCst),
        None => ground.kills.lock().unwrap().iter().any(|kill| *kill >= start),
    }
}
