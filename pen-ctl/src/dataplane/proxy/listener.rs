//! Listening sockets: one for each worker where the system shares connections among them, else one for all.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use socket2::{Protocol, Socket, Type};

use super::endpoint::Endpoint;
use super::platform::{self, SHARES};
use super::udp;

/// Connections that may wait to be accepted; the system has a limit of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// The sockets of one listener.
#[derive(Debug)]
pub struct Listeners {
    /// One for each worker.
    pub sockets: Vec<Socket>,
    /// Where they listen: with the port that the system gave, if none was asked for.
    pub endpoint: Endpoint,
    /// Removes the path of a Unix socket when the proxy ends.
    pub path: Option<SocketPath>,
}

/// Why it cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("listen on {endpoint}: {error}{hint}")]
pub struct ListenError {
    endpoint: Endpoint,
    error: io::Error,
    hint: &'static str,
}

impl ListenError {
    fn new(endpoint: &Endpoint, error: io::Error) -> ListenError {
        let hint = match endpoint {
            Endpoint::Inet(_) => hint(&error),
            Endpoint::Unix(path) => hint_at(path, &error),
        };
        ListenError { endpoint: endpoint.clone(), error, hint }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there (see `ss -ltunp`)",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root, CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start"
        }
        io::ErrorKind::AddrNotAvailable => "; this host does not have the address",
        _ => "",
    }
}

/// What is in the way at a path.
fn hint_at(path: &Path, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => match fs::symlink_metadata(path).map(|found| found.file_type()) {
            Ok(found) if found.is_socket() => {
                "; another process listens there (see `ss -lxp`): end it, or use another path"
            }
            Ok(found) if found.is_dir() => "; a directory is there: use a path in it",
            Ok(_) => "; a file that is no socket is there: use another path, or remove the file",
            // Gone meanwhile.
            Err(_) => "; try again",
        },
        io::ErrorKind::NotFound => "; its directory does not exist: make that first, or use another path",
        io::ErrorKind::PermissionDenied => {
            "; use a path in a directory that this user may write in, or become root"
        }
        _ => "",
    }
}

/// Listens on an endpoint for so many workers.
///
/// # Errors
/// The system refuses the address; another process listens there.
pub fn listen(endpoint: &Endpoint, workers: usize) -> Result<Listeners, ListenError> {
    let wrong = |error| ListenError::new(endpoint, error);
    match endpoint {
        Endpoint::Inet(address) => inet(*address, workers).map_err(wrong),
        Endpoint::Unix(path) => unix(path, workers).map_err(wrong),
    }
}

/// Takes datagrams at an endpoint for so many workers; for one, where the system does not spread clients over sockets.
///
/// # Errors
/// The system refuses the address; another process listens there; it is a Unix socket.
pub fn listen_udp(endpoint: &Endpoint, workers: usize) -> Result<Listeners, ListenError> {
    let wrong = |error| ListenError::new(endpoint, error);
    let Endpoint::Inet(address) = endpoint else {
        return Err(wrong(io::Error::new(
            io::ErrorKind::InvalidInput,
            "UDP has no Unix sockets here; use an address with a port",
        )));
    };
    datagrams(*address, workers).map_err(wrong)
}

fn datagrams(address: SocketAddr, workers: usize) -> io::Result<Listeners> {
    let alone = udp::listen(address, false)?;
    let local = alone.local_addr()?;
    let endpoint = Endpoint::Inet(local);
    if !SHARES || workers == 1 {
        return Ok(Listeners { sockets: vec![alone.into()], endpoint, path: None });
    }
    drop(alone);
    let shared = |_| udp::listen(local, true).map(Socket::from);
    Ok(Listeners { sockets: (0..workers).map(shared).collect::<io::Result<_>>()?, endpoint, path: None })
}

fn inet(address: SocketAddr, workers: usize) -> io::Result<Listeners> {
    // Sockets that share a port share it with those of other processes, too. So the first one is opened alone.
    let alone = open(address, false)?;
    let local = alone.local_addr()?.as_socket().unwrap_or(address);
    let endpoint = Endpoint::Inet(local);
    if !SHARES || workers == 1 {
        alone.listen(BACKLOG)?;
        return Ok(Listeners { sockets: copies(alone, workers)?, endpoint, path: None });
    }
    drop(alone);
    let shared = |_| {
        let socket = open(local, true)?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    Ok(Listeners { sockets: (0..workers).map(shared).collect::<io::Result<_>>()?, endpoint, path: None })
}

/// A socket bound to an address; `::` takes clients of IPv4 as well, but on OpenBSD, which keeps them apart. What is set here, connections inherit.
fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(socket2::Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        platform::share_port(&socket)?;
    }
    platform::choose_families(&socket, address)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unix(path: &Path, workers: usize) -> io::Result<Listeners> {
    let endpoint = Endpoint::Unix(path.to_owned());
    let address = endpoint.to_socket_address()?;
    let socket = Socket::new(endpoint.domain(), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse || !is_abandoned(&endpoint, path) {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    socket.listen(BACKLOG)?;
    let path = Some(SocketPath { path: path.to_owned(), own: true });
    Ok(Listeners { sockets: copies(socket, workers)?, endpoint, path })
}

/// Whether a path is a socket on which nobody listens any more.
fn is_abandoned(endpoint: &Endpoint, path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let connect =
        || Socket::new(endpoint.domain(), Type::STREAM, None)?.connect(&endpoint.to_socket_address()?);
    is_socket && connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn copies(socket: Socket, workers: usize) -> io::Result<Vec<Socket>> {
    let mut sockets = (1..workers).map(|_| socket.try_clone()).collect::<io::Result<Vec<_>>>()?;
    sockets.push(socket);
    Ok(sockets)
}

/// The path of a Unix socket, removed when it is dropped by whoever owns it.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    own: bool,
}

impl SocketPath {
    /// The path of a socket that somebody else owns yet.
    pub(super) fn of_another(path: PathBuf) -> SocketPath {
        SocketPath { path, own: false }
    }

    /// It is ours from now on.
    pub(super) fn take(&mut self) {
        self.own = true;
    }

    /// Leaves the path where it is.
    pub(super) fn keep(mut self) {
        self.own = false;
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if self.own {
            // Gone already: as it should be.
            let _ = fs::remove_file(&self.path);
        }
    }
}
