//! The controller's log: to stderr, as text or JSON, with journald's priorities where journald reads it.
//!
//! State changes are `INFO`; `WARN` means that somebody should look.

use std::fmt;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(test)]
pub(crate) mod testing;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people: time, level, message, `key=value`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends the log to stderr from here on. `verbose`: 0 = info, 1 = debug, more = trace, of pen only; libraries
/// speak at warn. Does nothing if a log was set up before.
pub fn start(format: LogFormat, verbose: u8) {
    let journald = journald_reads_stderr();
    let colour = !journald && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = subscriber(format, verbose, journald, colour, std::io::stderr);
    // Messages of the `log` crate (the XDP program's come that way) are taken in too. A second call (tests in one
    // process) must not end the controller.
    let _ = subscriber.try_init();
}

/// Puts together what turns events into lines.
fn subscriber<W>(
    format: LogFormat,
    verbose: u8,
    journald: bool,
    colour: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::new(format!("warn,pen_ctl={level}"));
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(writer);
    let lines = tracing_subscriber::fmt::format().with_target(verbose > 0).with_ansi(colour);
    match (format, journald) {
        (LogFormat::Text, false) => Box::new(base.event_format(lines).finish()),
        // journald adds the time and the level itself.
        (LogFormat::Text, true) => {
            Box::new(base.event_format(Prioritized(lines.without_time().with_level(false))).finish())
        }
        (LogFormat::Json, false) => Box::new(base.json().flatten_event(true).finish()),
        (LogFormat::Json, true) => {
            Box::new(base.json().flatten_event(true).map_event_format(Prioritized).finish())
        }
    }
}

/// Whether stderr is the very stream that systemd connected to the journal: `JOURNAL_STREAM` is inherited by
/// children whose stderr went elsewhere, so it names the device and inode (systemd.exec(5)).
fn journald_reads_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr().as_fd()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Puts the priority in front of each line as journald reads it: `<4>`; sd-daemon(3).
struct Prioritized<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritized<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(to, "<{priority}>")?;
        self.0.format_event(ctx, to, event)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, journald: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(format, 0, journald, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(backend = "10.0.0.11", "backend is down");
            tracing::debug!("not at this level");
        });
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn journald_gets_a_priority_and_neither_time_nor_level() {
        assert_eq!(logged(LogFormat::Text, true), "<4>backend is down backend=\"10.0.0.11\"\n");
    }

    #[test]
    fn text_has_time_and_level() {
        let line = logged(LogFormat::Text, false);
        assert!(line.contains("Z  WARN backend is down backend=\"10.0.0.11\""), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        for (journald, prefix) in [(false, ""), (true, "<4>")] {
            let line = logged(LogFormat::Json, journald);
            let object = line.strip_prefix(prefix).unwrap();
            let value: serde_json::Value = serde_json::from_str(object).unwrap();
            assert_eq!(value["message"], "backend is down");
            assert_eq!(value["backend"], "10.0.0.11");
            assert_eq!(value["level"], "WARN");
        }
    }
}
