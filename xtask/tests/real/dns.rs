//! NSD: questions over UDP and TCP, each counted, beside dnsperf, which asks faster.

use std::net::IpAddr;

use xtask::lab::address::{Family, client};
use xtask::lab::cluster::{CLIENT_PATIENCE, vips};
use xtask::lab::daemon::Daemon;
use xtask::lab::dns::{self, Asker};
use xtask::lab::dnsperf::{self, Dnsperf};
use xtask::lab::traffic::{Question, kept};
use xtask::lab::{Host, Lab, Result, nsd, tcp};

use crate::story::{Application, Story, say, stranger, target};

struct Dns;

impl Application for Dns {
    const SERVICES: &'static [(&'static str, u16, &'static str)] =
        &[("dns", dns::PORT, "udp"), ("dnstcp", dns::PORT, "tcp")];
    const PROGRAMS: &'static [(&'static str, &'static str)] = &[nsd::PROGRAM, dnsperf::PROGRAM];

    fn start(&self, lab: &Lab, host: &Host) -> Result<Daemon> {
        nsd::start(lab, host, &vips())
    }

    fn questions(&self, family: Family, n: u8) -> Vec<(&'static str, Question)> {
        let (source, to) = (client(family, n), target(family, dns::PORT));
        vec![
            ("UDP", kept(move || Asker::open(source, to, CLIENT_PATIENCE), Asker::who)),
            ("UDP, new port", Box::new(move || dns::who(source, to, CLIENT_PATIENCE))),
            ("TCP, kept", kept(move || tcp::connect(source, to, CLIENT_PATIENCE), dns::who_over_tcp)),
            (
                "TCP, new",
                Box::new(move || dns::who_over_tcp(&mut tcp::connect(source, to, CLIENT_PATIENCE)?)),
            ),
        ]
    }
}

#[test]
fn nsd_loses_no_question_but_those_to_a_killed_backend() {
    loses_no_question(Story::begin(Dns));
}

#[test]
fn nsd_behind_the_proxy_loses_no_question_but_those_to_a_killed_backend() {
    loses_no_question(Story::behind_proxy(Dns));
}

fn loses_no_question(story: Option<Story<Dns>>) {
    let Some(mut story) = story else { return };
    let load = Load::on(&story, "b1");
    story.play();
    load.stop();
    story.close();
}

/// dnsperf over both protocols and families, from clients that stay where they are.
struct Load(Vec<(String, Dnsperf)>);

impl Load {
    /// Finds clients whom this backend answers and lets dnsperf ask from their addresses.
    fn on(story: &Story<Dns>, backend: &str) -> Self {
        let lab = &story.cluster.lab;
        let each = Family::BOTH.into_iter().flat_map(|family| ["udp", "tcp"].map(|mode| (family, mode)));
        Self(
            each.map(|(family, mode)| {
                let to = target(family, dns::PORT);
                let is_there = |&source: &IpAddr| {
                    let who = lab.client.namespace.run(|| match mode {
                        "udp" => dns::who(source, to, CLIENT_PATIENCE),
                        _ => dns::who_over_tcp(&mut tcp::connect(source, to, CLIENT_PATIENCE)?),
                    });
                    who.unwrap() == backend
                };
                let source = (1..=20).map(|n| stranger(family, n)).find(is_there).unwrap();
                let dnsperf = Dnsperf::start(lab, source, to, mode).unwrap();
                (format!("dnsperf over {mode} to {to} from {source}"), dnsperf)
            })
            .collect(),
        )
    }

    /// Not one question was lost, and each was answered with what was asked for.
    fn stop(self) {
        for (what, dnsperf) in self.0 {
            let counts = dnsperf.stop().unwrap();
            say(&format!("{what}: {counts:?}"));
            assert!(counts.sent > 100, "{what}: {counts:?}");
            assert_eq!(counts.lost, 0, "{what}");
            assert_eq!(counts.no_error, counts.sent, "{what}: {counts:?}");
        }
    }
}
