//! The benchmark of the proxy, in small: it measures everybody there is, and what it notes is plausible.

use std::path::Path;
use std::time::Duration;

use xtask::bench::proxy::{Measure, Plan, Subject, run};
use xtask::lab::cluster::Programs;
use xtask::lab::needs;

const RIVALS: [(&str, &str); 3] = [("haproxy", "haproxy"), ("nginx", "libnginx-mod-stream"), ("pen", "pen")];

#[test]
fn every_proxy_is_measured_and_every_number_is_plausible() {
    if !needs::met_with(&RIVALS) {
        return;
    }
    let pen_ctl = Programs::beside(Path::new(env!("CARGO_BIN_EXE_xtask"))).pen_ctl;
    let cpu = std::thread::available_parallelism().unwrap().get() - 1;
    let step = Duration::from_millis(200);
    let plan = Plan { pen_ctl, measures: Measure::ALL.into(), rounds: 1, step, cpu, idle: 300 };
    let report = run(&plan, |_| {}).unwrap();

    let names: Vec<&str> = report.rows.iter().map(|row| row.name).collect();
    let expected = [
        "connections",
        "connections_cpu",
        "requests",
        "requests_cpu",
        "latency_p50",
        "latency_p99",
        "latency_cpu",
        "bulk",
        "bulk_cpu",
        "datagrams",
        "datagrams_cpu",
        "idle_growth",
        "idle_total",
    ];
    assert_eq!(names, expected);
    for row in &report.rows {
        let median = |subject: Subject| row.medians.iter().find(|median| median.subject == subject.name());
        for subject in Subject::ALL {
            let udp = row.name.starts_with("datagrams");
            let of_a_process = row.name.ends_with("_cpu") || row.name.starts_with("idle");
            let is_measured =
                !(subject == Subject::Haproxy && udp || subject == Subject::Direct && of_a_process);
            assert_eq!(median(subject).is_some(), is_measured, "{} of {}", row.name, subject.name());
            // Idle connections may fit into what a proxy had anyway.
            let least = if row.name == "idle_growth" { -1.0 } else { 0.0 };
            let plausible = |value: f64| value > least && value < 1e9;
            assert!(median(subject).is_none_or(|median| plausible(median.median)), "{row:?}");
        }
        assert!(row.best_rival.is_some(), "{row:?}");
    }
    let of = |name: &str, subject: Subject| {
        let row = report.rows.iter().find(|row| row.name == name).unwrap();
        row.medians.iter().find(|median| median.subject == subject.name()).unwrap().median
    };
    for subject in [Subject::Pen, Subject::Haproxy, Subject::Nginx, Subject::Classic] {
        let busy = of("requests", subject) * of("requests_cpu", subject) / 1e6;
        assert!(busy > 0.01 && busy < 1.5, "{} kept {busy} of one processor busy", subject.name());
        assert!(of("latency_p99", subject) >= of("latency_p50", subject), "{}", subject.name());
        assert!(of("idle_total", subject) >= of("idle_growth", subject), "{}", subject.name());
    }
    assert_eq!(report.failures.iter().find(|failure| failure.subject == "pen"), None);
}
