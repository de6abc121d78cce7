//! What the log says, and how often.

use super::*;
use crate::api::configuration::How;
use crate::log::testing::logged;

fn with<'a>(lines: &'a [String], words: &str) -> Vec<&'a str> {
    lines.iter().map(String::as_str).filter(|line| line.contains(words)).collect()
}

#[test]
fn an_interface_that_waits_is_warned_of_once() {
    let mut bench = Bench::new();
    let text = "interfaces = ['eth0', 'eth7']\n".to_owned();
    let lines = logged(|| {
        bench.done(Request::Apply { file: "pen.toml".into(), text, how: How::default() });
        bench.controller().tick();
        bench.controller().tick();
    });
    let warnings = with(&lines, "WARN");
    assert!(
        matches!(warnings[..], [one] if one.contains("does not exist") && one.contains("eth7")),
        "{lines:?}"
    );
}

#[test]
fn a_restart_sums_up_who_serves_and_names_who_does_not() {
    let mut bench = Bench::with_web();
    bench.hear([health(12, HealthStatus::Down)]);
    let lines = logged(|| {
        bench.start(Options::default());
        bench.hear([Event::Links(links())]);
    });
    assert_eq!(with(&lines, "serving as before").len(), 1, "{lines:?}");
    assert!(with(&lines, "backend=10.0.0.11").is_empty(), "no news: {lines:?}");
    assert_eq!(with(&lines, "backend=10.0.0.12").len(), 1, "{lines:?}");
    let lines = logged(|| bench.hear([health(11, HealthStatus::Down)]));
    assert_eq!(with(&lines, "backend=10.0.0.11").len(), 1, "{lines:?}");
}
