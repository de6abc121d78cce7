//! The check `udp`: a backend answers a datagram, or at least nobody refuses it.

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::ask::{Answer, Failed, Question};
use super::datagram;
use crate::check::{Payload, UdpCheck};

/// What is said of silence where no answer is expected.
pub(super) const NOT_REFUSED: &str = "not refused";
/// More than the largest datagram.
const LARGEST: usize = 65_536;

/// Sends what the check says. Where no answer is expected, one is good, and so is silence until near the end of the
/// time: the backend's port is closed only if somebody says so.
pub(super) async fn ask(question: &Question, check: &UdpCheck) -> Result<Answer, Failed> {
    let socket = datagram::udp(question.endpoint()?)?;
    let sent = check.send.as_ref().map_or(&[][..], Payload::bytes);
    socket.send(sent).await.map_err(|error| datagram::failed(&error))?;
    match &check.expect {
        Some(expected) => expect(&socket, expected).await,
        None => {
            let patience = question.limit() * 7 / 8;
            // What it says does not matter: the rest is cut off.
            let heard = timeout(patience, hear(&socket, 1)).await;
            heard
                .map_or_else(|_| Ok(Answer::new(NOT_REFUSED)), |heard| heard.map(|_| Answer::new("answered")))
        }
    }
}

async fn expect(socket: &UdpSocket, expected: &Payload) -> Result<Answer, Failed> {
    let answer = hear(socket, LARGEST).await?;
    let wanted = expected.bytes();
    let holds = wanted.is_empty() || answer.windows(wanted.len()).any(|window| window == wanted);
    match holds {
        true => Ok(Answer::new("answered as expected")),
        false => Err(Failed::Answer(format!("answer does not hold \"{expected}\""))),
    }
}

async fn hear(socket: &UdpSocket, room: usize) -> Result<Vec<u8>, Failed> {
    let mut buffer = vec![0; room];
    let length = socket.recv(&mut buffer).await.map_err(|error| datagram::failed(&error))?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests;
