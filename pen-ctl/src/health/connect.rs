//! Connections to a backend, over TCP or on a Unix socket; the check `tcp`: that one opens.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::again::once_more;
use super::ask::{Answer, Failed};
use crate::dataplane::BackendAddress;
use crate::platform;

/// A connection to talk on, whatever carries it.
pub(super) trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

/// Opens a connection to an endpoint and closes it at once. As everywhere here, `limit` is the time of the whole check.
pub(super) async fn ask(endpoint: BackendAddress, limit: Duration) -> Result<Answer, Failed> {
    match endpoint {
        BackendAddress::Port(backend) => over_tcp(backend, limit).await?,
        BackendAddress::Unix(path) => drop(on_unix_socket(path.as_path()).await?),
        BackendAddress::Ip(_) => return Err(Failed::no_address()),
    }
    Ok(Answer::new("connected"))
}

/// Opens a connection to an endpoint, to talk on; with the address of this host on it, where it has one.
pub(super) async fn open(
    endpoint: BackendAddress,
    limit: Duration,
) -> Result<(Box<dyn Line>, Option<IpAddr>), Failed> {
    match endpoint {
        BackendAddress::Port(backend) => {
            let stream = stream(backend, limit).await?;
            let here = stream.local_addr().ok().map(|here| here.ip());
            Ok((Box::new(stream), here))
        }
        BackendAddress::Unix(path) => Ok((Box::new(on_unix_socket(path.as_path()).await?), None)),
        BackendAddress::Ip(_) => Err(Failed::no_address()),
    }
}

async fn on_unix_socket(path: &std::path::Path) -> Result<UnixStream, Failed> {
    UnixStream::connect(path).await.map_err(|error| Failed::answer(&error))
}

/// Opens a TCP connection and closes it by a reset (SO_LINGER 0): an orderly close would leave one socket in TIME_WAIT
/// here for every check of a whole minute, thousands of them, and use up ports. On Linux the acknowledgement of the
/// backend's SYN is held back (TCP_QUICKACK off), so that the reset takes its place and the server's program never sees
/// a connection.
async fn over_tcp(backend: SocketAddr, limit: Duration) -> Result<(), Failed> {
    once_more(limit, || connect(backend, platform::no_acknowledgement)).await.map(drop)
}

/// Opens a TCP connection to talk on. What is said goes out at once (TCP_NODELAY): what waited for an acknowledgement
/// would be counted as the backend's slowness. In the end it is reset like [`over_tcp`]'s.
pub(super) async fn stream(backend: SocketAddr, limit: Duration) -> Result<TcpStream, Failed> {
    once_more(limit, || connect(backend, |socket| socket.set_nodelay(true))).await
}

async fn connect(
    backend: SocketAddr,
    prepare: impl Fn(&TcpSocket) -> io::Result<()>,
) -> Result<TcpStream, Failed> {
    let socket = socket(backend).and_then(|socket| prepare(&socket).map(|()| socket));
    let socket = socket.map_err(|error| Failed::asking(&error))?;
    socket.connect(backend).await.map_err(|error| Failed::reaching(backend, &error))
}

fn socket(backend: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if backend.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_zero_linger()?;
    Ok(socket)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::time::sleep;

    use super::super::testing::{asked, question};
    use super::*;

    /// Less than a second, after which the kernel would ask again by itself.
    const LIMIT: Duration = Duration::from_millis(950);

    /// A queue with room for one, and one in it: the kernel answers nobody else.
    fn full() -> (Socket, SocketAddr, std::net::TcpStream) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        (listener, address, std::net::TcpStream::connect(address).unwrap())
    }

    #[tokio::test]
    async fn a_connection_whose_first_packet_is_lost_opens_within_the_time_of_a_check() {
        let (listener, address, _first) = full();
        let check = question("tcp", address, LIMIT);
        let makes_room = async {
            sleep(LIMIT / 10).await;
            listener.accept().unwrap()
        };
        let (came, _accepted) = tokio::join!(asked(&check), makes_room);
        assert_eq!(came, "good: connected");
    }

    #[tokio::test]
    async fn a_backend_that_stays_silent_is_so_after_the_whole_time() {
        let (_listener, address, _first) = full();
        assert_eq!(asked(&question("tcp", address, LIMIT)).await, "bad: no answer within 950 ms");
    }
}
