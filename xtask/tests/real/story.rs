//! What every kind of server goes through: clients come, backends are added, weighted, drained, removed, killed and
//! come back; after each step it is known which requests failed, and why that was right.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pen_ctl::api::document::StatusDocument;
use xtask::lab::address::{Family, client, vip};
use xtask::lab::cluster::{Cluster, HEALTH};
use xtask::lab::controller::PATIENCE;
use xtask::lab::daemon::Daemon;
use xtask::lab::traffic::{self, Failure, Ledger, Question, Traffic, clients_of, failures, moved};
use xtask::lab::{Host, Lab, Result, await_that};

/// Clients of each family that come at a time.
const WAVE: u8 = 6;
/// From one round of a client's questions to the next.
const PAUSE: Duration = Duration::from_millis(25);

/// Somebody who asks: one address, one way of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) family: Family,
    pub(crate) client: u8,
    pub(crate) way: &'static str,
}

/// A kind of server and how it is asked.
pub(crate) trait Application {
    /// Its services, one for each protocol: name, port, protocol. All on one VIP for each family.
    const SERVICES: &'static [(&'static str, u16, &'static str)];
    /// The programs it takes, each with its package.
    const PROGRAMS: &'static [(&'static str, &'static str)];

    /// How many answers each client gets after a step before the next one.
    const A_WHILE: u64 = 8;

    /// Starts the server on a backend.
    fn start(&self, lab: &Lab, host: &Host) -> Result<Daemon>;

    /// How the `n`-th client asks: a name for each way, and what asks once.
    fn questions(&self, family: Family, n: u8) -> Vec<(&'static str, Question)>;
}

/// An application behind pen, with its clients.
pub(crate) struct Story<A> {
    pub(crate) application: A,
    pub(crate) traffic: Traffic<Key>,
    daemons: BTreeMap<String, Daemon>,
    waves: u8,
    pub(crate) cluster: Cluster,
}

impl<A: Application> Story<A> {
    /// b1 and b2 serve and the first clients are there; the server of b3 runs, but pen does not know it yet.
    pub(crate) fn begin(application: A) -> Option<Self> {
        let cluster = Cluster::without_servers_for_test(env!("CARGO_BIN_EXE_xtask"), 3, A::PROGRAMS)?;
        cluster.pen().ok("attach eth0").unwrap();
        Some(Self::with(cluster, application))
    }

    /// The same behind the proxy.
    pub(crate) fn behind_proxy(application: A) -> Option<Self> {
        let cluster = Cluster::proxied_for_test(env!("CARGO_BIN_EXE_xtask"), 3, A::PROGRAMS)?;
        let story = Self::with(cluster, application);
        // A backend that drains stays for as long as it has sessions.
        for (name, family, ..) in services::<A>().filter(|(.., protocol)| *protocol == "udp") {
            story.pen(&format!("service set {} --idle-timeout 3s", named(name, family)));
        }
        Some(story)
    }

    fn with(cluster: Cluster, application: A) -> Self {
        let traffic = Traffic::new(cluster.lab.client.namespace.clone());
        let mut story = Self { application, traffic, daemons: BTreeMap::new(), waves: 0, cluster };
        ["b1", "b2", "b3"].into_iter().for_each(|name| story.start(name));
        for (name, family, at, protocol) in services::<A>() {
            let health = format!("{HEALTH},port={}", at.port());
            story.pen(&format!("service add {} {at}/{protocol} --health {health}", named(name, family)));
        }
        ["b1", "b2"].into_iter().for_each(|name| story.for_backend("add", name, ""));
        story.await_serving(&["b1", "b2"]);
        story.newcomers();
        story
    }

    /// All steps, each with what must be true of it.
    pub(crate) fn play(&mut self) {
        self.undisturbed("b3 was added", |story| {
            story.for_backend("add", "b3", "");
            story.await_serving(&["b1", "b2", "b3"]);
            assert!(story.newcomers().contains("b3"), "nobody new came to b3");
        });
        self.undisturbed("b3 got five times the weight, and once again", |story| {
            story.for_backend("set", "b3", "--weight 5");
            story.for_backend("set", "b3", "--weight 1");
        });
        self.undisturbed("b3 was drained, to be removed", |story| {
            story.for_backend("remove", "b3", "--drain 1h --no-wait");
            story.await_serving(&["b1", "b2"]);
            assert!(!story.newcomers().contains("b3"), "a newcomer came to b3, which was draining");
        });
        let last_of_b3 = clients_of(&self.traffic.ledger(), "b3");
        assert!(!last_of_b3.is_empty(), "b3 kept nobody");
        self.undisturbed("b3's clients had gone home, were forgotten, and it was removed", |story| {
            story.traffic.end(&last_of_b3);
            for family in Family::BOTH {
                // Where none of a family's clients were on it, it has been removed already.
                let line = format!("client forget --backend {}", story.cluster.address(family, "b3"));
                let outcome = story.cluster.pen().cli(&line).unwrap();
                let is_gone = outcome.stderr.contains("no service has a backend");
                assert!(outcome.code == Some(0) || is_gone, "{outcome:?}");
            }
            story.await_removal("b3");
        });
        self.killed("b2");
        self.undisturbed("b2 was back", |story| {
            story.start("b2");
            story.await_serving(&["b1", "b2"]);
            assert!(story.newcomers().contains("b2"), "nobody new came to b2");
        });
    }

    /// Does something that nobody may notice: not one request fails, nobody moves.
    pub(crate) fn undisturbed(&mut self, what: &str, step: impl FnOnce(&mut Self)) {
        let (before, began) = (self.traffic.ledger(), Instant::now());
        step(self);
        self.await_answers();
        let after = self.traffic.ledger();
        let failed = failures(&before, &after);
        report(what, began, &before, &after, &failed);
        assert!(failed.is_empty(), "requests failed when {what}: {failed:#?}\n{}", self.cluster.pen().log());
        assert_eq!(moved(&before, &after), BTreeSet::new(), "{what}\n{}", self.cluster.pen().log());
    }

    /// Kills the server of a backend. Requests of its clients may fail that were asked before pen left it out, or on
    /// a connection that died with it; its clients move; nobody else notices.
    fn killed(&mut self, backend: &str) {
        let (before, began) = (self.traffic.ledger(), Instant::now());
        let theirs = clients_of(&before, backend);
        assert!(!theirs.is_empty(), "{backend} has nobody to lose");
        drop(self.daemons.remove(backend));
        self.await_serving(&["b1"]);
        let left_out = Instant::now();
        await_that("the clients of the killed to be answered by others", PATIENCE, || {
            let left = clients_of(&self.traffic.ledger(), backend);
            Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
        })
        .unwrap();
        self.await_answers();
        let after = self.traffic.ledger();
        let failed = failures(&before, &after);
        report(&format!("{backend} was killed"), began, &before, &after, &failed);
        for (key, failure) in &failed {
            assert!(theirs.contains(key), "{key:?} never was on {backend}: {failure:?}");
            // What was under way when it was looked, and the first afterwards, may be on a connection that died.
            let on_a_dead_connection = failure.nth <= before[key].asked() + 2;
            assert!(
                failure.asked <= left_out || on_a_dead_connection,
                "{key:?} failed {:?} after {backend} was left out: {failure:?}, of {}; lost for want of room: {:?}\n{}",
                failure.asked - left_out,
                before[key].asked(),
                self.cluster.lab.udp_overflows(),
                self.cluster.pen().log(),
            );
        }
        assert_eq!(moved(&before, &after), theirs, "its clients move, and nobody else");
    }

    /// Six more clients of each family begin; returns who answers them.
    fn newcomers(&mut self) -> BTreeSet<String> {
        let numbers = self.waves * WAVE + 1..=(self.waves + 1) * WAVE;
        self.waves += 1;
        for (n, family) in numbers.clone().flat_map(|n| Family::BOTH.map(|family| (n, family))) {
            let questions = self.application.questions(family, n);
            let questions =
                questions.into_iter().map(|(way, question)| (Key { family, client: n, way }, question));
            self.traffic.begin(PAUSE, questions.collect());
        }
        self.await_answers();
        let ledger = self.traffic.ledger();
        let new = ledger.iter().filter(|(key, _)| numbers.contains(&key.client));
        new.filter_map(|(_, record)| record.backend.clone()).collect()
    }

    /// Waits until everybody at work got some more answers.
    pub(crate) fn await_answers(&self) {
        let before = self.traffic.ledger();
        let asking: BTreeSet<Key> = self.traffic.asking().collect();
        await_that("everybody to be answered again", PATIENCE, || {
            let ledger = self.traffic.ledger();
            let waits = asking.iter().find(|key| ledger[key].answered < before[key].answered + A::A_WHILE);
            Ok(waits.map_or(Ok(()), |key| Err(format!("{key:?}: {:?}", ledger[key]))))
        })
        .unwrap();
    }

    fn start(&mut self, name: &str) {
        let host = self.cluster.lab.backend(name).unwrap();
        let daemon = self.application.start(&self.cluster.lab, host).unwrap();
        self.daemons.insert(name.to_owned(), daemon);
    }

    /// Has a line done for a backend in all services.
    pub(crate) fn for_backend(&self, what: &str, backend: &str, words: &str) {
        for (name, family, ..) in services::<A>() {
            let address = self.cluster.address(family, backend);
            self.pen(&format!("backend {what} {} {address} {words}", named(name, family)));
        }
    }

    /// Waits until exactly these get newcomers, in all services.
    pub(crate) fn await_serving(&self, backends: &[&str]) {
        for (name, family, ..) in services::<A>() {
            let addresses = self.cluster.addresses(family, backends);
            self.cluster.pen().await_serving(&named(name, family), &addresses).unwrap();
        }
    }

    /// Waits until no service has this backend any more.
    fn await_removal(&self, backend: &str) {
        let addresses = Family::BOTH.map(|family| self.cluster.address(family, backend));
        let gone = |status: &StatusDocument| {
            let mut backends = status.services.iter().flat_map(|service| &service.backends);
            backends.all(|backend| backend.address.ip().is_none_or(|ip| !addresses.contains(&ip)))
        };
        self.cluster.pen().await_status(&format!("{backend} to be removed"), gone).unwrap();
    }

    fn pen(&self, line: &str) {
        self.cluster.pen().ok(line).unwrap();
    }

    /// Everybody goes home; says how many were answered.
    pub(crate) fn close(self) -> (Ledger<Key>, Cluster, A) {
        let ledger = self.traffic.close();
        let (answered, failed) = traffic::totals(&ledger);
        say(&format!("in all: {answered} requests answered, {failed} failed"));
        (ledger, self.cluster, self.application)
    }
}

/// Name, family, address and protocol of each service.
fn services<A: Application>() -> impl Iterator<Item = (&'static str, Family, SocketAddr, &'static str)> {
    A::SERVICES.iter().flat_map(|&(name, port, protocol)| {
        Family::BOTH.map(|family| (name, family, target(family, port), protocol))
    })
}

fn named(name: &str, family: Family) -> String {
    match family {
        Family::V4 => name.to_owned(),
        Family::V6 => format!("{name}6"),
    }
}

/// Where a service is.
pub(crate) fn target(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(vip(family, 1), port)
}

/// The address of a client that comes with no wave.
pub(crate) fn stranger(family: Family, n: u8) -> std::net::IpAddr {
    client(family, 100 + n)
}

/// Says how many requests were answered and failed meanwhile.
fn report(what: &str, began: Instant, before: &Ledger<Key>, after: &Ledger<Key>, failed: &[(Key, Failure)]) {
    let answered = traffic::totals(after).0 - traffic::totals(before).0;
    let whose: BTreeSet<u8> = failed.iter().map(|(key, _)| key.client).collect();
    let took = began.elapsed().as_secs_f32();
    say(&format!(
        "{what}: {answered} requests answered in {took:.1} s, {} failed{}",
        failed.len(),
        if whose.is_empty() { String::new() } else { format!(", of clients {whose:?}") }
    ));
}

/// Tells a number that was seen, past the test harness, which would hide what a passing test prints.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "    {what}");
}
