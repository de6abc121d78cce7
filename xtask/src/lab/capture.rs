//! Listens on every interface of a namespace at once. On the switch that tells which frame came from which host
//! and went to which.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::netdevice::index_to_name;

use super::frame::Frame;
use super::namespace::Namespace;
use super::sys::PacketSocket;
use super::{Error, Result};

/// Bytes kept of each frame: more than any header that is looked at.
const KEPT: usize = 192;

/// How long frames are taken after the stop at most, where they never cease.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// A frame on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The interface; ports of the switch are named like the hosts behind them.
    pub host: String,
    /// What is behind the interface receives it (else it came from there).
    pub received: bool,
    /// Its length in bytes, from the Ethernet header on.
    pub length: usize,
    /// What it says.
    pub frame: Frame,
}

/// A running capture.
pub struct Capture<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Capture<T> {
    /// Has `note` gather every frame into `gathered`, from now on. The switch sees each frame once for the host
    /// that sent it and once for every host that receives it.
    pub fn start(
        at: &Namespace,
        gathered: T,
        mut note: impl FnMut(&mut T, Captured) + Send + 'static,
    ) -> Result<Self> {
        let (socket, ports) = at
            .run(|| PacketSocket::open().map(|socket| (socket, ports())))
            .map_err(|e| Error::io("open a packet socket", e))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut gathered = gathered;
            let mut buffer = [0; KEPT];
            let mut told = None;
            loop {
                // Asked before looking: what was sent before the stop is in the socket by then.
                let last = stopped.load(Ordering::Acquire);
                if last && told.get_or_insert_with(Instant::now).elapsed() > LAST_FRAMES {
                    return gathered;
                }
                match socket.receive(&mut buffer) {
                    Ok(Some(seen)) => {
                        let frame = Frame::parse(&buffer[..seen.length.min(KEPT)]);
                        if let (Some(host), Some(frame)) = (ports.get(&seen.interface), frame) {
                            let host = host.clone();
                            let captured =
                                Captured { host, received: seen.outgoing, length: seen.length, frame };
                            note(&mut gathered, captured);
                        }
                    }
                    _ if last => return gathered,
                    _ => {}
                }
            }
        });
        Ok(Self { stop, thread })
    }

    /// Ends it, once everything that happened until now is in.
    ///
    /// # Panics
    /// Where `note` did.
    pub fn stop(self) -> T {
        self.stop.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(gathered) => gathered,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Captures the frames that `wanted` names.
pub fn frames(
    at: &Namespace,
    wanted: impl Fn(&Captured) -> bool + Send + 'static,
) -> Result<Capture<Vec<Captured>>> {
    Capture::start(at, Vec::new(), move |kept, captured| {
        if wanted(&captured) {
            kept.push(captured);
        }
    })
}

/// Names of the calling thread's interfaces by index, the bridge itself left out.
fn ports() -> HashMap<u32, String> {
    let Ok(socket) = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None) else {
        return HashMap::new();
    };
    let named = (1..=1024).filter_map(|index| Some((index, index_to_name(&socket, index).ok()?)));
    named.filter(|(_, name)| name != "bridge" && name != "lo").collect()
}
