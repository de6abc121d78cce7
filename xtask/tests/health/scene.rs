//! Three backends behind pen, and clients who ask all the time while something happens to one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pen_ctl::api::document::{BackendDocument, StatusDocument};
use xtask::lab::address::{Family, vip};
use xtask::lab::cluster::Cluster;
use xtask::lab::controller::PATIENCE;
use xtask::lab::daemon::Daemon;
use xtask::lab::traffic::{Ledger, Question, Traffic, clients_of, failures, moved, totals};
use xtask::lab::{Host, Lab, Result, await_that};

use crate::losses::{Key, Loss, Way, report, say};

/// The backends.
pub(crate) const BACKENDS: [&str; 3] = ["b1", "b2", "b3"];
/// How often and how strictly they are checked: one who refuses is noticed within half a second, one who is silent within
/// two. Nobody is held down, since they die again and again.
pub(crate) const PACE: &str = "interval=200ms,timeout=500ms,rise=1,fall=2,max_hold=0s";
/// How long a client waits for anything.
pub(crate) const CLIENT_PATIENCE: Duration = Duration::from_secs(3);
/// Clients of each family that come at a time.
const WAVE: u8 = 5;
/// So many addresses the clients have of each family.
const ADDRESSES: u8 = 120;
/// From one round of a client's questions to the next.
const PAUSE: Duration = Duration::from_millis(40);

/// What servers serve, and how they are asked.
pub(crate) struct Trade {
    /// Name, port and protocol of its service.
    pub(crate) service: (&'static str, u16, &'static str),
    /// The programs it takes, each with its package.
    pub(crate) programs: &'static [(&'static str, &'static str)],
    /// Starts a server.
    pub(crate) start: fn(&Lab, &Host) -> Result<Daemon>,
    /// How the `n`-th client asks.
    pub(crate) questions: fn(Family, u8) -> Vec<(Way, Question)>,
    /// How many answers everybody gets after a step before the next one.
    pub(crate) a_while: u64,
}

/// What packets go through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    Xdp,
    Proxy,
}

/// The backends with their clients.
pub(crate) struct Scene {
    trade: &'static Trade,
    traffic: Traffic<Key>,
    daemons: BTreeMap<String, Daemon>,
    next_client: u8,
    sum: (u64, u64),
    pub(crate) cluster: Cluster,
}

impl Scene {
    /// All serve, checked this way.
    pub(crate) fn begin(trade: &'static Trade, plane: Plane, health: &str) -> Option<Self> {
        Self::prepared(trade, plane, health, |_| {})
    }

    /// The same, with something done to each host before its server starts.
    pub(crate) fn prepared(
        trade: &'static Trade,
        plane: Plane,
        health: &str,
        mut prepare: impl FnMut(&Scene),
    ) -> Option<Self> {
        let (xtask, count) = (env!("CARGO_BIN_EXE_xtask"), BACKENDS.len() as u8);
        let cluster = match plane {
            Plane::Xdp => Cluster::without_servers_for_test(xtask, count, trade.programs)?,
            Plane::Proxy => Cluster::proxied_for_test(xtask, count, trade.programs)?,
        };
        if plane == Plane::Xdp {
            cluster.pen().ok("attach eth0").unwrap();
        }
        let traffic = Traffic::new(cluster.lab.client.namespace.clone());
        let mut scene =
            Self { trade, traffic, daemons: BTreeMap::new(), next_client: 1, sum: (0, 0), cluster };
        prepare(&scene);
        BACKENDS.into_iter().for_each(|name| scene.start(name));
        let (_, port, protocol) = trade.service;
        for (service, family) in scene.services() {
            let at = target(family, port);
            scene.pen(&format!("service add {service} {at}/{protocol} --health {health}"));
            for backend in BACKENDS {
                let address = scene.cluster.address(family, backend);
                scene.pen(&format!("backend add {service} {address}"));
            }
        }
        scene.await_serving(&BACKENDS);
        Some(scene)
    }

    /// A backend fails and recovers, which clients see who have just come. Only its own move, and they stay where they
    /// went.
    pub(crate) fn outage(
        &mut self,
        what: &str,
        backend: &str,
        loss: Loss,
        fails: impl FnOnce(&mut Self),
        recovers: impl FnOnce(&mut Self),
    ) {
        self.fresh_clients();
        self.leaves(what, backend, loss, fails);
        self.returns(backend, recovers);
    }

    /// Everybody goes home and is forgotten; others come, until each backend has clients.
    pub(crate) fn fresh_clients(&mut self) {
        self.send_home();
        self.traffic = Traffic::new(self.cluster.lab.client.namespace.clone());
        self.pen("client forget --all");
        self.next_client = 1;
        while BACKENDS.iter().any(|backend| clients_of(&self.traffic.ledger(), backend).is_empty()) {
            for n in self.next_client..self.next_client + WAVE {
                for family in Family::BOTH {
                    let questions = (self.trade.questions)(family, n).into_iter();
                    let questions =
                        questions.map(|(way, question)| (Key { family, client: n, way }, question));
                    self.traffic.begin(PAUSE, questions.collect());
                }
            }
            self.next_client += WAVE;
            assert!(self.next_client < ADDRESSES / 2, "some backend gets nobody\n{}", self.log());
            self.await_answers();
        }
    }

    /// One of those who serve does not any more: its clients move, and newcomers go elsewhere.
    pub(crate) fn leaves(&mut self, what: &str, backend: &str, loss: Loss, step: impl FnOnce(&mut Self)) {
        let (before, began) = (self.traffic.ledger(), Instant::now());
        let theirs = clients_of(&before, backend);
        assert!(!theirs.is_empty(), "{backend} has nobody to lose");
        step(self);
        let others: Vec<_> = BACKENDS.into_iter().filter(|other| *other != backend).collect();
        self.await_serving(&others);
        let left_out = Instant::now();
        self.await_left(backend);
        self.await_answers();
        let after = self.traffic.ledger();
        report(&format!("{backend} {what}"), began, &before, &after);
        self.assert_losses(&before, &after, &theirs, left_out, loss);
        assert_eq!(moved(&before, &after), theirs, "its clients move, and nobody else\n{}", self.log());
        let newcomers: Vec<_> = (0..6).map(|_| self.newcomer()).collect();
        assert!(!newcomers.iter().any(|who| who == backend), "a newcomer came to {backend}: {newcomers:?}");
    }

    /// Nobody but these lost a question, and they none but those that had to be.
    pub(crate) fn assert_losses(
        &self,
        before: &Ledger<Key>,
        after: &Ledger<Key>,
        theirs: &BTreeSet<Key>,
        noticed: Instant,
        loss: Loss,
    ) {
        let checked = loss.check(before, after, theirs, noticed);
        checked.unwrap_or_else(|wrong| panic!("{wrong}\n{}", self.log()));
    }

    /// A backend serves again; nobody notices but newcomers.
    pub(crate) fn returns(&mut self, backend: &str, step: impl FnOnce(&mut Self)) {
        self.undisturbed(&format!("{backend} was back"), |scene| {
            step(scene);
            scene.await_serving(&BACKENDS);
        });
        self.assert_reached_by_newcomers(backend);
    }

    /// Does something that nobody may notice: not one request fails, nobody moves.
    pub(crate) fn undisturbed(&mut self, what: &str, step: impl FnOnce(&mut Self)) {
        let (before, began) = (self.traffic.ledger(), Instant::now());
        step(self);
        self.await_answers();
        let after = self.traffic.ledger();
        report(what, began, &before, &after);
        let failed = failures(&before, &after);
        assert!(failed.is_empty(), "requests failed when {what}: {failed:#?}\n{}", self.log());
        assert_eq!(moved(&before, &after), BTreeSet::new(), "{what}\n{}", self.log());
    }

    /// All backends are out of reach and come back. Whoever was lost is answered again as soon as all serve, and stays
    /// where that is.
    pub(crate) fn eclipse(&mut self, what: &str, step: impl FnOnce(&mut Self)) {
        let (before, began) = (self.traffic.ledger(), Instant::now());
        step(self);
        self.await_serving(&BACKENDS);
        let back = Instant::now();
        self.await_answers();
        let after = self.traffic.ledger();
        report(what, began, &before, &after);
        let everybody = before.keys().copied().collect();
        self.assert_losses(&before, &after, &everybody, back, Loss::UntilNoticed);
        self.undisturbed("all were back for a while", |_| {});
    }

    /// One question of somebody who was never there, which must be answered; gives by whom.
    pub(crate) fn newcomer(&mut self) -> String {
        let n = self.next_client;
        self.next_client += 1;
        assert!(n <= ADDRESSES, "no addresses are left for newcomers");
        let family = Family::BOTH[usize::from(n % 2)];
        let (_, question) = (self.trade.questions)(family, n).remove(0);
        let answered = self.cluster.lab.client.namespace.run(question);
        answered.unwrap_or_else(|error| panic!("newcomer {n} of {family:?}: {error}\n{}", self.log()))
    }

    /// Sooner or later a newcomer is answered by this backend.
    pub(crate) fn assert_reached_by_newcomers(&mut self, backend: &str) {
        let came = (0..40).any(|_| self.newcomer() == backend);
        assert!(came, "nobody new came to {backend}\n{}", self.log());
    }

    /// Who is at work, and who answers them.
    pub(crate) fn ledger(&self) -> Ledger<Key> {
        self.traffic.ledger()
    }

    /// Waits until nobody is answered by this backend any more.
    fn await_left(&self, backend: &str) {
        await_that(&format!("the clients of {backend} to be answered by others"), PATIENCE, || {
            let left = clients_of(&self.traffic.ledger(), backend);
            Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", self.log())) })
        })
        .unwrap();
    }

    /// Waits until everybody at work got some more answers.
    pub(crate) fn await_answers(&self) {
        let before = self.traffic.ledger();
        let asking: BTreeSet<Key> = self.traffic.asking().collect();
        await_that("everybody to be answered again", PATIENCE, || {
            let ledger = self.traffic.ledger();
            let wanted = |key| before[key].answered + self.trade.a_while;
            let waits = asking.iter().find(|key| ledger[key].answered < wanted(key));
            Ok(waits.map_or(Ok(()), |key| Err(format!("{key:?}: {:?}\n{}", ledger[key], self.log()))))
        })
        .unwrap();
    }

    /// Waits until exactly these get newcomers, in both services.
    pub(crate) fn await_serving(&self, backends: &[&str]) {
        for (service, family) in self.services() {
            let addresses = self.cluster.addresses(family, backends);
            self.cluster.pen().await_serving(&service, &addresses).unwrap();
        }
    }

    /// Waits until a backend of a service is as wanted.
    pub(crate) fn await_backend(
        &self,
        service: &str,
        address: IpAddr,
        what: &str,
        wanted: impl Fn(&BackendDocument) -> bool,
    ) {
        let what = format!("{what} of {address} in {service}");
        let is_it = |found: &BackendDocument| found.address.ip() == Some(address) && wanted(found);
        let found = |status: &StatusDocument| {
            let service = status.services.iter().find(|found| found.name == service);
            service.is_some_and(|service| service.backends.iter().any(is_it))
        };
        self.cluster.pen().await_status(&what, found).unwrap();
    }

    /// Starts a server (again).
    pub(crate) fn start(&mut self, name: &str) {
        let daemon = (self.trade.start)(&self.cluster.lab, self.host(name)).unwrap();
        self.daemons.insert(name.to_owned(), daemon);
    }

    /// SIGKILL to all of a server.
    pub(crate) fn kill(&mut self, name: &str) {
        drop(self.daemons.remove(name));
    }

    /// The server of a backend.
    pub(crate) fn daemon(&self, name: &str) -> &Daemon {
        &self.daemons[name]
    }

    /// The host of a backend.
    pub(crate) fn host(&self, name: &str) -> &Host {
        self.cluster.lab.backend(name).unwrap()
    }

    /// Both services, by name and family.
    pub(crate) fn services(&self) -> [(String, Family); 2] {
        let name = self.trade.service.0;
        [(name.to_owned(), Family::V4), (format!("{name}6"), Family::V6)]
    }

    /// Has `service set` done with these words, for both services.
    pub(crate) fn set(&self, words: &[&str]) {
        for (service, _) in self.services() {
            let words = [&["service", "set", &service], words].concat();
            let outcome = self.cluster.pen().cli_words(&words).unwrap();
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
        }
    }

    fn pen(&self, line: &str) {
        self.cluster.pen().ok(line).unwrap();
    }

    /// What the controller said.
    pub(crate) fn log(&self) -> String {
        self.cluster.pen().log()
    }

    fn send_home(&mut self) {
        self.traffic.end(&self.traffic.asking().collect());
        let (answered, failed) = totals(&self.traffic.ledger());
        self.sum = (self.sum.0 + answered, self.sum.1 + failed);
    }

    /// Everybody goes home; says how many were answered.
    pub(crate) fn close(mut self) {
        self.send_home();
        say(&format!("in all: {} requests answered, {} failed", self.sum.0, self.sum.1));
    }
}

/// Where a service is.
pub(crate) fn target(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(vip(family, 1), port)
}
