//! From OpenMetrics to Prometheus's text format 0.0.4, which `promtool check metrics` and older scrapers read.
//!
//! The two differ in how a family of counters and of infos is named, and in what a comment may say
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

/// The same metrics in the older format.
pub(super) fn from_open_metrics(written: &str) -> String {
    let mut text = String::with_capacity(written.len());
    let mut help = None;
    for line in written.lines() {
        if line.starts_with("# HELP ") {
            // Its name depends on the type, which comes next.
            help = Some(line);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" | "stateset" => ("", "gauge"),
                other => ("", other),
            };
            let words = help.take().and_then(|help| help.strip_prefix("# HELP ")?.split_once(' '));
            if let Some((_, words)) = words {
                text.push_str(&format!("# HELP {name}{suffix} {words}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}
