//! A proxy that runs: started on its processor, asked what it has spent, ended with all it started.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::super::{BenchError, cpu};
use super::load::{datagrams, idle};
use super::measure::Measure;
use super::place::Place;
use super::rivals::{Protocol, Subject, Task};
use crate::lab::{self, await_that};

/// How long a proxy may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where clients go: a backend itself, or a proxy, which ends when this is dropped.
pub(super) struct Target {
    /// The address.
    pub(super) address: SocketAddr,
    proxy: Option<Proxy>,
}

struct Proxy {
    child: Child,
    /// What it printed.
    log: PathBuf,
}

impl Target {
    /// Starts it; returns once a client gets through.
    pub(super) fn start(
        place: &Place,
        pen_ctl: &Path,
        subject: Subject,
        measure: Measure,
    ) -> Result<Self, BenchError> {
        let (protocol, bulk) = (measure.protocol(), measure == Measure::Bulk);
        let (listen, backends) = (place.fresh_address(), place.backends(protocol));
        let directory = place.lab().directory();
        let task = Task { protocol, bulk, listen, backends, directory, pen_ctl };
        let Some(mut command) = task.command(subject)? else {
            return Ok(Self { address: backends[0], proxy: None });
        };
        let log = directory.join(format!("{}.log", subject.name()));
        let failed = || BenchError::of(&log.display().to_string());
        let output = File::create(&log).map_err(failed())?;
        let errors = output.try_clone().map_err(failed())?;
        // A process group of its own, by which it is told apart and ended; Ctrl-C in a terminal is for the bench.
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child =
            place.on_proxy_cpu(|| command.spawn())?.map_err(BenchError::of(&format!("start {program}")))?;
        let mut target = Self { address: listen, proxy: Some(Proxy { child, log }) };
        await_that(&format!("{} to serve", subject.name()), PATIENCE, || {
            target.check().map_err(|error| lab::Error::Failed {
                what: subject.name().to_owned(),
                why: error.to_string(),
            })?;
            Ok(reaches(listen, protocol))
        })?;
        Ok(target)
    }

    /// Fails once the proxy has ended, with what it said.
    pub(super) fn check(&mut self) -> io::Result<()> {
        let Some(Proxy { child, log }) = &mut self.proxy else { return Ok(()) };
        let Some(status) = child.try_wait()? else { return Ok(()) };
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(io::Error::other(format!("ended unexpectedly, {status}: {}", said.trim())))
    }

    /// Whether there is a proxy.
    pub(super) fn is_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// Processor time that all threads of all its processes have had so far; none without a proxy.
    pub(super) fn cpu(&self) -> io::Result<Duration> {
        let mut sum = Duration::ZERO;
        for pid in self.processes()? {
            sum += cpu::time(pid)?;
        }
        Ok(sum)
    }

    /// Resident memory of all its processes, bytes.
    pub(super) fn memory(&self) -> io::Result<u64> {
        let of = |pid| Ok(resident(&fs::read_to_string(format!("/proc/{pid}/status"))?));
        self.processes()?.into_iter().map(of).sum()
    }

    fn processes(&self) -> io::Result<Vec<u32>> {
        let Some(proxy) = &self.proxy else { return Ok(Vec::new()) };
        let group = proxy.child.id();
        let pids = fs::read_dir("/proc")?.flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let belongs = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            process_group(&stat) == Some(group)
        };
        Ok(pids.filter(belongs).collect())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Gone already: as it should be.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Whether a client gets an answer.
fn reaches(address: SocketAddr, protocol: Protocol) -> io::Result<()> {
    match protocol {
        Protocol::Tcp => {
            // Until somebody listens: without the patience of what follows.
            TcpStream::connect(address)?;
            idle::open(address, 1).map(drop)
        }
        Protocol::Udp => {
            let mut asker = datagrams::Asker::open(address)?;
            asker.ask()?;
            std::thread::sleep(Duration::from_millis(20));
            if asker.listen()? { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
        }
    }
}

/// `VmRSS` of `/proc/PID/status`, which counts in KiB: proc_pid_status(5).
fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// The process group of `/proc/PID/stat`: the third word after the name, which may hold anything: proc_pid_stat(5).
fn process_group(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_of_a_process_is_read() {
        assert_eq!(resident("Name:\tpen\nVmHWM:\t 9000 kB\nVmRSS:\t    8192 kB\n"), 8 << 20);
        assert_eq!(process_group("42 (a ) b) S 1 77 77 0 -1"), Some(77));
        assert_eq!(process_group(""), None);
    }
}
