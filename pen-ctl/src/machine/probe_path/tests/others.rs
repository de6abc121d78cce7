//! Others on the same interface: their filters and queueing disciplines, and second controllers.

use super::*;

#[test]
fn filters_that_others_removed_come_back() {
    if !can_run() {
        return;
    }
    let net = net();
    net.in_balancer(async || {
        let bed = Bed::new(Hook::Clsact);
        for undo in [
            &["filter del dev pen0 egress"][..],
            &["filter del dev pen0 ingress"],
            &["qdisc del dev pen0 clsact", "qdisc add dev pen0 clsact"],
        ] {
            bed.alias(VIPS[0]).await;
            undo.iter().for_each(|words| drop(net.near_tc(words)));
            assert!(left(&net).2 < 2);
            let give_up = Instant::now() + PATIENCE;
            while left(&net).2 != 2 {
                assert!(Instant::now() < give_up, "{undo:?}: {:?}", left(&net));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
}

/// Adds a filter of somebody else, for both ways.
fn add_filters(net: &Net, filter: &str) {
    for way in ["egress", "ingress"] {
        net.near_tc(&format!("filter add dev pen0 {way} {filter}"));
    }
}

/// Waits until a probe address leads to the VIP, and sees to it that nothing goes out with it meanwhile.
async fn await_answer(bed: &Bed, tap: &mut socket2::Socket, vip: &str) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let place = bed.path.places().borrow().get(&lane(vip)).cloned();
        let answer = place.map(|place| place.map(|alias| ask(SocketAddr::new(alias, 80)).map(|_| alias)));
        if let Some(Ok(Ok(alias))) = answer {
            return assert_eq!(with_address(tap, alias), 0, "{alias} left");
        }
        assert!(Instant::now() < give_up, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn filters_of_others_that_end_the_line_come_after_ours() {
    if !can_run() {
        return;
    }
    let classic = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&classic, "1,6 0 0 4294967295,").unwrap();
    let ours = format!("pref 1 protocol all bpf bytecode-file {} flowid 1:1", classic.path().display());
    for filter in [
        "pref 112 protocol all u32 match u32 0 0 flowid 1:1",
        "pref 112 protocol ip u32 match u32 0 0 flowid 1:1",
        "pref 2 protocol all u32 match u32 0 0 flowid 1:1",
        &ours,
    ] {
        for before in [true, false] {
            let net = net();
            for vip in VIPS {
                let at = SocketAddr::new(vip.parse().unwrap(), 80);
                serve(net.in_backends(|| TcpListener::bind(at).unwrap()), 10);
            }
            let mut tap = net.in_backends(tap);
            net.in_balancer(async || {
                if before {
                    net.near_tc("qdisc add dev pen0 clsact");
                    add_filters(&net, filter);
                }
                let bed = Bed::new(Hook::Clsact);
                bed.path.want(VIPS.into_iter().map(lane).collect());
                await_answer(&bed, &mut tap, VIPS[0]).await;
                if !before {
                    // Where ours is already, only its like can be.
                    add_filters(&net, &filter.replace("pref 112", "pref 50"));
                    // It is not known in an instant; until it is, questions may go unanswered.
                    tokio::time::sleep(LOOK_AGAIN + LOOK_AGAIN / 2).await;
                    while tap.read(&mut [0; 65_536]).is_ok() {}
                }
                for vip in VIPS {
                    await_answer(&bed, &mut tap, vip).await;
                }
                drop(bed);
                let shown = net.near_tc("filter show dev pen0 egress");
                assert!(shown.contains("pref") && !shown.contains("pen_probe"), "{shown}");
            });
        }
    }
}

#[test]
fn nothing_is_asked_past_a_filter_that_nothing_can_come_before_and_nothing_leaves() {
    if !can_run() {
        return;
    }
    let net = net();
    add_default_route(&net);
    net.in_balancer(async || {
        let mut bed = Bed::new(Hook::Clsact);
        let alias = bed.alias(VIPS[0]).await;
        net.near_tc("filter add dev pen0 egress pref 1 protocol all u32 match u32 0 0 flowid 1:1");
        let why = bed.unaskable().await;
        let wanted = "attach to pen0: tc egress: the u32 filter of priority 1 comes before the one that carries \
                      checks; give the former a pref of 2 or more";
        assert_eq!(why, BTreeSet::from([wanted.to_owned()]));
        assert_eq!(bed.place(&lane(VIPS[0])).await, Err(wanted.to_owned()));
        let mut tap = tap();
        let sent = send_to(SocketAddr::new(alias, 53), 5).unwrap_err();
        assert_eq!(sent.raw_os_error(), Some(libc::EINVAL), "this host's own trouble");
        assert_eq!(with_address(&mut tap, alias), 0, "{alias} left");

        net.near_tc("filter del dev pen0 egress pref 1");
        assert_eq!(bed.unaskable().await, BTreeSet::new());
    });
}

#[test]
fn a_queueing_discipline_that_sees_nothing_go_out_is_named() {
    if !can_run() {
        return;
    }
    let net = net();
    net.in_balancer(async || {
        net.near_tc("qdisc add dev pen0 ingress");
        let mut bed = Bed::new(Hook::Clsact);
        bed.path.want(BTreeSet::from([lane(VIPS[0])]));
        let why = bed.unaskable().await;
        let first = why.first().unwrap();
        assert!(first.starts_with("attach to pen0: the queueing discipline ingress is there"), "{first}");
    });
}

#[test]
fn a_program_of_others_that_comes_first_does_so_for_a_moment_only() {
    if !can_run() || Hook::of_this_kernel() != Hook::Tcx {
        return;
    }
    let net = net();
    net.in_balancer(async || {
        let bed = Bed::new(Hook::Tcx);
        bed.alias(VIPS[0]).await;
        let ids = || -> Vec<u32> {
            let (_, programs) = SchedClassifier::query_tcx("pen0", TcAttachType::Egress).unwrap();
            programs.iter().map(aya::programs::ProgramInfo::id).collect()
        };
        let ours = ids();
        let mut others = Programs::load().unwrap();
        let netlink = Netlink::open().unwrap();
        let _attached = others.attach(("pen0", index_of("pen0")), Hook::Tcx, &netlink).unwrap();
        assert_ne!(ids()[..1], ours[..]);
        let give_up = Instant::now() + PATIENCE;
        while ids()[..1] != ours[..] {
            assert!(Instant::now() < give_up, "{:?}", ids());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_second_controller_leaves_what_the_first_one_has_and_takes_its_place_at_its_end() {
    if !can_run() {
        return;
    }
    for hook in hooks() {
        let net = net();
        net.in_balancer(async || {
            let (first, idle) = (Bed::new(hook), Bed::new(hook));
            let alias = first.alias(VIPS[0]).await;
            let mut second = Bed::new(hook);
            second.path.want(BTreeSet::from([lane(VIPS[0])]));
            let why = second.unaskable().await;
            let wanted = format!("another controller (process {}) asks VIPs here", std::process::id());
            assert!(why.first().unwrap().starts_with(&wanted), "{why:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
            drop(idle);
            // One that leads nowhere is among the routes.
            assert_eq!(left(&net), (2, 1, 2), "{hook:?}");
            assert_eq!(first.path.places().borrow().get(&lane(VIPS[0])), Some(&Ok(alias)));

            drop(first);
            assert_eq!(second.unaskable().await, BTreeSet::new());
            assert_eq!(left(&net), (2, 1, 2), "{hook:?}");
            drop(second);
            assert_eq!(left(&net), (0, 0, 0), "{hook:?}");
        });
    }
}
