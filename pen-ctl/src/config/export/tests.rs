//! What is exported, applied, changes nothing, whatever the state.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::dataplane::{Affinity, Mac, OnEmpty, Protocol, Scheduler, ServiceKey, Tracking};
use crate::state::text::LAST_SECOND;
use crate::state::validate;

fn seconds(most: u64) -> impl Strategy<Value = Duration> {
    (0..=most).prop_map(Duration::from_secs)
}

fn health() -> impl Strategy<Value = Health> {
    let times = (100u64..3_600_000, 1u64..=1000, 1u32..=100, 1u32..=100, option::of(1u16..));
    let tcp = times.prop_map(|(interval, share, rise, fall, port)| {
        let timeout = Duration::from_millis((interval * share / 1000).max(1));
        Health::Tcp(TcpHealth { port, interval: Duration::from_millis(interval), timeout, rise, fall })
    });
    prop_oneof![Just(Health::None), tcp]
}

fn backend() -> impl Strategy<Value = Backend> {
    let state = prop_oneof![Just(AdminState::Up), Just(AdminState::Drain), Just(AdminState::Down)];
    let mac = option::of((any::<u32>(), option::of(1u16..=4094)));
    let keys = (1u16..=1000, any::<u16>(), mac, state, option::of(0..=LAST_SECOND), option::of(health()));
    (any::<u16>(), keys).prop_map(|(host, (weight, priority, mac, state, remove_at, health))| Backend {
        address: [10, 1, (host >> 8) as u8, host as u8].into(),
        weight,
        priority,
        mac: mac.map(|(end, _)| {
            let [a, b, c, d] = end.to_be_bytes();
            Mac([2, 0, a, b, c, d])
        }),
        vlan: mac.and_then(|(_, vlan)| vlan),
        state,
        remove_at: remove_at.filter(|_| state == AdminState::Drain),
        health,
    })
}

fn service() -> impl Strategy<Value = Service> {
    let affinity = prop_oneof![Just(Affinity::Client), Just(Affinity::Flow), Just(Affinity::None)];
    let tracking = prop_oneof![Just(Tracking::Full), Just(Tracking::Transitions), Just(Tracking::Off)];
    let built = ["maglev", "round-robin"].into_iter().filter_map(|name| name.parse::<Scheduler>().ok());
    let scheduler = proptest::sample::select(built.collect::<Vec<_>>());
    let on_empty = prop_oneof![Just(OnEmpty::Drop), Just(OnEmpty::Pass)];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let key = (any::<u8>(), prop_oneof![Just(0u16), any::<u16>()], protocol);
    let times = (seconds(365 * 24 * 3600), seconds(24 * 3600 - 1));
    let words = (affinity, tracking, scheduler, on_empty);
    ("[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}", key, words, times, option::of(health()), vec(backend(), 0..5))
        .prop_map(
            |(
                name,
                (host, port, protocol),
                (affinity, tracking, scheduler, on_empty),
                times,
                health,
                backends,
            )| {
                Service {
                    name,
                    vip: ServiceKey { address: [10, 0, 0, host].into(), port, protocol },
                    affinity,
                    scheduler,
                    tracking,
                    tracking_timeout: times.0,
                    transition: times.1 + Duration::from_secs(1),
                    on_empty,
                    health,
                    backends,
                }
            },
        )
}

fn interface_spec() -> impl Strategy<Value = InterfaceSpec> {
    let mode = prop_oneof![Just(AttachMode::Auto), Just(AttachMode::Native), Just(AttachMode::Generic)];
    // Names that TOML has to quote, too.
    let name = "[a-z\"'\\\\#.=äß-]{1,5}".prop_filter("not a path", |name| !name.chars().all(|c| c == '.'));
    (name, mode, any::<bool>()).prop_map(|(name, mode, announce)| InterfaceSpec { name, mode, announce })
}

prop_compose! {
    fn desired()(
        seed: u64,
        tracking_clients in 1024u32..=16_777_216,
        http in option::of(any::<(std::net::IpAddr, u16)>().prop_map(std::net::SocketAddr::from)),
        interfaces in vec(interface_spec(), 0..4),
        services in vec(service(), 0..4),
    ) -> Desired {
        let (mut names, mut vips, mut links) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let interfaces = interfaces.into_iter().filter(|one| links.insert(one.name.clone())).collect();
        let mut services: Vec<Service> =
            services.into_iter().filter(|one| names.insert(one.name.clone()) && vips.insert(one.vip)).collect();
        for service in &mut services {
            let mut addresses = BTreeSet::new();
            service.backends.retain(|backend| addresses.insert(backend.address));
        }
        Desired { seed, interfaces, tracking_clients, http, services }
    }
}

/// The state without what breaks a rule: of the services those that obey.
fn obeying(mut desired: Desired) -> Desired {
    let services = std::mem::take(&mut desired.services);
    for service in services {
        desired.services.push(service);
        if validate::desired(&desired).is_err() {
            desired.services.pop();
        }
    }
    desired
}

proptest! {
    #[test]
    fn what_is_exported_changes_nothing_when_it_is_applied(desired in desired().prop_map(obeying)) {
        validate::desired(&desired).unwrap();
        let text = to_toml(&desired);
        let config = Config::parse("export", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let applied = config.onto(&desired).unwrap();
        let bytes = |state: &Desired| serde_json::to_string(state).unwrap();
        prop_assert_eq!(bytes(&applied), bytes(&desired), "{}", text);
        // To another state, too, it brings all but when drains end with a removal.
        let elsewhere = config.onto(&Desired::new(0)).unwrap();
        let mut settled = desired;
        for backend in settled.services.iter_mut().flat_map(|service| &mut service.backends) {
            backend.remove_at = None;
        }
        prop_assert_eq!(elsewhere, settled);
    }
}

#[test]
fn an_export_is_written_for_people() {
    let text = "seed = '1f'\ninterfaces = ['eth0', { name = 'eth1', mode = 'generic' }]\n[[service]]\nname = 'web'\n\
                vip = '[2001:db8::1]:80/tcp'\nhealth = 'tcp,interval=2s'\ntransition = '5m'\n\
                backend = [{ address = '2001:db8::11' }, { address = '2001:db8::12', weight = 2, state = 'drain' }]\n";
    let desired = Config::parse("pen.toml", text).unwrap().onto(&Desired::new(0)).unwrap();
    let expected = r#"seed = "000000000000001f"
interfaces = ["eth0", { name = "eth1", mode = "generic" }]
tracking_clients = 262144

[[service]]
name = "web"
vip = "[2001:db8::1]:80/tcp"
transition = "5m"
health = { kind = "tcp", interval = "2s", timeout = "500ms", rise = 2, fall = 3 }
backend = [
  { address = "2001:db8::11" },
  { address = "2001:db8::12", weight = 2, state = "drain" },
]
"#;
    assert_eq!(to_toml(&desired), expected);
}
