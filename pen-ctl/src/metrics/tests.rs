//! What a scraper gets: the whole of it, in both formats, as Prometheus's own tool reads it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::api::document::InterfaceState;
use crate::dataplane::{AttachMode, RefusedPackets, TableUse, TrackingUse};
use crate::needs;

fn traffic(packets: u64) -> Traffic {
    Traffic { packets, bytes: packets * 60 }
}

fn backend(address: &str, health: HealthStatus, state: AdminState) -> BackendSample {
    let serving = health == HealthStatus::Up && state == AdminState::Up;
    let address = address.parse().unwrap();
    BackendSample { address, weight: 2, priority: 0, state, health, serving, standby: false, transitions: 3 }
}

fn service(name: &str, vip: &str, backends: Vec<BackendSample>) -> ServiceSample {
    ServiceSample {
        name: name.into(),
        vip: vip.parse().unwrap(),
        affinity: Affinity::Client,
        scheduler: Scheduler::Maglev,
        tracking: Tracking::Full,
        slots_in_transition: 655,
        refused: None,
        backends,
    }
}

/// Two services; one backend of `web` was removed, and so was a whole service.
fn snapshot() -> Snapshot {
    let web = service(
        "web",
        "10.0.0.100:80/tcp",
        vec![
            backend("10.0.0.11", HealthStatus::Up, AdminState::Up),
            backend("10.0.0.12", HealthStatus::Down, AdminState::Drain),
            BackendSample {
                priority: 1,
                serving: false,
                standby: true,
                ..backend("10.0.0.13", HealthStatus::Up, AdminState::Up)
            },
        ],
    );
    let dns = service(
        "dns",
        "[2001:db8::100]:*/udp",
        vec![backend("2001:db8::11", HealthStatus::Unknown, AdminState::Down)],
    );
    let rate_limited = RefusedPackets { packets: 6, newest: None };
    let web = ServiceSample { refused: Some(RefusedClients { rate_limited, ..Default::default() }), ..web };
    let counters = Counters {
        backends: [
            ((web.vip, web.backends[0].address), traffic(100)),
            ((web.vip, web.backends[1].address), traffic(20)),
        ]
        .into(),
        removed_backends: [(web.vip, traffic(7))].into(),
        removed_services: traffic(3),
        answered: [("arp", traffic(5))].into(),
        passed: BTreeMap::from([("no_service", traffic(9)), ("not_ip", traffic(0))]),
        dropped: [("no_backend", traffic(1))].into(),
    };
    // As a proxy would have them.
    let connections = Connections { open: 4, total: 50, failed: 2, left_out: None };
    let refused = Connections { left_out: Some("connect: connection refused".into()), ..connections.clone() };
    let connections = BTreeMap::from([
        ((web.vip, web.backends[0].address), connections),
        ((web.vip, web.backends[1].address), refused),
    ]);
    let service_connections =
        BTreeMap::from([(web.vip, ServiceConnections { open: 8, accepted: 103, turned_away: 3 })]);
    let interface = InterfaceDocument {
        name: "eth0".into(),
        mode: AttachMode::Native,
        state: InterfaceState::Attached,
        detail: String::new(),
        announce: true,
        tx_errors: Some(19),
        tx_errors_last_minute: 0,
    };
    let pending = InterfaceDocument {
        name: "eth1".into(),
        mode: AttachMode::Auto,
        state: InterfaceState::Pending,
        tx_errors: None,
        ..interface.clone()
    };
    let tables = TrackingUse {
        v4: TableUse { used: 12, max: 262_144, inserted: 20, evicted: 3 },
        v6: TableUse { max: 262_144, ..TableUse::default() },
    };
    Snapshot {
        interfaces: vec![interface, pending],
        services: vec![web, dns],
        connections,
        service_connections,
        counters: Some(counters),
        tracking: Some(TrackingDocument { tables, age_seconds: Some(3), ..TrackingDocument::default() }),
        suppression: Some(Suppression { active: true, newcomers: 17, ..Suppression::default() }),
        failures: 1,
    }
}

fn timings() -> Timings {
    let timings = Timings::starting_at(UNIX_EPOCH + Duration::from_millis(1_700_000_000_500));
    timings.reconciled(Duration::from_millis(2));
    timings.state_written(Duration::from_secs(60));
    timings.check_began(Duration::from_millis(2));
    timings.check_ended("good");
    for status in [200, 200] {
        timings.answered(status);
    }
    timings
}

fn written(format: Format) -> String {
    render(snapshot(), &timings(), format).unwrap()
}

/// After a change that is meant, the file takes what the failing test prints; docs/operations.md may have to follow.
#[test]
fn every_metric_is_written_as_it_was_agreed() {
    let expected = include_str!("tests/golden.txt").replace("VERSION", env!("CARGO_PKG_VERSION"));
    let expected = expected.replace("ABI", &pen_common::abi::ABI_VERSION.to_string());
    let found = written(Format::OpenMetrics);
    assert!(found == expected, "{found}");
}

#[test]
fn the_older_format_has_the_same_samples_under_the_same_names() {
    let samples = |text: &str| {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let (new, old) = (written(Format::OpenMetrics), written(Format::Text));
    assert_eq!(samples(&new), samples(&old));
    assert!(new.ends_with("\n# EOF\n") && !old.contains("# EOF") && !old.contains("# UNIT"));
    for line in
        ["# TYPE pen_packets_total counter", "# TYPE pen_build_info gauge", "# HELP pen_packets_total Frames"]
    {
        assert!(old.contains(line), "{line} is missing: {old}");
    }
}

#[test]
fn what_cannot_be_read_is_left_out_rather_than_zero() {
    let blind = Snapshot { counters: None, tracking: None, ..snapshot() };
    let text = render(blind, &timings(), Format::Text).unwrap();
    for name in ["pen_packets_total", "pen_backend_packets_total", "pen_tracking_entries"] {
        assert!(!text.contains(name), "{text}");
    }
    assert!(text.contains("pen_backend_serving"), "{text}");
}

#[test]
fn odd_names_stay_one_label() {
    let odd = service("a\"b\\c\nd", "10.0.0.100:80/tcp", vec![]);
    let text = render(Snapshot { services: vec![odd], ..snapshot() }, &timings(), Format::Text).unwrap();
    assert!(text.contains(r#"pen_service_backends{service="a\"b\\c\nd"} 0"#), "{text}");
}

/// Gives `promtool` some input and wants it to find nothing wrong.
#[track_caller]
fn promtool(words: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    let mut child = command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{words:?}: {said}{input}");
}

fn has_promtool() -> bool {
    let found =
        Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    needs::met((!found.is_ok_and(|status| status.success())).then_some("promtool (Debian: prometheus)"))
}

#[test]
fn promtool_finds_nothing_wrong_with_the_text_format() {
    if has_promtool() {
        promtool(&["check", "metrics"], &written(Format::Text));
    }
}

/// Names of the families in the golden text, as queries know them.
fn names() -> Vec<String> {
    let text = written(Format::Text);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_documentation_lists_every_metric_and_no_other() {
    let documentation = include_str!("../../../docs/operations.md");
    let (_, section) = documentation.split_once("\n## Watch it\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut listed: Vec<&str> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let mut there = names();
    listed.sort_unstable();
    there.sort_unstable();
    assert_eq!(listed, there);
}

#[test]
fn the_example_alerts_are_sound_and_ask_for_what_there_is() {
    let rules = include_str!("../../../docs/pen.rules.yml");
    let names = names();
    let words =
        rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("pen_"));
    for word in words {
        let name = word.strip_suffix("_bucket").unwrap_or(word);
        assert!(names.iter().any(|known| known == name), "there is no metric {word}");
    }
    if has_promtool() {
        promtool(&["check", "rules", concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pen.rules.yml")], "");
    }
}

/// It checks OpenMetrics only when it makes blocks of them, for which samples need timestamps.
#[test]
fn promtool_reads_open_metrics() {
    if !has_promtool() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let stamped: String = written(Format::OpenMetrics)
        .lines()
        .map(|line| if line.starts_with('#') { format!("{line}\n") } else { format!("{line} 1700000000\n") })
        .collect();
    std::fs::write(path("in"), stamped).unwrap();
    promtool(&["tsdb", "create-blocks-from", "openmetrics", &path("in"), &path("out")], "");
}

/// Who waits on purpose wakes nobody; who is sick does.
#[test]
fn the_alerts_tell_a_standby_from_a_backend_that_should_serve() {
    if !has_promtool() {
        return;
    }
    let test = include_str!("tests/alerts.yml");
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pen.rules.yml");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alerts.yml");
    std::fs::write(&path, test.replace("RULES", rules)).unwrap();
    promtool(&["test", "rules", path.to_str().unwrap()], "");
}
