//! What each data plane refuses and takes, and what a state is right for.

use super::*;

/// A state of one service in TOML.
fn state(service: &str) -> Desired {
    with(&[toml::from_str(&format!("name = 'web'\n{service}")).unwrap()])
}

#[track_caller]
fn refused_by(kind: Kind, service: &str, why: &str) {
    let error = desired(&state(service), kind).unwrap_err();
    assert!(error.to_string().contains(why), "{service}: {error}");
    assert!(!error.hint.is_empty(), "{error} says not what to do");
}

const TCP: &str = "vip = '10.0.0.100:80/tcp'";

#[test]
fn what_only_the_proxy_can_do_is_refused_under_xdp_with_the_way_out() {
    for (service, why) in [
        ("vip = '/run/app.sock'", "is a Unix socket"),
        ("vip = '127.0.0.1:80/tcp'", "loopback"),
        ("vip = '0.0.0.0:80/tcp'", "unspecified"),
        (&format!("{TCP}\nscheduler = 'least-connections'"), "counts connections"),
        (&format!("{TCP}\nconnect_timeout = '5s'"), "`connect_timeout` is about connections"),
        (&format!("{TCP}\nidle_timeout = 0"), "`idle_timeout`"),
        (&format!("{TCP}\nmax_connections = 5"), "`max_connections`"),
        (&format!("{TCP}\nstubborn = true"), "`stubborn`"),
        (&format!("{TCP}\ntransparent = true"), "`transparent`"),
        (&format!("{TCP}\nproxy_protocol = 'v1'"), "`proxy_protocol`"),
        (&format!("{TCP}\nproxy_protocol_from = ['10.0.0.0/8']"), "`proxy_protocol_from`"),
        (&format!("{TCP}\non_down = 'close'"), "`on_down`"),
        (&format!("{TCP}\nbackend = [{{ address = '10.0.0.11:8080' }}]"), "has a port"),
        (&format!("{TCP}\nbackend = [{{ address = '/run/app.sock' }}]"), "is a Unix socket"),
        (&format!("{TCP}\nbackend = [{{ address = '127.0.0.1' }}]"), "loopback"),
        (&format!("{TCP}\nbackend = [{{ address = '2001:db8::11' }}]"), "is IPv6 but the VIP"),
        (&format!("{TCP}\nbackend = [{{ address = '10.0.0.11', soft_limit = 1 }}]"), "`soft_limit`"),
        (&format!("{TCP}\nbackend = [{{ address = '10.0.0.11', hard_limit = 1 }}]"), "`hard_limit`"),
    ] {
        refused_by(Kind::Xdp, service, why);
        let hint = desired(&state(service), Kind::Xdp).unwrap_err().hint;
        assert!(hint.contains("run --dataplane proxy"), "{service}: {hint}");
        desired(&state(service), Kind::Proxy).unwrap_or_else(|error| panic!("{service}: {error}"));
        assert!(matches!(fits(&state(service)), Ok(Fits::Only(Kind::Proxy, _))), "{service}");
    }
}

#[test]
fn what_only_xdp_can_do_is_refused_in_the_proxy() {
    for (service, why) in [
        ("vip = '10.0.0.100:*/tcp'", "listens on one port"),
        (&format!("{TCP}\non_empty = 'pass'"), "on_empty `pass`"),
        (&format!("{TCP}\ntracking = 'transitions'"), "tracking `transitions`"),
        (
            &format!("{TCP}\nhealth = 'tcp,way=dsr'\nbackend = [{{ address = '10.0.0.11' }}]"),
            "way = \"dsr\", which is about packets",
        ),
        (&format!("{TCP}\nbackend = [{{ address = '10.0.0.11', mac = '02:00:00:00:00:01' }}]"), "`mac`"),
    ] {
        refused_by(Kind::Proxy, service, why);
        desired(&state(service), Kind::Xdp).unwrap_or_else(|error| panic!("{service}: {error}"));
        assert!(matches!(fits(&state(service)), Ok(Fits::Only(Kind::Xdp, _))), "{service}");
    }
}

#[test]
fn the_proxy_refuses_what_cannot_be_connected() {
    const UDP: &str = "vip = '10.0.0.100:53/udp'";
    for (service, why) in [
        ("vip = '224.0.0.1:80/tcp'", "multicast"),
        (&format!("{TCP}\nconnect_timeout = '11m'"), "connect_timeout = 11m is out of range"),
        (&format!("{TCP}\nidle_timeout = '500days'"), "is too long"),
        (&format!("{UDP}\nproxy_protocol = 'v1'"), "for streams only"),
        (&format!("{UDP}\nbackend = [{{ address = '/run/dns.sock' }}]"), "the service is UDP"),
        ("vip = '/run/app.sock'\ntransparent = true", "whoever comes over a Unix socket"),
        (
            &format!("{TCP}\ntransparent = true\nbackend = [{{ address = '/run/a.sock' }}]"),
            "the client's address",
        ),
        (
            &format!("{TCP}\ntransparent = true\nbackend = [{{ address = '2001:db8::1' }}]"),
            "is IPv6 and clients are",
        ),
        ("vip = '/run/app.sock'\nbackend = [{ address = '10.0.0.11' }]", "has no port"),
        (
            &format!("{TCP}\nbackend = [{{ address = '10.0.0.11', soft_limit = 5, hard_limit = 4 }}]"),
            "above its hard",
        ),
        (&format!("{TCP}\nbackend = [{{ address = '0.0.0.0' }}]"), "unspecified"),
        (
            &format!("{TCP}\nbackend = [{{ address = '10.0.0.11' }}, {{ address = '10.0.0.11:80' }}]"),
            "is the same as",
        ),
        (&format!("{TCP}\nbackend = [{{ address = '10.0.0.100:80' }}]"), "where the service itself listens"),
        ("vip = '0.0.0.0:80/tcp'\nbackend = [{ address = '127.0.0.1' }]", "where the service itself listens"),
        ("vip = '/run/a.sock'\nbackend = [{ address = '/run/a.sock' }]", "where the service itself listens"),
        (
            &format!("{TCP}\nbackend = [{{ address = '/run/a.sock', health = 'tcp,port=80' }}]"),
            "has no port to check",
        ),
        (
            &format!("{TCP}\nhealth = 'agent,port=9000'\nbackend = [{{ address = '/run/a.sock' }}]"),
            "the health check agent cannot ask",
        ),
    ] {
        refused_by(Kind::Proxy, service, why);
    }
}

#[test]
fn the_proxy_takes_the_same_address_on_another_port_and_turns_without_memory() {
    for service in [
        &format!("{TCP}\nbackend = [{{ address = '10.0.0.100:8080' }}]"),
        &format!("{TCP}\nbackend = [{{ address = '10.0.0.11' }}, {{ address = '10.0.0.11:81' }}]"),
        &format!("{TCP}\nscheduler = 'round-robin'\ntracking = 'off'"),
        &format!(
            "{TCP}\nhealth = 'icmp'\nbackend = [{{ address = '/run/a.sock', health = 'exec,command=/bin/true' }}]"
        ),
        &format!("{TCP}\nscheduler = 'least-connections'\naffinity = 'none'"),
        &format!("{TCP}\ntransparent = true\nproxy_protocol = 'v2'\nbackend = [{{ address = '10.0.0.11' }}]"),
        "vip = '[::]:80/tcp'\ntransparent = true\nbackend = [{ address = '10.0.0.11' }, { address = '2001:db8::1' }]",
        "vip = '[::]:53/udp'\nproxy_protocol = 'v2'\nbackend = [{ address = '10.0.0.11' }]",
    ] {
        desired(&state(service), Kind::Proxy).unwrap_or_else(|error| panic!("{service}: {error}"));
    }
}

#[test]
fn what_breaks_a_rule_of_each_is_right_for_nothing() {
    let both = format!("{TCP}\nstubborn = true\non_empty = 'pass'");
    assert!(fits(&state(&both)).is_err());
    assert_eq!(fits(&state(TCP)), Ok(Fits::Either));
}
