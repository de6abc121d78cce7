//! Rules of neighbor resolution, without a kernel and with a clock of its own.

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

struct Bench {
    table: Table,
    now: Instant,
}

impl Bench {
    /// One address, routed to interface 7, which is not in the neighbor table.
    fn new() -> Self {
        let mut bench = Self { table: Table::default(), now: Instant::now() };
        bench.table.watch(BTreeSet::from([Watched { address: ADDRESS, fixed_mac: None }]));
        assert_eq!(bench.table.work(9), [Action::Route(ADDRESS)]);
        bench.table.routed(ADDRESS, Way::OnLink { ifindex: 7 });
        bench
    }

    fn known() -> Self {
        let mut bench = Self::new();
        bench.hear(bench.valid());
        assert_eq!(bench.news(), Some(Resolution::OnLink { mac: MAC, ifindex: 7 }));
        bench
    }

    fn valid(&self) -> Seen {
        Seen::Valid { mac: MAC, confirmed: self.now, may_probe: true }
    }

    fn hear(&mut self, seen: Seen) {
        self.table.heard(7, ADDRESS, seen, self.now);
    }

    fn sweep(&mut self, seen: Seen) {
        self.table.sweep(&BTreeMap::from([((7, ADDRESS), seen)]), self.now);
    }

    fn news(&mut self) -> Option<Resolution> {
        self.table.next_news().map(|(_, resolution)| resolution)
    }

    fn ask(&mut self) {
        assert_eq!(self.table.work(9), [Action::Ask { ifindex: 7, address: ADDRESS }]);
        self.table.asked(ADDRESS, Ok(()), self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn a_neighbor_is_lost_only_after_a_broadcast_solicitation_that_pen_saw_fail() {
    let mut bench = Bench::known();
    bench.hear(Seen::Failed);
    assert_eq!(bench.news(), None, "unicast probes failed: it may have a new MAC");
    bench.ask();
    bench.hear(Seen::Failed);
    assert_eq!(bench.news(), None, "the same failure, told late");
    bench.pass(Duration::from_secs(3));
    bench.hear(Seen::Failed);
    assert_eq!(bench.news(), Some(Resolution::Unreachable("no answer to ARP on interface 7".into())));
}

#[test]
fn an_entry_that_vanishes_is_asked_for_and_nothing_is_said() {
    let mut bench = Bench::known();
    bench.hear(Seen::Gone);
    bench.ask();
    bench.hear(Seen::Incomplete);
    bench.hear(bench.valid());
    assert_eq!(bench.news(), None);
}

#[test]
fn only_what_is_unproven_is_probed_and_nothing_that_someone_else_keeps() {
    let mut bench = Bench::known();
    let proven = bench.valid();
    bench.pass(Duration::from_secs(2));
    bench.sweep(proven);
    assert!(!bench.table.has_work());
    bench.pass(Duration::from_secs(2));
    bench.sweep(proven);
    assert_eq!(bench.table.work(9), [Action::Probe { ifindex: 7, address: ADDRESS }]);
    bench.sweep(Seen::Valid { mac: MAC, confirmed: bench.now - Duration::from_secs(60), may_probe: false });
    assert!(!bench.table.has_work());
}

#[test]
fn a_lost_neighbor_is_asked_for_again_and_stays_lost_meanwhile() {
    let mut bench = Bench::new();
    bench.sweep(Seen::Gone);
    bench.ask();
    bench.pass(Duration::from_secs(3));
    bench.hear(Seen::Failed);
    assert!(matches!(bench.news(), Some(Resolution::Unreachable(_))));
    bench.sweep(Seen::Failed);
    assert!(!bench.table.has_work(), "not at once");
    bench.pass(Duration::from_secs(2));
    bench.sweep(Seen::Failed);
    bench.ask();
    bench.pass(Duration::from_secs(3));
    bench.hear(Seen::Failed);
    assert_eq!(bench.news(), None);
}

#[test]
fn the_dead_leave_room_to_ask_for_the_living() {
    let address = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from(n));
    let mut table = Table::default();
    let mut now = Instant::now();
    let ask_all = |table: &mut Table, now| {
        let work = table.work(10_000);
        for action in &work {
            match action {
                Action::Route(address) => table.routed(*address, Way::OnLink { ifindex: 7 }),
                Action::Ask { address, .. } => table.asked(*address, Ok(()), now),
                Action::Probe { .. } => {}
            }
        }
        work.len()
    };
    let watch = |table: &mut Table, count: u32| {
        table.watch((0..count).map(|n| Watched { address: address(n), fixed_mac: None }).collect());
    };
    watch(&mut table, 1000);
    assert_eq!(ask_all(&mut table, now), 1000);
    table.sweep(&BTreeMap::new(), now);
    while ask_all(&mut table, now) > 0 {
        now += Duration::from_secs(3);
        (0..1000).for_each(|n| table.heard(7, address(n), Seen::Failed, now));
    }
    now += ASK_AGAIN;
    table.sweep(&BTreeMap::new(), now);
    assert_eq!(ask_all(&mut table, now), LOST_ASKED_AT_MOST);
    watch(&mut table, 1001);
    assert_eq!(ask_all(&mut table, now), 1, "the newcomer's route");
    table.heard(7, address(1000), Seen::Gone, now);
    assert_eq!(table.work(10_000), [Action::Ask { ifindex: 7, address: address(1000) }]);
}

#[test]
fn a_route_concerns_the_addresses_in_its_prefix_only() {
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(contains(parse("10.0.0.0"), 8, parse("10.9.9.9")));
    assert!(!contains(parse("10.0.0.0"), 8, parse("11.0.0.0")));
    assert!(contains(parse("0.0.0.0"), 0, parse("11.0.0.0")));
    assert!(!contains(parse("::"), 0, parse("11.0.0.0")));
    assert!(contains(parse("fd00::"), 64, parse("fd00::1")));
    assert!(!contains(parse("fd00::1"), 128, parse("fd00::2")));
    assert!(contains(parse("10.0.0.1"), 32, parse("10.0.0.1")));
    assert!(!contains(parse("10.0.0.1"), 32, parse("10.0.0.2")));
}
