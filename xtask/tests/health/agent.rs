//! Agents on the backends that want a smaller share, or none: clients stay, newcomers go elsewhere.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::scene::{BACKENDS, PACE, Plane, Scene};
use crate::side::Side;
use crate::web::WEB;

/// The agents' port.
const PORT: u16 = 9000;

/// What an agent says.
type Word = Arc<Mutex<&'static str>>;

fn say(word: &Word, now: &'static str) {
    *word.lock().unwrap_or_else(PoisonError::into_inner) = now;
}

/// Waits until this is the share that a backend has, in both services.
fn await_weight(scene: &Scene, backend: &str, weight: u16) {
    for (service, family) in scene.services() {
        scene.await_backend(&service, scene.cluster.address(family, backend), "the share", |backend| {
            backend.effective_weight == Some(weight)
        });
    }
}

/// How many of these newcomers this backend gets.
fn share(scene: &mut Scene, backend: &str, newcomers: u8) -> usize {
    (0..newcomers).filter(|_| scene.newcomer() == backend).count()
}

#[test]
fn an_agent_that_wants_less_or_drains_keeps_its_clients_and_newcomers_go_elsewhere() {
    let words = BACKENDS.map(|_| Word::new(Mutex::new("up 100%")));
    let mut sides = Vec::<Side>::new();
    let scene = Scene::prepared(&WEB, Plane::Xdp, &format!("agent,port={PORT},{PACE}"), |scene| {
        for (name, word) in BACKENDS.into_iter().zip(&words) {
            let word = Arc::clone(word);
            let answer = move |mut stream: std::net::TcpStream| {
                let word = *word.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(stream, "{word}")
            };
            sides.push(Side::open(scene.host(name), PORT, answer));
        }
    });
    let Some(mut scene) = scene else { return };
    for (service, family) in scene.services() {
        for name in BACKENDS {
            let address = scene.cluster.address(family, name);
            scene.cluster.pen().ok(&format!("backend set {service} {address} --weight 100")).unwrap();
        }
    }
    scene.fresh_clients();
    scene.undisturbed("b2's agent wanted a hundredth of its share", |scene| {
        say(&words[1], "1%");
        await_weight(scene, "b2", 1);
    });
    // One of two hundred is meant for it.
    assert!(share(&mut scene, "b2", 30) < 6, "too many newcomers came to b2");
    scene.undisturbed("b2's agent wanted its whole share", |scene| {
        say(&words[1], "100%");
        await_weight(scene, "b2", 100);
    });
    scene.assert_reached_by_newcomers("b2");

    for (drains, wants) in [("drain", "ready"), ("0%", "100%")] {
        scene.fresh_clients();
        scene.undisturbed(&format!("b2's agent said {drains}"), |scene| {
            say(&words[1], drains);
            scene.await_serving(&["b1", "b3"]);
        });
        assert_eq!(share(&mut scene, "b2", 20), 0, "a newcomer came to b2, whose agent said {drains}");
        scene.undisturbed(&format!("b2's agent said {wants}"), |scene| {
            say(&words[1], wants);
            scene.await_serving(&BACKENDS);
        });
        scene.assert_reached_by_newcomers("b2");
    }
    scene.close();
}
