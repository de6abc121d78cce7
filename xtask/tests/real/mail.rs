//! Exim: every mail that was taken lies whole in the mailbox of the backend that took it, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use xtask::lab::address::{Family, client};
use xtask::lab::cluster::{CLIENT_PATIENCE, Cluster};
use xtask::lab::controller::PATIENCE;
use xtask::lab::daemon::Daemon;
use xtask::lab::traffic::Question;
use xtask::lab::{Host, Lab, Result, await_that, exim, smtp};

use crate::story::{Application, Story, say, target};

/// Mails sent, by the number in them: who took it, `None` where nobody said so.
type Sent = Arc<Mutex<BTreeMap<u32, Option<String>>>>;

#[derive(Default)]
struct Mail {
    sent: Sent,
    numbers: Arc<AtomicU32>,
}

impl Application for Mail {
    const SERVICES: &'static [(&'static str, u16, &'static str)] = &[("mail", smtp::PORT, "tcp")];
    const PROGRAMS: &'static [(&'static str, &'static str)] = &[exim::PROGRAM];
    // A mail takes a process of its own and a delivery.
    const A_WHILE: u64 = 3;

    fn start(&self, lab: &Lab, host: &Host) -> Result<Daemon> {
        exim::start(lab, host)
    }

    fn questions(&self, family: Family, n: u8) -> Vec<(&'static str, Question)> {
        let (source, to) = (client(family, n), target(family, smtp::PORT));
        let (sent, numbers) = (Arc::clone(&self.sent), Arc::clone(&self.numbers));
        let deliver = move || {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            let taken = smtp::deliver(source, to, CLIENT_PATIENCE, &mail(number));
            sent.lock().unwrap().insert(number, taken.as_ref().ok().cloned());
            taken
        };
        vec![("a mail", Box::new(deliver))]
    }
}

/// A mail with its number in it; every hundredth is a long one.
fn mail(number: u32) -> String {
    let body: String = (0..if number % 100 == 7 { 20_000 } else { 20 })
        .map(|line| format!(".{number} {line} {}\n", "x".repeat(line % 70)))
        .collect();
    format!("From: client@client.lab\nTo: anybody@lab\nSubject: mail {number}\n\n{body}")
}

#[test]
fn every_mail_taken_is_found_whole_in_the_mailbox_of_exactly_one_backend() {
    every_mail_is_found(Story::begin(Mail::default()));
}

#[test]
fn behind_the_proxy_every_mail_taken_is_found_whole_in_the_mailbox_of_exactly_one_backend() {
    every_mail_is_found(Story::behind_proxy(Mail::default()));
}

fn every_mail_is_found(story: Option<Story<Mail>>) {
    let Some(mut story) = story else { return };
    story.play();
    let (_, cluster, application) = story.close();
    let sent = application.sent.lock().unwrap().clone();
    let taken: BTreeMap<u32, &str> =
        sent.iter().filter_map(|(number, by)| Some((*number, by.as_deref()?))).collect();
    // A server that was killed delivers what it had taken once it is back; the others are soon done.
    let found = await_that("every mail taken to be in a mailbox", PATIENCE, || {
        let found = mailboxes(&cluster)?;
        let missing = taken.keys().find(|number| !found.contains_key(number)).copied();
        Ok(missing.map_or(Ok(found), Err))
    })
    .unwrap();
    say(&format!("{} mails sent, {} taken, {} found", sent.len(), taken.len(), found.len()));
    for (number, places) in &found {
        assert_eq!(places.len(), 1, "mail {number} is on more than one backend: {places:?}");
        if let Some(by) = taken.get(number) {
            assert!(places.contains(*by), "mail {number} was taken by {by} and is on {places:?}");
        }
    }
}

/// In whose mailboxes each mail is; each must be whole.
fn mailboxes(cluster: &Cluster) -> Result<BTreeMap<u32, BTreeSet<String>>> {
    let mut found = BTreeMap::<u32, BTreeSet<String>>::new();
    for host in &cluster.lab.backends {
        for stored in exim::mailbox(&cluster.lab, host)? {
            // Exim puts its own headers before the mail's.
            let (_, rest) = stored.split_once("\nSubject: mail ").unwrap();
            let number: u32 = rest.split('\n').next().unwrap().parse().unwrap();
            assert!(stored.ends_with(&mail(number)), "mail {number} in {}'s mailbox: {stored}", host.name);
            found.entry(number).or_default().insert(host.name.clone());
        }
    }
    Ok(found)
}
