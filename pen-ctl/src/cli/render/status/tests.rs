//! What an administrator sees, against whole pages.

use std::time::UNIX_EPOCH;

use super::*;
use crate::api::document::{PacketsDocument, ServiceList, TrackingDocument};

const NOW: u64 = 1_800_000_000;

fn view() -> View {
    View { now: UNIX_EPOCH + Duration::from_secs(NOW), style: Style { colour: false } }
}

fn document() -> StatusDocument {
    serde_json::from_value(serde_json::json!({
        "controller": {
            "version": "0.1.0", "pid": 4711, "dataplane": "xdp", "uptime_seconds": 11_520,
            "file": "/etc/pen.toml", "file_differs": true, "seed": "00000000000000ff", "http": null,
            "something_a_later_version_adds": 1
        },
        "interfaces": [
            {"name": "eth0", "mode": "native", "state": "attached", "detail": "", "announce": true},
            {"name": "eth1.100", "mode": "auto", "state": "pending", "detail": "there is no such interface", "announce": false}
        ],
        "services": [
            {
                "name": "web", "vip": "10.0.0.100:80/tcp", "affinity": "client", "scheduler": "maglev",
                "tracking": "full", "tracking_timeout": "0s", "transition": "10m", "on_empty": "drop",
                "health": {"kind": "tcp", "interval": "1s", "timeout": "500ms", "rise": 2, "fall": 3},
                "packets": 1_234_567, "bytes": 98_765_432_u64,
                "backends": [
                    {"service": "web", "address": "10.0.0.11", "weight": 1, "priority": 0, "state": "up",
                     "health": {"status": "up", "detail": "connected in 0.3 ms"}, "serving": true, "reason": null,
                     "since": humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(NOW - 11_000)).to_string(),
                     "mac": "02:00:00:00:00:11", "packets": 1_234_000, "bytes": 98_760_000},
                    {"service": "web", "address": "10.0.0.12", "weight": 2, "priority": 0, "state": "up",
                     "health": {"status": "down", "detail": "connection refused"}, "serving": false,
                     "reason": "connection refused",
                     "since": humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(NOW - 75)).to_string(),
                     "mac": "02:00:00:00:00:12", "packets": 567, "bytes": 5432},
                    {"service": "web", "address": "10.0.0.13", "weight": 1, "priority": 0, "state": "drain",
                     "health": {"status": "unknown", "detail": ""}, "serving": false,
                     "drain": {"remove_at": "2027-01-15T08:10:00Z", "seconds_left": 250, "clients_left": 12,
                               "clients_seen_last_minute": 3,
                               "detail": "12 clients left, 3 of them seen in the last minute"},
                     "reason": "draining", "since": "", "mac": null, "packets": 0, "bytes": 0}
                ]
            },
            {
                "name": "dns", "vip": "[2001:db8::53]:*/udp", "affinity": "flow", "scheduler": "maglev",
                "tracking": "off", "tracking_timeout": "5m", "transition": "10m", "on_empty": "pass",
                "health": {"kind": "none"}, "packets": 0, "bytes": 0, "backends": []
            }
        ],
        "packets": {
            "received": 1_300_000, "forwarded": 1_234_567,
            "answered": {"arp": 3, "ndp": 0, "icmp_echo": 2},
            "passed": {"no_service": 65_000, "not_ip": 0},
            "dropped": {"no_backend": 428, "loop": 0}
        },
        "tracking": {
            "v4": {"used": 250_000, "max": 262_144, "inserted": 300_000, "evicted": 1_200},
            "v6": {"used": 0, "max": 262_144, "inserted": 0, "evicted": 0},
            "age_seconds": 12,
            "inserts_per_second": {"v4": 4_300, "v6": 0}
        },
        "warnings": ["service dns: nobody is serving"]
    }))
    .unwrap()
}

#[test]
fn status_shows_everything_that_matters() {
    let expected = "\
pen 0.1.0, data plane xdp, pid 4711, up 3h 12m, file /etc/pen.toml (differs from what was applied: SIGHUP applies it)
  ! service dns: nobody is serving

Interfaces
  eth0      attached  native  announces VIPs
  eth1.100  pending   auto    announces nothing  there is no such interface

Services
  web  10.0.0.100:80/tcp  1 of 3 serving, 1 234 567 packets, 94.2 MiB
    BACKEND    STATE  HEALTH      FOR  WEIGHT  MAC                  PACKETS     BYTES  SERVING
    10.0.0.11  up     up        3h 3m       1  02:00:00:00:00:11  1 234 000  94.2 MiB  yes
    10.0.0.12  up     down     1m 15s       2  02:00:00:00:00:12        567   5.3 KiB  no: connection refused
    10.0.0.13  drain  unknown               1  -                          0       0 B  no: draining; removed within 4m 10s: 12 clients left, 3 of them seen in the last minute

  dns  [2001:db8::53]:*/udp  0 of 0 serving, 0 packets, 0 B
    no backends: pen-ctl backend add dns ADDR

Packets
  received               1 300 000
  forwarded              1 234 567
  answered   arp                 3
             icmp_echo           2
  passed     no_service     65 000
  dropped    no_backend        428

Clients remembered
  IPv4  250 000  of 262 144  4 300 new/s  1 200 evicted
  IPv6        0  of 262 144  0 new/s      0 evicted
  counted 12s ago
";
    assert_eq!(status(&document(), view()), expected);
}

#[test]
fn an_empty_controller_says_what_to_do_next() {
    let mut document = document();
    document.interfaces.clear();
    document.services.clear();
    document.warnings.clear();
    document.packets = PacketsDocument::default();
    document.tracking = TrackingDocument::default();
    let text = status(&document, view());
    assert!(text.contains("  none: pen-ctl attach IFACE\n"), "{text}");
    assert!(text.contains("  none: pen-ctl service add NAME VIP:PORT/PROTO\n"), "{text}");
    assert!(text.contains("  dropped    0\n"), "{text}");
    assert!(text.ends_with("  not counted yet: ask again in a moment\n"), "{text}");
}

#[test]
fn lists_are_tables() {
    let expected = "\
NAME  VIP                   SERVING  HEALTH        AFFINITY  TRACKING    PACKETS     BYTES
web   10.0.0.100:80/tcp     1 of 3   tcp every 1s  client    full      1 234 567  94.2 MiB
dns   [2001:db8::53]:*/udp  0 of 0   none          flow      off               0       0 B
";
    let list = ServiceList { services: document().services };
    assert_eq!(services(&list.services, view()), expected);
    let text = backends(&list.services[0].backends, view());
    assert!(text.starts_with("SERVICE  BACKEND    STATE"), "{text}");
    assert_eq!(text.lines().count(), 4);
}

#[test]
fn one_service_is_shown_with_its_settings() {
    let document = document();
    let text = service(&document.services[1], view());
    let expected = "\
affinity          flow
scheduler         maglev
tracking          off
tracking timeout  5m
transition        10m
on empty          pass
health            none
  dns  [2001:db8::53]:*/udp  0 of 0 serving, 0 packets, 0 B
    no backends: pen-ctl backend add dns ADDR
";
    assert_eq!(text, expected);
}

#[test]
fn a_share_that_an_agent_changed_stands_before_the_weight() {
    let mut document = document();
    let backends = &mut document.services[0].backends;
    (backends[0].effective_weight, backends[1].effective_weight) = (Some(1), Some(0));
    let text = status(&document, view());
    assert!(text.contains("3h 3m         1  02:") && text.contains("1m 15s  0 (of 2)  02:"), "{text}");
}

#[test]
fn what_should_be_known_of_one_that_serves_stands_beside_it() {
    let with = |change: &dyn Fn(&mut BackendDocument)| {
        let mut document = document();
        change(&mut document.services[0].backends[0]);
        status(&document, view())
    };
    let text = with(&|backend| backend.health.detail = "not checked: no such file".into());
    assert!(text.contains("  yes; not checked: no such file\n"), "{text}");
    let text = with(&|backend| backend.growing = Some(30));
    assert!(text.contains("  yes; slow start: 30 % of its share\n"), "{text}");
    let text = with(&|backend| {
        backend.health.status = HealthStatus::Down;
        backend.health.detail = "connection refused".into();
    });
    assert!(text.contains("  yes, in panic, although: connection refused\n"), "{text}");
}

#[test]
fn what_follows_from_health_is_shown_where_anything_was_said() {
    let mut document = document();
    let service = &mut document.services[1];
    service.panic = 50;
    service.slow_start = Duration::from_secs(30);
    service.on_change = vec!["/usr/local/bin/tell".into(), "--channel".into(), "ops".into()];
    let text = super::service(service, view());
    for line in [
        "panic             when fewer than 50 % are well",
        "slow start        30s",
        "on change         /usr/local/bin/tell --channel ops",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn whom_a_service_refused_is_shown_with_the_newest() {
    let mut document = document();
    let service = &mut document.services[1];
    service.refused = serde_json::from_value(serde_json::json!({
        "denied": {"packets": 12_345, "last": "192.0.2.7", "seconds_ago": 75},
        "rate_limited": {"packets": 0, "last": null, "seconds_ago": null},
    }))
    .unwrap();
    let text = super::service(service, view());
    for line in [
        "denied            12 345 packets, the last from 192.0.2.7 1m 15s ago\n",
        "rate limited      0 packets\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn status_has_a_line_for_what_a_service_asks_of_its_clients_and_whom_it_refused() {
    let mut document = document();
    let lines = |document: &StatusDocument| -> Vec<String> {
        let text = status(document, view());
        text.lines().filter(|line| line.contains("refused so far")).map(str::to_owned).collect()
    };
    assert_eq!(lines(&document), [""; 0], "nothing where nothing is asked");
    let refused = serde_json::json!({"denied": {"packets": 12_345}, "rate_limited": {"packets": 7}});
    let web = &mut document.services[0];
    web.access = AccessDocument { allow: 1, deny: 100_000 };
    web.rate_limit = "packets=10000,flows=100".parse().ok();
    let line = "    allow 1, deny 100 000, rate_limit packets=10000,flows=100; refused so far: ";
    assert_eq!(lines(&document), [format!("{line}0 denied, 0 rate_limited")]);
    document.services[0].refused = serde_json::from_value(refused.clone()).unwrap();
    assert_eq!(lines(&document), [format!("{line}12 345 denied, 7 rate_limited")]);
    let web = &mut document.services[0];
    (web.access, web.rate_limit) = (AccessDocument::default(), None);
    assert_eq!(lines(&document), ["    refused so far: 12 345 denied, 7 rate_limited"], "what was, stays");
    let mut proxied = proxied();
    proxied.services[0].access.deny = 2;
    proxied.services[0].refused = serde_json::from_value(refused).unwrap();
    proxied.services[0].refused.as_mut().unwrap().rate_limited.packets = 0;
    assert_eq!(lines(&proxied), ["    deny 2; refused so far: 12 345 denied"]);
    let shown = service(&proxied.services[0], view());
    assert!(shown.contains("12 345 connections\n") && !shown.contains("rate limited"), "{shown}");
}

#[test]
fn a_flood_is_shown_below_the_clients_while_it_is_on_and_afterwards() {
    let with = |flood| {
        let mut document = document();
        document.tracking.flood = serde_json::from_value(flood).unwrap();
        status(&document, view())
    };
    let text = with(serde_json::json!({"active": true, "suppressed": 12_345, "last_seconds_ago": 0}));
    assert!(text.ends_with("\n  flood: newcomers are not remembered now, 12 345 so far\n"), "{text}");
    let text = with(serde_json::json!({"active": false, "suppressed": 12_345, "last_seconds_ago": 75}));
    assert!(
        text.ends_with("\n  12 345 newcomers were not remembered in floods, the last 1m 15s ago\n"),
        "{text}"
    );
    let text = with(serde_json::json!({"active": false, "suppressed": 0, "last_seconds_ago": null}));
    assert!(text.ends_with("  counted 12s ago\n"), "{text}");
}

#[test]
fn what_is_wrong_is_red_on_a_terminal() {
    let coloured = View { style: Style { colour: true }, ..view() };
    let text = status(&document(), coloured);
    assert!(text.contains("\x1b[31mno: connection refused\x1b[0m"), "{text}");
    assert!(text.contains("\x1b[33mno: draining; removed within 4m 10s"), "{text}");
    assert!(text.contains("\x1b[32myes\x1b[0m"), "{text}");
}

#[test]
fn the_document_has_its_shape_before_anything_is_counted_and_from_controllers_that_know_no_age() {
    let fresh = serde_json::to_value(TrackingDocument::default()).unwrap();
    assert_eq!(fresh["v4"], serde_json::json!({"used": 0, "max": 0, "inserted": 0, "evicted": 0}));
    assert!(fresh["age_seconds"].is_null());
    let older: TrackingDocument = serde_json::from_value(serde_json::json!({
        "v4": {"used": 7, "max": 1024}, "v6": {"used": 0, "max": 1024},
    }))
    .unwrap();
    assert_eq!(older.age_seconds, Some(0));
}

/// The same controller, were it a proxy's.
fn proxied() -> StatusDocument {
    let mut document = serde_json::to_value(document()).unwrap();
    document["controller"]["dataplane"] = "proxy".into();
    document["interfaces"] = serde_json::json!([
        {"name": "eth0", "mode": "auto", "state": "unused", "detail": "the proxy attaches to no interface",
         "announce": true}
    ]);
    let settings = serde_json::json!({
        "connect_timeout": "5s", "idle_timeout": "0s", "max_connections": 20_000, "stubborn": false,
        "transparent": false, "proxy_protocol": "v2", "proxy_protocol_from": ["192.0.2.0/24"], "on_down": "keep",
        "connections": {"open": 12, "accepted": 1_234_567, "turned_away": 3}
    });
    let web = document["services"][0].as_object_mut().unwrap();
    web.extend(settings.as_object().unwrap().clone());
    for (number, backend) in web["backends"].as_array_mut().unwrap().iter_mut().enumerate() {
        let open = [12, 0, 0][number];
        backend["connections"] = serde_json::json!({"open": open, "total": open * 1000, "failed": number});
    }
    document["services"].as_array_mut().unwrap().truncate(1);
    serde_json::from_value(document).unwrap()
}

#[test]
fn of_a_backend_that_is_not_checked_nobody_is_told_that_it_is_up() {
    let mut document = proxied();
    let backend = &mut document.services[0].backends[0];
    backend.health.detail = "not checked".into();
    let line = |text: String| text.lines().find(|line| line.contains("10.0.0.11")).unwrap().to_owned();
    let list = backends(std::slice::from_ref(backend), view());
    for shown in [line(list), line(status(&document, view()))] {
        assert!(shown.contains("10.0.0.11  up     unchecked  ") && shown.ends_with("yes"), "{shown}");
    }
}

#[test]
fn of_a_service_that_not_everybody_may_use_it_is_told_how_long_the_lists_are() {
    let mut document = document();
    let web = &mut document.services[0];
    let plain = service(web, view());
    assert!(!plain.contains("allow") && !plain.contains("rate limit"), "{plain}");
    web.access = AccessDocument { allow: 1, deny: 100_000 };
    web.rate_limit = "packets=10000,flows=100".parse().ok();
    let text = service(web, view());
    for line in [
        "allow             1 prefix (pen-ctl export shows it)",
        "deny              100 000 prefixes (pen-ctl export shows them)",
        "rate limit        packets=10000,flows=100",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }
}

#[test]
fn of_a_proxy_connections_are_shown_in_the_place_of_packets_and_macs() {
    let expected = "\
pen 0.1.0, data plane proxy, pid 4711, up 3h 12m, file /etc/pen.toml (differs from what was applied: SIGHUP applies it)
  ! service dns: nobody is serving

Interfaces
  eth0  unused  auto  announces VIPs  the proxy attaches to no interface

Services
  web  10.0.0.100:80/tcp  1 of 3 serving, 12 connections open of 1 234 567, 3 turned away, 94.2 MiB
    BACKEND    STATE  HEALTH      FOR  WEIGHT  OPEN   TOTAL  FAILED     BYTES  SERVING
    10.0.0.11  up     up        3h 3m       1    12  12 000       0  94.2 MiB  yes
    10.0.0.12  up     down     1m 15s       2     0       0       1   5.3 KiB  no: connection refused
    10.0.0.13  drain  unknown               1     0       0       2       0 B  no: draining; removed within 4m 10s: 12 clients left, 3 of them seen in the last minute

Clients remembered
  IPv4  250 000  of 262 144  4 300 new/s  1 200 evicted
  IPv6        0  of 262 144  0 new/s      0 evicted
  counted 12s ago
";
    assert_eq!(status(&proxied(), view()), expected);
    let text = service(&proxied().services[0], view());
    for line in [
        "max connections      20 000\n",
        "proxy protocol from  192.0.2.0/24\n",
        "idle timeout         none\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("transition"), "{text}");
}
