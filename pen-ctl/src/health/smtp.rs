//! The check `smtp`: the beginning of a talk with a mail server (RFC 5321), with TLS or without (RFC 3207).

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::{Instant, timeout_at};

use super::ask::{Answer, Failed, Question};
use super::connect::{self, Line};
use super::tls::{self, Tls};
use crate::check::SmtpCheck;
use reply::Reply;

mod reply;
#[cfg(test)]
mod tests;

/// How long a farewell is waited for, at most.
const FAREWELL: Duration = Duration::from_millis(100);

/// A talk.
type Talk = BufReader<Box<dyn Line>>;

/// Asks a backend once; `tls`: with STARTTLS.
pub(super) async fn ask(question: &Question, check: &SmtpCheck, tls: Option<&Tls>) -> Result<Answer, Failed> {
    let started = Instant::now();
    let (line, here) = connect::open(question.backend, question.limit()).await?;
    let name = check.helo.clone().unwrap_or_else(|| own_name(here));
    let mut talk = BufReader::new(line);
    Reply::from(&mut talk).await?.expect(220)?;
    let hello = format!("EHLO {name}");
    let mut greeted = say(&mut talk, &hello).await?.expect(250)?;
    if let Some(tls) = tls {
        if !greeted.offers("STARTTLS") {
            return Err(Failed::Answer("SMTP: STARTTLS is not offered".into()));
        }
        say(&mut talk, "STARTTLS").await?.expect(220)?;
        talk = begin(tls, talk).await?;
        greeted = say(&mut talk, &hello).await?.expect(250)?;
    }
    // Politeness must not take so long that a good answer comes too late.
    let patience = (Instant::now() + FAREWELL).min(started + question.limit() * 3 / 4);
    if let Ok(Ok(farewell)) = timeout_at(patience, say(&mut talk, "QUIT")).await {
        farewell.is_no_refusal()?;
    }
    let how = if tls.is_some() { " after STARTTLS" } else { "" };
    Ok(Answer::new(format!("SMTP {}{how}", greeted.code())))
}

async fn say(talk: &mut Talk, command: &str) -> Result<Reply, Failed> {
    talk.write_all(format!("{command}\r\n").as_bytes()).await.map_err(|error| tls::failed(&error))?;
    talk.flush().await.map_err(|error| tls::failed(&error))?;
    Reply::from(talk).await
}

/// Begins TLS. What came before it and was not asked for would be taken for something said under its protection.
async fn begin(tls: &Tls, talk: Talk) -> Result<Talk, Failed> {
    if !talk.buffer().is_empty() {
        return Err(Failed::Answer("SMTP: more than an answer came before TLS".into()));
    }
    Ok(BufReader::new(tls.begin(talk.into_inner()).await?))
}

/// What this host calls itself: its name, else its address (RFC 5321, 4.1.3).
fn own_name(here: Option<IpAddr>) -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_str().ok().filter(|name| is_name(name));
    match (name, here) {
        (Some(name), _) => name.into(),
        (None, Some(IpAddr::V4(address))) => format!("[{address}]"),
        (None, Some(IpAddr::V6(address))) => format!("[IPv6:{address}]"),
        (None, None) => "localhost".into(),
    }
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        letters && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    name != "localhost" && name.split('.').all(is_label)
}
