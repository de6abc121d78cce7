//! A small DNS server that answers with the backend it is, and the client for it (RFC 1035), over UDP and TCP.
//!
//! Whatever name is asked for, TXT yields the backend's name and A its IPv4 address.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Port of the server.
pub const PORT: u16 = 53;
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;
const CLASS_IN: u16 = 1;
/// A pointer to the name in the question, which follows the header (RFC 1035, 4.1.4).
const NAME_OF_QUESTION: [u8; 2] = [0xc0, HEADER as u8];

/// Answers every question that comes to this socket, for ever.
pub fn serve_udp(socket: &UdpSocket, name: &str, address: Ipv4Addr) -> io::Result<()> {
    let mut question = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut question)?;
        if let Some(answer) = answer(&question[..length], name, address) {
            // A client that is gone is no reason to stop serving the others.
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// Answers the questions of one connection, each preceded by its length (RFC 1035, 4.2.2).
pub fn serve_tcp(mut stream: TcpStream, name: &str, address: Ipv4Addr) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question)?;
        let answer = answer(&question, name, address).ok_or(ErrorKind::InvalidData)?;
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend(answer);
        stream.write_all(&framed)?;
    }
}

/// The answer to a message, where it is a query with one question.
fn answer(message: &[u8], name: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let is_query = message.get(2)? & 0x80 == 0;
    if !is_query || message.get(4..6)? != [0, 1] {
        return None;
    }
    let end = end_of_question(message)?;
    let asked = u16::from_be_bytes([message[end - 4], message[end - 3]]);
    let data = match asked {
        TYPE_A => Some(address.octets().to_vec()),
        TYPE_TXT => Some([&[name.len() as u8], name.as_bytes()].concat()),
        _ => None,
    };
    // Response, authoritative, recursion desired as asked; one question, at most one answer.
    let flags = [0x84 | (message[2] & 1), 0];
    let mut reply = [&message[..2], &flags, &[0, 1, 0, data.is_some().into(), 0, 0, 0, 0]].concat();
    reply.extend(&message[HEADER..end]);
    if let Some(data) = data {
        reply.extend(NAME_OF_QUESTION);
        reply.extend(asked.to_be_bytes());
        reply.extend(CLASS_IN.to_be_bytes());
        reply.extend(0_u32.to_be_bytes());
        reply.extend((data.len() as u16).to_be_bytes());
        reply.extend(data);
    }
    Some(reply)
}

/// Where the first question ends: labels, type, class.
fn end_of_question(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => break,
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 1 + 4;
    (message.len() >= end).then_some(end)
}

/// Asks from this source address over UDP who is there; only an answer from the address asked counts.
pub fn who(source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<String> {
    Asker::open(source, to, patience)?.who()
}

/// A UDP socket that asks again and again from the same port.
pub struct Asker {
    socket: UdpSocket,
    id: u16,
}

impl Asker {
    /// Binds to this source address (any port) and connects, so that only `to` can answer.
    pub fn open(source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = UdpSocket::bind((source, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Self { socket, id: 0 })
    }

    /// Asks who is there.
    pub fn who(&mut self) -> io::Result<String> {
        self.who_in(0)
    }

    /// Asks in a datagram of at least so many bytes, which travels in fragments if that is more than the MTU.
    pub fn who_in(&mut self, bytes: usize) -> io::Result<String> {
        self.id = self.id.wrapping_add(1);
        let question = question(self.id);
        let mut datagram = question.clone();
        datagram.resize(bytes.max(question.len()), 0);
        self.socket.send(&datagram)?;
        let mut reply = [0; 512];
        loop {
            let length = match self.socket.recv(&mut reply) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => received?,
            };
            if reply[..2] == question[..2] {
                return text(&reply[..length], question.len()).ok_or_else(|| ErrorKind::InvalidData.into());
            }
        }
    }
}

/// Asks over TCP who is there.
pub fn who_over_tcp(stream: &mut TcpStream) -> io::Result<String> {
    let question = question(1);
    stream.write_all(&[&(question.len() as u16).to_be_bytes(), question.as_slice()].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply)?;
    text(&reply, question.len()).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// A query for the TXT records of `whoami.lab`.
pub(super) fn question(id: u16) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    message.extend(b"\x06whoami\x03lab\0");
    message.extend(TYPE_TXT.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

/// The string of the one TXT record that follows a question ending at `answers`.
pub(super) fn text(reply: &[u8], answers: usize) -> Option<String> {
    let data = reply.get(answers + NAME_OF_QUESTION.len() + 2 + 2 + 4 + 2..)?;
    let (&length, text) = data.split_first()?;
    String::from_utf8(text.get(..length.into())?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_the_name() {
        let question = question(7);
        let reply = answer(&question, "b2", Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(text(&reply, question.len()).as_deref(), Some("b2"));
    }

    #[test]
    fn nothing_that_is_cut_short_is_answered() {
        let question = question(7);
        for length in 0..question.len() {
            assert_eq!(answer(&question[..length], "b2", Ipv4Addr::LOCALHOST), None);
        }
    }
}
