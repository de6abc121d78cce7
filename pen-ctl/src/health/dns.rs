//! The check `dns`: a name server answers a question about a name (RFC 1035), over UDP or TCP.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RData;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::ask::{Answer, Failed, Question};
use super::{connect, datagram};
use crate::check::{DnsCheck, Transport, code_name};
use crate::dataplane::Protocol;

/// Bytes of an answer over UDP at most: without EDNS (RFC 6891) a server should send no more than 512.
const LARGEST: usize = 4096;
/// Bytes of one over TCP. Names may point at others (RFC 1035, 4.1.4) in long rows: what reading an answer costs grows with
/// the square of its length, a tenth of a second where it has all that two bytes can say.
const LARGEST_OVER_TCP: usize = 16_384;

/// Asks the question that the check says.
pub(super) async fn ask(question: &Question, dns: &DnsCheck) -> Result<Answer, Failed> {
    let server = question.endpoint()?;
    let asked = Asked::new(dns)?;
    let answer = match transport(question, dns) {
        Transport::Udp => over_udp(server, &asked, question.limit()).await?,
        Transport::Tcp => over_tcp(server, &asked, question.limit()).await?,
    };
    judge(&answer, dns)
}

/// Over what it is asked.
pub(super) fn transport(question: &Question, dns: &DnsCheck) -> Transport {
    dns.transport.unwrap_or(match question.service.protocol {
        Protocol::Udp => Transport::Udp,
        Protocol::Tcp => Transport::Tcp,
    })
}

/// A question on its way.
struct Asked {
    id: u16,
    query: Query,
    message: Vec<u8>,
}

impl Asked {
    fn new(dns: &DnsCheck) -> Result<Asked, Failed> {
        let query = dns.query().ok_or_else(|| Failed::Asking("the question is none of the DNS".into()))?;
        // Whoever cannot see it on the wire should not be able to answer it.
        let random = getrandom::u32().map_err(|error| Failed::Asking(error.to_string()))?;
        let id = (random >> 16) as u16;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        let message = message.to_vec().map_err(|error| Failed::Asking(error.to_string()))?;
        Ok(Asked { id, query, message })
    }

    /// Reads an answer to it.
    fn answer(&self, bytes: &[u8]) -> Result<Message, Failed> {
        let not = |why: String| Failed::Answer(format!("not DNS: {why}"));
        let answer = Message::from_vec(bytes).map_err(|error| not(error.to_string()))?;
        if answer.metadata.message_type != MessageType::Response {
            return Err(not("the question came back".into()));
        }
        // A server that did not understand the question may leave it out (RFC 1035, 4.1.1: format error).
        let same = match answer.queries.as_slice() {
            [] => answer.metadata.response_code != ResponseCode::NoError,
            [one] => {
                one.name.eq_ignore_root(&self.query.name)
                    && one.query_type == self.query.query_type
                    && one.query_class == self.query.query_class
            }
            _ => false,
        };
        if answer.metadata.id == self.id && same {
            Ok(answer)
        } else {
            Err(not("another question's answer".into()))
        }
    }

    fn is_for_it(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&self.id.to_be_bytes())
    }
}

/// Asks again at half the time, so that one lost datagram is no failure. What is not for this question does not count,
/// as anybody may send it from a forged address; where nothing else comes, it is said shortly before the end.
async fn over_udp(server: SocketAddr, asked: &Asked, limit: Duration) -> Result<Message, Failed> {
    let socket = datagram::udp(server)?;
    let begun = Instant::now();
    send(&socket, asked).await?;
    let (again, end) = (sleep_until(begun + limit / 2), sleep_until(begun + limit * 7 / 8));
    tokio::pin!(again, end);
    let mut buffer = vec![0; LARGEST];
    let (mut asked_again, mut odd) = (false, None);
    loop {
        tokio::select! {
            biased;
            received = socket.recv(&mut buffer) => {
                let length = received.map_err(|error| datagram::failed(&error))?;
                if asked.is_for_it(&buffer[..length]) {
                    return asked.answer(&buffer[..length]);
                }
                // Not read as long as more may come: a flood must not cost that.
                odd = Some(buffer[..length].to_vec());
            }
            () = &mut again, if !asked_again => {
                asked_again = true;
                send(&socket, asked).await?;
            }
            () = &mut end, if odd.is_some() => return asked.answer(&odd.unwrap_or_default()),
        }
    }
}

async fn send(socket: &UdpSocket, asked: &Asked) -> Result<(), Failed> {
    socket.send(&asked.message).await.map(drop).map_err(|error| datagram::failed(&error))
}

/// Each message has its length before it (RFC 1035, 4.2.2).
async fn over_tcp(server: SocketAddr, asked: &Asked, limit: Duration) -> Result<Message, Failed> {
    let talk = async {
        let mut stream = connect::stream(server, limit).await?;
        let length = u16::try_from(asked.message.len()).unwrap_or(u16::MAX).to_be_bytes();
        let said = [&length[..], &asked.message].concat();
        stream.write_all(&said).await.map_err(|error| Failed::answer(&error))?;
        let length = stream.read_u16().await.map_err(|error| Failed::answer(&error))?;
        let length = usize::from(length);
        if length > LARGEST_OVER_TCP {
            return Err(Failed::Answer(format!("an answer of {length} bytes, more than {LARGEST_OVER_TCP}")));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.map_err(|error| Failed::answer(&error))?;
        Ok(answer)
    };
    asked.answer(&talk.await?)
}

/// Whether an answer is good.
fn judge(answer: &Message, dns: &DnsCheck) -> Result<Answer, Failed> {
    let refuse = |why: String| Err(Failed::Answer(why));
    let code = code_name(answer.metadata.response_code);
    match &dns.rcode {
        Some(wanted) if !wanted.eq_ignore_ascii_case(&code) => {
            return refuse(format!("DNS {code}, expected {}", wanted.to_ascii_uppercase()));
        }
        None if answer.metadata.response_code == ResponseCode::ServFail => {
            return refuse(format!("DNS {code}"));
        }
        _ => {}
    }
    if let Some(wanted) = &dns.answer {
        let plain = plain(wanted);
        if !answer.answers.iter().any(|record| self::plain(&presented(&record.data)) == plain) {
            let cut = answer.metadata.truncation && answer.answers.is_empty();
            let cut = if cut { ": too long for UDP, ask over TCP (transport=tcp)" } else { "" };
            return refuse(format!("no answer is {wanted}{cut}"));
        }
    }
    Ok(Answer::new(format!("DNS {code}")))
}

/// What a record says, as in a zone file; names as they are on the wire, not as their Unicode letters.
fn presented(data: &RData) -> String {
    match data {
        RData::CNAME(name) => name.to_ascii(),
        RData::NS(name) => name.to_ascii(),
        RData::PTR(name) => name.to_ascii(),
        RData::MX(mx) => format!("{} {}", mx.preference, mx.exchange.to_ascii()),
        RData::SRV(srv) => {
            format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target.to_ascii())
        }
        RData::SOA(soa) => {
            let (first, second) = (soa.mname.to_ascii(), soa.rname.to_ascii());
            let times = (soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum);
            format!("{first} {second} {} {} {} {} {}", times.0, times.1, times.2, times.3, times.4)
        }
        other => {
            let mut text = String::new();
            // What cannot be written is like nothing that could be asked for; `to_string` would panic.
            let _ = write!(text, "{other}");
            text
        }
    }
}

/// Without what may be written in one way or the other: case, quotes, spaces, the dot of the root.
fn plain(text: &str) -> String {
    let text = text.to_lowercase().replace('"', "");
    let words: Vec<&str> =
        text.split_whitespace().map(|word| word.strip_suffix('.').unwrap_or(word)).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
