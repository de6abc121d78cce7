//! Exim that says 451: whoever it said that to comes again and is served by another.

use xtask::lab::address::{Family, client};
use xtask::lab::traffic::Question;
use xtask::lab::{exim, smtp};

use crate::losses::{Loss, Way};
use crate::scene::{CLIENT_PATIENCE, PACE, Plane, Scene, Trade, target};

/// Exim, to which mails are delivered.
static MAIL: Trade = Trade {
    service: ("mail", smtp::PORT, "tcp"),
    programs: &[exim::PROGRAM],
    start: exim::start,
    questions,
    // A mail takes a process of its own and a delivery.
    a_while: 2,
};

fn questions(family: Family, n: u8) -> Vec<(Way, Question)> {
    let (source, to) = (client(family, n), target(family, smtp::PORT));
    let mail = "From: client@client.lab\nTo: anybody@lab\n\nhello\n";
    vec![(Way::New, Box::new(move || smtp::deliver(source, to, CLIENT_PATIENCE, mail)))]
}

#[test]
fn a_mail_server_that_defers_is_left_out_until_it_takes_mail_again() {
    let Some(mut scene) = Scene::begin(&MAIL, Plane::Xdp, &format!("smtp,helo=pen.lab,{PACE}")) else {
        return;
    };
    let set_busy = |scene: &mut Scene, busy| {
        exim::set_busy(&scene.cluster.lab, scene.host("b2"), busy).unwrap();
    };
    scene.outage(
        "said 451",
        "b2",
        Loss::UntilNoticed,
        |scene| set_busy(scene, true),
        |scene| set_busy(scene, false),
    );
    let log = scene.log();
    assert!(log.contains("SMTP 451 too busy"), "{log}");
    scene.close();
}
