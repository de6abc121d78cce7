//! A server of the distribution's on a backend, started with a configuration of the lab's and ended with all its
//! children. Nothing under `/etc` is read, nothing outside the lab's directory is written.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::address::Family;
use super::namespace::Namespace;
use super::{Error, Host, Lab, Result, await_that};

/// How long a daemon may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon that runs; dropping it kills whatever runs on its backend.
pub struct Daemon {
    child: Child,
    namespace: Arc<Namespace>,
}

impl Daemon {
    /// Starts one that stays in the foreground, in `directory`; returns once it accepts connections to `port`.
    pub fn start(host: &Host, mut command: Command, directory: &Directory, port: u16) -> Result<Self> {
        let log_path = directory.path.join("output");
        let failed = |e| Error::io(&log_path.display().to_string(), e);
        let log = File::options().create(true).append(true).open(&log_path).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        // Its own process group: Ctrl-C in a terminal is for the lab, which ends its processes itself.
        command.current_dir(&directory.path).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let child = host.namespace.spawn(&mut command)?;
        let mut daemon = Self { child, namespace: Arc::clone(&host.namespace) };
        let what = format!("{:?} on {}", command.get_program(), host.name);
        let at = SocketAddr::new(host.address(Family::V4), port);
        await_that(&format!("{what} to listen"), PATIENCE, || {
            if let Ok(Some(ended)) = daemon.child.try_wait() {
                let said = fs::read_to_string(&log_path).unwrap_or_default();
                return Err(Error::Failed { what: what.clone(), why: format!("{ended}: {said}") });
            }
            Ok(host.namespace.run(|| TcpStream::connect(at)))
        })?;
        Ok(daemon)
    }

    /// SIGHUP: it reads its files again.
    pub fn reload(&self) -> Result<()> {
        let reloaded = kill_process(Pid::from_child(&self.child), Signal::HUP);
        reloaded.map_err(|e| Error::io("have a server read its files again", e))
    }

    /// SIGSTOP to all its processes: the kernel still accepts connections, and nobody answers them.
    pub fn freeze(&self) -> Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// SIGCONT: it goes on where it was.
    pub fn thaw(&self) -> Result<()> {
        self.signal_all(Signal::CONT)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        let mut processes = self.namespace.processes().into_iter();
        processes.try_for_each(|pid| kill_process(pid, signal)).map_err(|e| Error::io("signal a server", e))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Workers that only their parent could end are no use to anybody.
        self.namespace.end_processes();
        let _ = self.child.wait();
    }
}

/// Where a daemon keeps its configuration, data and logs.
pub struct Directory {
    /// The path, of which every user may read.
    pub path: PathBuf,
}

impl Directory {
    /// The directory of `daemon` on `host`, made where it is not there yet.
    pub fn of(lab: &Lab, host: &Host, daemon: &str) -> Result<Self> {
        let path = lab.directory().join(format!("{}.{daemon}", host.name));
        fs::create_dir_all(&path).map_err(|e| Error::io(&path.display().to_string(), e))?;
        Ok(Self { path })
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, contents: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, contents).map_err(|e| Error::io(&path.display().to_string(), e))?;
        Ok(path)
    }
}
