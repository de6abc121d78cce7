//! What one data plane refuses and the other takes, and what the proxy cannot connect.

use super::super::{Row, refused, row};
use crate::dataplane::Kind;
use crate::run;
use crate::state::desired::Desired;
use crate::state::spec::ServiceSpec;
use crate::state::validate;

pub(super) fn rows() -> Vec<Row> {
    [xdp(), proxy(), proxy_backends()].into_iter().flatten().collect()
}

const TCP: &str = "vip = '10.0.0.100:80/tcp'";
const UDP: &str = "vip = '10.0.0.100:53/udp'";
const PROXY: &str = "run the proxy (`run --dataplane proxy`)";

/// What is said of a service in TOML.
#[track_caller]
fn told(kind: Kind, service: &str, what: &'static str, on: &str, to_do: &'static str) -> Row {
    let spec: ServiceSpec = toml::from_str(&format!("name = 'web'\n{service}")).unwrap();
    let state = Desired { services: vec![spec.complete().unwrap()], ..Desired::new(1) };
    refused(validate::desired(&state, kind), what, on, to_do)
}

fn xdp() -> Vec<Row> {
    let service = |keys: &str, what, on: &str| told(Kind::Xdp, &format!("{TCP}\n{keys}"), what, on, PROXY);
    let backend = |keys: &str, what, on: &str| {
        told(Kind::Xdp, &format!("{TCP}\nbackend = [{{ {keys} }}]"), what, on, PROXY)
    };
    vec![
        told(
            Kind::Xdp,
            "vip = '/run/x'",
            "is a Unix socket, which gets no packets",
            "service web: VIP",
            PROXY,
        ),
        service(
            "stubborn = true",
            "is about connections, and XDP forwards packets",
            "service web: `stubborn`",
        ),
        service("scheduler = 'least-connections'", "counts connections", "scheduler `least-connections`"),
        backend("address = '10.0.0.11:81'", "has a port", "backend 10.0.0.11:81 of service web"),
        backend("address = '/run/x'", "is a Unix socket", "backend /run/x of service web"),
        backend("address = '127.0.0.1'", "is a loopback address", "backend 127.0.0.1 of service web"),
        backend("address = '2001:db8::1'", "is IPv6 but", "backend 2001:db8::1 of service web"),
        backend("address = '10.0.0.11', soft_limit = 5", "has a `soft_limit`", "backend 10.0.0.11"),
        told(
            Kind::Xdp,
            "vip = '240.0.0.1:80/tcp'",
            "which health checks keep for themselves",
            "service web: VIP 240.0.0.1",
            "use an address that clients can reach",
        ),
        told(
            Kind::Xdp,
            &format!("{TCP}\nbackend = [{{ address = '240.0.0.1' }}]"),
            "which health checks keep for themselves",
            "backend 240.0.0.1 of service web",
            "use the address of a server on the link",
        ),
        told(
            Kind::Xdp,
            &format!(
                "{TCP}\nhealth = 'tcp,way=dsr'\nbackend = [{{ address = '10.0.0.11', mac = '02:00:00:00:00:01', vlan = 5 }}]"
            ),
            "has a `vlan`",
            "backend 10.0.0.11 of service web",
            "leave `way` out of its health check",
        ),
        told(
            Kind::Xdp,
            &format!("{TCP}\nhealth = {{ kind = 'agent', port = 9000, way = 'dsr' }}"),
            "way = dsr is for checks that ask the service itself",
            "service web",
            "leave `way` out",
        ),
    ]
}

fn proxy() -> Vec<Row> {
    let on = "service web: ";
    let service = |keys: &str, what, to_do| told(Kind::Proxy, &format!("{TCP}\n{keys}"), what, on, to_do);
    vec![
        told(Kind::Proxy, "vip = '224.0.0.1:80/tcp'", "is a multicast address", on, "that this machine has"),
        told(Kind::Proxy, "vip = '10.0.0.100:*/tcp'", "listens on one port", on, "name the port"),
        service("on_empty = 'pass'", "on_empty `pass` is about packets", "use `drop`, or a backend"),
        service("tracking = 'transitions'", "`transitions` is about packets", "use `full` or `off`"),
        service(
            "rate_limit = 'packets=5'",
            "`rate_limit` is about packets, and the proxy takes",
            "leave it out",
        ),
        service("connect_timeout = '1h'", "connect_timeout = 1h is out of range", "use 1ms to 10m"),
        service("idle_timeout = '2years'", "is too long", "use at most 1year, or 0 for never"),
        told(
            Kind::Proxy,
            &format!("{UDP}\nproxy_protocol = 'v1'"),
            "proxy_protocol `v1` is for streams only",
            on,
            "use `v2` with UDP",
        ),
        told(
            Kind::Proxy,
            "vip = '/run/x'\ntransparent = true",
            "whoever comes over a Unix socket has none",
            on,
            "leave transparent out",
        ),
        told(
            Kind::Proxy,
            "vip = '/run/x'\nallow = ['10.0.0.0/8']",
            "`allow` and `deny` are about clients' addresses",
            on,
            "leave them out",
        ),
        nobody(),
        stored(),
    ]
}

/// What a start says of a stored state that ran as something else.
fn stored() -> Row {
    let spec: ServiceSpec =
        toml::from_str(&format!("name = 'web'\n{TCP}\nrate_limit = 'packets=5'")).unwrap();
    let state = Desired { services: vec![spec.complete().unwrap()], ..Desired::new(1) };
    let error = validate::desired(&state, Kind::Proxy).unwrap_err();
    row(
        run::nobody_to_change_it(error, Kind::Proxy),
        "the stored state says so",
        "service web",
        "change it under `pen-ctl run --dataplane xdp`, or start from a file that does without (`pen-ctl run \
         --dataplane proxy -c FILE`)",
    )
}

/// What only a stored state can hold.
fn nobody() -> Row {
    let spec: ServiceSpec = toml::from_str(&format!("name = 'web'\n{TCP}")).unwrap();
    let mut service = spec.complete().unwrap();
    service.max_connections = Some(0);
    let state = Desired { services: vec![service], ..Desired::new(1) };
    refused(
        validate::desired(&state, Kind::Proxy),
        "max_connections = 0 lets nobody in",
        "service web",
        "use at least 1",
    )
}

fn proxy_backends() -> Vec<Row> {
    let on = |address: &str| format!("backend {address} of service web");
    let backend = |service: &str, address: &str, keys: &str, what, to_do| {
        let service = format!("{service}\nbackend = [{{ address = '{address}'{keys} }}]");
        told(Kind::Proxy, &service, what, &on(address), to_do)
    };
    let transparent = &format!("{TCP}\ntransparent = true");
    let mac = ", mac = '02:00:00:00:00:01'";
    let twice = format!("{TCP}\nbackend = [{{ address = '10.0.0.11' }}, {{ address = '10.0.0.11:80' }}]");
    let mut none =
        toml::from_str::<ServiceSpec>(&format!("name = 'web'\n{TCP}")).unwrap().complete().unwrap();
    let mut limited = crate::state::desired::Backend::new([10, 0, 0, 11].into());
    limited.hard_limit = Some(0);
    none.backends.push(limited);
    let none = Desired { services: vec![none], ..Desired::new(1) };
    vec![
        backend(TCP, "0.0.0.0", "", "is the unspecified address", "use the address of a server"),
        backend(TCP, "10.0.0.11", mac, "has a `mac`, which is about packets", "leave it out"),
        backend(TCP, "10.0.0.11", ", health = 'tcp,way=dsr'", "which is about packets", "leave `way` out"),
        backend("vip = '/run/x'", "10.0.0.11", "", "has no port, and neither has the service", "say which"),
        backend(transparent, "2001:db8::1", "", "is IPv6 and clients are IPv4", "or leave transparent out"),
        backend(transparent, "/run/y", "", "where nobody has the client's address", "leave transparent out"),
        backend(UDP, "/run/y", "", "is a Unix socket, and the service is UDP", "the IP address of a server"),
        backend(TCP, "/run/y", ", health = 'tcp,port=1'", "has no port to check", "leave `port` out"),
        backend(
            &format!("{TCP}\nhealth = 'icmp'"),
            "/run/y",
            "",
            "is a Unix socket, which the health check icmp cannot ask",
            "give it one of its own, as tcp",
        ),
        backend(
            TCP,
            "10.0.0.11",
            ", soft_limit = 5, hard_limit = 4",
            "has soft_limit 5 above its hard_limit 4",
            "use at most the hard one",
        ),
        refused(
            validate::desired(&none, Kind::Proxy),
            "has hard_limit = 0, which lets nobody in",
            on("10.0.0.11"),
            "use at least 1",
        ),
        told(Kind::Proxy, &twice, "is the same as backend 10.0.0.11", &on("10.0.0.11:80"), "another port"),
        backend(TCP, "10.0.0.100", "", "is where the service itself listens", "address and port of a server"),
    ]
}
