//! The rules that a desired state obeys.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use pen_common::abi;

use super::super::stage::Stage;
use super::super::{Row, refused};
use crate::check::{self, Check, Health};
use crate::dataplane::{Affinity, Kind, Scheduler, ServiceKey};
use crate::own_address;
use crate::state::desired::{Backend, Desired, InterfaceSpec, Service};
use crate::state::validate;
use crate::surroundings::Link;
use crate::surroundings::testing::link;

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    [services(stage), names(stage), backends(stage), checks(stage), numbers()].into_iter().flatten().collect()
}

fn services(stage: &Stage) -> Vec<Row> {
    let add = |flags: &str, what, to_do: &'static str| {
        stage.typed(&format!("service add x 10.0.0.101:80/tcp {flags}"), what, "service x: ", to_do)
    };
    let vip = |vip: &str, what| {
        stage.typed(
            &format!("service add x {vip}:80/tcp"),
            what,
            format!("service x: VIP {vip}"),
            "use an address that clients can reach",
        )
    };
    vec![
        vip("0.0.0.0", "is the unspecified address"),
        vip("127.0.0.1", "is a loopback address"),
        vip("224.0.0.1", "is a multicast address"),
        vip("255.255.255.255", "is the broadcast address"),
        vip("0.0.0.1", "is in 0.0.0.0/8, which no host has"),
        add(
            "--affinity none --tracking full",
            "affinity `none` remembers nobody, so tracking must be `off`",
            "use affinity `flow`",
        ),
        add(
            "--scheduler round-robin --affinity none",
            "affinity `none` remembers nobody",
            "use affinity `client` or `flow`, or scheduler `maglev`",
        ),
        add(
            "--scheduler round-robin --tracking off",
            "it goes with tracking `full` only",
            "leave tracking out, or use scheduler `maglev`",
        ),
        add("--transition 1500ms", "transition = 1s 500ms is not in whole seconds", "use whole seconds"),
        add("--transition 48h", "transition = 2days is too long", "use at most 1day"),
        add("--slow-start 48h", "slow_start = 2days is too long", "use at most 1day"),
        add(
            "--on-change tell",
            "on_change does not name its program by the whole path",
            "/usr/local/bin/tell",
        ),
        add(
            "--allow ::ffff:10.0.0.0/104",
            "`::ffff:10.0.0.0/104` in `allow` is IPv4 written as IPv6",
            "write 10.0.0.0/8",
        ),
        add(
            "--allow 10.0.0.0/8 --deny 10.0.0.0/8",
            "10.0.0.0/8 is in `allow` and in `deny`",
            "leave it in one of them: the longest prefix that a client is in decides",
        ),
        stage.typed(
            "service add x 10.0.0.101:53/udp --rate-limit flows=5 --tracking off",
            "rate_limit: `flows` of a UDP service goes with tracking `full` only",
            "service x: ",
            "use tracking `full`, or limit `packets`",
        ),
        stage.typed(
            "service set dns --rate-limit flows=10 --affinity none",
            "affinity `none` remembers nobody",
            "service dns: rate_limit: `flows` of a UDP service",
            "use affinity `client` or `flow`, or limit `packets`",
        ),
        add("--transition 0", "transition = 0s is too short", "use at least 1s"),
        stage.typed(
            "service add web 10.0.0.102:80/tcp",
            "is there already",
            "service web",
            "use another name, or `service set` to change it",
        ),
        stage.typed(
            "service add x 10.0.0.100:80/tcp",
            "belongs to service web already",
            "service x: 10.0.0.100:80/tcp",
            "use another address, port or protocol",
        ),
    ]
}

fn names(stage: &Stage) -> Vec<Row> {
    let long = "x".repeat(64);
    let name = |name: &str, what| {
        let (words, on) = (["service", "add", name, "10.0.0.101:80/tcp"], format!("service name `{name}`"));
        stage.typed_words(&words, what, on, "use 1 to 63 of the letters a–z")
    };
    let interface = |name: &str, what| {
        stage.typed_words(
            &["attach", name],
            what,
            format!("interface name `{name}`"),
            "use a name from `ip link`",
        )
    };
    vec![
        name("", "is empty"),
        name("a b", "contains ` `"),
        name(&long, "has 64 characters"),
        name(".x", "starts with a sign"),
        interface("", "is empty"),
        interface(".", "cannot be"),
        interface("sixteencharacter", "is too long"),
        interface("eth/0", "contains a character that no interface has"),
        stage.typed("attach eth0 eth0", "is named twice", "interface eth0", "name it once"),
    ]
}

fn backends(stage: &Stage) -> Vec<Row> {
    let add = |words: &str, what, on: &str, to_do: &'static str| {
        stage.typed(&format!("backend add web {words}"), what, format!("backend {on} of service web"), to_do)
    };
    let mac = "--mac 01:00:5e:00:00:01";
    vec![
        add("10.0.0.11", "is there already", "10.0.0.11", "use `backend set` to change it"),
        add(
            "10.0.0.100",
            "is the service's own VIP",
            "10.0.0.100",
            "use the address that the backend has for itself",
        ),
        add(
            "10.0.0.110",
            "is the VIP of service dns",
            "10.0.0.110",
            "use the address that the backend has for itself",
        ),
        add("127.0.0.1", "is a loopback address", "127.0.0.1", "use the address of a server"),
        add("fe80::1", "is a link-local address", "fe80::1", "use the address of a server"),
        add(
            "::ffff:10.0.0.1",
            "is an IPv4 address written as IPv6",
            "::ffff:10.0.0.1",
            "use the address of a server",
        ),
        add(
            "2001:db8::11",
            "is IPv6 but the VIP 10.0.0.100 is IPv4",
            "2001:db8::11",
            "use an address of the VIP's family",
        ),
        add(
            &format!("10.0.0.12 {mac}"),
            "has MAC 01:00:5e:00:00:01, which is no single host's",
            "10.0.0.12",
            "use the MAC of its interface",
        ),
        add("10.0.0.12 --vlan 5", "has a VLAN but no MAC", "10.0.0.12", "give its `mac` too"),
    ]
}

fn checks(stage: &Stage) -> Vec<Row> {
    let check = |vip: &str, health: &str, what, to_do: &'static str| {
        let kind = health.split(',').next().unwrap_or_default();
        stage.typed(
            &format!("service add x {vip} --health {health}"),
            what,
            format!("service x: health check {kind}: "),
            to_do,
        )
    };
    let web = |health: &str, what, to_do| check("10.0.0.101:80/tcp", health, what, to_do);
    let every_port = "an every-port service has no port to check";
    vec![
        check("10.0.0.101:*/tcp", "tcp", every_port, "say which, as tcp,port=80"),
        web("tcp,interval=1ms", "interval = 1ms is out of range", "use 10ms to 1h"),
        web("tcp,max_hold=2days", "max_hold = 2days is out of range", "use at most 1day"),
        web("agent", "an agent listens on a port of its own", "say which, as agent,port=9000"),
        web("http,method=G3T", "`G3T` is not a method of HTTP", "use GET or HEAD"),
        web("http,method=CONNECT", "CONNECT asks for no path", "use GET or HEAD"),
        web("http,method=HEAD,body=x", "the answer to HEAD has no body", "use GET, or leave `body` out"),
        web("http,body=", "body is empty, which every answer holds", "write a text, or leave `body` out"),
        web("http,path=x", "path `x` is not one", "write it as /healthz"),
        web("http,host=", "host `` is not one", "write it as www.example.com"),
        web("https,host=a..b", "`a..b` is not a name that a certificate can be for", "set `sni`, too"),
        web("https,sni=", "sni `` is not a name", "write it as www.example.com"),
        web("https,ca=own.pem", "ca `own.pem` is not a whole path", "write it as /etc/ssl/own.pem"),
        web("https,ca=/x,verify=false", "ca says whom to trust, and verify = false trusts", "leave one"),
        web("dns,name=a..b", "`a..b` is not a name of the DNS", "write it as example.com"),
        web("dns,type=Q", "`Q` is not a type of record to ask for", "use A, AAAA, NS"),
        web("dns,rcode=?", "`?` is not a response code", "use NOERROR, NXDOMAIN"),
        web("smtp,helo=", "helo is not a name", "write a host name"),
        web("exec", "there is no command", "write command = [\"/usr/local/bin/check\""),
        web("exec,command=true", "the program is not named by its whole path", "/usr/local/bin/check"),
    ]
}

/// What only a stored state, or one that is too large to type, can hold.
fn numbers() -> Vec<Row> {
    let web = || Service::new("web".into(), "10.0.0.100:80/tcp".parse().unwrap());
    let with = |change: &dyn Fn(&mut Backend)| {
        let mut backend = Backend::new([10, 0, 0, 11].into());
        change(&mut backend);
        Service { backends: vec![backend], ..web() }
    };
    let many = |count: u32| -> Vec<Backend> {
        let first = u32::from(Ipv4Addr::new(10, 1, 0, 0));
        (first..first + count).map(|address| Backend::new(Ipv4Addr::from(address).into())).collect()
    };
    let service = |n: u32, backends| Service {
        backends,
        ..Service::new(format!("s{n}"), format!("10.9.{}.{}:80/tcp", n >> 8, n & 0xff).parse().unwrap())
    };
    let state = |services| Desired { services, ..Desired::new(1) };
    let of = |service: &Service| validate::desired(&state(vec![service.clone()]), Kind::Xdp);
    let crowd =
        Service { scheduler: Scheduler::RoundRobin, affinity: Affinity::Flow, backends: many(4097), ..web() };
    let services = state((0..5000).map(|n| service(n, Vec::new())).collect());
    let backends = state((0..20).map(|n| service(n, many(4000))).collect());
    let interfaces: Vec<_> = (0..1000).map(|n| InterfaceSpec::new(format!("eth{n}"))).collect();
    let small = Desired { tracking_clients: 5, ..Desired::new(1) };
    let flooded = Desired { flood_inserts_per_cpu: u32::MAX, ..Desired::new(1) };
    let everybody = (0..=abi::MAX_PREFIXES).map(|n| IpNet::from(IpAddr::from(Ipv4Addr::from(n << 8))));
    let crowded = Service { deny: everybody.collect(), ..web() };
    let on = "backend 10.0.0.11 of service web";
    let port = Health::Checked(Box::new(Check { port: Some(0), ..Check::of(check::Kind::Tcp) }));
    let port = Service { health: Some(port), ..web() };
    let all = Service { vip: ServiceKey { port: 0, ..web().vip }, ..web() };
    let links = [(2, Link { addresses: [web().vip.ip().unwrap()].into(), ..link(2, "eth0") })].into();
    let own = with(&|backend| backend.address = web().vip.ip().unwrap().into());
    vec![
        refused(
            validate::desired(&small, Kind::Xdp),
            "is out of range",
            "tracking_clients = 5",
            "use 1024 to 16777216",
        ),
        refused(
            validate::desired(&flooded, Kind::Xdp),
            "is out of range",
            "flood_inserts_per_cpu = 4294967295",
            "use 0 to 1000000000",
        ),
        refused(
            of(&crowded),
            "1048577 prefixes of one family are too many",
            "service web",
            "`allow` and `deny` together may have 1048576",
        ),
        refused(
            validate::interfaces(&interfaces),
            "interfaces are too many",
            "1000",
            "pen attaches to at most",
        ),
        refused(
            of(&crowd),
            "4097 backends are too many for scheduler `round-robin`",
            "service web",
            "use scheduler `maglev`",
        ),
        refused(validate::desired(&services, Kind::Xdp), "services are too many", "5000", "remove one first"),
        refused(
            validate::desired(&backends, Kind::Xdp),
            "backends over all services are too many",
            "80000",
            "remove some first",
        ),
        refused(
            of(&with(&|backend| backend.weight = 0)),
            "has weight 0, out of range",
            on,
            "use 1 to 1000; `--state drain` keeps newcomers away",
        ),
        refused(
            of(&with(&|backend| backend.vlan = Some(5000))),
            "has VLAN 5000, out of range",
            on,
            "use 1 to 4094",
        ),
        refused(
            of(&with(&|backend| backend.remove_at = Some(u64::MAX))),
            "is to be removed after the year 9999",
            on,
            "use one before 253402300800",
        ),
        refused(of(&port), "port 0 cannot be", "service web: health check tcp: ", "use 1 to 65535"),
        refused(
            own_address::refuse(&Desired::new(1), &state(vec![all]), &links),
            "is this machine's own address on eth0",
            "service web: 10.0.0.100",
            "use a VIP that this machine does not have, or name the ports",
        ),
        refused(
            of(&own),
            "is the service's own VIP",
            "backend 10.0.0.100 of service web",
            "use the address that the backend has for itself",
        ),
    ]
}
