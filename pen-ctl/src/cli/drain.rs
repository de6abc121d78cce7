//! `pen-ctl backend remove --drain`: begins it, and shows how far it is until the backend is gone.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::error::CliError;
use super::render::{self, number, span};
use super::values::body;
use super::{Global, wait_for};
use crate::api::document::{BackendDocument, ChangeDocument, DrainDocument};
use crate::api::{ApiError, ErrorCode};
use crate::client::{Client, ClientError, segment};
use crate::state::text;

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);
/// From one line to the next, where lines cannot be written over.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How long no controller may answer: it may be on its way to its successor. The deadline holds meanwhile.
const WITHOUT_CONTROLLER: Duration = Duration::from_secs(30);

/// A backend that is being removed.
pub(super) struct Leaving<'a> {
    /// The service's name.
    pub(super) service: &'a str,
    /// The backend's address.
    pub(super) address: &'a str,
    /// Its path in the API.
    pub(super) path: &'a str,
}

/// Has the backend drained within `time`, and waits until it is gone, unless told not to.
pub(super) fn remove(global: &Global, leaving: &Leaving<'_>, time: &str, wait: bool) -> Result<(), CliError> {
    text::duration(time).map_err(ApiError::from)?;
    wait_for(begin(global, leaving, time, wait))
}

async fn begin(global: &Global, leaving: &Leaving<'_>, time: &str, wait: bool) -> Result<(), CliError> {
    // Before anything is begun: whoever interrupts is told what goes on.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| CliError::failed(format!("listen for signals: {error}")))?;
    let client = global.client();
    refuse_older(&client, leaving).await?;
    let path = format!("{}?drain={}", leaving.path, segment(time));
    let begun = client.send(Method::DELETE, &path, None).await?;
    let drain = begun.read::<BackendDocument>()?.drain;
    if !wait {
        let Leaving { service, address, .. } = leaving;
        let left = span(drain.map_or(0, |drain| drain.seconds_left));
        let line = format!("backend {address} of {service} is draining; it is removed within {left}");
        render::print(if global.json { &begun.text } else { &line });
        return Ok(());
    }
    let mut progress = Progress::new(global.json);
    progress.show(leaving, drain.as_ref());
    let outcome = tokio::select! {
        outcome = until_gone(&client, leaving, &mut progress) => outcome,
        _ = interrupt.recv() => Ok(false),
    };
    progress.end();
    if !outcome? {
        return Err(interrupted(leaving, progress.last.as_ref()));
    }
    let document = ChangeDocument { changed: true, warnings: Vec::new(), forwards: None };
    render::print(&if global.json { body(&document)? } else { removed(leaving, &progress) });
    Ok(())
}

/// A controller from before there were drains would not see that one is asked for, and remove the backend at once.
async fn refuse_older(client: &Client, leaving: &Leaving<'_>) -> Result<(), CliError> {
    let document: serde_json::Value = client.send(Method::GET, leaving.path, None).await?.read()?;
    if document.get("drain").is_some() {
        return Ok(());
    }
    Err(CliError::failed("the controller is an older version that does not know drains; upgrade it first"))
}

/// Looks every second until the backend is not there any more: true.
async fn until_gone(
    client: &Client,
    leaving: &Leaving<'_>,
    progress: &mut Progress,
) -> Result<bool, CliError> {
    let mut silent_since = None;
    loop {
        sleep(LOOK).await;
        let looked = client.send(Method::GET, leaving.path, None).await;
        match looked.and_then(|answer| answer.read::<BackendDocument>()) {
            Ok(document) if document.drain.is_none() => {
                return Err(taken_back(leaving));
            }
            Ok(document) => {
                silent_since = None;
                progress.show(leaving, document.drain.as_ref());
            }
            Err(ClientError::Refused(error)) if error.code == ErrorCode::NotFound => return Ok(true),
            Err(error @ ClientError::NoController { .. }) => {
                let since = *silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() > WITHOUT_CONTROLLER {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn taken_back(leaving: &Leaving<'_>) -> CliError {
    let Leaving { service, address, .. } = leaving;
    CliError::failed(format!(
        "backend {address} of {service} stays: somebody gave it another state; `pen-ctl events --service {service}` shows who"
    ))
}

fn interrupted(leaving: &Leaving<'_>, last: Option<&DrainDocument>) -> CliError {
    let Leaving { service, address, .. } = leaving;
    let left = last.map_or_else(String::new, |drain| format!(" within {}", span(drain.seconds_left)));
    CliError::Interrupted(format!(
        "backend {address} of {service} goes on draining and is removed{left}; \
         `pen-ctl backend set {service} {address} --state up` takes it back"
    ))
}

fn removed(leaving: &Leaving<'_>, progress: &Progress) -> String {
    let left = progress.last.as_ref().and_then(|drain| drain.clients_left).unwrap_or_default();
    let left = match left {
        0 => String::new(),
        left => format!(" ({} were left when last counted)", number(left)),
    };
    let took = span(progress.start.elapsed().as_secs());
    format!("backend {} removed from {} after {took}{left}", leaving.address, leaving.service)
}

/// How far it is: one line, written over on a terminal, else said again now and then.
struct Progress {
    start: Instant,
    quiet: bool,
    terminal: bool,
    said: Option<Instant>,
    last: Option<DrainDocument>,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { start: Instant::now(), quiet, terminal, said: None, last: None }
    }

    fn show(&mut self, leaving: &Leaving<'_>, drain: Option<&DrainDocument>) {
        self.last = drain.cloned();
        let Some(drain) = drain.filter(|_| !self.quiet) else { return };
        if !self.terminal && self.said.is_some_and(|said| said.elapsed() < LINE_EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        let line = line(leaving, drain);
        let mut stderr = std::io::stderr().lock();
        // Who does not look is told nothing.
        let _ = match self.terminal {
            true => write!(stderr, "\r\x1b[K{line}"),
            false => writeln!(stderr, "{line}"),
        };
        let _ = stderr.flush();
    }

    /// What comes next begins on a line of its own.
    fn end(&self) {
        if self.terminal && self.said.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(leaving: &Leaving<'_>, drain: &DrainDocument) -> String {
    let left = span(drain.seconds_left);
    format!("draining {} of {}: {}; {left} left", leaving.address, leaving.service, drain.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_and_its_interruption_say_what_is_left_and_how_to_take_it_back() {
        let leaving = Leaving { service: "web", address: "10.0.0.12", path: "" };
        let drain = DrainDocument {
            remove_at: "2026-01-01T12:00:00Z".into(),
            seconds_left: 250,
            clients_left: Some(12),
            clients_seen_last_minute: Some(3),
            detail: "12 clients left, 3 of them seen in the last minute".into(),
        };
        assert_eq!(
            line(&leaving, &drain),
            "draining 10.0.0.12 of web: 12 clients left, 3 of them seen in the last minute; 4m 10s left"
        );
        let told = interrupted(&leaving, Some(&drain)).to_string();
        assert!(told.contains("removed within 4m 10s"), "{told}");
        assert!(told.contains("`pen-ctl backend set web 10.0.0.12 --state up`"), "{told}");
    }
}
