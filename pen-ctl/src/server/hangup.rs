//! Notices that nobody is left at the other end of a connection.
//!
//! Who closes only the half that it writes has said everything and waits for the answer; who closes both, or dies, does
//! not. On a Unix socket the kernel tells these apart: the second is a hang-up (`POLLHUP`, poll(2)). Over TCP both
//! look the same until something is written.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::UnixStream;

/// The other end of a connection, as far as it can be seen from here.
#[derive(Clone, Debug)]
pub struct Hangup(Option<Arc<OwnedFd>>);

impl Hangup {
    /// Of a connection whose other end cannot be seen.
    pub const UNSEEN: Hangup = Hangup(None);

    /// Of a connection to a Unix socket. Unseen where the process has no descriptors left.
    pub(super) fn of(stream: &UnixStream) -> Hangup {
        Hangup(stream.as_fd().try_clone_to_owned().ok().map(Arc::new))
    }

    /// Completes when nobody is left there; never if that cannot be seen.
    pub async fn wait(self) {
        if let Some(end) = self.watched() {
            while let Ok(ready) = end.ready(Interest::WRITABLE).await {
                if ready.is_write_closed() {
                    return;
                }
                // Says that it cannot be written to after all: then the next news is waited for.
                let _ = end
                    .try_io(Interest::WRITABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
            }
        }
        std::future::pending().await
    }

    /// A descriptor of its own, and so a readiness of its own: waiting takes nothing from those who write.
    fn watched(self) -> Option<UnixStream> {
        let end = self.0?.try_clone().ok()?;
        UnixStream::from_std(net::UnixStream::from(end)).ok()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{Shutdown, shutdown};

    use super::*;

    #[tokio::test]
    async fn who_has_said_everything_is_still_there_and_who_closed_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut gone = std::pin::pin!(Hangup::of(&ours).wait());
        shutdown(&theirs, Shutdown::Write).unwrap();
        // The end of what they say has arrived, so that a hang-up would have, too.
        ours.readable().await.unwrap();
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        // Neither does it take our own writing for one.
        assert_eq!(ours.try_write(b"answer").unwrap(), 6);
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        drop(theirs);
        gone.await;
    }
}
