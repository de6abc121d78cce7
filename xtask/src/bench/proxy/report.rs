//! What is said in the end: medians of interleaved rounds, and how pen's compare with the best rival's.

use serde::Serialize;

use super::super::report::median;
use super::measure::{Measure, Taken};
use super::rivals::Subject;

/// What is noted in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Metric {
    /// Its name in JSON.
    name: &'static str,
    /// What it is, and its unit.
    label: &'static str,
    /// Its unit in so many of the base unit: seconds, bytes.
    pub(super) scale: f64,
    /// Whether more is better.
    more: bool,
}

impl Metric {
    pub(super) const CONNECTIONS: Self = rate("connections", "new connections, a second");
    pub(super) const CONNECTIONS_CPU: Self = time("connections_cpu", "  CPU of the proxy for each, µs");
    pub(super) const REQUESTS: Self = rate("requests", "requests on 64 connections, a second");
    pub(super) const REQUESTS_CPU: Self = time("requests_cpu", "  CPU of the proxy for each, µs");
    pub(super) const P50: Self = time("latency_p50", "latency at 4,000 requests a second: median, µs");
    pub(super) const P99: Self = time("latency_p99", "  99th percentile, µs");
    pub(super) const PACED_CPU: Self = time("latency_cpu", "  CPU of the proxy for each, µs");
    /// Of bytes a second.
    pub(super) const BULK: Self = Self { scale: 8e-9, ..rate("bulk", "bulk on 4 connections, Gbit/s") };
    /// Of seconds for a byte.
    pub(super) const BULK_CPU: Self =
        Self { scale: 1e12, ..time("bulk_cpu", "  CPU of the proxy for a gigabyte, ms") };
    pub(super) const DATAGRAMS: Self = rate("datagrams", "UDP queries of 128 clients, a second");
    pub(super) const DATAGRAMS_CPU: Self = time("datagrams_cpu", "  CPU of the proxy for each, µs");
    pub(super) const IDLE_GROWTH: Self = memory("idle_growth", "memory for idle connections, MiB");
    pub(super) const IDLE_TOTAL: Self = memory("idle_total", "  with what the proxy had before, MiB");
}

const fn rate(name: &'static str, label: &'static str) -> Metric {
    Metric { name, label, scale: 1.0, more: true }
}

const fn time(name: &'static str, label: &'static str) -> Metric {
    Metric { name, label, scale: 1e6, more: false }
}

const fn memory(name: &'static str, label: &'static str) -> Metric {
    Metric { name, label, scale: 1.0 / (1 << 20) as f64, more: false }
}

/// What was noted of all subjects in all rounds.
#[derive(Debug, Default)]
pub(super) struct Samples {
    taken: Vec<(Metric, Subject, f64)>,
    failures: Vec<Failures>,
}

impl Samples {
    /// Adds what a step gave.
    pub(super) fn add(&mut self, measure: Measure, subject: Subject, taken: Taken) {
        self.taken.extend(taken.samples.into_iter().map(|(metric, value)| (metric, subject, value)));
        if taken.failed == 0 {
            return;
        }
        let (measure, subject) = (format!("{measure:?}").to_lowercase(), subject.name());
        match self.failures.iter_mut().find(|at| at.measure == measure && at.subject == subject) {
            Some(failures) => failures.failed += taken.failed,
            None => self.failures.push(Failures { measure, subject, failed: taken.failed }),
        }
    }

    /// What was noted, in the order in which it was first.
    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (metric, ..) in &self.taken {
            if !metrics.contains(metric) {
                metrics.push(*metric);
            }
        }
        metrics
    }

    /// A subject's rounds.
    fn rounds(&self, metric: Metric, subject: Subject) -> Vec<f64> {
        let taken = self.taken.iter().filter(|(m, s, _)| *m == metric && *s == subject);
        taken.map(|(.., value)| *value).collect()
    }
}

/// The whole benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Interleaved rounds.
    pub rounds: u32,
    /// Connections of the idle rows.
    pub idle_connections: usize,
    /// One for each thing noted.
    pub rows: Vec<Row>,
    /// What failed though it should not.
    pub failures: Vec<Failures>,
}

/// What was noted of one thing.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the row.
    pub name: &'static str,
    /// What it is, and its unit.
    #[serde(skip)]
    label: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// The subjects' medians.
    pub medians: Vec<Median>,
    /// The best of the rivals.
    pub best_rival: Option<&'static str>,
    /// How many times better pen is: 1 = as good as the best rival, more = better.
    pub pen_to_best: Option<f64>,
}

/// A subject's rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Median {
    /// Its name.
    pub subject: &'static str,
    /// Their median.
    pub median: f64,
    /// Their least.
    pub min: f64,
    /// Their most.
    pub max: f64,
}

impl Median {
    fn new(subject: Subject, rounds: &[f64]) -> Self {
        Self {
            subject: subject.name(),
            median: median(rounds),
            min: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            max: rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// Connections or requests that failed, datagrams that were lost, in all rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// In which measure.
    pub measure: String,
    /// With whom.
    pub subject: &'static str,
    /// How many.
    pub failed: u64,
}

impl Report {
    /// Boils rounds down.
    pub(super) fn new(samples: &Samples, rounds: u32, idle_connections: usize) -> Self {
        let rows = samples.metrics().into_iter().map(|metric| Row::new(metric, samples)).collect();
        Self { rounds, idle_connections, rows, failures: samples.failures.clone() }
    }

    /// Aligned text.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{:<48}", format!("medians of {} interleaved rounds", self.rounds));
        for subject in Subject::ALL {
            text += &format!("{:>12}", subject.name());
        }
        text += "  pen : best rival\n";
        for row in &self.rows {
            text += &row.line();
        }
        for Failures { measure, subject, failed } in &self.failures {
            text += &format!("{measure}: {failed} failed or lost with {subject}\n");
        }
        text
    }
}

impl Row {
    fn new(metric: Metric, samples: &Samples) -> Self {
        let rounds = Subject::ALL.map(|subject| (subject, samples.rounds(metric, subject)));
        let medians = rounds.iter().filter(|(_, rounds)| !rounds.is_empty());
        let medians: Vec<_> =
            medians.map(|(subject, rounds)| (*subject, Median::new(*subject, rounds))).collect();
        let better = |one: &f64, other: &f64| {
            if metric.more { one.total_cmp(other) } else { other.total_cmp(one) }
        };
        let rivals = medians.iter().filter(|(subject, _)| subject.is_rival());
        let best = rivals.map(|(_, median)| median).max_by(|one, other| better(&one.median, &other.median));
        let pen = medians.iter().find(|(subject, _)| *subject == Subject::Pen);
        let ratio =
            best.zip(pen).map(
                |(best, (_, pen))| {
                    if metric.more { pen.median / best.median } else { best.median / pen.median }
                },
            );
        Self {
            name: metric.name,
            label: metric.label,
            more_is_better: metric.more,
            best_rival: best.map(|best| best.subject),
            // Nothing divided by nothing: a proxy that took no memory.
            pen_to_best: ratio.filter(|ratio| ratio.is_finite()),
            medians: medians.into_iter().map(|(_, median)| median).collect(),
        }
    }

    fn line(&self) -> String {
        let mut text = format!("{:<48}", self.label);
        for subject in Subject::ALL {
            let median = self.medians.iter().find(|median| median.subject == subject.name());
            text += &match median {
                Some(Median { median, .. }) if *median >= 1000.0 => format!("{median:>12.0}"),
                Some(Median { median, .. }) => format!("{median:>12.2}"),
                None => format!("{:>12}", "-"),
            };
        }
        text + &match (self.pen_to_best, self.best_rival) {
            (Some(ratio), Some(rival)) => format!("  {ratio:.2} {rival}\n"),
            _ => "\n".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(metric: Metric, medians: &[(Subject, [f64; 3])]) -> Report {
        let mut samples = Samples::default();
        for round in 0..3 {
            for (subject, rounds) in medians {
                let taken = Taken { samples: vec![(metric, rounds[round])], failed: 1 };
                samples.add(Measure::Requests, *subject, taken);
            }
        }
        Report::new(&samples, 3, 0)
    }

    #[test]
    fn pen_is_compared_with_the_best_rival_and_not_with_nobody() {
        let medians = [
            (Subject::Direct, [200.0, 200.0, 200.0]),
            (Subject::Pen, [99.0, 1.0, 400.0]),
            (Subject::Haproxy, [110.0, 110.0, 0.0]),
            (Subject::Nginx, [90.0, 90.0, 900.0]),
        ];
        let more = report(Metric::REQUESTS, &medians);
        assert_eq!((more.rows[0].best_rival, more.rows[0].pen_to_best), (Some("haproxy"), Some(0.9)));
        let less = report(Metric::P99, &medians);
        assert_eq!((less.rows[0].best_rival, less.rows[0].pen_to_best), (Some("nginx"), Some(90.0 / 99.0)));
        let alone = report(Metric::P99, &medians[..2]);
        assert_eq!((alone.rows[0].best_rival, alone.rows[0].pen_to_best), (None, None));
    }

    #[test]
    fn failures_are_summed_up_and_shown() {
        let report = report(Metric::REQUESTS, &[(Subject::Nginx, [1.0; 3])]);
        let nginx = Failures { measure: "requests".to_owned(), subject: "nginx", failed: 3 };
        assert_eq!(report.failures, [nginx]);
        assert!(report.table().contains("requests: 3 failed or lost with nginx"), "{}", report.table());
    }
}
