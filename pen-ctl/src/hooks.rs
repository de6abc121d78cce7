//! Programs that hear of what happens to the backends of their service: `on_change`.
//!
//! Each service's program runs once for each event, one after the other, beside the controller, which never waits for it:
//! what happens meanwhile is kept by the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use crate::api::event::{EventDocument, Filter, Kind};
use crate::background::Background;
use crate::journal::{Follower, Journal, News};
use crate::program::Program;
use crate::state::desired::Service;

/// How long a program may take for one event.
const LIMIT: Duration = Duration::from_secs(10);
/// What is told: who begins and who ceases to serve, who is being emptied, and what somebody should look at.
const TOLD: [Kind; 4] = [Kind::Serving, Kind::NotServing, Kind::Drain, Kind::Trouble];

/// The programs, each with the task that runs it, by service.
#[derive(Default)]
pub(crate) struct Hooks {
    running: BTreeMap<String, (Vec<String>, Background)>,
}

impl Hooks {
    /// Has exactly these services' programs hear of what happens from now on. Must be called inside a tokio runtime where
    /// one of them has a program.
    pub(crate) fn follow(&mut self, services: &[Service], journal: &Journal) {
        let wanted: BTreeMap<&str, &Vec<String>> = services
            .iter()
            .filter(|service| !service.on_change.is_empty())
            .map(|service| (service.name.as_str(), &service.on_change))
            .collect();
        self.running.retain(|name, (command, _)| wanted.get(name.as_str()) == Some(&&*command));
        for (name, command) in wanted {
            if self.running.contains_key(name) {
                continue;
            }
            let filter = Filter { service: Some(name.to_owned()), kinds: TOLD.into() };
            let environment = vec![("PEN_SERVICE", name.to_owned())];
            let program = Program { command: command.clone(), environment };
            let task = Background::spawn(tell(name.to_owned(), program, journal.follow(filter, None, 0)));
            self.running.insert(name.to_owned(), (command.clone(), task));
        }
    }
}

/// Tells a program of events, for as long as this lives. Its troubles go to the log alone: in the journal they would be
/// events that it is told of.
async fn tell(service: String, program: Program, mut follower: Follower) {
    loop {
        let event = match follower.next().await {
            // Of one that goes on as it was, for another reason: no change.
            News::Event(event) if event.changed == Some(false) => continue,
            News::Event(event) => event,
            News::Missed(count) => {
                warn!(service, "on_change is too slow: {count} events came and went unheard");
                continue;
            }
        };
        let trouble = match timeout(LIMIT, program.run(&line(&event))).await {
            Ok(Ok(ended)) => ended.failure(),
            Ok(Err(error)) => Some(format!("start it: {error}")),
            Err(_) => Some(format!("killed after {} s: it took too long", LIMIT.as_secs())),
        };
        if let Some(trouble) = trouble {
            let program = program.command.first().map(String::as_str).unwrap_or_default();
            warn!(service, "on_change: {program}: {trouble}");
        }
    }
}

/// An event as a line of JSON.
fn line(event: &Arc<EventDocument>) -> Vec<u8> {
    // Words and numbers: cannot fail.
    let mut line = serde_json::to_vec(event.as_ref()).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Note;

    fn service(name: &str, script: &str) -> Service {
        let vip = "10.0.0.100:80/tcp".parse().unwrap();
        let on_change = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Service { on_change, ..Service::new(name.into(), vip) }
    }

    fn note(journal: &Journal, service: &str, kind: Kind, message: &str) {
        journal.note(Note { service: Some(service.into()), ..Note::new(kind, message) });
    }

    /// Waits until the file has so many lines.
    async fn lines(path: &std::path::Path, count: usize) -> Vec<serde_json::Value> {
        for _ in 0..3000 {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.lines().count() >= count && text.ends_with('\n') {
                return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", std::fs::read_to_string(path));
    }

    #[tokio::test]
    async fn it_hears_of_changes_of_its_own_service_in_order_and_a_failure_does_not_end_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("heard");
        let (journal, mut hooks) = (Journal::new(), Hooks::default());
        note(&journal, "web", Kind::Serving, "before");
        let web = service("web", &format!("cat >> {}; exit 1", path.display()));
        hooks.follow(std::slice::from_ref(&web), &journal);
        note(&journal, "dns", Kind::Serving, "another's");
        note(&journal, "web", Kind::Change, "of no interest");
        note(&journal, "web", Kind::NotServing, "health check failed: connection refused");
        let (service, recovering) = (Some("web".into()), Note::new(Kind::NotServing, "recovering"));
        journal.note(Note { service, changed: Some(false), ..recovering });
        note(&journal, "web", Kind::Serving, "connected in 0.2 ms");
        let heard = lines(&path, 2).await;
        let told = |number: usize| {
            (heard[number]["kind"].as_str().unwrap(), heard[number]["message"].as_str().unwrap())
        };
        assert_eq!(told(0), ("not_serving", "health check failed: connection refused"));
        assert_eq!(told(1), ("serving", "connected in 0.2 ms"));
        // The same again changes nothing; gone, it hears nothing more.
        hooks.follow(&[web], &journal);
        hooks.follow(&[], &journal);
        note(&journal, "web", Kind::Serving, "unheard");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(lines(&path, 2).await.len(), 2);
    }

    #[tokio::test]
    async fn one_that_hangs_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("heard");
        let (journal, mut hooks) = (Journal::new(), Hooks::default());
        let hangs = service("web", "sleep 1000");
        let tells = service("dns", &format!("cat >> {}", path.display()));
        hooks.follow(&[hangs, tells], &journal);
        for number in 0..10 {
            note(&journal, "web", Kind::Serving, "hang");
            note(&journal, "dns", Kind::Serving, &number.to_string());
        }
        assert_eq!(lines(&path, 10).await.len(), 10);
    }
}
