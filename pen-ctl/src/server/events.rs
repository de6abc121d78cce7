//! `GET /v1/events`: the journal's newest events as a document, or all from now on as server-sent events (WHATWG
//! HTML Living Standard, section 9.2).
//!
//! A stream takes from the journal when its client has taken what came before: a client that reads slowly, or not
//! at all, costs its connection and nothing else.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};

use super::connection::Ending;
use super::message::{Document, Failure, Query};
use crate::api::ApiError;
use crate::api::event::{Filter, MissedDocument, Position};
use crate::controller::ControllerHandle;
use crate::journal::{Follower, News};

/// After how long without events a comment says that the stream is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The header in which a client that comes back says how far it has heard.
const LAST_EVENT_ID: &str = "last-event-id";

/// Which events are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    service: Option<String>,
    /// One kind, or several with commas between.
    kind: Option<String>,
    limit: Option<usize>,
    since: Option<String>,
}

/// Answers with what happened.
pub(super) async fn events(
    State(controller): State<ControllerHandle>,
    ending: Option<Extension<Ending>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let filter = wanted.filter()?;
    let journal = controller.journal();
    if accepts(&headers, "text/event-stream") {
        // What the client itself remembers is newer than the address it was given.
        let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
        let since = position(last.or(wanted.since.as_deref()))?;
        let follower = journal.follow(filter, since.as_ref(), wanted.limit.unwrap_or(0));
        let ending = ending.map_or(Ending::NEVER, |Extension(ending)| ending);
        return Ok(Sse::new(stream(follower, ending, HEARTBEAT)).into_response());
    }
    let since = position(wanted.since.as_deref())?;
    let list = journal.list(&filter, since.as_ref(), wanted.limit.unwrap_or(usize::MAX));
    Ok(Document::of(&list)?.into_response())
}

impl Wanted {
    fn filter(&self) -> Result<Filter, ApiError> {
        let names = self.kind.iter().flat_map(|kinds| kinds.split(','));
        let kinds = names.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Filter { service: self.service.clone(), kinds })
    }
}

fn position(text: Option<&str>) -> Result<Option<Position>, ApiError> {
    // A client that has heard nothing yet may send an empty id.
    let text = text.filter(|text| !text.is_empty());
    Ok(text.map(str::parse).transpose()?)
}

/// Whether a media type is asked for by name (RFC 9110, section 12.5.1): a wildcard gets a document.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let refused = parameters.split(';').any(|parameter| {
            let weight = parameter.trim().strip_prefix("q=");
            weight.and_then(|weight| weight.trim().parse::<f32>().ok()).is_some_and(|weight| weight <= 0.0)
        });
        name.trim().eq_ignore_ascii_case(media_type) && !refused
    })
}

/// Everything the follower hears, until the server ends or, where that can be seen, nobody listens any more.
fn stream(
    follower: Follower,
    ending: Ending,
    heartbeat: Duration,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let ended = Box::pin(async move {
        tokio::select! {
            () = ending.clone().wait() => {}
            () = ending.clone().unheard() => {}
        }
    });
    unfold((follower, ended), move |(mut follower, mut ended)| async move {
        let event = tokio::select! {
            // What there is to hear comes before the end.
            biased;
            news = follower.next() => of_news(&news),
            () = &mut ended => return None,
            () = tokio::time::sleep(heartbeat) => Event::default().comment("nothing new"),
        };
        let event = event.id(follower.position().to_string());
        Some((Ok(event), (follower, ended)))
    })
}

fn of_news(news: &News) -> Event {
    match news {
        News::Event(event) => named(event.kind.name(), event.as_ref()),
        News::Missed(missed) => named("missed", &MissedDocument { missed: *missed }),
    }
}

fn named(name: &str, document: &impl Serialize) -> Event {
    // Keys are strings: cannot fail. JSON has no line breaks, and so fits one line of data.
    Event::default().event(name).data(serde_json::to_string(document).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use http_body_util::BodyExt;

    use futures_util::StreamExt;

    use super::*;
    use crate::api::event::Kind;
    use crate::journal::{Journal, Note};
    use crate::server::hangup::Watchable;

    #[tokio::test]
    async fn a_heartbeat_says_how_far_one_has_heard() {
        let journal = Journal::new();
        let only_endings = Filter { kinds: [Kind::Ending].into(), ..Filter::default() };
        let follower = journal.follow(only_endings, None, 0);
        journal.note(Note::new(Kind::Change, "not asked for"));
        let events = Sse::new(stream(follower, Ending::NEVER, Duration::from_millis(1)));
        let mut body = events.into_response().into_body();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        assert!(text.starts_with(':') && text.contains(&format!("id: {}-1\n", journal.start())), "{text:?}");
        assert!(!text.contains("data"), "{text:?}");
    }

    #[tokio::test]
    async fn it_ends_with_whoever_listened_and_not_at_the_next_heartbeat() {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let ours = Watchable::new(ours);
        let follower = Journal::new().follow(Filter::default(), None, 0);
        let ending = Ending::with(ours.hangup());
        let mut events = std::pin::pin!(stream(follower, ending, Duration::from_secs(3600)));
        assert!(futures_util::poll!(events.next()).is_pending());
        drop(theirs);
        assert!(events.next().await.is_none());
    }

    #[test]
    fn a_stream_is_for_those_who_ask_for_it_by_name() {
        for (accept, stream) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.5", true),
            ("text/event-stream;q=0", false),
            ("*/*", false),
            ("text/event-streams", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(accepts(&headers, "text/event-stream"), stream, "{accept}");
        }
    }
}
