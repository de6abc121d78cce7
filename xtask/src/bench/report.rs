//! What the benchmark says: medians of interleaved rounds, as a table for people or as JSON.

use serde::Serialize;

/// One path's cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// Name of the path.
    pub(super) name: String,
    /// Least of the rounds, nanoseconds per packet.
    pub(super) ns_min: f64,
    /// Median of the rounds, nanoseconds per packet.
    pub(super) ns_median: f64,
    /// Median less F0's median.
    pub net_f0: f64,
    /// `net_f0` over that of F2 with the same number of clients.
    pub ratio_f2: f64,
}

/// The whole benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    /// One for each path.
    pub(super) rows: Vec<Row>,
    /// The paths of programs that the kernel refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) refused: Vec<Refused>,
}

/// A path that has no cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Refused {
    /// Name of the path.
    pub(super) name: String,
    /// Why the kernel refused its program.
    pub(super) why: String,
}

impl Report {
    /// Boils rounds down: `samples` holds each path's nanoseconds per packet, a round each. Without rows `f0` and
    /// `f2` there is nothing to compare with, and the ratios are not numbers.
    pub(super) fn new(samples: &[(String, Vec<f64>)]) -> Report {
        let median_of = |name: &str| {
            samples.iter().find(|(other, _)| other == name).map_or(f64::NAN, |(_, rounds)| median(rounds))
        };
        let f0 = median_of("f0");
        let rows = samples.iter().map(|(name, rounds)| {
            let f2 = if name.ends_with("_131k") { median_of("f2_131k") } else { median_of("f2") };
            let ns_median = median(rounds);
            Row {
                name: name.clone(),
                ns_min: rounds.iter().copied().fold(f64::INFINITY, f64::min),
                ns_median,
                net_f0: ns_median - f0,
                ratio_f2: (ns_median - f0) / (f2 - f0),
            }
        });
        Report { rows: rows.collect(), refused: Vec::new() }
    }

    /// Aligned text.
    pub(super) fn table(&self) -> String {
        let mut text =
            format!("{:<22}{:>8}{:>8}{:>8}{:>9}\n", "path", "min ns", "median", "net f0", "ratio f2");
        for row in &self.rows {
            text += &format!(
                "{:<22}{:>8.0}{:>8.0}{:>8.0}{:>9.2}\n",
                row.name, row.ns_min, row.ns_median, row.net_f0, row.ratio_f2
            );
        }
        for row in &self.refused {
            text += &format!("{:<22}refused: {}\n", row.name, row.why);
        }
        text
    }
}

/// The middle one, or the mean of the two in the middle; not a number where there is none.
pub(super) fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_net_of_the_floor_and_of_medians() {
        let rounds = |values: &[f64]| values.to_vec();
        let samples = vec![
            ("f0".to_owned(), rounds(&[26.0, 25.0, 90.0])),
            ("f2".to_owned(), rounds(&[56.0, 300.0, 50.0])),
            ("f2_131k".to_owned(), rounds(&[226.0, 226.0, 226.0])),
            ("slot_v4".to_owned(), rounds(&[41.0, 41.0, 41.0])),
            ("slot_v4_131k".to_owned(), rounds(&[46.0, 46.0, 46.0])),
        ];
        let report = Report::new(&samples);
        let ratios: Vec<f64> = report.rows.iter().map(|row| row.ratio_f2).collect();
        assert_eq!(ratios, [0.0, 1.0, 1.0, 0.5, 0.1]);
        assert_eq!(report.rows[1].ns_min, 50.0);
    }
}
