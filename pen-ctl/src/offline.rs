//! What can be done without a controller: by the pins and the stored state alone.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::api::ApiError;
use crate::cli::Global;
use crate::cli::error::CliError;
use crate::held_lock::HeldLock;
use crate::platform::{detach_pinned, pid_of, process_of};
use crate::state::store::{self, Store, StoreError};

/// How long a controller that was told to stop may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// From one look at it to the next.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to end once it has let go of everything: a proxy waits 2 s for last answers of UDP.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// What detaching without a controller came to.
#[derive(Debug, Default)]
pub struct Detached {
    /// The interfaces that were attached, or meant to be.
    pub names: Vec<String>,
    /// What could not be done besides, in words: the stored state not changed (which makes no difference until somebody
    /// mends it), an interface not put back as it was.
    pub warnings: Vec<String>,
}

/// Takes interfaces (all of them with `None`) out of the stored state and detaches them by the pins, whatever the
/// state is like.
///
/// # Errors
/// A controller has the state, or the pins cannot be had: nothing changed. The state still names an interface that
/// was detached: the next controller would attach it again.
pub fn detach(global: &Global, names: Option<&[String]>) -> Result<Detached, CliError> {
    let kept = Kept::open(global)?;
    let (forgotten, _lock) = match kept {
        Kept::None => (Ok(Vec::new()), None),
        Kept::Unusable { lock, why } => {
            let mut detached = detach_pinned(&global.bpffs(), names)?;
            drop(lock);
            detached.warnings.push(not_changed(&why));
            return Ok(detached);
        }
        Kept::Good(mut store) => (forget(&mut store, names), Some(store)),
    };
    let pinned = detach_pinned(&global.bpffs(), names)?;
    let mut names = forgotten.map_err(|why| CliError::failed(comes_back(&pinned.names, &why)))?;
    let more: Vec<String> = pinned.names.into_iter().filter(|name| !names.contains(name)).collect();
    names.extend(more);
    Ok(Detached { names, warnings: pinned.warnings })
}

/// Takes interfaces out of the stored state; gives the names of those that were in it.
fn forget(store: &mut Store, names: Option<&[String]>) -> Result<Vec<String>, StoreError> {
    let wanted = |name: &str| names.is_none_or(|names| names.iter().any(|wanted| wanted == name));
    let mut desired = store.desired().clone();
    let before = std::mem::take(&mut desired.interfaces);
    let (gone, kept): (Vec<_>, Vec<_>) = before.into_iter().partition(|interface| wanted(&interface.name));
    if !gone.is_empty() {
        desired.interfaces = kept;
        store.replace(desired)?;
    }
    Ok(gone.into_iter().map(|interface| interface.name).collect())
}

fn not_changed(why: &StoreError) -> String {
    format!("what is to be attached could not be changed: {why}")
}

fn comes_back(detached: &[String], why: &StoreError) -> String {
    let done = match detached {
        [] => "nothing was attached".to_owned(),
        names => format!("detached from {} by the pins", names.join(", ")),
    };
    format!("{done}, but the next controller attaches again: {why}")
}

/// Detaches from every interface by the pins and leaves the stored state alone, so that the next controller
/// attaches again; gives those that were attached.
pub fn detach_until_next_run(global: &Global) -> Result<Detached, CliError> {
    let directory = global.state_dir();
    let _lock = match directory.exists() {
        true => Some(store::lock_unread(&directory).map_err(ApiError::from)?),
        false => None,
    };
    detach_pinned(&global.bpffs(), None)
}

/// The stored state, with its lock, so that no controller works against us meanwhile.
enum Kept {
    /// There is none.
    None,
    /// No controller starts from it as it is.
    Unusable {
        lock: HeldLock,
        why: StoreError,
    },
    Good(Box<Store>),
}

impl Kept {
    fn open(global: &Global) -> Result<Kept, CliError> {
        let directory = global.state_dir();
        if !directory.exists() {
            return Ok(Kept::None);
        }
        match Store::open(&directory) {
            Ok(store) => Ok(Kept::Good(Box::new(store))),
            Err(why @ (StoreError::Unreadable { .. } | StoreError::Write { .. })) => {
                let lock = store::lock_unread(&directory).map_err(ApiError::from)?;
                Ok(Kept::Unusable { lock, why })
            }
            Err(error) => Err(ApiError::from(error).into()),
        }
    }
}

/// The process that listens on a socket, to be waited for.
#[derive(Debug)]
pub struct Listener {
    process: Option<(u32, OwnedFd)>,
}

/// What becomes of a process that was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is gone.
    Gone,
    /// It has let go of everything and ends with its last connection.
    GoesOn {
        /// Its number.
        pid: u32,
    },
}

impl Listener {
    /// Whoever listens on `socket`; nobody if nobody does.
    pub fn on(socket: &Path) -> Listener {
        let stream = UnixStream::connect(socket).ok();
        let process = stream.and_then(|stream| Some((pid_of(&stream)?, process_of(&stream)?)));
        Listener { process }
    }

    /// Waits until the process is gone, and with it its lock on the state, or has let go of everything and goes on.
    pub fn wait_until_gone_or(self, has_let_go: impl Fn() -> bool) -> Result<Ending, CliError> {
        let Some((pid, process)) = self.process else { return Ok(Ending::Gone) };
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let (give_up, mut let_go) = (Instant::now() + PATIENCE, None);
        loop {
            let look = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
            // A process descriptor becomes readable when the process ends (pidfd_open(2)).
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&look)) {
                Ok(0) => {}
                Ok(_) => return Ok(Ending::Gone),
                Err(error) => {
                    return Err(CliError::failed(format!("wait for the controller to end: {error}")));
                }
            }
            if has_let_go() && let_go.get_or_insert_with(Instant::now).elapsed() > LAST_ANSWERS {
                return Ok(Ending::GoesOn { pid });
            }
            if Instant::now() > give_up {
                return Err(CliError::failed(format!(
                    "the controller was told to stop and still runs after {} s; look at its log",
                    PATIENCE.as_secs()
                )));
            }
        }
    }
}
