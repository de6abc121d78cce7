//! What is exported, applied, changes nothing, whatever the state.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::check::{Check, Pace};
use crate::config::Config;
use crate::dataplane::{
    Affinity, BackendAddress, Mac, OnDown, OnEmpty, Protocol, ProxyProtocol, Rate, RateLimit, Scheduler,
    ServiceKey, Tracking,
};
use crate::state::text::LAST_SECOND;
use crate::state::validate;

fn seconds(most: u64) -> impl Strategy<Value = Duration> {
    (0..=most).prop_map(Duration::from_secs)
}

fn health() -> impl Strategy<Value = Health> {
    let times = (100u64..3_600_000, 1u64..=1000, 1u32..=100, 1u32..=100, option::of(1u16..));
    let kind = proptest::sample::select(
        [
            "tcp",
            "http,status=200 204,host=x",
            "https,verify=false",
            "dns,rcode=NOERROR",
            "smtp,starttls=true",
        ]
        .iter()
        .chain(&["udp,send=a\\x00\"b,expect=\\n", "icmp", "exec,command=/bin/true -x", "agent,port=1"])
        .map(|text| text.parse::<Health>().unwrap().check().unwrap().kind.clone())
        .collect::<Vec<_>>(),
    );
    let checked = (times, kind, (0u8..=50, 0u64..=86_400)).prop_map(|(times, kind, (jitter, max_hold))| {
        let (interval, share, rise, fall, port) = times;
        let timeout = Duration::from_millis((interval * share / 1000).max(1));
        let (interval, max_hold) = (Duration::from_millis(interval), Duration::from_secs(max_hold));
        let port = port.filter(|_| kind.has_port());
        Health::Checked(Box::new(Check {
            kind,
            port,
            way: None,
            pace: Pace { interval, timeout, rise, fall, jitter, max_hold },
        }))
    });
    prop_oneof![1 => Just(Health::None), 4 => checked]
}

/// The proxy's keys of a service.
type ProxyKeys = (
    Option<Duration>,
    Option<Duration>,
    Option<u32>,
    (bool, bool),
    Option<ProxyProtocol>,
    Vec<IpNet>,
    OnDown,
);

/// Prefixes of either family, each in one of two lists.
fn access() -> impl Strategy<Value = (Prefixes, Prefixes)> {
    let prefix = prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(address, bits)| (std::net::Ipv4Addr::from(address).into(), bits)),
        (any::<u128>(), 0u8..=128)
            .prop_map(|(address, bits)| (std::net::Ipv6Addr::from(address).into(), bits)),
    ];
    let prefix = prefix.prop_map(|(address, bits)| IpNet::new(address, bits).unwrap().trunc());
    proptest::collection::btree_map(prefix, any::<bool>(), 0..12).prop_map(|all| {
        let of = |wanted| all.iter().filter(|(_, allow)| **allow == wanted).map(|(net, _)| *net).collect();
        (of(true), of(false))
    })
}

fn rate_limit() -> impl Strategy<Value = RateLimit> {
    let rate =
        || (1u32..=10_000_000, 1u32..=10_000_000).prop_map(|(per_second, burst)| Rate { per_second, burst });
    let either = (rate(), option::of(rate()), any::<bool>())
        .prop_map(|(one, other, packets)| if packets { (Some(one), other) } else { (other, Some(one)) });
    (either, 0u8..=32, 0u8..=128).prop_map(|((packets, flows), prefix_v4, prefix_v6)| RateLimit {
        packets,
        flows,
        prefix_v4,
        prefix_v6,
    })
}

/// Nothing said, half the time.
fn proxy_keys() -> impl Strategy<Value = Option<ProxyKeys>> {
    let prefix = (any::<u32>(), 0u8..=32).prop_map(|(address, bits)| {
        IpNet::new(std::net::Ipv4Addr::from(address).into(), bits).unwrap().trunc()
    });
    let version = prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)];
    let on_down = prop_oneof![Just(OnDown::Keep), Just(OnDown::Close)];
    let connect = (1u64..=600_000).prop_map(Duration::from_millis);
    option::of((
        option::of(connect),
        option::of(seconds(365 * 24 * 3600)),
        option::of(1u32..),
        any::<(bool, bool)>(),
        option::of(version),
        vec(prefix, 0..3),
        on_down,
    ))
}

fn address() -> impl Strategy<Value = BackendAddress> {
    let host = any::<u16>().prop_map(|host| std::net::Ipv4Addr::new(10, 1, (host >> 8) as u8, host as u8));
    prop_oneof![
        3 => host.clone().prop_map(BackendAddress::from),
        1 => (host, 1u16..).prop_map(|(host, port)| std::net::SocketAddr::from((host, port)).into()),
        1 => "/[a-zß' \"\\\\.]{0,20}[a-z]".prop_map(|path| path.parse().unwrap()),
    ]
}

fn backend() -> impl Strategy<Value = Backend> {
    let state = prop_oneof![Just(AdminState::Up), Just(AdminState::Drain), Just(AdminState::Down)];
    let mac = option::of((any::<u32>(), option::of(1u16..=4094)));
    let keys = (1u16..=1000, any::<u16>(), mac, state, option::of(0..=LAST_SECOND), option::of(health()));
    let limits = option::of((1u32.., option::of(1u32..)));
    (address(), keys, limits).prop_map(
        |(address, (weight, priority, mac, state, remove_at, health), limits)| Backend {
            address,
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
            soft_limit: limits.map(|(soft, _)| soft),
            hard_limit: limits.and_then(|(_, hard)| hard),
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let affinity = prop_oneof![Just(Affinity::Client), Just(Affinity::Flow), Just(Affinity::None)];
    let tracking = prop_oneof![Just(Tracking::Full), Just(Tracking::Transitions), Just(Tracking::Off)];
    let built = ["maglev", "round-robin", "least-connections"]
        .into_iter()
        .filter_map(|name| name.parse::<Scheduler>().ok());
    let scheduler = proptest::sample::select(built.collect::<Vec<_>>());
    let on_empty = prop_oneof![Just(OnEmpty::Drop), Just(OnEmpty::Pass)];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let key = (any::<u8>(), prop_oneof![Just(0u16), any::<u16>()], protocol);
    let times = (seconds(365 * 24 * 3600), seconds(24 * 3600 - 1));
    let words = (affinity, tracking, scheduler, on_empty);
    (
        "[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}",
        key,
        words,
        times,
        option::of(health()),
        (vec(backend(), 0..5), proxy_keys(), option::of((access(), option::of(rate_limit())))),
    )
        .prop_map(
            |(
                name,
                (host, port, protocol),
                (affinity, tracking, scheduler, on_empty),
                times,
                health,
                (backends, proxy, guard),
            )| {
                let mut service = Service {
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
                    ..Service::new(
                        String::new(),
                        ServiceKey { address: [10, 0, 0, host].into(), port, protocol },
                    )
                };
                if let Some((connect, idle, most, (stubborn, transparent), version, from, on_down)) = proxy {
                    (service.connect_timeout, service.idle_timeout) = (connect, idle);
                    (service.max_connections, service.stubborn) = (most, stubborn);
                    (service.transparent, service.proxy_protocol) = (transparent, version);
                    (service.proxy_protocol_from, service.on_down) = (from, on_down);
                }
                if let Some(((allow, deny), limit)) = guard {
                    (service.allow, service.deny, service.rate_limit) = (allow, deny, limit);
                }
                service
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
        flood_inserts_per_cpu in 0u32..=1_000_000_000,
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
        Desired { seed, interfaces, tracking_clients, flood_inserts_per_cpu, http, services }
    }
}

/// The state without what breaks a rule: of the services those that obey, of their backends too.
fn obeying(mut desired: Desired, kind: Kind) -> Desired {
    let services = std::mem::take(&mut desired.services);
    for service in services {
        let backends = service.backends.clone();
        desired.services.push(Service { backends: Vec::new(), ..service });
        if validate::desired(&desired, kind).is_err() {
            desired.services.pop();
            continue;
        }
        for backend in backends {
            desired.services.last_mut().unwrap().backends.push(backend);
            if validate::desired(&desired, kind).is_err() {
                desired.services.last_mut().unwrap().backends.pop();
            }
        }
    }
    desired
}

proptest! {
    #[test]
    fn what_is_exported_changes_nothing_when_it_is_applied(
        kind in prop_oneof![Just(Kind::Xdp), Just(Kind::Proxy)],
        desired in desired(),
    ) {
        let desired = obeying(desired, kind);
        validate::desired(&desired, kind).unwrap();
        let text = to_toml(&desired, Some(kind));
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
flood_inserts_per_cpu = 100000

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
    assert_eq!(to_toml(&desired, None), expected);
}
