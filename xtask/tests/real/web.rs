//! nginx: requests on kept and on new connections, and transfers of 100 MB in whose midst backends drain and the
//! controller dies.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use xtask::lab::address::{Family, client};
use xtask::lab::cluster::CLIENT_PATIENCE;
use xtask::lab::controller::PATIENCE;
use xtask::lab::daemon::Daemon;
use xtask::lab::http::{self, Connection};
use xtask::lab::traffic::{Question, kept, totals};
use xtask::lab::{Host, Lab, Result, await_that, nginx};

use crate::story::{Application, Story, say, stranger, target};

/// Bytes of a long transfer.
const LONG: u64 = 100_000_000;
/// How long a long transfer may stand still on a busy machine.
const LONG_PATIENCE: Duration = Duration::from_secs(20);

struct Web;

impl Application for Web {
    const SERVICES: &'static [(&'static str, u16, &'static str)] = &[("web", http::PORT, "tcp")];
    const PROGRAMS: &'static [(&'static str, &'static str)] = &[nginx::PROGRAM];

    fn start(&self, lab: &Lab, host: &Host) -> Result<Daemon> {
        nginx::start(lab, host)
    }

    fn questions(&self, family: Family, n: u8) -> Vec<(&'static str, Question)> {
        let (source, to) = (client(family, n), target(family, http::PORT));
        vec![
            ("kept connection", kept(move || Connection::open(source, to, CLIENT_PATIENCE), Connection::who)),
            ("new connection", Box::new(move || http::who(source, to, CLIENT_PATIENCE))),
        ]
    }
}

#[test]
fn nginx_loses_no_request_but_those_on_a_killed_backend() {
    loses_no_request(Story::begin(Web));
}

#[test]
fn nginx_behind_the_proxy_loses_no_request_but_those_on_a_killed_backend() {
    loses_no_request(Story::behind_proxy(Web));
}

fn loses_no_request(story: Option<Story<Web>>) {
    let Some(mut story) = story else { return };
    story.play();
    let (ledger, ..) = story.close();
    let (answered, _) = totals(&ledger);
    assert!(answered > 1000, "{answered}");
    for (key, record) in &ledger {
        let other = ledger.iter().find(|(other, _)| {
            (other.family, other.client) == (key.family, key.client) && other.way != key.way
        });
        assert_eq!(record.backend, other.unwrap().1.backend, "{key:?}: one client, one backend");
    }
}

#[test]
fn transfers_of_100_mb_arrive_whole_while_backends_drain_and_the_controller_is_killed() {
    arrive_whole(Story::begin(Web), |story| {
        story.cluster.pen_mut().kill();
        story.cluster.pen_mut().start("").unwrap();
    });
}

#[test]
fn transfers_of_100_mb_through_the_proxy_arrive_whole_while_backends_drain_and_successors_take_over() {
    arrive_whole(Story::behind_proxy(Web), |story| {
        story.cluster.pen().succeed().unwrap();
        story.cluster.pen().succeed().unwrap();
    });
}

fn arrive_whole(story: Option<Story<Web>>, midway: impl FnOnce(&mut Story<Web>)) {
    let Some(mut story) = story else { return };
    let master = story.cluster.lab.directory().join("master");
    io::copy(&mut File::open("/dev/urandom").unwrap().take(LONG), &mut File::create(&master).unwrap())
        .unwrap();
    for host in &story.cluster.lab.backends {
        let place = nginx::directory(&story.cluster.lab, host).unwrap().path;
        std::fs::hard_link(&master, place.join("long")).unwrap();
    }
    let wanted = checksum(&master);
    story.undisturbed(
        "100 MB went up and down, twice, and backends drained and the controller was replaced",
        |story| {
            transfer_while(story, &master, |story| {
                story.for_backend("set", "b1", "--state drain");
                midway(story);
                story.for_backend("set", "b1", "--state up");
                story.for_backend("set", "b2", "--weight 3");
            });
        },
    );
    for family in Family::BOTH {
        assert_eq!(checksum(&downloaded(&master, family)), wanted, "downloaded over {family:?}");
        let stored: Vec<_> = story
            .cluster
            .lab
            .backends
            .iter()
            .filter_map(|host| {
                let path =
                    nginx::directory(&story.cluster.lab, host).unwrap().path.join(format!("{family:?}"));
                path.exists().then_some(path)
            })
            .collect();
        assert_eq!(stored.len(), 1, "on one backend");
        assert_eq!(checksum(&stored[0]), wanted, "uploaded over {family:?}");
    }
}

fn downloaded(master: &Path, family: Family) -> std::path::PathBuf {
    master.with_extension(format!("{family:?}"))
}

/// Sends and fetches the master over both families at once; something happens in their midst.
fn transfer_while(story: &mut Story<Web>, master: &Path, midway: impl FnOnce(&mut Story<Web>)) {
    let progress = Progress::default();
    let namespace = story.cluster.lab.client.namespace.clone();
    thread::scope(|scope| {
        for family in Family::BOTH {
            let (progress, namespace) = (&progress, &namespace);
            scope.spawn(move || {
                namespace.enter();
                let mut from = Paced(File::open(master).unwrap(), progress);
                let mut connection = connect(stranger(family, 1), family);
                connection.put(&format!("/{family:?}"), &mut from, LONG).unwrap();
            });
            scope.spawn(move || {
                namespace.enter();
                let mut into = Paced(File::create(downloaded(master, family)).unwrap(), progress);
                assert_eq!(connect(stranger(family, 2), family).get("/long", &mut into).unwrap(), LONG);
            });
        }
        await_that("all four transfers to begin", PATIENCE, || {
            let bytes = progress.bytes.load(Ordering::Relaxed);
            Ok(if bytes > LONG / 50 { Ok(()) } else { Err(bytes) })
        })
        .unwrap();
        midway(story);
        let bytes = progress.bytes.load(Ordering::Relaxed);
        progress.at_full_speed.store(true, Ordering::Relaxed);
        say(&format!(
            "it happened while {} MB of {} were on their way",
            (4 * LONG - bytes) / 1_000_000,
            4 * LONG / 1_000_000
        ));
        assert!(bytes < 4 * LONG, "the transfers were over too soon");
    });
}

fn connect(source: IpAddr, family: Family) -> Connection {
    Connection::open(source, target(family, http::PORT), LONG_PATIENCE).unwrap()
}

/// Of all transfers together.
#[derive(Default)]
struct Progress {
    bytes: AtomicU64,
    /// Until then they are paced, so that what happens in their midst does.
    at_full_speed: AtomicBool,
}

impl Progress {
    fn passed(&self, bytes: usize) -> usize {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if !self.at_full_speed.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(2));
        }
        bytes
    }
}

/// A file read or written at the pace of the transfers.
struct Paced<'a>(File, &'a Progress);

impl Read for Paced<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map(|bytes| self.1.passed(bytes))
    }
}

impl io::Write for Paced<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(from).map(|bytes| self.1.passed(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// SHA-256 of a file, as coreutils see it.
fn checksum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}
