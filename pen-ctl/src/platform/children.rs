//! A child's end, told before it is reaped: until then its number, which is its group's, is nobody else's.

use tokio::process::Child;
use tokio::signal::unix::Signal;

/// Returns when a child has ended; `ends` tells whenever one of this process does, since before this one was started.
#[cfg(not(target_os = "openbsd"))]
pub(crate) async fn ended(child: &mut Child, ends: &mut Signal) {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    let number = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let Some(number) = number else { return };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    // An error means that there is no such child: nothing to wait for.
    while let Ok(None) = waitid(WaitId::Pid(number), options) {
        // Never `None`: the runtime listens for as long as it runs.
        ends.recv().await;
    }
}

/// The same where a child's end cannot be asked for without reaping it.
#[cfg(target_os = "openbsd")]
pub(crate) async fn ended(child: &mut Child, _: &mut Signal) {
    // What came of it is asked for again.
    let _ = child.wait().await;
}
