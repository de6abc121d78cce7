//! Notices that nobody is left at the other end of a connection.
//!
//! Who closes only the half that it writes has said everything and waits for the answer; who closes both, or dies, does
//! not. On a Unix socket the kernel tells these apart: the second is a hang-up (`POLLHUP`, poll(2)). Over TCP both
//! look the same until something is written.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// A connection whose other end can be watched while somebody else reads and writes. It costs a second descriptor only
/// once, and as long as, it is watched.
#[derive(Debug)]
pub struct Watchable(Arc<UnixStream>);

impl Watchable {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Its other end.
    pub(super) fn hangup(&self) -> Hangup {
        Hangup(Some(Arc::downgrade(&self.0)))
    }
}

impl AsyncRead for Watchable {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome.map(|length| into.advance(length))),
            }
        }
    }
}

impl AsyncWrite for Watchable {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

/// The other end of a connection, as far as it can be seen from here.
#[derive(Clone, Debug)]
pub struct Hangup(Option<Weak<UnixStream>>);

impl Hangup {
    /// Of a connection whose other end cannot be seen.
    pub const UNSEEN: Hangup = Hangup(None);

    /// Completes when nobody is left there; never if that cannot be seen, as where the process has no descriptors left.
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
        let end = self.0?.upgrade()?.as_fd().try_clone_to_owned().ok()?;
        UnixStream::from_std(net::UnixStream::from(end)).ok()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{Shutdown, shutdown};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_has_said_everything_is_still_there_and_who_closed_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut ours = Watchable::new(ours);
        let mut gone = std::pin::pin!(ours.hangup().wait());
        shutdown(&theirs, Shutdown::Write).unwrap();
        // The end of what they say has arrived, so that a hang-up would have, too.
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        // Neither does it take our own writing for one.
        ours.write_all(b"answer").await.unwrap();
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        drop(theirs);
        gone.await;
    }

    #[tokio::test]
    async fn where_nobody_waits_for_it_no_second_descriptor_is_held() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Watchable::new(ours);
        let _unused = ours.hangup();
        drop(ours);
        // A descriptor that is still there would keep the connection open.
        assert_eq!(theirs.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_does_not_fit_at_once_is_written_and_read_whole_and_its_end_is_told() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut ours, mut theirs) = (Watchable::new(ours), Watchable::new(theirs));
        let sent = vec![7; 4 << 20];
        let mut heard = Vec::new();
        let writing = async {
            ours.write_all(&sent).await.unwrap();
            ours.shutdown().await.unwrap();
        };
        tokio::join!(writing, async { theirs.read_to_end(&mut heard).await.unwrap() });
        assert!(heard == sent, "{} bytes of {}", heard.len(), sent.len());
    }
}
