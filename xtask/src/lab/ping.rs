//! An ICMP echo, sent and received through the kernel, which lets only right checksums through.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::Result;
use super::namespace::Namespace;

/// Lets programs in this namespace open the kernel's echo sockets.
pub fn allow(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("ipv4/ping_group_range", "0 2147483647")
}

/// Sends one echo request with this identifier from the calling thread's namespace and waits for the reply.
pub fn ping(source: IpAddr, to: IpAddr, identifier: u16, patience: Duration) -> io::Result<()> {
    let (protocol, request_type, reply_type) = match to {
        IpAddr::V4(_) => (Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Protocol::ICMPV6, 128, 129),
    };
    let to = SocketAddr::new(to, 0);
    let mut socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol))?;
    // The kernel takes the port for the identifier.
    socket.bind(&SocketAddr::new(source, identifier).into())?;
    socket.connect(&to.into())?;
    socket.set_read_timeout(Some(patience))?;
    let mut message = [0; 8 + 48];
    message[0] = request_type;
    message[7] = 1;
    socket.send(&message)?;
    let mut reply = [0; 128];
    let length = socket.read(&mut reply)?;
    // Sequence number and data come back as they were sent.
    if length == message.len() && reply[0] == reply_type && reply[6..length] == message[6..] {
        return Ok(());
    }
    Err(io::Error::other(format!("{:x?} is no reply to the echo", &reply[..length])))
}
