//! The lab itself, without pen: what the other tests take for granted.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use xtask::lab::address::{Family, client};
use xtask::lab::capture;
use xtask::lab::cluster::{Cluster, Kind, ask, services, target};
use xtask::lab::{dns, http};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

#[test]
fn servers_answer_with_their_names_on_their_own_addresses() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 2) else { return };
    let capture = capture::frames(&cluster.lab.switch, |_| true).unwrap();
    for host in &cluster.lab.backends {
        for (kind, family) in services() {
            let port = if kind == Kind::Web { http::PORT } else { dns::PORT };
            let to = SocketAddr::new(host.address(family), port);
            let answered =
                cluster.lab.client.namespace.run(|| ask(kind, client(family, 7), to, Duration::from_secs(5)));
            assert_eq!(answered.unwrap(), host.name);
        }
    }
    let frames = capture.stop();
    let address = client(Family::V4, 7);
    for host in &cluster.lab.backends {
        let sent = frames.iter().filter(|seen| !seen.received && seen.host == host.name);
        let mut to_client = sent.filter(|seen| seen.frame.is_to(address)).peekable();
        assert!(to_client.peek().is_some(), "the capture missed what {} sent", host.name);
        assert!(to_client.all(|seen| seen.frame.from_mac == host.mac));
    }
}

#[test]
fn nobody_answers_for_a_vip_without_a_balancer() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 2) else { return };
    for (kind, family) in services() {
        let answered = cluster
            .lab
            .client
            .namespace
            .run(|| ask(kind, client(family, 1), target(kind, family), Duration::from_millis(200)));
        assert!(answered.is_err(), "{answered:?}");
    }
}

#[test]
fn bodies_go_through_whole_both_ways() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 1) else { return };
    for family in Family::BOTH {
        let to = SocketAddr::new(cluster.address(family, "b1"), http::PORT);
        let mut connection = cluster
            .lab
            .client
            .namespace
            .run(|| http::Connection::open(client(family, 2), to, Duration::from_secs(5)))
            .unwrap();
        assert_eq!(connection.download(3_000_000, || {}).unwrap(), 3_000_000);
        assert_eq!(connection.upload(3_000_000, || {}).unwrap(), 3_000_000);
        assert_eq!(connection.who().unwrap(), "b1");
    }
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 1) else { return };
    let (name, directory) = (cluster.lab.name().to_owned(), cluster.lab.directory().to_owned());
    assert!(directory.exists());
    drop(cluster);
    let left: Vec<_> = std::fs::read_dir("/run/netns")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|found| found.starts_with(&name))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(!Path::new(&directory).exists());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&name));
}
