//! The backends: one thread of this process that answers on every port there is, the same for all proxies.
//!
//! A TCP request has [`REQUEST`] bytes, of which the first says what is wanted; UDP has a query and an answer of sizes
//! that are usual in DNS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::poller::{EventFlags, Poller, Ready};

mod tcp;
mod udp;

use tcp::Connections;

/// Bytes of a TCP request, and of its answer.
pub(super) const REQUEST: usize = 64;
/// First byte of a request: an answer, and the connection stays.
pub(super) const KEEP: u8 = b'k';
/// First byte of a request: an answer, and the server closes.
pub(super) const CLOSE: u8 = b'c';
/// First byte of a request: bytes without end.
pub(super) const STREAM: u8 = b's';
/// Bytes of a UDP query; an answer begins with the query's first [`ID`].
pub(super) const QUERY: usize = 40;
/// Bytes of the answer.
pub(super) const ANSWER: usize = 120;
/// Bytes that tell a query from others.
pub(super) const ID: usize = 8;

/// How many backends there are.
const BACKENDS: usize = 2;
/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// A request for that.
pub(super) const fn request(wanted: u8) -> [u8; REQUEST] {
    [wanted; REQUEST]
}

/// The servers; dropping this ends them.
pub(super) struct Servers {
    /// Where they take connections.
    pub(super) tcp: Vec<SocketAddr>,
    /// Where they take datagrams.
    pub(super) udp: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Servers {
    /// Starts them in the calling thread's network namespace, on ports that the system chooses.
    pub(super) fn start() -> io::Result<Self> {
        let listeners = (0..BACKENDS).map(|_| tcp::listen()).collect::<io::Result<Vec<_>>>()?;
        let sockets = (0..BACKENDS).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
        let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
        let tcp = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let udp = sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<_>>()?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("servers".to_owned());
        let thread = thread.spawn(move || serve(&listeners, &sockets, &stopped))?;
        Ok(Self { tcp, udp, stop, thread: Some(thread) })
    }

    /// Whether they have ended, which they should not.
    pub(super) fn have_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Had it failed, the step in which it did would have failed too.
            let _ = thread.join();
        }
    }
}

/// Keys: first the listeners, then the UDP sockets, then connections.
fn serve(listeners: &[TcpListener], sockets: &[UdpSocket], stop: &AtomicBool) -> io::Result<()> {
    let poller = Poller::new()?;
    for (key, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        poller.watch(listener, key, EventFlags::IN)?;
    }
    for (key, socket) in (listeners.len()..).zip(sockets) {
        socket.set_nonblocking(true)?;
        poller.watch(socket, key, EventFlags::IN)?;
    }
    let mut connections = Connections::new(listeners.len() + sockets.len());
    let mut ready = Ready::new();
    while !stop.load(Ordering::Relaxed) {
        poller.wait(&mut ready, LOOK)?;
        for (key, flags) in ready.iter() {
            if let Some(listener) = listeners.get(key) {
                connections.accept(&poller, listener)?;
            } else if let Some(socket) = sockets.get(key - listeners.len()) {
                udp::answer(socket)?;
            } else {
                connections.serve(&poller, key, flags)?;
            }
        }
    }
    Ok(())
}
