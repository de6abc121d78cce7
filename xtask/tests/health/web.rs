//! nginx that is killed, frozen, walled off or alone in failing its checks; all of them at once; panic, and a program of
//! `on_change` that hangs.

use std::fs;
use std::process::Command;

use pen_ctl::dataplane::HealthStatus;
use rustix::process::Pid;
use xtask::lab::address::{Family, client};
use xtask::lab::http::{self, Connection};
use xtask::lab::traffic::{Question, kept};
use xtask::lab::{Host, nginx};

use crate::losses::{Loss, Way};
use crate::scene::{BACKENDS, CLIENT_PATIENCE, PACE, Plane, Scene, Trade, target};

/// The firewall's program, and Debian's package.
pub(crate) const NFT: (&str, &str) = ("nft", "nftables");

/// nginx, asked on a kept connection and on new ones.
pub(crate) static WEB: Trade = Trade {
    service: ("web", http::PORT, "tcp"),
    programs: &[nginx::PROGRAM, NFT],
    start: nginx::start,
    questions,
    a_while: 4,
};

fn questions(family: Family, n: u8) -> Vec<(Way, Question)> {
    let (source, to) = (client(family, n), target(family, http::PORT));
    vec![
        (Way::New, Box::new(move || http::who(source, to, CLIENT_PATIENCE))),
        (Way::Kept, kept(move || Connection::open(source, to, CLIENT_PATIENCE), Connection::who)),
    ]
}

/// nginx on three backends, which are well as long as they have a file `healthz`.
pub(crate) fn begin(plane: Plane) -> Option<Scene> {
    let health = format!("http,path=/healthz,{PACE}");
    Scene::prepared(&WEB, plane, &health, |scene| BACKENDS.into_iter().for_each(|name| well(scene, name)))
}

fn well(scene: &Scene, name: &str) {
    nginx::directory(&scene.cluster.lab, scene.host(name)).unwrap().write("healthz", "well\n").unwrap();
}

/// From now on its checks get a 404; it serves all the same.
fn unwell(scene: &Scene, name: &str) {
    let directory = nginx::directory(&scene.cluster.lab, scene.host(name)).unwrap();
    fs::remove_file(directory.path.join("healthz")).unwrap();
}

/// Has a host's firewall treat what comes to the web server so: `drop`, `reject with tcp reset`.
fn wall(host: &Host, verdict: &str) {
    let port = http::PORT;
    nft(
        host,
        &format!(
            "table inet wall {{ chain input {{ type filter hook input priority 0; tcp dport {port} {verdict}; }}; }}"
        ),
    );
}

fn unwall(host: &Host) {
    nft(host, "delete table inet wall");
}

fn nft(host: &Host, rules: &str) {
    let output = host.namespace.run(|| Command::new("nft").arg(rules).output()).unwrap();
    assert!(output.status.success(), "{rules}: {output:?}");
}

fn is_killed(scene: &mut Scene, name: &str) {
    let killed = |scene: &mut Scene| {
        scene.kill(name);
        // Not merely passed over by the proxy because it refused somebody: that would outlast its return.
        for (service, family) in scene.services() {
            scene.await_backend(&service, scene.cluster.address(family, name), "the death", |backend| {
                backend.health.status == HealthStatus::Down
            });
        }
    };
    scene.outage("was killed", name, Loss::UntilNoticed, killed, |scene| scene.start(name));
}

fn is_frozen(scene: &mut Scene, name: &str) {
    let frozen = |scene: &mut Scene| scene.daemon(name).freeze().unwrap();
    let thawed = |scene: &mut Scene| scene.daemon(name).thaw().unwrap();
    scene.outage("was frozen", name, Loss::UntilNoticed, frozen, thawed);
}

fn is_walled_off(scene: &mut Scene, name: &str, verdict: &str, loss: Loss) {
    let walled = |scene: &mut Scene| wall(scene.host(name), verdict);
    let unwalled = |scene: &mut Scene| unwall(scene.host(name));
    scene.outage(&format!("had a firewall: {verdict}"), name, loss, walled, unwalled);
}

#[test]
fn of_a_web_server_that_dies_or_falls_silent_only_its_own_clients_lose_and_only_until_it_is_noticed() {
    let Some(mut scene) = begin(Plane::Xdp) else { return };
    is_killed(&mut scene, "b2");
    is_frozen(&mut scene, "b3");
    is_walled_off(&mut scene, "b1", "drop", Loss::UntilNoticed);
    is_walled_off(&mut scene, "b2", "reject with tcp reset", Loss::UntilNoticed);
    let (unwell, well) = (|scene: &mut Scene| unwell(scene, "b3"), |scene: &mut Scene| well(scene, "b3"));
    scene.outage("answered checks by 404", "b3", Loss::OnTheWay, unwell, well);
    scene.fresh_clients();
    scene.eclipse("all were killed and started again", |scene| {
        BACKENDS.into_iter().for_each(|name| scene.kill(name));
        scene.await_serving(&[]);
        BACKENDS.into_iter().for_each(|name| scene.start(name));
    });
    scene.close();
}

#[test]
fn the_same_holds_behind_the_proxy() {
    let Some(mut scene) = begin(Plane::Proxy) else { return };
    is_killed(&mut scene, "b2");
    is_frozen(&mut scene, "b3");
    is_walled_off(&mut scene, "b1", "drop", Loss::Kept);
    scene.close();
}

#[test]
fn when_most_checks_fail_while_servers_serve_clients_stay_and_all_servers_get_newcomers() {
    let Some(mut scene) = begin(Plane::Xdp) else { return };
    scene.set(&["--panic", "60"]);
    scene.fresh_clients();
    // Two of three are well: enough.
    scene.leaves("failed its checks", "b1", Loss::OnTheWay, |scene| unwell(scene, "b1"));
    scene.undisturbed("b2 failed its checks, too: panic", |scene| {
        unwell(scene, "b2");
        scene.await_serving(&BACKENDS);
    });
    BACKENDS.into_iter().for_each(|name| scene.assert_reached_by_newcomers(name));
    // Two are well again, so that b2, which is not, is left out.
    let b1_is_well = |scene: &mut Scene| well(scene, "b1");
    scene.leaves("was the only one unwell", "b2", Loss::OnTheWay, b1_is_well);
    scene.returns("b2", |scene| well(scene, "b2"));
    scene.close();
}

/// Whether the program runs on the balancer.
fn hangs(scene: &Scene) -> bool {
    let processes = scene.cluster.lab.balancers[0].namespace.processes().into_iter();
    let words = |pid: Pid| fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    processes.map(words).any(|words| words == b"/bin/sleep\x001000\0")
}

#[test]
fn a_program_of_on_change_that_hangs_delays_neither_failover_nor_the_controller() {
    let Some(mut scene) = begin(Plane::Xdp) else { return };
    scene.set(&["--on-change", "/bin/sleep 1000"]);
    is_killed(&mut scene, "b2");
    assert!(hangs(&scene), "the program does not run\n{}", scene.log());
    scene.fresh_clients();
    scene.leaves("was killed meanwhile", "b3", Loss::UntilNoticed, |scene| scene.kill("b3"));
    assert!(hangs(&scene), "the program does not run any more\n{}", scene.log());
    scene.close();
}
