//! Backends at addresses of their own that can be stopped and come back: each says its name, then sends everything back.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockFilter, Socket, Type};

use crate::place::{PATIENCE, eventually};

/// A server that runs until it is dropped; then its connections end, too.
pub(crate) struct Server {
    pub(crate) name: u8,
    pub(crate) address: SocketAddr,
    open: Arc<Open>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Open {
    ends: AtomicBool,
    count: AtomicU64,
    connections: Mutex<HashMap<u64, TcpStream>>,
}

impl Server {
    /// Serves TCP there.
    pub(crate) fn tcp(name: u8, address: SocketAddr) -> Server {
        let listener = listen(address);
        let open = Arc::<Open>::default();
        let held = open.clone();
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if held.ends.load(Ordering::Relaxed) {
                    break;
                }
                held.serve(stream, name);
            }
        });
        Server { name, address, open, threads: vec![accepting] }
    }

    /// Serves UDP there.
    pub(crate) fn udp(name: u8, address: SocketAddr) -> Server {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let open = Arc::<Open>::default();
        let held = open.clone();
        let answering = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !held.ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer[1..]) else { continue };
                buffer[0] = name;
                let _ = socket.send_to(&buffer[..=length], from);
            }
        });
        Server { name, address, open, threads: vec![answering] }
    }

    /// Takes no connections any more; those it has go on.
    pub(crate) fn stop_listening(&self) {
        self.open.ends.store(true, Ordering::Relaxed);
        // Whoever waits for a client gets one, the last.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Open {
    fn serve(self: &Arc<Open>, mut stream: TcpStream, name: u8) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let Ok(copy) = stream.try_clone() else { return };
        self.connections.lock().unwrap().insert(number, copy);
        let held = self.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            let _ = stream.write_all(&[name]);
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            held.connections.lock().unwrap().remove(&number);
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_listening();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        for stream in self.open.connections.lock().unwrap().values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = bound(address);
    socket.listen(1024).unwrap();
    socket.into()
}

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    eventually("the address is free", || socket.bind(&address.into()).is_ok());
    socket
}

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody listens.
    Refuses,
    /// The kernel answers nobody.
    IsSilent,
    /// The kernel accepts, and nobody ever answers.
    Hangs,
}

/// A backend with a fault, until it is dropped.
pub(crate) struct Broken {
    _held: Option<Socket>,
}

impl Broken {
    pub(crate) fn with(fault: Fault, address: SocketAddr) -> Broken {
        let held = match fault {
            Fault::Refuses => None,
            Fault::Hangs => Some(listen(address).into()),
            Fault::IsSilent => Some(silent(address)),
        };
        Broken { _held: held }
    }
}

/// A listener whose filter drops all that comes, from the first packet on. (A queue that is full would be silent as well,
/// but whoever comes while it is being filled is in it.)
fn silent(address: SocketAddr) -> Socket {
    let socket = bound(address);
    // BPF_RET | BPF_K with 0 bytes to keep: linux/filter.h.
    socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]).unwrap();
    socket.listen(1).unwrap();
    socket
}

/// A connection from that address.
pub(crate) fn connect_from(source: std::net::IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The name of whom a connection came to.
pub(crate) fn name(stream: &mut TcpStream) -> std::io::Result<u8> {
    let mut name = [0];
    stream.read_exact(&mut name)?;
    Ok(name[0])
}

/// Sends something and checks that the same comes back.
pub(crate) fn echo(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut answer = vec![0; bytes.len()];
    stream.write_all(bytes)?;
    stream.read_exact(&mut answer)?;
    if answer == bytes { Ok(()) } else { Err(std::io::Error::other("other bytes came back")) }
}
