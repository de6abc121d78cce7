//! One network namespace: made, entered, configured with `ip`, and removed with all that runs in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Error, Result};

/// A network namespace under `/run/netns`; dropping it ends what runs in it and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Makes a new one, with `lo` up, and neither duplicate address detection nor reverse path filtering.
    pub fn create(name: &str) -> Result<Self> {
        ip(["netns", "add", name])?;
        let handle = File::open(Path::new("/run/netns").join(name));
        let namespace = Self { name: name.to_owned(), handle: handle.map_err(|e| Error::io(name, e))? };
        for (key, value) in [
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
        ] {
            namespace.sysctl(key, value)?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread of its own inside; sockets made there belong to this namespace for good, and
    /// so do processes started there.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread inside, for good.
    ///
    /// # Panics
    /// Where the kernel refuses: going on outside would let tests loose on the machine's own network.
    pub fn enter(&self) {
        let moved = move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network));
        assert!(moved.is_ok(), "cannot enter network namespace {}: {moved:?}", self.name);
    }

    /// Starts a process inside.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.run(|| command.spawn()).map_err(|e| Error::io(&program, e))
    }

    /// `ip -n NAME` with these words.
    pub fn ip(&self, words: &str) -> Result<String> {
        ip(["-n", &self.name].into_iter().chain(words.split_whitespace()))
    }

    /// `ip -n NAME -batch` with these lines.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        let describe = || format!("ip -n {} -batch", self.name);
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Error::io(&describe(), e))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(lines.as_bytes()).map_err(|e| Error::io(&describe(), e))?;
        }
        let output = child.wait_with_output().map_err(|e| Error::io(&describe(), e))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Failed {
            what: describe(),
            why: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Sets a key under `/proc/sys/net` inside.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key);
        self.run(|| fs::write(&path, value)).map_err(|e| Error::io(&path.display().to_string(), e))
    }

    /// How many UDP datagrams, of both families, its kernel received for sockets: those too for which there was none,
    /// or no room.
    pub fn udp_datagrams(&self) -> Result<u64> {
        const WANTED: [&str; 3] = ["InDatagrams", "NoPorts", "InErrors"];
        self.sum_of_udp(&WANTED)
    }

    /// How many UDP datagrams, of both families, its kernel lost for want of room in a socket's buffer.
    pub fn udp_overflows(&self) -> Result<u64> {
        self.sum_of_udp(&["RcvbufErrors", "SndbufErrors"])
    }

    fn sum_of_udp(&self, wanted: &[&str]) -> Result<u64> {
        let read = |name: &str| {
            let path = Path::new("/proc/thread-self/net").join(name);
            self.run(|| fs::read_to_string(&path)).map_err(|e| Error::io(&path.display().to_string(), e))
        };
        Ok(sum_of_udp(&read("snmp")?, &read("snmp6")?, wanted))
    }

    /// The processes that run inside; this one does not count, of which a thread may be there.
    pub fn processes(&self) -> Vec<Pid> {
        processes(&self.name)
    }

    /// Kills every process that runs inside, children of the killed among them; threads of this one stay.
    pub fn end_processes(&self) {
        end_processes(&self.name);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The counters of UDP that are wanted, from `/proc/net/snmp` (names in one line, numbers in the next) and
/// `/proc/net/snmp6` (a name and a number in each).
fn sum_of_udp(snmp: &str, snmp6: &str, wanted: &[&str]) -> u64 {
    let mut v4 = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (v4.next().unwrap_or_default(), v4.next().unwrap_or_default());
    let v4 = names.split_whitespace().zip(numbers.split_whitespace());
    let v6 = snmp6.lines().filter_map(|line| line.strip_prefix("Udp6")?.split_once(char::is_whitespace));
    let wanted = v4.chain(v6).filter(|(name, _)| wanted.contains(name));
    wanted.filter_map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
}

/// Ends what runs in the namespace and removes it; quietly, since it may be gone already.
pub(super) fn remove(name: &str) {
    end_processes(name);
    let _ = ip(["netns", "del", name]);
}

/// Kills what runs in the namespace, until a look finds nothing left to kill: somebody may just have forked.
fn end_processes(name: &str) {
    for _ in 0..10 {
        // One that is dying still counts: it shows up until it is gone.
        if processes(name).into_iter().filter(|&pid| kill_process(pid, Signal::KILL).is_ok()).count() == 0 {
            break;
        }
    }
}

fn processes(name: &str) -> Vec<Pid> {
    let ourselves = rustix::process::getpid();
    let pids = ip(["netns", "pids", name]).unwrap_or_default();
    let pids = pids.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?));
    pids.filter(|&pid| pid != ourselves).collect()
}

/// Runs `ip` and gives what it printed.
pub(super) fn ip<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new("ip");
    // Its own process group: Ctrl-C must not end it while it cleans up.
    command.args(words).stdin(Stdio::null()).process_group(0);
    let output = command.output();
    let what = format!("{command:?}").replace('"', "");
    match output {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::Failed {
            what,
            why: "there is no `ip` command here; install iproute2 (apt-get install iproute2)".to_owned(),
        }),
        Err(e) => Err(Error::io(&what, e)),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            Err(Error::Failed { what, why: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_both_families_are_summed_up() {
        let snmp = "Tcp: InSegs NoPorts\nTcp: 50 60\nUdp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 1 2 3 4\n\
                    UdpLite: InDatagrams NoPorts InErrors\nUdpLite: 7 7 7\n";
        let snmp6 =
            "Ip6InReceives   \t9\nUdp6InDatagrams      \t10\nUdp6NoPorts   \t20\nUdpLite6InDatagrams \t8\n";
        assert_eq!(sum_of_udp(snmp, snmp6, &["InDatagrams", "NoPorts", "InErrors"]), 36);
    }
}
