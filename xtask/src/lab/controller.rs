//! pen on a balancer of the lab: its controller as a child process, and its command line.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pen_ctl::api::document::StatusDocument;
use pen_ctl::dataplane::BackendAddress;
use rustix::process::{Pid, Signal, kill_process};

use super::namespace::Namespace;
use super::{Error, Lab, Result, await_that};

/// How long anything awaited from a controller may take before the lab calls it failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// pen on one balancer, with a socket, a state directory and a bpffs of its own.
pub struct Controller {
    namespace: Arc<Namespace>,
    name: String,
    program: PathBuf,
    directory: PathBuf,
    bpffs: PathBuf,
    child: Option<Child>,
}

/// What a command of pen-ctl came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Controller {
    /// Prepares balancer `index` (from 0); nothing runs yet.
    pub fn prepare(lab: &Lab, index: usize, program: &Path) -> Result<Self> {
        let name = lab.balancers[index].name.clone();
        let bpffs = lab.mount_bpffs(&format!("{name}.bpffs"))?.join("pen");
        let namespace = Arc::clone(&lab.balancers[index].namespace);
        let directory = lab.directory().to_owned();
        Ok(Self { namespace, name, program: program.to_owned(), directory, bpffs, child: None })
    }

    /// From now on commands and controllers are this build of pen-ctl.
    pub fn use_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Where the controller listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}.sock", self.name))
    }

    /// Where it keeps the desired state.
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join(format!("{}.state", self.name))
    }

    /// Where it pins programs, maps and links.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Where its log goes.
    pub fn log_path(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    /// `pen-ctl` with the options that make it talk to this controller.
    pub fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(self.socket()).arg("--state-dir").arg(self.state_dir());
        // Its own process group: Ctrl-C in a terminal is for the lab, which ends its processes itself.
        command.arg("--bpffs").arg(&self.bpffs).args(words).stdin(Stdio::null()).process_group(0);
        command
    }

    /// Runs a command line, split at spaces, to its end.
    pub fn cli(&self, line: &str) -> Result<Outcome> {
        self.cli_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command, word by word, to its end.
    pub fn cli_words(&self, words: &[&str]) -> Result<Outcome> {
        let mut command = self.command(words.iter().copied());
        let output = self.namespace.run(|| command.output());
        let output = output.map_err(|e| Error::io(&self.program.display().to_string(), e))?;
        Ok(Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command line that must succeed; gives what it printed.
    pub fn ok(&self, line: &str) -> Result<String> {
        let outcome = self.cli(line)?;
        if outcome.code == Some(0) {
            return Ok(outcome.stdout);
        }
        Err(Error::Failed { what: format!("pen-ctl {line}"), why: outcome.stderr.trim().to_owned() })
    }

    /// Starts `pen-ctl run` with further words and returns once it answers.
    pub fn start(&mut self, words: &str) -> Result<()> {
        let log_failed = |e| Error::io("open the controller's log", e);
        let log = File::options().create(true).append(true).open(self.log_path()).map_err(log_failed)?;
        let mut command = self.command(["run"].into_iter().chain(words.split_whitespace()));
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(self.namespace.spawn(&mut command)?);
        await_that("the controller to answer", PATIENCE, || {
            if let Some(ended) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                let what = format!("pen-ctl run ({ended})");
                return Err(Error::Failed { what, why: self.log_tail() });
            }
            Ok(self.status().map_err(|e| format!("{e}; log: {}", self.log_tail())))
        })
        .map(drop)
    }

    /// Kills it: SIGKILL, no time for last words.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has it start a successor, and waits until that one answers.
    pub fn succeed(&self) -> Result<()> {
        let before = self.status()?.controller.pid;
        let pid = i32::try_from(before).ok().and_then(Pid::from_raw).ok_or_else(|| Error::Failed {
            what: "find the controller".to_owned(),
            why: format!("it says that it is process {before}"),
        })?;
        kill_process(pid, Signal::USR2).map_err(|e| Error::io("have the controller start a successor", e))?;
        await_that("a successor to answer", PATIENCE, || {
            // Between the two of them nobody answers.
            let answers = self.status().is_ok_and(|status| status.controller.pid != before);
            Ok(if answers { Ok(()) } else { Err(self.log_tail()) })
        })
    }

    /// SIGTERM, and waits for its end; gives whether it ended well.
    pub fn terminate(&mut self) -> Result<bool> {
        let Some(mut child) = self.child.take() else { return Ok(false) };
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).map_err(|e| Error::io("end the controller", e))?;
        Ok(child.wait().map_err(|e| Error::io("wait for the controller", e))?.success())
    }

    /// What `pen-ctl --json status` says.
    pub fn status(&self) -> Result<StatusDocument> {
        let text = self.ok("--json status")?;
        serde_json::from_str(&text)
            .map_err(|e| Error::Failed { what: "read pen-ctl --json status".to_owned(), why: e.to_string() })
    }

    /// Waits until the status is as wanted.
    pub fn await_status(
        &self,
        what: &str,
        wanted: impl Fn(&StatusDocument) -> bool,
    ) -> Result<StatusDocument> {
        await_that(what, PATIENCE, || {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(Ok(status));
            }
            let shown = self.ok("status")?;
            Ok(Err(format!("{shown}\nlog: {}", self.log_tail())))
        })
    }

    /// Waits until exactly the backends with these addresses get newcomers of a service.
    pub fn await_serving(&self, service: &str, addresses: &[std::net::IpAddr]) -> Result<()> {
        let what = format!("{addresses:?} to serve {service}");
        self.await_status(&what, |status| {
            let service = status.services.iter().find(|found| found.name == service);
            let backends = service.map(|service| service.backends.as_slice()).unwrap_or_default();
            let mut serving =
                backends.iter().filter(|backend| backend.serving).map(|backend| backend.address);
            let wanted = |address: BackendAddress| address.ip().is_some_and(|ip| addresses.contains(&ip));
            serving.clone().count() == addresses.len() && serving.all(wanted)
        })
        .map(drop)
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.kill();
    }
}
