//! The acts of the demo, in order.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use super::claims::{Claims, check_answered};
use super::screen::Screen;
use super::tally::{self, Tally};
use super::traffic::{Family, Ledger, Traffic, begin};
use crate::lab::cluster::{Cluster, Programs, service_name, services, vips};
use crate::lab::traffic::{clients_of, failures, moved, totals};
use crate::lab::{Error, Plan, Result, sys};

const PICTURE: &str = "
 clients ──── asks the VIP ───▶ pen ── same packet, other MAC ──▶ b1 b2 b3
    ▲                                                               │
    └───────────── answers, from the VIP, directly ─────────────────┘";
/// Clients of each family in the first act, and how many come new in each later one that has newcomers.
const CLIENTS: u8 = 10;
/// How many answers each client gets before the story goes on.
const A_WHILE: u64 = 30;
/// How long anything may take before the demo calls it failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Size of the transfers in whose midst the controller is killed.
const TRANSFER: u64 = 20_000_000;

/// What the acts share.
struct Stage {
    screen: Screen,
    claims: Claims,
    traffic: Traffic,
    cluster: Cluster,
}

/// Plays; gives whether everything claimed was so.
pub(super) fn play() -> Result<bool> {
    let screen = Screen::new();
    screen.act("A network of namespaces on this machine: clients, a balancer, three backends, a switch");
    screen.say(PICTURE);
    let ourselves = env::current_exe().map_err(|e| Error::io("find this program", e))?;
    let plan = Plan { prefix: "pen-demo", balancers: 1, backends: 3, clients: 3 * CLIENTS };
    let cluster = Cluster::build(&plan, Programs::beside(&ourselves))?;
    let traffic = Traffic::new(cluster.lab.client.namespace.clone());
    let mut stage = Stage { screen, claims: Claims::default(), traffic, cluster };
    let counting = tally::start(&stage.cluster.lab, vips())?;
    stage.set_up()?;
    stage.traffic_flows()?;
    stage.a_backend_dies()?;
    stage.it_comes_back()?;
    stage.another_drains()?;
    stage.the_controller_is_killed()?;
    let Stage { screen, mut claims, traffic, cluster } = stage;
    let ledger = traffic.close();
    sum_up(&screen, &mut claims, &ledger, &counting.stop());
    drop(cluster);
    screen.say("Everything is cleaned up.");
    Ok(claims.all_held())
}

impl Stage {
    /// pen is started, attached and told of four services.
    fn set_up(&mut self) -> Result<()> {
        self.screen.act("pen starts: XDP on the balancer's eth0, four services, three backends each");
        self.screen.command("pen-ctl run &");
        self.cluster.pen_mut().start("")?;
        self.screen.command("pen-ctl attach eth0");
        let web = vips()[0];
        self.screen.command(&format!(
            "pen-ctl service add web {web}:80/tcp --health {}",
            crate::lab::cluster::HEALTH
        ));
        for backend in &self.cluster.lab.backends {
            self.screen.command(&format!("pen-ctl backend add web {}", backend.address(Family::V4)));
        }
        self.screen.say("… and the same for web6, dns and dns6");
        self.cluster.configure(0, &["b1", "b2", "b3"])
    }

    fn traffic_flows(&mut self) -> Result<()> {
        self.screen.act(&format!("{} clients ask for HTTP and DNS, over IPv4 and IPv6", 2 * CLIENTS));
        self.screen.say("Below, each digit is a client: the number of the backend that answered it last.");
        begin(&mut self.traffic, 1..=CLIENTS);
        let before = self.traffic.ledger();
        let after = self.watch_a_while()?;
        check_answered(&mut self.claims, &self.screen, &before, &after);
        let stayed = moved(&before, &after).is_empty();
        self.claims.check(&self.screen, stayed, "every client was answered by one and the same backend");
        let shared = ["b1", "b2", "b3"].iter().all(|backend| !clients_of(&after, backend).is_empty());
        self.claims.check(&self.screen, shared, "all three backends have clients");
        let status = self.cluster.pen().ok("status")?;
        self.screen.command("pen-ctl status");
        self.screen.say(&status);
        Ok(())
    }

    fn a_backend_dies(&mut self) -> Result<()> {
        self.screen.act("The servers of b2 are killed");
        let before = self.traffic.ledger();
        let orphans = clients_of(&before, "b2");
        self.cluster.kill_server("b2");
        self.watch_until("b2's clients to move to the others", |ledger| {
            clients_of(ledger, "b2").is_empty() && ledger.values().all(|record| !record.failing)
        })?;
        let after = self.watch_a_while()?;
        let (moved, failed) = (moved(&before, &after), failures(&before, &after));
        let text = format!("its {} clients moved, and nobody else", orphans.len());
        self.claims.check(&self.screen, moved == orphans, &text);
        let text = "questions went unanswered only on b2, and only until the health check saw it";
        self.claims.check(&self.screen, failed.iter().all(|(key, _)| orphans.contains(key)), text);
        Ok(())
    }

    fn it_comes_back(&mut self) -> Result<()> {
        self.screen.act("The servers of b2 are started again, and new clients come");
        let before = self.traffic.ledger();
        self.cluster.start_server("b2")?;
        self.cluster.await_serving(&["b1", "b2", "b3"])?;
        begin(&mut self.traffic, CLIENTS + 1..=2 * CLIENTS);
        let after = self.watch_a_while()?;
        self.claims.check(&self.screen, !clients_of(&after, "b2").is_empty(), "b2 got some of the newcomers");
        self.claims.check(&self.screen, moved(&before, &after).is_empty(), "nobody else was disturbed");
        check_answered(&mut self.claims, &self.screen, &before, &after);
        Ok(())
    }

    fn another_drains(&mut self) -> Result<()> {
        self.screen.act("b3 is drained, and more new clients come");
        let before = self.traffic.ledger();
        for (kind, family) in services() {
            let line = format!(
                "backend set {} {} --state drain",
                service_name(kind, family),
                self.cluster.address(family, "b3")
            );
            self.screen.command(&format!("pen-ctl {line}"));
            self.cluster.pen().ok(&line)?;
        }
        self.cluster.await_serving(&["b1", "b2"])?;
        begin(&mut self.traffic, 2 * CLIENTS + 1..=3 * CLIENTS);
        let after = self.watch_a_while()?;
        let (had, has) = (clients_of(&before, "b3"), clients_of(&after, "b3"));
        self.claims.check(
            &self.screen,
            had == has,
            &format!("b3 kept its {} clients and got no new one", had.len()),
        );
        check_answered(&mut self.claims, &self.screen, &before, &after);
        Ok(())
    }

    fn the_controller_is_killed(&mut self) -> Result<()> {
        self.screen.act("The controller is killed with SIGKILL in mid-traffic, and started again");
        let before = self.traffic.ledger();
        let mut transfer =
            self.cluster.connect(Family::V4, 1).map_err(|e| Error::io("connect to the VIP", e))?;
        let controller = &mut self.cluster.controllers[0];
        let sent =
            transfer.upload(TRANSFER, || controller.kill()).map_err(|e| Error::io("send to the VIP", e));
        self.screen.command("kill -9 $(pidof pen-ctl)");
        self.watch_a_while()?;
        self.screen.command("pen-ctl run &");
        self.cluster.pen_mut().start("")?;
        let after = self.watch_a_while()?;
        let whole = sent.is_ok_and(|bytes| bytes == TRANSFER);
        let text =
            format!("a transfer of {} MB, in whose midst it died, arrived whole", TRANSFER / 1_000_000);
        self.claims.check(&self.screen, whole, &text);
        check_answered(&mut self.claims, &self.screen, &before, &after);
        self.claims.check(
            &self.screen,
            moved(&before, &after).is_empty(),
            "every client stayed on its backend",
        );
        Ok(())
    }

    /// Shows live who answers, until every client has got some more answers.
    fn watch_a_while(&self) -> Result<Ledger> {
        let before = self.traffic.ledger();
        self.watch_until("more answers to every client", |ledger| {
            let got = |key| before.get(key).map_or(0, |record| record.answered);
            ledger.iter().all(|(key, record)| record.answered >= got(key) + A_WHILE)
        })
    }

    /// Shows live who answers, until the ledger is as wanted.
    fn watch_until(&self, what: &str, wanted: impl Fn(&Ledger) -> bool) -> Result<Ledger> {
        let end = Instant::now() + PATIENCE;
        loop {
            let ledger = self.traffic.ledger();
            if sys::interrupted() {
                return Err(Error::Interrupted);
            }
            if wanted(&ledger) {
                self.screen.stay(&ledger);
                return Ok(ledger);
            }
            if Instant::now() > end {
                self.screen.stay(&ledger);
                return Err(Error::Timeout { what: what.to_owned(), bound: PATIENCE, last: String::new() });
            }
            self.screen.live(&ledger);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn sum_up(screen: &Screen, claims: &mut Claims, ledger: &Ledger, tally: &Tally) {
    screen.act("Sum-up");
    let (answered, failed) = totals(ledger);
    screen
        .say(&format!("questions: {answered} answered, {failed} not (b2's, until its death was found out)"));
    let row = |what: &str, count: tally::Count| {
        screen.say(&format!("{what:<32} {:>9} packets {:>12} bytes", count.packets, count.bytes));
    };
    row("clients → pen", tally.to_balancer);
    row("pen → backends", tally.to_backends);
    row("backends → clients, past pen", tally.past_balancer);
    row("backends → clients, through pen", tally.back_through_balancer);
    let direct = tally.past_balancer.packets > 0 && tally.back_through_balancer.packets == 0;
    claims.check(screen, direct, "every answer went directly back; pen carried only the way there");
}
