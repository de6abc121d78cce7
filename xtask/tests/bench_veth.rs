//! The benchmark over veth, in small: every packet goes through the program that its row is about, and comes back.

use xtask::bench::veth::{Plan, run};
use xtask::lab::needs;

#[test]
fn every_packet_comes_back_and_is_counted_once() {
    if !needs::met() {
        return;
    }
    // At most a quarter of what a veth queues: on a machine however busy, none is lost.
    let (rounds, packets) = (3, 64);
    let cpu = std::thread::available_parallelism().unwrap().get() - 1;
    let report = run(&Plan { rounds, packets, cpu }, |_| {}).unwrap();

    let names: Vec<&str> = report.rows.iter().map(|row| row.name).collect();
    let of_the_balancer = ["slot_v4", "slot_v4_131k", "tracked_v4", "tracked_v4_131k"];
    assert_eq!(names, [["reflector", "f2"].as_slice(), &of_the_balancer].concat());
    for row in &report.rows {
        let sent = u64::from(rounds * packets);
        let forwarded = if of_the_balancer.contains(&row.name) { sent } else { 0 };
        assert_eq!((row.sent, row.lost, row.forwarded), (sent, 0, forwarded), "{row:?}");
    }
}
