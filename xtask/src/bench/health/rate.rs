//! How many checks of kind `tcp` one processor carries, and how late they begin then.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::BenchError;
use super::super::cpu::{self, pin};
use crate::lab::{self, Lab};

/// Backends, in services of a hundred.
const BACKENDS: u32 = 1000;
/// From one check of each to the next.
const INTERVAL_MS: u32 = 100;
/// How long is counted.
const SPAN: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Rate {
    /// Checks a second that were asked for.
    wanted: u32,
    /// Checks a second that ended.
    ended: f64,
    /// Those of them that did not succeed, in all.
    failed: u64,
    /// No more than one in a hundred began later than this, in milliseconds (the bound of a histogram's bucket).
    late_p99_ms: f64,
    /// The share of the processor that the controller took, in percent.
    cpu_percent: f64,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rate { wanted, ended, failed, late_p99_ms, cpu_percent } = self;
        writeln!(
            f,
            "tcp checks a second, one CPU: {ended:.0} of {wanted} wanted, {failed} failed, {cpu_percent:.0} % of the CPU"
        )?;
        writeln!(f, "  99 of 100 begin within {late_p99_ms} ms of their time")
    }
}

/// Runs a controller on one processor, with as many backends, and looks at what it counts.
pub(super) fn measure(
    pen_ctl: &Path,
    cpu: usize,
    tell: &(dyn Fn(String) + Sync),
) -> Result<Rate, BenchError> {
    tell("checks: starting".into());
    let lab = Lab::build(&lab::Plan { prefix: "pen-bench", balancers: 0, backends: 0, clients: 1 })?;
    let namespace = lab.client.namespace.clone();
    namespace.run(|| {
        let server = TcpListener::bind("0.0.0.0:0").map_err(BenchError::of("listen"))?;
        let port = server.local_addr().map_err(BenchError::of("listen"))?.port();
        // Hardly any check becomes a connection, but those that do must not fill the queue.
        std::thread::spawn(move || while server.accept().is_ok() {});
        let file = lab.directory().join("pen.toml");
        std::fs::write(&file, configuration(port)).map_err(BenchError::of("write the configuration"))?;
        let socket = lab.directory().join("pen.sock");
        let running = start(pen_ctl, cpu, lab.directory(), &file, &socket)?;
        sleep(Duration::from_secs(3));
        tell(format!("checks: counting for {} s", SPAN.as_secs()));
        let (before, began) = (Metrics::read(&socket, &running)?, Instant::now());
        sleep(SPAN);
        let (after, took) = (Metrics::read(&socket, &running)?, began.elapsed().as_secs_f64());
        let of = |result: &str| after.checks(result) - before.checks(result);
        let ended = of("good") + of("bad") + of("unable");
        Ok(Rate {
            wanted: BACKENDS * 1000 / INTERVAL_MS,
            ended: ended / took,
            failed: (of("bad") + of("unable")) as u64,
            late_p99_ms: after.late_since(&before, 0.99) * 1000.0,
            cpu_percent: (after.cpu - before.cpu) / took * 100.0,
        })
    })
}

fn configuration(port: u16) -> String {
    let mut text = "dataplane = \"proxy\"\n".to_owned();
    for service in 0..BACKENDS / 100 {
        let backends: Vec<String> =
            (1..=100).map(|host| format!("{{ address = \"127.1.{service}.{host}:{port}\" }}")).collect();
        let health =
            format!("{{ kind = \"tcp\", interval = \"{INTERVAL_MS}ms\", timeout = \"{INTERVAL_MS}ms\" }}");
        let backends = backends.join(", ");
        text.push_str(&format!(
            "[[service]]\nname = \"s{service}\"\nvip = \"127.0.0.1:{}/tcp\"\nhealth = {health}\nbackend = [{backends}]\n",
            7000 + service
        ));
    }
    text
}

/// A controller that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(pen_ctl: &Path, cpu: usize, dir: &Path, file: &Path, socket: &Path) -> Result<Running, BenchError> {
    let mut command = Command::new(pen_ctl);
    command.arg("--socket").arg(socket).arg("--state-dir").arg(dir.join("state"));
    command.args(["run", "--dataplane", "proxy", "-c"]).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A process keeps the processors of the thread that starts it.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| pin(cpu).map(|()| command.spawn()));
        let spawned = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        spawned.map(Running).map_err(BenchError::of("start pen-ctl"))
    })
}

/// What a controller counts, as it stands.
struct Metrics {
    text: String,
    /// Processor time of the controller, in seconds.
    cpu: f64,
}

impl Metrics {
    fn read(socket: &Path, of: &Running) -> Result<Self, BenchError> {
        let mut stream = UnixStream::connect(socket).map_err(BenchError::of("reach the controller"))?;
        let failed = BenchError::of("read the metrics");
        let mut text = String::new();
        let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: pen\r\nConnection: close\r\n\r\n");
        asked.and_then(|()| stream.read_to_string(&mut text)).map_err(failed)?;
        let cpu = cpu::time(of.0.id()).map_err(BenchError::of("read the controller's time"))?;
        Ok(Self { text, cpu: cpu.as_secs_f64() })
    }

    fn value(&self, name: &str) -> f64 {
        let line = self.text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_default()
    }

    fn checks(&self, result: &str) -> f64 {
        self.value(&format!("pen_health_checks_total{{result=\"{result}\"}} "))
    }

    /// The least bound that so many of those since `before` were within, in seconds.
    fn late_since(&self, before: &Self, share: f64) -> f64 {
        const NAME: &str = "pen_health_check_lateness_seconds";
        let count = |of: &Self| of.value(&format!("{NAME}_count "));
        let all = count(self) - count(before);
        let buckets =
            self.text.lines().filter_map(|line| line.strip_prefix(NAME)?.strip_prefix("_bucket{le=\""));
        let bound = buckets.filter_map(|rest| rest.split_once('"')).find(|(bound, _)| {
            let name = format!("{NAME}_bucket{{le=\"{bound}\"}} ");
            self.value(&name) - before.value(&name) >= share * all
        });
        bound.and_then(|(bound, _)| bound.parse().ok()).unwrap_or(f64::INFINITY)
    }
}
