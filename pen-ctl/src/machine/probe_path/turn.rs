//! One controller in a network namespace asks VIPs: routes, neighbors and filters have the same names for all.
//!
//! Who has the turn holds an abstract socket address (unix(7)): it is that network namespace's own, whatever directories a
//! controller was given, and it goes with the process.

use std::io;
use std::os::unix::net::UnixStream;

use socket2::{Domain, SockAddr, Socket, Type};

const NAME: &str = "\0pen-ctl/probe-path";
/// Who asks whose turn it is, from one look to the next.
const CURIOUS: i32 = 128;

/// The turn; it ends when this is dropped.
pub(super) struct Turn(Option<Socket>);

impl Turn {
    /// Takes it, or says who has it. Must be called inside a tokio runtime.
    pub(super) fn take() -> Result<Self, String> {
        match hold() {
            Ok(socket) => Ok(Self(Some(socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder() {
                Some(who) => Err(format!(
                    "another controller{who} asks VIPs here, and in a network namespace one can at a time; run one of them in \
                     another, or have its checks say way = \"direct\""
                )),
                // Anybody may take a name; only who is privileged can be a controller that asks VIPs.
                None => Ok(Self(None)),
            },
            // Where nobody can hold it, nobody does.
            Err(_) => Ok(Self(None)),
        }
    }

    /// To be called now and then: lets go whoever asked.
    pub(super) fn keep(&self) {
        while self.0.as_ref().is_some_and(|socket| socket.accept().is_ok()) {}
    }
}

fn hold() -> io::Result<Socket> {
    let socket = unix_socket()?;
    socket.bind(&SockAddr::unix(NAME)?)?;
    socket.listen(CURIOUS)?;
    Ok(socket)
}

/// The process that has the turn, in words; `None` = whoever holds the name has no such privileges.
fn holder() -> Option<String> {
    let socket = unix_socket().ok()?;
    socket.connect(&SockAddr::unix(NAME).ok()?).ok()?;
    let peer = tokio::net::UnixStream::from_std(UnixStream::from(socket)).ok()?.peer_cred().ok()?;
    let may = [0, rustix::process::geteuid().as_raw()].contains(&peer.uid());
    // Of another namespace of processes none is known.
    let known = peer.pid().filter(|pid| *pid > 0);
    may.then(|| known.map(|pid| format!(" (process {pid})")).unwrap_or_default())
}

/// One that never waits.
fn unix_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
