//! NSD that gives a wrong answer, over UDP: its clients move, and not one question is lost.

use std::net::Ipv4Addr;

use xtask::lab::address::{Family, client};
use xtask::lab::cluster::vips;
use xtask::lab::daemon::Daemon;
use xtask::lab::dns::{self, Asker};
use xtask::lab::traffic::{Question, kept};
use xtask::lab::{Host, Lab, Result, nsd};

use crate::losses::{Loss, Way};
use crate::scene::{CLIENT_PATIENCE, PACE, Plane, Scene, Trade, target};

/// NSD, asked from a kept port and from new ones.
static DNS: Trade =
    Trade { service: ("dns", dns::PORT, "udp"), programs: &[nsd::PROGRAM], start, questions, a_while: 8 };

fn start(lab: &Lab, host: &Host) -> Result<Daemon> {
    nsd::start(lab, host, &vips())
}

fn questions(family: Family, n: u8) -> Vec<(Way, Question)> {
    let (source, to) = (client(family, n), target(family, dns::PORT));
    vec![
        (Way::New, Box::new(move || dns::who(source, to, CLIENT_PATIENCE))),
        (Way::Kept, kept(move || Asker::open(source, to, CLIENT_PATIENCE), Asker::who)),
    ]
}

#[test]
fn a_name_server_with_a_wrong_answer_is_left_out_until_it_is_right_and_one_that_is_killed_until_it_is_back() {
    let health = format!("dns,name=www.lab,type=A,rcode=NOERROR,answer={},{PACE}", nsd::WWW);
    let Some(mut scene) = Scene::begin(&DNS, Plane::Xdp, &health) else { return };
    let set_www = |scene: &mut Scene, www: Ipv4Addr| {
        nsd::set_www(&scene.cluster.lab, scene.host("b3"), www).unwrap();
        scene.daemon("b3").reload().unwrap();
    };
    scene.outage(
        "gave a wrong answer",
        "b3",
        Loss::Nothing,
        |scene| set_www(scene, Ipv4Addr::new(192, 0, 2, 2)),
        |scene| set_www(scene, nsd::WWW),
    );
    scene.outage("was killed", "b2", Loss::UntilNoticed, |scene| scene.kill("b2"), |scene| scene.start("b2"));
    scene.close();
}
