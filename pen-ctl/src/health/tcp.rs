//! One check: does a TCP connection open?

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It answered, after this long.
    Success(Duration),
    /// It did not, in words.
    Failure(String),
    /// This host could not even ask, in words: says nothing about the backend.
    Unable(String),
}

/// Opens a connection and closes it at once.
///
/// It is closed by a reset (SO_LINGER 0): an orderly close would leave one socket in TIME_WAIT here for every check of
/// a whole minute, thousands of them, and use up ports. On Linux the acknowledgement of the backend's SYN is held back
/// (TCP_QUICKACK off), so that the reset takes its place and the server's program never sees a connection.
pub(super) async fn connect(backend: SocketAddr, limit: Duration) -> Outcome {
    let started = Instant::now();
    let socket = match socket(backend) {
        Ok(socket) => socket,
        Err(error) => return Outcome::Unable(error.to_string()),
    };
    match tokio::time::timeout(limit, socket.connect(backend)).await {
        Ok(Ok(_)) => Outcome::Success(started.elapsed()),
        Ok(Err(error)) => outcome_of(&error, limit),
        Err(_) => Outcome::Failure(no_answer(limit)),
    }
}

fn socket(backend: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if backend.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_zero_linger()?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_tcp_quickack(false)?;
    Ok(socket)
}

fn outcome_of(error: &io::Error, limit: Duration) -> Outcome {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    if Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno)) {
        return Outcome::Unable(error.to_string());
    }
    Outcome::Failure(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::TimedOut => no_answer(limit),
        _ => error.to_string(),
    })
}

fn no_answer(limit: Duration) -> String {
    match (limit.as_secs(), limit.subsec_millis()) {
        (seconds, 0) if seconds > 0 => format!("no answer within {seconds} s"),
        _ => format!("no answer within {} ms", limit.as_millis()),
    }
}
