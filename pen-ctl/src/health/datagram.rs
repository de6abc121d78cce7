//! A socket for datagrams of one backend alone: connected, so that the kernel hands in nothing of others, and tells
//! when somebody on the way, or the backend itself, refuses (ICMP).

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::ask::Failed;
use crate::platform;

/// For UDP.
pub(super) fn udp(backend: SocketAddr) -> Result<UdpSocket, Failed> {
    let socket = Socket::new(Domain::for_address(backend), Type::DGRAM, Some(Protocol::UDP));
    connected(socket.map_err(|error| Failed::asking(&error))?, backend)
}

/// Connects a socket of any protocol that knows datagrams: to send, and to receive, is the same for all of them.
pub(super) fn connected(socket: Socket, backend: SocketAddr) -> Result<UdpSocket, Failed> {
    let prepared = socket.set_nonblocking(true).and_then(|()| platform::hear_of_refusals(&socket, backend));
    prepared.map_err(|error| Failed::asking(&error))?;
    socket.connect(&backend.into()).map_err(|error| match error.kind() {
        // No port is left.
        io::ErrorKind::WouldBlock => Failed::asking(&error),
        _ => Failed::reaching(backend, &error),
    })?;
    UdpSocket::from_std(socket.into()).map_err(|error| Failed::asking(&error))
}

/// What an error means that comes where a datagram was sent.
pub(super) fn failed(error: &io::Error) -> Failed {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failed::Answer("port unreachable".into()),
        _ => Failed::answer(error),
    }
}
