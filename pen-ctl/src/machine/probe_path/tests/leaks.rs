//! Nothing with a probe address leaves the balancer, whatever became of its way.

use super::*;

#[test]
fn no_question_leaves_by_another_way_where_its_own_is_gone() {
    if !can_run() {
        return;
    }
    let net = net();
    add_default_route(&net);
    net.in_balancer(async || {
        let bed = Bed::new(Hook::of_this_kernel());
        let lanes: BTreeSet<Lane> = VIPS.into_iter().map(lane).collect();
        bed.path.want(lanes.clone());
        let mut aliases = Vec::new();
        for lane in &lanes {
            aliases.push(bed.place(lane).await.unwrap());
        }
        let mut tap = tap();
        net.near("ip link set pen0 down");
        for alias in aliases {
            let sent = send_to(SocketAddr::new(alias, 53), 5).unwrap_err();
            assert_eq!(sent.raw_os_error(), Some(libc::EINVAL), "this host's own trouble");
            assert_eq!(with_address(&mut tap, alias), 0, "{alias} left");
        }
    });
}

#[test]
fn no_part_of_a_question_that_is_too_long_leaves_with_a_probe_address() {
    if !can_run() {
        return;
    }
    let net = net();
    net.in_balancer(async || {
        let bed = Bed::new(Hook::of_this_kernel());
        let mut tap = tap();
        for vip in VIPS {
            let alias = bed.alias(vip).await;
            // Dropped on its way, which may be said.
            let _ = send_to(SocketAddr::new(alias, 53), 4000);
            assert_eq!(with_address(&mut tap, alias), 0, "{alias} left");
        }
    });
}

#[test]
fn what_others_send_to_a_probe_address_is_not_passed_on() {
    if !can_run() {
        return;
    }
    let net = net();
    net.near("ip addr add fe80::1/64 dev pen0 nodad");
    let mut tap = net.in_backends(tap);
    net.in_balancer(async || {
        for forwards in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{forwards}"), "1").unwrap();
        }
        let bed = Bed::new(Hook::of_this_kernel());
        for (vip, balancer) in VIPS.into_iter().zip(["10.9.0.1", "fd09::1"]) {
            let alias = bed.alias(vip).await;
            net.far(&format!("ip route add {alias} via {balancer}"));
            net.in_backends(|| send_to(SocketAddr::new(alias, 53), 5).unwrap());
            assert_eq!(with_address(&mut tap, alias), 1, "{alias}: what they sent, and no more");
        }
    });
}
