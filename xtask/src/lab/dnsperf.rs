//! dnsperf: a DNS client that asks all the time and counts what was lost.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, Lab, Result};

/// The program, and Debian's package.
pub const PROGRAM: (&str, &str) = ("dnsperf", "dnsperf");
/// Questions a second.
const RATE: &str = "300";
/// Seconds after which it would end by itself.
const BOUND: &str = "600";

/// A dnsperf that asks; dropping it kills it.
pub struct Dnsperf(Child);

/// What it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Questions it sent, without those under way when it was stopped.
    pub sent: u64,
    /// Those answered.
    pub completed: u64,
    /// Those answered with what was asked for (`NOERROR`).
    pub no_error: u64,
    /// Those not answered within a second.
    pub lost: u64,
}

impl Dnsperf {
    /// Starts it in the clients' namespace, from this address, over `udp` or `tcp`.
    pub fn start(lab: &Lab, source: IpAddr, to: SocketAddr, mode: &str) -> Result<Self> {
        // A file of its own: another dnsperf may just be reading its.
        let questions = lab.directory().join(format!("questions-{source}-{mode}"));
        std::fs::write(&questions, "whoami.lab TXT\n")
            .map_err(|e| Error::io("write dnsperf's questions", e))?;
        let mut command = Command::new(PROGRAM.0);
        command.args(["-s", &to.ip().to_string(), "-p", &to.port().to_string(), "-a", &source.to_string()]);
        command
            .args(["-m", mode, "-Q", RATE, "-t", "1", "-c", "1", "-T", "1", "-l", BOUND, "-d"])
            .arg(questions);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        lab.client.namespace.spawn(&mut command).map(Self)
    }

    /// Stops it and gives what it counted.
    pub fn stop(mut self) -> Result<Counts> {
        let failed = |e| Error::io("stop dnsperf", e);
        kill_process(Pid::from_child(&self.0), Signal::INT).map_err(|e| failed(e.into()))?;
        let mut said = String::new();
        if let Some(mut output) = self.0.stdout.take() {
            output.read_to_string(&mut said).map_err(failed)?;
        }
        self.0.wait().map_err(failed)?;
        counts(&said).ok_or_else(|| Error::Failed { what: "read what dnsperf counted".to_owned(), why: said })
    }
}

impl Drop for Dnsperf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads its statistics: `  Queries sent:         641`, `  Response codes:       NOERROR 541 (100.00%)`.
fn counts(said: &str) -> Option<Counts> {
    let after = |what: &str| said.lines().find_map(|line| line.trim().strip_prefix(what));
    let number = |what: &str| after(what)?.split_whitespace().next()?.parse::<u64>().ok();
    let interrupted = number("Queries interrupted:").unwrap_or(0);
    Some(Counts {
        sent: number("Queries sent:")? - interrupted,
        completed: number("Queries completed:")?,
        no_error: number("Response codes:       NOERROR")?,
        lost: number("Queries lost:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_as_dnsperf_prints_them() {
        let said = "Statistics:\n\n  Queries sent:         641\n  Queries completed:    540 (84.40%)\n  \
                    Queries lost:         1 (0.00%)\n  Queries interrupted:  100 (15.60%)\n\n  \
                    Response codes:       NOERROR 540 (100.00%)\n";
        assert_eq!(counts(said), Some(Counts { sent: 541, completed: 540, no_error: 540, lost: 1 }));
        assert_eq!(counts("dnsperf: cannot connect"), None);
    }
}
