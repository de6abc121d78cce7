//! Starting a controller that outlives the command and the terminal it was started from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;

use crate::cli::Global;
use crate::client::Client;
use crate::platform;

/// The unit that runs the controller where pen is installed as a service.
const UNIT: &str = "pen.service";
/// Where a controller started in the background logs to, unless it has a state directory of its own.
const LOG: &str = "/var/log/pen.log";
/// How long a new controller may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// From one look at its socket to the next.
const LOOK: Duration = Duration::from_millis(20);

/// Why no controller could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It would have nothing to attach.
    #[error("start a controller that attaches: XDP needs Linux; run `pen-ctl run --dataplane proxy` here")]
    NoXdp,
    /// The process could not be made.
    #[error("start a controller: {0}; run as root, or use another --state-dir")]
    Spawn(io::Error),
    /// It ended instead of answering.
    #[error("{}{}", .why, .log.as_ref().map_or(String::new(), |log| format!(" (log: {})", log.display())))]
    Ended {
        /// Its last words, or its exit status.
        why: String,
        /// Where the rest is.
        log: Option<PathBuf>,
    },
    /// systemd could not start the unit.
    #[error("systemctl start {UNIT} failed: {0}; look at journalctl -u {UNIT}")]
    Unit(String),
    /// It runs but does not answer.
    #[error("the controller was started but does not answer on {} within {} s; look at {look_at}", .socket.display(), PATIENCE.as_secs())]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// Its log, in words.
        look_at: String,
    },
}

/// How a controller was started.
#[derive(Debug, PartialEq, Eq)]
pub enum Started {
    /// As the system's service.
    Unit,
    /// As a process of its own.
    Process {
        /// Its process id.
        pid: u32,
        /// Its log.
        log: PathBuf,
    },
}

impl std::fmt::Display for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Started::Unit => write!(f, "started the controller ({UNIT})"),
            Started::Process { pid, log } => {
                write!(f, "started a controller in the background (pid {pid}, log {})", log.display())
            }
        }
    }
}

/// Starts a controller and waits until it answers: `pen.service` where that unit exists and every path is the
/// default (the unit knows no others), else this very program.
pub fn start(global: &Global) -> Result<Started, StartError> {
    if !platform::HAS_XDP {
        return Err(StartError::NoXdp);
    }
    if global.all_default() && unit_exists() {
        start_unit()?;
        let look_at = format!("journalctl -u {UNIT}");
        wait(&global.socket(), || Ok(None), look_at)?;
        return Ok(Started::Unit);
    }
    let (log, path) = open_log(global).map_err(StartError::Spawn)?;
    let from = log.metadata().map_err(StartError::Spawn)?.len();
    let mut child = spawn(global, log).map_err(StartError::Spawn)?;
    let pid = child.id();
    let ended = || match ended(&mut child)? {
        Some(status) => Ok(Some(last_words(&path, from).unwrap_or_else(|| status.to_string()))),
        None => Ok(None),
    };
    wait(&global.socket(), ended, path.display().to_string()).map_err(|error| match error {
        StartError::Ended { why, .. } => StartError::Ended { why, log: Some(path.clone()) },
        other => other,
    })?;
    Ok(Started::Process { pid, log: path })
}

fn unit_exists() -> bool {
    let cat = Command::new("systemctl").args(["cat", UNIT]).stdin(Stdio::null()).output();
    cat.is_ok_and(|output| output.status.success())
}

fn start_unit() -> Result<(), StartError> {
    let output = Command::new("systemctl")
        .args(["start", UNIT])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| StartError::Unit(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(StartError::Unit(text.lines().next().unwrap_or("no reason given").trim().to_owned()))
}

/// Runs `pen-ctl <the same global flags> run`, which leaves our session by itself (`--background`).
fn spawn(global: &Global, log: File) -> io::Result<Child> {
    let program = std::env::current_exe()?;
    Command::new(program)
        .args(global.as_arguments())
        // An interface is to be attached: that is what XDP does.
        .args(["run", "--dataplane", "xdp", "--background"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .current_dir("/")
        .spawn()
}

/// Opens the log to append to: the system's, or one beside a state directory of the caller's choice.
fn open_log(global: &Global) -> io::Result<(File, PathBuf)> {
    let open = |path: &Path| OpenOptions::new().append(true).create(true).read(true).mode(0o640).open(path);
    if global.state_dir_is_default()
        && let Ok(file) = open(Path::new(LOG))
    {
        return Ok((file, PathBuf::from(LOG)));
    }
    let dir = global.state_dir();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| named(&dir, error))?;
    let path = dir.join("pen.log");
    let file = open(&path).map_err(|error| named(&path, error))?;
    Ok((file, path))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn ended(child: &mut Child) -> Result<Option<ExitStatus>, StartError> {
    child.try_wait().map_err(StartError::Spawn)
}

/// Waits until somebody answers on `socket`; `ended` says with which words the process ended, if it did.
fn wait(
    socket: &Path,
    mut ended: impl FnMut() -> Result<Option<String>, StartError>,
    look_at: String,
) -> Result<(), StartError> {
    let give_up = Instant::now() + PATIENCE;
    let client = Client::new(socket.to_owned());
    loop {
        if client.call(Method::GET, "/v1/interfaces", None).is_ok() {
            return Ok(());
        }
        if let Some(why) = ended()? {
            return Err(StartError::Ended { why, log: None });
        }
        if Instant::now() >= give_up {
            return Err(StartError::Silent { socket: socket.to_owned(), look_at });
        }
        std::thread::sleep(LOOK);
    }
}

/// The last line the controller wrote, without the name it put in front.
fn last_words(log: &Path, from: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?.trim();
    Some(line.strip_prefix("pen-ctl: ").unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_of_this_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("pen.log");
        let old = "pen-ctl: an older failure\n";
        fs::write(&log, format!("{old}INFO up\npen-ctl: no bpffs at /x; mount one\n\n")).unwrap();
        assert_eq!(last_words(&log, old.len() as u64).unwrap(), "no bpffs at /x; mount one");
        fs::write(&log, old).unwrap();
        assert_eq!(last_words(&log, old.len() as u64), None);
    }
}
