//! What readers of the journal may count on.

use super::*;

fn note(journal: &Journal, count: u64) {
    for _ in 0..count {
        journal.note(Note::new(Kind::Change, "something"));
    }
}

fn ids(list: &EventList) -> Vec<u64> {
    list.events.iter().map(|event| event.id).collect()
}

fn all(journal: &Journal, since: u64) -> Follower {
    journal.follow(Filter::default(), Some(&Position { start: None, id: since }), 0)
}

/// What a follower hears before it would have to wait.
async fn heard(follower: &mut Follower) -> Vec<News> {
    let mut heard = Vec::new();
    while let Ok(news) = tokio::time::timeout(std::time::Duration::ZERO, follower.next()).await {
        heard.push(news);
    }
    heard
}

fn event_ids(news: &[News]) -> Vec<u64> {
    news.iter()
        .map(|news| match news {
            News::Event(event) => event.id,
            News::Missed(_) => panic!("{news:?}"),
        })
        .collect()
}

#[test]
fn the_newest_are_listed_oldest_first() {
    let journal = Journal::new();
    note(&journal, 5);
    let every = Filter::default();
    assert_eq!(ids(&journal.list(&every, None, 100)), [1, 2, 3, 4, 5]);
    assert_eq!(ids(&journal.list(&every, None, 2)), [4, 5]);
    let since = |text: &str| ids(&journal.list(&every, Some(&text.parse().unwrap()), 100));
    assert_eq!(since("3"), [4, 5]);
    assert_eq!(since(&format!("{}-4", journal.start())), [5]);
    assert_eq!(since("0123-4"), [1, 2, 3, 4, 5], "another run's ids say nothing about ours");
    assert_eq!(since("99"), [] as [u64; 0]);
}

#[test]
fn the_ring_keeps_the_newest_and_no_more_and_messages_are_cut() {
    let journal = Journal::new();
    note(&journal, KEPT as u64 + 10);
    let kept = journal.list(&Filter::default(), None, usize::MAX);
    assert_eq!((kept.events.len(), kept.events[0].id), (KEPT, 11));
    journal.note(Note::new(Kind::Change, "ü".repeat(LONGEST_MESSAGE)));
    let long = journal.list(&Filter::default(), None, 1).events.remove(0).message;
    assert!(long.len() <= LONGEST_MESSAGE + '…'.len_utf8() && long.ends_with("ü…"), "{}", long.len());
}

#[test]
fn filters_go_by_service_and_kind() {
    let journal = Journal::new();
    for (kind, service) in [
        (Kind::Serving, Some("web")),
        (Kind::Health, Some("web")),
        (Kind::Serving, Some("dns")),
        (Kind::Ending, None),
    ] {
        journal.note(Note { service: service.map(str::to_owned), ..Note::new(kind, "") });
    }
    let listed = |service: Option<&str>, kinds: &[Kind]| {
        let filter = Filter { service: service.map(str::to_owned), kinds: kinds.iter().copied().collect() };
        ids(&journal.list(&filter, None, 100))
    };
    assert_eq!(listed(Some("web"), &[]), [1, 2]);
    assert_eq!(listed(None, &[Kind::Serving]), [1, 3]);
    assert_eq!(listed(Some("web"), &[Kind::Health, Kind::Ending]), [2]);
    assert_eq!(listed(Some("wbe"), &[]), [] as [u64; 0]);
}

#[tokio::test]
async fn a_follower_hears_everything_in_order_from_where_it_asked() {
    let journal = Journal::new();
    note(&journal, 3);
    let mut resumed = all(&journal, 1);
    let mut fresh = journal.follow(Filter::default(), None, 0);
    let mut with_backlog = journal.follow(Filter::default(), None, 2);
    assert_eq!(event_ids(&heard(&mut resumed).await), [2, 3]);
    note(&journal, 2);
    assert_eq!(event_ids(&heard(&mut resumed).await), [4, 5]);
    assert_eq!(event_ids(&heard(&mut fresh).await), [4, 5]);
    assert_eq!(event_ids(&heard(&mut with_backlog).await), [2, 3, 4, 5]);
    assert_eq!(resumed.position().to_string(), format!("{}-5", journal.start()));
}

#[tokio::test]
async fn a_follower_that_waits_wakes_up_for_what_it_wants_only() {
    let journal = Journal::new();
    let filter = Filter { service: None, kinds: [Kind::Ending].into() };
    let mut follower = journal.follow(filter, None, 0);
    let waiting = tokio::spawn(async move { follower.next().await });
    tokio::task::yield_now().await;
    note(&journal, 3);
    journal.note(Note::new(Kind::Ending, "over"));
    assert!(matches!(waiting.await.unwrap(), News::Event(event) if event.message == "over"));
}

#[tokio::test]
async fn who_falls_behind_is_told_how_much_was_missed() {
    let journal = Journal::new();
    let mut follower = all(&journal, 0);
    note(&journal, KEPT as u64 + 7);
    assert_eq!(follower.next().await, News::Missed(7));
    let rest = heard(&mut follower).await;
    assert_eq!(event_ids(&rest), (8..=KEPT as u64 + 7).collect::<Vec<_>>());
}
