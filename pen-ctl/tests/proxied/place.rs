//! pen-ctl with the proxy as an administrator has it: the real program in processes of its own, with a socket, a state
//! directory and a block of loopback addresses that nobody else uses.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pen_ctl::api::document::{BackendDocument, StatusDocument};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes: a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// How backends are checked where a test waits for it.
pub(crate) const HEALTH: &str = "tcp,interval=200ms,timeout=500ms,rise=1,fall=2";

/// One pen; ends every controller that ran for it.
pub(crate) struct Pen {
    dir: tempfile::TempDir,
    block: u8,
    children: Vec<Child>,
    /// What stands before the program's name: to be another user.
    before: Vec<String>,
    program: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Waits until something is there.
#[track_caller]
pub(crate) fn await_that<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(start.elapsed() < PATIENCE, "never: {what}; instead: {instead}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    await_that(what, || if holds() { Ok(()) } else { Err("not so".to_owned()) });
}

/// Whether a process is there and not merely waiting to be reaped (proc_pid_stat(5)).
pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Sends a process a signal.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

impl Pen {
    /// Nothing runs yet.
    pub(crate) fn new() -> Pen {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let block = COUNT.fetch_add(1, Ordering::Relaxed);
        Pen {
            dir: tempfile::tempdir().unwrap(),
            block,
            children: Vec::new(),
            before: Vec::new(),
            program: env!("CARGO_BIN_EXE_pen-ctl").into(),
        }
    }

    /// From now on it is run by a user without rights, where the test has some; its directory is that user's.
    pub(crate) fn be_nobody(&mut self) {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let words =
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=-all"];
        self.before = words.map(str::to_owned).to_vec();
        // From a copy: the build directory may be closed to others.
        self.program = self.dir.path().join("pen-ctl");
        fs::copy(env!("CARGO_BIN_EXE_pen-ctl"), &self.program).unwrap();
        std::os::unix::fs::chown(self.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }

    /// An address of the block: 127.x.y.HOST.
    pub(crate) fn ip(&self, host: u8) -> Ipv4Addr {
        // Test programs that run side by side have blocks apart.
        let test = u8::try_from(std::process::id() % 250).unwrap() + 1;
        Ipv4Addr::new(127, test, self.block, host)
    }

    /// That address with a port.
    pub(crate) fn at(&self, host: u8, port: u16) -> SocketAddr {
        (self.ip(host), port).into()
    }

    /// A path in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("pen.sock")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file in its directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = match self.before.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.arg("--socket").arg(self.socket()).arg("--state-dir").arg(self.state());
        // Its own process group: Ctrl-C in a terminal is for the test, which ends its processes itself.
        command.arg("--bpffs").arg(self.path("bpffs")).args(words).stdin(Stdio::null()).process_group(0);
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        let output = self.command(words).output().unwrap();
        Ended {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A command line, split at spaces, that succeeds; what it prints.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        let ended = self.run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ended.status, Some(0), "{line}: {ended:?}; log: {}", self.log());
        ended.stdout
    }

    /// A command line, split at spaces, that fails with status 1 and one line that says these things.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str, says: &[&str]) {
        let ended = self.run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ended.status, Some(1), "{line}: {ended:?}");
        let last = ended.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("pen-ctl: "), "{line}: {ended:?}");
        for word in says {
            assert!(last.contains(word), "{word:?} is missing: {line}: {ended:?}");
        }
    }

    /// `pen-ctl run` with further words, whose log goes to [`Pen::log`]; does not wait for it.
    pub(crate) fn spawn(&mut self, line: &str, change: impl FnOnce(&mut Command)) -> u32 {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let words: Vec<&str> = ["run"].into_iter().chain(line.split_whitespace()).collect();
        let mut command = self.command(&words);
        command.stdout(Stdio::null()).stderr(log);
        change(&mut command);
        let child = command.spawn().unwrap();
        let pid = child.id();
        self.children.push(child);
        pid
    }

    /// The same, once it answers as a process of its own.
    #[track_caller]
    pub(crate) fn start(&mut self, line: &str) -> u32 {
        let pid = self.spawn(line, |_| {});
        self.await_controller(pid);
        pid
    }

    /// Waits until that process answers.
    #[track_caller]
    pub(crate) fn await_controller(&mut self, pid: u32) {
        await_that("the controller answers", || {
            assert!(runs(pid), "process {pid} ended; log: {}", self.log());
            match self.try_status() {
                Ok(status) if status.controller.pid == pid => Ok(()),
                other => Err(format!("{:?}; log: {}", other.map(|status| status.controller), self.log())),
            }
        });
    }

    /// Waits until that process is gone.
    #[track_caller]
    pub(crate) fn await_end(&self, pid: u32) {
        await_that("the process ends", || if runs(pid) { Err(self.log()) } else { Ok(()) });
    }

    /// How a process that was started here ended.
    #[track_caller]
    pub(crate) fn ended(&mut self, pid: u32) -> std::process::ExitStatus {
        self.await_end(pid);
        self.children.iter_mut().find(|child| child.id() == pid).unwrap().wait().unwrap()
    }

    fn try_status(&self) -> Result<StatusDocument, String> {
        let ended = self.run(&["--json", "status"]);
        if ended.status != Some(0) {
            return Err(format!("{ended:?}"));
        }
        serde_json::from_str(&ended.stdout).map_err(|error| format!("{error}: {}", ended.stdout))
    }

    #[track_caller]
    pub(crate) fn status(&self) -> StatusDocument {
        self.try_status().unwrap()
    }

    /// The process that answers.
    #[track_caller]
    pub(crate) fn pid(&self) -> u32 {
        self.status().controller.pid
    }

    /// How a backend of a service stands.
    #[track_caller]
    pub(crate) fn backend(&self, service: &str, address: SocketAddr) -> BackendDocument {
        let status = self.status();
        let mut backends =
            status.services.iter().filter(|one| one.name == service).flat_map(|one| &one.backends);
        let found = backends.find(|one| one.address.to_string() == address.to_string());
        found.unwrap_or_else(|| panic!("{address} is not there: {status:?}")).clone()
    }

    /// Waits until a backend stands so.
    #[track_caller]
    pub(crate) fn await_backend(
        &self,
        (service, address): (&str, SocketAddr),
        what: &str,
        holds: impl Fn(&BackendDocument) -> bool,
    ) -> BackendDocument {
        await_that(what, || {
            let backend = self.backend(service, address);
            if holds(&backend) { Ok(backend) } else { Err(format!("{backend:?}; log: {}", self.log())) }
        })
    }

    /// Waits until exactly these backends of a service get newcomers.
    #[track_caller]
    pub(crate) fn await_serving(&self, service: &str, backends: &[SocketAddr]) {
        let wanted: BTreeSet<String> = backends.iter().map(SocketAddr::to_string).collect();
        await_that(&format!("{wanted:?} serve {service}"), || {
            let status = self.status();
            let all = status.services.iter().filter(|one| one.name == service).flat_map(|one| &one.backends);
            let serving: BTreeSet<_> =
                all.filter(|one| one.serving).map(|one| one.address.to_string()).collect();
            if serving == wanted { Ok(()) } else { Err(format!("{status:?}; log: {}", self.log())) }
        });
    }

    /// Everything that its controllers logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits for that in the log, from so many bytes on.
    #[track_caller]
    pub(crate) fn await_log(&self, from: usize, what: &str) {
        await_that(what, || {
            let log = self.log();
            if log[from..].contains(what) { Ok(()) } else { Err(log) }
        });
    }

    /// Every controller that said who it is, this pen's own by its command line.
    fn controllers(&self) -> BTreeSet<u32> {
        let log = self.log();
        let named = log.lines().filter_map(|line| line.split_once("runs as process ")?.1.split(' ').next());
        let named = named.filter_map(|pid| pid.trim().parse().ok());
        named.filter(|pid| is_run_by(*pid, &self.socket())).collect()
    }
}

fn is_run_by(pid: u32, socket: &Path) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).any(|word| word == socket.as_os_str().as_encoded_bytes())
}

impl Drop for Pen {
    fn drop(&mut self) {
        for pid in self.controllers() {
            signal(pid, Signal::KILL);
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
