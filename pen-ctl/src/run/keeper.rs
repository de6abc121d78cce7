//! What outlives the controller of a proxy: its workers, until their last connection has ended or a successor has come.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::operate::Signals;
use super::supervisor;
use crate::cli::error::CliError;
use crate::dataplane::proxy::Proxy;
use crate::dataplane::proxy::handover::Successor;
use crate::dataplane::proxy::plane::ProxyPlane;
use crate::dataplane::proxy::plane::estate::Estate;
use crate::server::socket::BoundSocket;

/// XDP has nothing to be taken over.
pub(super) fn not_for_xdp() -> CliError {
    CliError::failed(
        "--take-over is for the proxy: under XDP, stop the controller and start it; packets keep flowing",
    )
}

/// Keeps the workers of a proxy.
pub(super) struct Keeper {
    proxy: Arc<Proxy>,
    estate: Estate,
    path: PathBuf,
    listener: UnixListener,
    socket: BoundSocket,
}

/// What happened first.
pub(super) enum Wait {
    /// Somebody wants to take over.
    Successor(Successor),
    /// It was told to end.
    End,
    /// Nothing.
    Nobody,
}

/// What became of an attempt to hand over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// The successor serves clients.
    Over,
    /// It failed: the workers need a controller again.
    Failed,
    /// This process was told to end before the successor was ready.
    End,
}

impl Keeper {
    /// Keeps the workers of that plane, and listens for a successor. Whoever listened there before hands over just now,
    /// or is in the way.
    ///
    /// # Errors
    /// There can be no such socket, or a proxy without a controller is there.
    pub(super) fn of(plane: &ProxyPlane, path: &Path, takes_over: bool) -> Result<Keeper, CliError> {
        if !takes_over && UnixStream::connect(path).is_ok() {
            return Err(CliError::failed(format!(
                "a proxy still serves clients here, and waits for a successor on {}; take its place with `pen-ctl run \
                 --take-over`, or give this one another --socket",
                path.display()
            )));
        }
        let (socket, listener) = BoundSocket::replace(path).map_err(CliError::failed)?;
        let (proxy, estate) = (plane.proxy(), plane.estate());
        Ok(Keeper { proxy, estate, path: path.to_owned(), listener, socket })
    }

    /// Waits for somebody who wants to take over.
    pub(super) async fn successor(&self) -> Successor {
        loop {
            let heard = match self.listener.accept().await {
                Ok((stream, _)) => stream.into_std(),
                Err(error) => Err(error),
            };
            let greeted = match heard {
                Ok(stream) => spawn_blocking(|| Successor::greet(stream)).await,
                Err(error) => {
                    warn!("no successor can come for now: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            match greeted {
                Ok(Ok(successor)) => return successor,
                Ok(Err(error)) => warn!("{error}"),
                Err(error) => warn!("no successor can come: {error}"),
            }
        }
    }

    /// The controller has ended: hands the workers' sockets over to a successor. A signal that says to end meanwhile ends
    /// the waiting for one that hangs, too.
    pub(super) async fn hand_over(&mut self, successor: Successor, signals: &mut Signals) -> Handed {
        let (pid, breaker) = (successor.pid(), successor.breaker());
        let (estate, proxy) = (self.estate.clone(), self.proxy.clone());
        let handing = spawn_blocking(move || successor.hand_over(&estate, &proxy));
        let mut told = false;
        let outcome = supervisor::alive_until(async {
            tokio::pin!(handing);
            tokio::select! {
                outcome = &mut handing => return outcome,
                () = signals.end() => told = true,
            }
            if let Ok(breaker) = breaker {
                breaker.end();
            }
            handing.await
        });
        match outcome.await {
            Ok(Ok(())) => {
                supervisor::say_successor(pid);
                return Handed::Over;
            }
            _ if told => return Handed::End,
            Ok(Err(error)) => warn!("the successor failed ({error}): this process goes on"),
            Err(error) => warn!("hand over: {error}; this process goes on"),
        }
        // It may have put its own in our place, and be gone.
        match BoundSocket::replace(&self.path) {
            Ok((socket, listener)) => (self.socket, self.listener) = (socket, listener),
            Err(error) => warn!("no other successor can come: {error}"),
        }
        Handed::Failed
    }

    /// Waits, without a controller, until something happens or it is time to try again to have one.
    pub(super) async fn wait(&self, patience: Duration, signals: &mut Signals) -> Wait {
        supervisor::alive_until(async {
            tokio::select! {
                successor = self.successor() => Wait::Successor(successor),
                () = signals.end() => Wait::End,
                () = tokio::time::sleep(patience) => Wait::Nobody,
            }
        })
        .await
    }

    /// The controller has ended for good: lets open connections end, or ends them at once when told again.
    ///
    /// # Errors
    /// A worker failed.
    pub(super) async fn outlive(self, mut signals: Signals) -> Result<(), CliError> {
        let Keeper { proxy, socket, estate, .. } = self;
        drop(socket);
        proxy.drain();
        let open = estate.connections();
        info!(open, "accepting nobody new; ends with the last connection, or at once when told again");
        // Only here is it still held: whoever handed over has let go of it.
        let mut ended = spawn_blocking({
            let proxy = proxy.clone();
            move || proxy.join()
        });
        loop {
            tokio::select! {
                ended = &mut ended => {
                    return ended.map_err(|error| error.to_string()).and_then(|ended| ended).map_err(CliError::failed);
                }
                () = signals.end() => proxy.stop(),
            }
        }
    }
}

/// Starts the program that this process was started from anew, as it was started, to take over from this process.
pub(super) fn start_successor(program: &io::Result<PathBuf>) {
    let arguments = successor_arguments(std::env::args_os().skip(1));
    let program = match program {
        Ok(program) => program,
        Err(error) => return warn!("start a successor: {error}; start one with --take-over"),
    };
    // Who is to be watched over, systemd is told once it has taken over.
    let child = Command::new(program).args(arguments).env_remove("WATCHDOG_PID").stdin(Stdio::null()).spawn();
    match child {
        Ok(mut child) => {
            info!(pid = child.id(), "started a successor");
            thread::spawn(move || match child.wait() {
                Ok(status) if !status.success() => warn!("the successor ended: {status}; its log says why"),
                _ => {}
            });
        }
        Err(error) => {
            warn!("start a successor from {}: {error}; start one with --take-over", program.display())
        }
    }
}

/// What this process was told, but to take over.
fn successor_arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let start_over = ["--take-over", "--adopt", "--discard", "--background"];
    let mut arguments: Vec<_> = own.filter(|word| !start_over.iter().any(|other| word == other)).collect();
    arguments.push("--take-over".into());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_told_what_its_predecessor_was_but_to_take_over() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let arguments = |text| successor_arguments(words(text).into_iter());
        assert_eq!(arguments("--socket /s run -c f"), words("--socket /s run -c f --take-over"));
        assert_eq!(arguments("run --take-over --http [::1]:80"), words("run --http [::1]:80 --take-over"));
        assert_eq!(arguments("run --adopt --background"), words("run --take-over"));
    }
}
