//! What can be done without a controller: by the pins and the stored state alone.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::api::ApiError;
use crate::cli::Global;
use crate::cli::error::CliError;
use crate::state::store::{self, Store};

/// How long a controller that was told to stop may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes interfaces (all of them with `None`) out of the stored state, then detaches them by the pins; gives the
/// names of those that were in either.
pub fn detach(global: &Global, names: Option<&[String]>) -> Result<Vec<String>, CliError> {
    let wanted = |name: &str| names.is_none_or(|names| names.iter().any(|wanted| wanted == name));
    let mut store = lock(global)?;
    let mut detached = Vec::new();
    if let Some(store) = &mut store {
        let mut desired = store.desired().clone();
        let before = std::mem::take(&mut desired.interfaces);
        let (gone, kept): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|interface| wanted(&interface.name));
        if !gone.is_empty() {
            desired.interfaces = kept;
            store.replace(desired).map_err(ApiError::from)?;
            detached.extend(gone.into_iter().map(|interface| interface.name));
        }
    }
    let pinned = detach_pinned(&global.bpffs(), names)?;
    let more: Vec<String> = pinned.into_iter().filter(|name| !detached.contains(name)).collect();
    detached.extend(more);
    Ok(detached)
}

/// Detaches from every interface by the pins and leaves the stored state alone, so that the next controller
/// attaches again; gives the names of those that were attached.
pub fn detach_until_next_run(global: &Global) -> Result<Vec<String>, CliError> {
    let directory = global.state_dir();
    let _lock = match directory.exists() {
        true => Some(store::lock_unread(&directory).map_err(ApiError::from)?),
        false => None,
    };
    detach_pinned(&global.bpffs(), None)
}

/// Takes the lock of the state, where there is one, so that no controller works against us meanwhile.
fn lock(global: &Global) -> Result<Option<Store>, CliError> {
    let directory = global.state_dir();
    if !directory.exists() {
        return Ok(None);
    }
    Ok(Some(Store::open(&directory).map_err(ApiError::from)?))
}

#[cfg(target_os = "linux")]
fn detach_pinned(bpffs: &Path, names: Option<&[String]>) -> Result<Vec<String>, CliError> {
    crate::dataplane::xdp::detach_pinned(bpffs, names).map_err(CliError::failed)
}

/// Nothing outlives a controller here.
#[cfg(not(target_os = "linux"))]
fn detach_pinned(_bpffs: &Path, _names: Option<&[String]>) -> Result<Vec<String>, CliError> {
    Ok(Vec::new())
}

/// The process that listens on a socket, to be waited for.
#[derive(Debug)]
pub struct Listener {
    process: Option<OwnedFd>,
}

impl Listener {
    /// Whoever listens on `socket`; nobody if nobody does.
    pub fn on(socket: &Path) -> Listener {
        let process = UnixStream::connect(socket).ok().and_then(|stream| process_of(&stream));
        Listener { process }
    }

    /// Waits until the process is gone, and with it its lock on the state.
    pub fn wait_until_gone(self) -> Result<(), CliError> {
        let Some(process) = self.process else { return Ok(()) };
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // A process descriptor becomes readable when the process ends (pidfd_open(2)).
        let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => Err(CliError::failed(format!(
                "the controller was told to stop and still runs after {} s; look at its log",
                PATIENCE.as_secs()
            ))),
            Ok(_) => Ok(()),
            Err(error) => Err(CliError::failed(format!("wait for the controller to end: {error}"))),
        }
    }
}

#[cfg(target_os = "linux")]
fn process_of(stream: &UnixStream) -> Option<OwnedFd> {
    let pid = rustix::net::sockopt::socket_peercred(stream).ok()?.pid;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

/// No process descriptors here: the command does not wait.
#[cfg(not(target_os = "linux"))]
fn process_of(_stream: &UnixStream) -> Option<OwnedFd> {
    None
}
