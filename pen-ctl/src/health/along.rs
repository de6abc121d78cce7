//! Asks a backend where clients' packets come to it; and if that fails, whether it answers elsewhere, which tells why.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::ask::{self, Outcome, Question};
use super::place::Place;
use super::{dns, udp};
use crate::check::{Check, Kind, Pace, Transport};
use crate::dataplane::BackendAddress;

/// Asks, once, at that place.
pub(super) async fn ask(question: &Question, place: &Place) -> Outcome {
    match place {
        Place::Own(None) => ask::ask(question).await,
        Place::Own(Some(why)) => match ask::ask(question).await {
            Outcome::Success(mut answer, took) => {
                answer.what =
                    format!("{} on its own address, for its VIP cannot be asked ({why})", answer.what);
                Outcome::Success(answer, took)
            }
            other => other,
        },
        Place::Vip { alias, .. } => {
            let backend = match question.backend.port() {
                Some(port) => BackendAddress::from(SocketAddr::new(*alias, port)),
                None => (*alias).into(),
            };
            ask::ask(&Question { backend, ..question.clone() }).await
        }
        Place::Unknown(why) => Outcome::Unable(why.clone()),
    }
}

/// What was found out about a VIP that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Explanation {
    missed: Missed,
    /// In words.
    why: String,
}

/// Why nothing good came of asking a VIP, if the same question to the backend's own address tells that.
pub(super) async fn explain(question: &Question, place: &Place, outcome: &Outcome) -> Option<Explanation> {
    let Place::Vip { vip, alias } = place else { return None };
    let missed = Missed::of(outcome)?;
    let Outcome::Success(answer, took) = ask::ask(question).await else { return None };
    // Nobody has answered who just kept silent; and a VIP that takes connections is there, its server is slow.
    if answer.what == udp::NOT_REFUSED || missed == Missed::Silent && connects(question, *alias, took).await {
        return None;
    }
    let why = match missed {
        Missed::Silent => format!(
            "answers on its own address, not on the VIP {vip}: is the VIP on its lo? (pen-ctl backend-setup {vip})"
        ),
        Missed::Refused => {
            format!(
                "refuses the VIP {vip} though it answers on its own address: its server does not listen on the VIP"
            )
        }
    };
    Some(Explanation { missed, why })
}

/// Whether a VIP takes connections, asked for no longer than it may take where the backend answers in so much time.
async fn connects(question: &Question, alias: IpAddr, took: Duration) -> bool {
    let over_tcp = match &question.check.kind {
        Kind::Tcp | Kind::Http(_) | Kind::Smtp(_) => true,
        Kind::Dns(check) => dns::transport(question, check) == Transport::Tcp,
        Kind::Udp(_) | Kind::Icmp | Kind::Exec(_) | Kind::Agent(_) => false,
    };
    let Some(port) = question.backend.port().filter(|_| over_tcp) else { return false };
    let timeout = question.check.pace.timeout.min(2 * took + PATIENCE);
    let check =
        Check { kind: Kind::Tcp, pace: Pace { timeout, ..question.check.pace }, ..question.check.clone() };
    let backend = BackendAddress::from(SocketAddr::new(alias, port));
    matches!(ask::ask(&Question { backend, check, ..question.clone() }).await, Outcome::Success(..))
}

/// How long a connection may take, at least.
const PATIENCE: Duration = Duration::from_millis(20);

/// The same outcome, with its reason if that was found out.
pub(super) fn explained(outcome: &Outcome, explanation: Option<&Explanation>) -> Outcome {
    match explanation {
        Some(known) if Missed::of(outcome) == Some(known.missed) => Outcome::Failure(known.why.clone(), None),
        _ => outcome.clone(),
    }
}

/// How a VIP does not answer where nobody has it, or nobody listens on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    Silent,
    Refused,
}

impl Missed {
    /// By what the checks of all kinds say of it.
    fn of(outcome: &Outcome) -> Option<Missed> {
        match outcome {
            Outcome::Failure(why, None) => match why.as_str() {
                "connection refused" | "port unreachable" => Some(Missed::Refused),
                "no route to host" => Some(Missed::Silent),
                why if why.starts_with(ask::NO_ANSWER) => Some(Missed::Silent),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
