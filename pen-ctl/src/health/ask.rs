//! One check: asks a backend what its check says, and tells what came of it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pen_common::probe::is_alias;
use rustix::io::Errno;
use tokio::time::Instant;

use super::tls::{self, Tls};
use super::{agent, connect, dns, exec, http, icmp, smtp, udp};
use crate::check::{Check, Kind};
use crate::dataplane::{BackendAddress, ServiceKey};
use crate::surroundings::Advice;

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It answered well, after this long.
    Success(Answer, Duration),
    /// It did not, in words; with what its agent said, if that was heard.
    Failure(String, Option<Held>),
    /// This host could not ask, or was too busy to hear, in words: says nothing about the backend.
    Unable(String),
}

/// A good answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// In words, the same for answers that say the same: `connected`, `HTTP 200`.
    pub(super) what: String,
    /// What its agent asks for.
    pub(super) advice: Option<Advice>,
}

/// What an agent that holds its backend down said besides why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// What it asks for.
    pub(super) advice: Advice,
    /// Somebody wants it to be down: no sign of a backend that keeps failing.
    pub(super) planned: bool,
}

/// No good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It could not be asked: says nothing about the backend.
    Asking(String),
    /// It refused, or its answer is not good.
    Answer(String),
    /// Its agent holds it down, in words.
    Agent(String, Held),
    /// Nothing came, though this was not what ended it: the time of the whole check was over.
    Silence,
}

/// Whom to ask what.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The service that it is for.
    pub(super) service: ServiceKey,
    /// The backend, with the port to ask where it has one.
    pub(super) backend: BackendAddress,
    /// How.
    pub(super) check: Check,
    /// What the backend's agent said before.
    pub(super) agent: agent::Memory,
}

impl Outcome {
    /// As metrics name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Outcome::Success(..) => "good",
            Outcome::Failure(..) => "bad",
            Outcome::Unable(_) => "unable",
        }
    }
}

/// Asks, once.
pub(super) async fn ask(question: &Question) -> Outcome {
    // Certificates are read in nobody's time.
    let tls = match tls::prepare(question).await {
        Ok(tls) => tls,
        Err(why) => return Outcome::Unable(why),
    };
    let limit = question.limit();
    let started = Instant::now();
    let answered = tokio::time::timeout(limit, answer(question, tls.as_ref())).await;
    let took = started.elapsed();
    match answered {
        Ok(Ok(answer)) => Outcome::Success(answer, took),
        Ok(Err(Failed::Asking(why))) => Outcome::Unable(why),
        Ok(Err(Failed::Answer(why))) => Outcome::Failure(why, None),
        Ok(Err(Failed::Agent(why, held))) => Outcome::Failure(why, Some(held)),
        // Whoever could not look for so long cannot know when an answer came.
        Err(_) if took > limit + limit.max(HICCUP) / 2 => Outcome::Unable(format!(
            "this host was too busy to hear an answer in time ({} ms)",
            took.as_millis()
        )),
        Ok(Err(Failed::Silence)) | Err(_) => Outcome::Failure(no_answer(limit), None),
    }
}

/// What a busy host may be late by, whatever the limit.
const HICCUP: Duration = Duration::from_millis(100);

async fn answer(question: &Question, tls: Option<&Tls>) -> Result<Answer, Failed> {
    match &question.check.kind {
        Kind::Tcp => connect::ask(question.backend, question.limit()).await,
        Kind::Http(check) => http::ask(question, check, tls).await,
        Kind::Smtp(check) => smtp::ask(question, check, tls).await,
        Kind::Dns(dns) => dns::ask(question, dns).await,
        Kind::Udp(udp) => udp::ask(question, udp).await,
        Kind::Icmp => icmp::ask(question).await,
        Kind::Exec(exec) => exec::ask(question, exec).await,
        Kind::Agent(agent) => agent::ask(question, agent).await,
    }
}

impl Question {
    /// What the whole check may take.
    pub(super) fn limit(&self) -> Duration {
        self.check.pace.timeout
    }

    /// The address and port to ask.
    pub(super) fn endpoint(&self) -> Result<SocketAddr, Failed> {
        match self.backend {
            BackendAddress::Port(endpoint) => Ok(endpoint),
            BackendAddress::Ip(_) | BackendAddress::Unix(_) => Err(Failed::no_address()),
        }
    }
}

impl Answer {
    /// A good answer, in words.
    pub(super) fn new(what: impl Into<String>) -> Answer {
        Answer { what: what.into(), advice: None }
    }
}

impl Failed {
    /// The backend has no address of the sort that is asked.
    pub(super) fn no_address() -> Failed {
        Failed::asking(&io::ErrorKind::AddrNotAvailable.into())
    }

    /// Before anything was asked.
    pub(super) fn asking(error: &io::Error) -> Failed {
        Failed::Asking(error.to_string())
    }

    /// On the way to `backend`. That a probe address leads nowhere is this host's own trouble: its way went a moment ago,
    /// and is about to be made again, or to be another one.
    pub(super) fn reaching(backend: SocketAddr, error: &io::Error) -> Failed {
        let nowhere = Errno::from_io_error(error) == Some(Errno::INVAL);
        match nowhere && is_alias(&backend.ip().into()) {
            true => Failed::Asking("the way to it has just gone".into()),
            false => Failed::answer(error),
        }
    }

    /// In what came back, unless it is this host's own trouble.
    pub(super) fn answer(error: &io::Error) -> Failed {
        let ours = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
        if Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno)) {
            return Failed::asking(error);
        }
        Failed::Answer(match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".into(),
            io::ErrorKind::ConnectionReset => "connection reset".into(),
            io::ErrorKind::HostUnreachable => "no route to host".into(),
            io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
            io::ErrorKind::TimedOut => return Failed::Silence,
            io::ErrorKind::NotFound => "there is no such socket".into(),
            io::ErrorKind::UnexpectedEof => "connection closed before an answer was whole".into(),
            _ => error.to_string(),
        })
    }
}

/// How the word on silence begins.
pub(super) const NO_ANSWER: &str = "no answer within";

fn no_answer(limit: Duration) -> String {
    match (limit.as_secs(), limit.subsec_millis()) {
        (seconds, 0) if seconds > 0 => format!("{NO_ANSWER} {seconds} s"),
        _ => format!("{NO_ANSWER} {} ms", limit.as_millis()),
    }
}
