//! Questions about clients, asked of a data plane in memory.

use proptest::prelude::*;

use super::*;
use crate::dataplane::fake::FakePlane;
use crate::dataplane::{DataPlane, Kind, Member};
use crate::state::desired::Backend;

/// Never told to stop.
static GO_ON: AtomicBool = AtomicBool::new(false);
/// Some time in 2027.
const NOW: u64 = 1_800_000_000;

fn key(port: u16) -> ServiceKey {
    format!("10.0.0.100:{port}/tcp").parse().unwrap()
}

fn service(name: &str, port: u16) -> Service {
    let mut service = Service::new(name.into(), key(port));
    service.backends = vec![Backend::new(backend(11)), Backend::new(backend(12))];
    service
}

fn backend(n: u8) -> BackendAddress {
    [10, 0, 0, n].into()
}

/// A client of port 80 on a backend.
fn client(n: u8, on: u8, idle: u32) -> Remembered {
    Remembered {
        client: [192, 0, 2, n].into(),
        flow: None,
        service: Some(key(80)),
        backend: Some(backend(on)),
        idle,
        standing: Standing::Counts,
    }
}

fn plane(remembered: Vec<Remembered>) -> FakePlane {
    let plane = FakePlane::default();
    plane.lock().remembered = remembered;
    plane
}

/// Services `web` (80) and `api` (81) and who is remembered.
fn view(plane: &FakePlane) -> View {
    View::new(plane.clone().clients().unwrap(), &[service("web", 80), service("api", 81)], NOW)
}

fn numbers(list: &ClientList) -> Vec<u8> {
    let last = |address: IpAddr| if let IpAddr::V4(v4) = address { v4.octets()[3] } else { 0 };
    list.clients.iter().map(|client| last(client.address)).collect()
}

fn some() -> Vec<Remembered> {
    vec![
        client(1, 11, 50),
        client(2, 12, 10),
        Remembered { service: Some(key(81)), ..client(3, 12, 70) },
        Remembered { standing: Standing::BackendDown, ..client(4, 11, 20) },
        Remembered { standing: Standing::TimedOut, ..client(5, 11, 900) },
        Remembered { standing: Standing::BackendRemoved, backend: None, ..client(6, 11, 30) },
        Remembered { standing: Standing::ServiceRemoved, service: None, backend: None, ..client(7, 11, 5) },
    ]
}

#[test]
fn a_list_shows_those_that_count_and_counts_the_others() {
    let plane = plane(some());
    let list = |selection: Selection, all, order, limit| {
        let list = view(&plane).list(&selection, all, order, limit, &GO_ON).unwrap();
        (numbers(&list), list.total, list.stale)
    };
    let every = Selection::default;
    assert_eq!(list(every(), false, Order::Seen, 100), (vec![2, 4, 1, 3], 4, 3));
    assert_eq!(list(every(), false, Order::Idle, 2), (vec![3, 1], 4, 3));
    assert_eq!(list(every(), true, Order::Address, 100), (vec![1, 2, 3, 4, 5, 6, 7], 7, 3));
    assert_eq!(list(every(), false, Order::Seen, 0), (vec![], 4, 3));

    let of = |service: &str| Selection { service: Some(service.into()), ..every() };
    assert_eq!(list(of("api"), false, Order::Seen, 100), (vec![3], 1, 0));
    let on = Selection { backend: Some(backend(12)), ..every() };
    assert_eq!(list(on, false, Order::Seen, 100), (vec![2, 3], 2, 0));
    let from = |net: &str| Selection { source: Some(net.parse().unwrap()), ..every() };
    assert_eq!(list(from("192.0.2.2/31"), false, Order::Seen, 100), (vec![2, 3], 2, 0));
    assert_eq!(list(from("::/0"), true, Order::Seen, 100), (vec![], 0, 0));
}

#[test]
fn each_says_where_it_is_when_it_was_seen_and_whether_that_counts() {
    let plane = plane(some());
    let list = view(&plane).list(&Selection::default(), true, Order::Address, 100, &GO_ON).unwrap();
    let statuses: Vec<ClientStatus> = list.clients.iter().map(|client| client.status).collect();
    use ClientStatus::{BackendDown, BackendRemoved, ServiceRemoved, TimedOut, Tracked};
    assert_eq!(statuses, [Tracked, Tracked, Tracked, BackendDown, TimedOut, BackendRemoved, ServiceRemoved]);
    let first = &list.clients[0];
    assert_eq!((first.service.as_deref(), first.backend), (Some("web"), Some(backend(11))));
    assert_eq!((first.idle_seconds, first.last_seen.as_str()), (50, "2027-01-15T07:59:10Z"));
    assert_eq!((&list.clients[6].service, list.clients[6].backend), (&None, None));
}

#[test]
fn a_selection_that_names_nothing_there_is_refused() {
    let plane = plane(some());
    let refused = |service: Option<&str>, backend: Option<BackendAddress>| {
        let selection = Selection { service: service.map(Into::into), backend, source: None };
        let error = view(&plane).forget(&selection, &Progress::default()).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        error.message
    };
    assert_eq!(refused(Some("wbe"), None), "there is no service wbe");
    assert_eq!(refused(Some("web"), Some(backend(13))), "service web has no backend 10.0.0.13");
    assert_eq!(refused(None, Some(backend(13))), "no service has a backend 10.0.0.13");
    assert_eq!(plane.lock().remembered.len(), 7);
}

#[test]
fn only_those_of_the_selection_are_forgotten() {
    let plane = plane(some());
    let forget = |selection: Selection| {
        let done = view(&plane).forget(&selection, &Progress::default()).unwrap();
        (done.forgotten, done.stale, plane.lock().remembered.len())
    };
    let every = Selection::default;
    assert_eq!(
        forget(Selection { source: Some("192.0.2.1".parse::<IpAddr>().unwrap().into()), ..every() }),
        (1, 0, 6)
    );
    assert_eq!(
        forget(Selection { backend: Some(backend(12)), service: Some("web".into()), ..every() }),
        (1, 0, 5)
    );
    assert_eq!(forget(Selection { service: Some("web".into()), ..every() }), (3, 2, 2));
    assert_eq!(forget(every()), (2, 1, 0));
    assert_eq!(forget(every()), (0, 0, 0));
}

#[test]
fn one_client_is_shown_with_what_each_service_would_do_with_it() {
    let plane = plane(vec![client(1, 12, 5), client(2, 12, 5), Remembered { idle: 7, ..client(1, 12, 5) }]);
    let mut flow = service("flow", 82);
    flow.affinity = Affinity::Flow;
    let mut turns = service("turns", 85);
    turns.scheduler = Scheduler::RoundRobin;
    let mut v6 = service("v6", 83);
    v6.vip = "[2001:db8::1]:80/tcp".parse().unwrap();
    let table = |port| {
        let members = vec![Member { address: backend(11), weight: 1 }];
        let settings = service("", port).settings(Kind::Xdp);
        let (backends, has_table) = (BTreeMap::new(), true);
        crate::dataplane::ObservedService {
            settings,
            backends,
            members: Some(members),
            has_table,
            in_transition: 0,
        }
    };
    plane.lock().observed.services.insert(key(81), table(81));
    let services = [service("web", 80), service("api", 81), flow, service("empty", 84), turns, v6];
    let view = View::new(plane.clone().clients().unwrap(), &services, NOW);
    let shown = view.show([192, 0, 2, 1].into(), &GO_ON).unwrap();
    let told: Vec<_> = shown.services.iter().map(|one| (one.service.as_str(), one.backend, one.by)).collect();
    assert_eq!(
        told,
        [
            ("web", Some(backend(12)), DecidedBy::Memory),
            ("api", Some(backend(11)), DecidedBy::Slot),
            ("flow", None, DecidedBy::Flow),
            ("empty", None, DecidedBy::Nobody),
            ("turns", None, DecidedBy::Turn),
        ]
    );
    assert_eq!((shown.remembered.len(), shown.total), (2, 2));
}

#[test]
fn a_client_that_is_refused_goes_nowhere_whatever_is_remembered_of_it() {
    let plane = plane(vec![client(1, 12, 5), client(2, 12, 5), client(3, 12, 5)]);
    let told = |n: u8, allow: &[&str], deny: &[&str]| {
        let list = |all: &[&str]| all.iter().map(|text| text.parse::<IpNet>().unwrap()).collect();
        let web = Service { allow: list(allow), deny: list(deny), ..service("web", 80) };
        let shown =
            View::new(plane.clone().clients().unwrap(), &[web], NOW).show([192, 0, 2, n].into(), &GO_ON);
        let one = shown.unwrap().services.remove(0);
        let access = one.access.map(|access| (access.admitted, access.prefix.map(|net| net.to_string())));
        (one.backend.is_some(), one.by, access)
    };
    let refused = |prefix: Option<&str>| (false, DecidedBy::Access, Some((false, prefix.map(str::to_owned))));
    let let_in = |prefix: Option<&str>| (true, DecidedBy::Memory, Some((true, prefix.map(str::to_owned))));
    assert_eq!(told(1, &[], &[]), (true, DecidedBy::Memory, None));
    assert_eq!(told(1, &[], &["192.0.2.1/32"]), refused(Some("192.0.2.1/32")));
    assert_eq!(told(2, &[], &["192.0.2.1/32"]), let_in(None));
    // The longest prefix decides, of whichever list it is.
    let nested = (["192.0.2.0/24", "192.0.2.1/32"], ["192.0.0.0/16", "192.0.2.0/30"]);
    assert_eq!(told(1, &nested.0, &nested.1), let_in(Some("192.0.2.1/32")));
    assert_eq!(told(2, &nested.0, &nested.1), refused(Some("192.0.2.0/30")));
    // Where somebody is allowed, everybody else is refused, those of the other family too.
    assert_eq!(told(1, &["10.0.0.0/8"], &[]), refused(None));
    assert_eq!(told(1, &["2001:db8::/32"], &[]), refused(None));
    assert_eq!(told(1, &[], &["::/0"]), let_in(None));
    let document =
        serde_json::to_value(crate::dataplane::Admission { admitted: false, prefix: None }).unwrap();
    assert_eq!(document, serde_json::json!({"admitted": false, "prefix": null}));
}

#[test]
fn a_reading_ends_when_it_is_told_to() {
    let plane = plane(some());
    let list = view(&plane).list(&Selection::default(), true, Order::Seen, 100, &AtomicBool::new(true));
    assert_eq!(list.unwrap().total, 0);
}

#[test]
fn who_is_left_is_counted_by_service_and_backend_whether_or_not_that_is_up() {
    let plane = plane(some());
    let backends = [(key(80), backend(11)), (key(81), backend(12)), (key(81), backend(11))];
    let counts = count(&plane, &backends.into()).unwrap();
    let counts: Vec<_> = backends.iter().map(|id| (counts[id].left, counts[id].recent)).collect();
    assert_eq!(counts, [(2, 2), (1, 0), (0, 0)]);
}

proptest! {
    #[test]
    fn of_however_many_the_first_are_kept_in_order(idle in prop::collection::vec(0u32..50, 0..60), limit in 0usize..20) {
        let remembered: Vec<_> = (0u8..).zip(&idle).map(|(n, idle)| client(n, 11, *idle)).collect();
        let plane = plane(remembered.clone());
        for order in [Order::Seen, Order::Idle, Order::Address] {
            let list = view(&plane).list(&Selection::default(), false, order, limit, &GO_ON).unwrap();
            let mut expected = remembered.clone();
            expected.sort_by_key(|one| match order {
                Order::Seen => (one.idle, one.client),
                Order::Idle => (u32::MAX - one.idle, one.client),
                Order::Address => (0, one.client),
            });
            let expected: Vec<_> = expected.iter().take(limit).map(|one| one.client).collect();
            let kept: Vec<_> = list.clients.iter().map(|one| one.address).collect();
            prop_assert_eq!(kept, expected);
            prop_assert_eq!(list.total, idle.len() as u64);
        }
    }
}
