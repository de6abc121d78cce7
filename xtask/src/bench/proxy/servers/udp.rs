//! UDP: answers queries.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;

use super::{ANSWER, ID};

/// Queries answered before others have their turn.
const TURNS: usize = 64;

/// Answers what has come.
pub(super) fn answer(socket: &UdpSocket) -> io::Result<()> {
    let mut query = [0; 512];
    for _ in 0..TURNS {
        let (length, client) = match socket.recv_from(&mut query) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // An earlier answer found its client gone.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let mut answer = [0; ANSWER];
        let id = length.min(ID);
        answer[..id].copy_from_slice(&query[..id]);
        // What does not go through is lost, as datagrams are: who asked asks again.
        let _ = socket.send_to(&answer, client);
    }
    Ok(())
}
