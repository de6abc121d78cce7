//! What is put into the kernel goes when nobody needs it, and comes back when it went too early.

use super::*;

#[test]
fn nothing_is_left_in_the_kernel_when_nobody_asks_that_way_and_at_the_end() {
    if !can_run() {
        return;
    }
    for hook in hooks() {
        let net = net();
        net.in_balancer(async || {
            let bed = Bed::new(hook);
            for end in [false, true] {
                bed.alias(VIPS[0]).await;
                bed.alias(VIPS[1]).await;
                // Among the routes are those that lead nowhere, of both.
                assert_eq!(left(&net), (3, 1, 2), "{hook:?}");
                if end {
                    break;
                }
                bed.path.want(BTreeSet::new());
                let mut places = bed.path.places();
                places.wait_for(Places::is_empty).await.unwrap();
                // Those that lead nowhere go last.
                let routes = left(&net);
                assert!(routes == (2, 0, 0) || routes == (0, 0, 0), "{hook:?}: {routes:?}");
                await_nothing_left(&net).await;
            }
            drop(bed);
            assert_eq!(left(&net), (0, 0, 0), "{hook:?}");
        });
    }
}

#[test]
fn what_a_killed_process_left_behind_is_gone_once_the_next_one_has_looked() {
    if !can_run() {
        return;
    }
    let net = net();
    net.in_balancer(async || {
        let killed = Bed::new(Hook::Clsact);
        killed.alias(VIPS[0]).await;
        killed.path.works.lock().unwrap().kill();
        std::mem::forget(killed.path);
        assert_eq!(left(&net), (2, 1, 2));
        let next = Bed::new(Hook::Clsact);
        await_nothing_left(&net).await;
        drop(next);
    });
}

async fn await_nothing_left(net: &Net) {
    let give_up = Instant::now() + PATIENCE;
    while left(net) != (0, 0, 0) {
        assert!(Instant::now() < give_up, "{:?}", left(net));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_route_that_went_with_its_address_or_interface_comes_back() {
    if !can_run() {
        return;
    }
    let net = net();
    for vip in VIPS {
        let at = SocketAddr::new(vip.parse().unwrap(), 80);
        serve(net.in_backends(|| TcpListener::bind(at).unwrap()), 10);
    }
    net.in_balancer(async || {
        let bed = Bed::new(Hook::of_this_kernel());
        let lanes: BTreeSet<Lane> = VIPS.into_iter().map(lane).collect();
        bed.path.want(lanes.clone());
        let undo: [&[&str]; 3] = [
            &["ip link set pen0 down", "ip link set pen0 up", "ip addr replace fd09::1/64 dev pen0 nodad"],
            &["ip addr del 10.9.0.1/24 dev pen0", "ip addr add 10.9.0.1/24 dev pen0"],
            &["ip route flush proto 112", "ip -6 route flush proto 112"],
        ];
        for commands in undo {
            for lane in &lanes {
                bed.place(lane).await.unwrap();
            }
            commands.iter().for_each(|command| net.near(command));
            for lane in &lanes {
                let give_up = Instant::now() + PATIENCE;
                loop {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let place = bed.path.places().borrow().get(lane).cloned();
                    match place.map(|place| place.map(|alias| ask(SocketAddr::new(alias, 80)))) {
                        Some(Ok(Ok(_))) => break,
                        other => assert!(Instant::now() < give_up, "{commands:?}: {other:?}"),
                    }
                }
            }
        }
    });
}
