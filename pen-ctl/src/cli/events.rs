//! `pen-ctl events`: what happened, and what happens.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::CliError;
use super::render::{Style, Tone};
use super::{Global, show};
use crate::api::event::{EventDocument, EventList, Kind, MissedDocument};
use crate::client::follow::Stream;
use crate::client::sse::ServerSent;
use crate::client::{Client, ClientError, segment};

/// Events shown when no limit is given.
const LIMIT: usize = 100;
/// Events shown at the beginning when following.
const FOLLOW_LIMIT: usize = 10;
/// From one attempt to reach a controller that went away to the next.
const RETRY: Duration = Duration::from_millis(500);
/// How often to look whether anybody still reads.
const LOOK: Duration = Duration::from_secs(1);

/// What happened, newest last.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl events
  pen-ctl events --follow
  pen-ctl events --follow --service web --kind serving,not_serving
  pen-ctl events --follow --json
  pen-ctl events --kind change --limit 20

Times are UTC. The controller keeps its newest 4096 events in memory; its log has them all. With --json --follow each
line is a document, and {\"missed\":N} stands for events that came faster than they were read. A follower waits for
the next controller when one ends; Ctrl-C ends it.")]
pub struct EventsArgs {
    /// Go on showing events as they come
    #[arg(short, long)]
    follow: bool,
    /// Only what is about this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only these kinds, with commas between: serving, not_serving, health, change, interface, drain, applied, rolled_back,
    /// started, ending, flood, trouble
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// The newest N [default: 100; with --follow 10]
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

/// Shows events.
pub fn execute(global: &Global, args: &EventsArgs) -> Result<(), CliError> {
    let limit = args.limit.unwrap_or(if args.follow { FOLLOW_LIMIT } else { LIMIT });
    let path = path(args, limit)?;
    if !args.follow {
        let answer = global.client().call(Method::GET, &path, None)?;
        return show(global, &answer, |list: &EventList| lines(list, Style::for_stdout()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::failed(format!("start the runtime: {error}")))?;
    let client = global.client();
    runtime.block_on(async {
        tokio::select! {
            // Ctrl-C is how one ends it; if that cannot be heard, the process ends by it all the same.
            Ok(()) = tokio::signal::ctrl_c() => Ok(()),
            () = nobody_reads() => Ok(()),
            outcome = follow(&client, &path, global.json) => outcome,
        }
    })
}

fn path(args: &EventsArgs, limit: usize) -> Result<String, CliError> {
    let mut path = format!("/v1/events?limit={limit}");
    if let Some(service) = &args.service {
        path.push_str(&format!("&service={}", segment(service)));
    }
    let kinds = args.kind.iter().map(|kind| kind.parse()).collect::<Result<Vec<Kind>, _>>();
    let kinds = kinds.map_err(|error| CliError::Usage(error.to_string()))?;
    if !kinds.is_empty() {
        path.push_str(&format!(
            "&kind={}",
            kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",")
        ));
    }
    Ok(path)
}

/// Prints what comes, from one controller and the next, until nobody reads it.
async fn follow(client: &Client, path: &str, json: bool) -> Result<(), CliError> {
    let style = Style::for_stdout();
    let mut stream = client.follow(path, "").await?;
    loop {
        while let Some(event) = stream.next().await {
            let line = if json { event.data } else { text(&event, style) };
            if writeln!(io::stdout().lock(), "{line}").is_err() {
                return Ok(());
            }
        }
        eprintln!("pen-ctl: the controller on {} is gone; waiting for the next", client.socket().display());
        stream = next_stream(client, path, stream).await?;
    }
}

/// Waits for a controller, and follows it from where the last one was heard.
async fn next_stream(client: &Client, path: &str, before: Stream) -> Result<Stream, CliError> {
    let last_id = before.last_id().to_owned();
    drop(before);
    loop {
        match client.follow(path, &last_id).await {
            Err(ClientError::NoController { .. }) => tokio::time::sleep(RETRY).await,
            outcome => return Ok(outcome?),
        }
    }
}

/// Completes when the other end of stdout was closed: a pipe's reader that went away would be noticed only with the
/// next event, if ever.
async fn nobody_reads() {
    loop {
        tokio::time::sleep(LOOK).await;
        let stdout = io::stdout();
        let mut asked = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
        let gone = poll(&mut asked, Some(&Timespec::default())).is_ok()
            && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        if gone {
            return;
        }
    }
}

fn lines(list: &EventList, style: Style) -> String {
    match list.events.is_empty() {
        true => "no events\n".to_owned(),
        false => list.events.iter().map(|event| line(event, style) + "\n").collect(),
    }
}

/// A server-sent event as a line for people.
fn text(sent: &ServerSent, style: Style) -> String {
    if let Ok(event) = serde_json::from_str(&sent.data) {
        return line(&event, style);
    }
    match serde_json::from_str(&sent.data) {
        Ok(MissedDocument { missed: 1 }) => "1 event was missed".to_owned(),
        Ok(MissedDocument { missed }) => format!("{missed} events were missed"),
        // Of a newer controller: better shown as it came than not at all.
        Err(_) => sent.data.escape_debug().to_string(),
    }
}

/// `2026-11-23 16:02:11.123  not_serving  web 10.0.0.12: connection refused`
fn line(event: &EventDocument, style: Style) -> String {
    let EventDocument { time, kind, message, service, backend, interface, user, .. } = event;
    let time = time.replacen('T', " ", 1);
    let tone = match kind {
        Kind::Serving => Some(Tone::Good),
        Kind::NotServing | Kind::Trouble => Some(Tone::Bad),
        Kind::Flood => Some(Tone::Attention),
        _ => None,
    };
    let padded = format!("{kind:<11}");
    let kind = tone.map_or(padded.clone(), |tone| style.paint(tone, &padded));
    let about = [service.clone(), backend.map(|backend| backend.to_string()), interface.clone()];
    let what = match about.into_iter().flatten().collect::<Vec<_>>().join(" ") {
        about if about.is_empty() || event.kind == Kind::Change => message.clone(), // names what it is about itself
        about if message.is_empty() => about,
        about => format!("{about}: {message}"),
    };
    let user = user.map(|user| format!(" (user {user})")).unwrap_or_default();
    format!("{}  {kind}  {what}{user}", style.paint(Tone::Faint, time.trim_end_matches('Z')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false };

    fn event(kind: Kind) -> EventDocument {
        EventDocument {
            id: 1,
            time: "2026-11-23T16:02:11.123Z".into(),
            kind,
            changed: None,
            message: "connection refused".into(),
            service: Some("web".into()),
            backend: Some("10.0.0.12".parse().unwrap()),
            interface: None,
            user: None,
        }
    }

    #[test]
    fn an_event_is_a_line() {
        assert_eq!(
            line(&event(Kind::NotServing), PLAIN),
            "2026-11-23 16:02:11.123  not_serving  web 10.0.0.12: connection refused"
        );
        let change =
            EventDocument { user: Some(0), backend: None, message: "removed".into(), ..event(Kind::Change) };
        assert_eq!(line(&change, PLAIN), "2026-11-23 16:02:11.123  change       removed (user 0)");
        let bare = EventDocument { service: None, backend: None, ..event(Kind::Ending) };
        assert_eq!(line(&bare, PLAIN), "2026-11-23 16:02:11.123  ending       connection refused");
        let silent = EventDocument { message: String::new(), ..event(Kind::Serving) };
        assert_eq!(line(&silent, PLAIN), "2026-11-23 16:02:11.123  serving      web 10.0.0.12");
        assert!(line(&event(Kind::Trouble), Style { colour: true }).contains("\x1b[31mtrouble"));
    }

    #[test]
    fn what_was_missed_and_what_is_not_known_are_told() {
        let text_of = |data: &str| text(&ServerSent { event: "x".into(), data: data.into() }, PLAIN);
        assert_eq!(text_of("{\"missed\":3}"), "3 events were missed");
        assert_eq!(text_of("{\"a\":\"\u{1b}\"}"), r#"{\"a\":\"\u{1b}\"}"#);
        assert!(
            text_of(&serde_json::to_string(&event(Kind::Health)).unwrap()).contains("  health       web")
        );
    }

    #[test]
    fn the_question_says_what_is_wanted() {
        let args = |kind: &[&str]| EventsArgs {
            follow: false,
            service: Some("a b".into()),
            kind: kind.iter().map(ToString::to_string).collect(),
            limit: None,
        };
        assert_eq!(
            path(&args(&["serving", "drain"]), 7).unwrap(),
            "/v1/events?limit=7&service=a%20b&kind=serving,drain"
        );
        assert!(
            matches!(path(&args(&["fine"]), 7), Err(CliError::Usage(why)) if why.contains("not_serving"))
        );
    }
}
