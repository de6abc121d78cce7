//! Runs a program of the administrator's: in a clean environment, with no descriptor of ours, and so that nothing of it
//! is left when it has ended, has taken too long, or nobody waits for it any more.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

use crate::excerpt::excerpt;
use crate::platform;

/// Where programs look for others.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of what a program says that are kept.
const KEPT: usize = 4096;
/// Bytes that are read at once.
const CHUNK: usize = 1024;

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its path and what it is told.
    pub(crate) command: Vec<String>,
    /// Its environment besides `PATH`.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// With which status.
    pub(crate) status: ExitStatus,
    /// The beginning of what it said, to its output and its errors.
    pub(crate) said: Vec<u8>,
}

impl Program {
    /// Runs it with that input until it ends; whoever drops this kills it and what it started.
    ///
    /// # Errors
    /// It could not be started.
    pub(crate) async fn run(&self, input: &[u8]) -> io::Result<Ended> {
        self.start(input.is_empty())?.end(input).await
    }

    fn start(&self, deaf: bool) -> io::Result<Running> {
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().ok_or(io::ErrorKind::NotFound)?);
        command.args(words).env_clear().env("PATH", PATH).envs(self.environment.iter().cloned());
        command.current_dir("/").process_group(0).kill_on_drop(true);
        // One pipe for both, so that what it says comes in its order.
        let (reader, writer) = io::pipe()?;
        command.stdin(if deaf { Stdio::null() } else { Stdio::piped() });
        command.stdout(writer.try_clone()?).stderr(writer);
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        // Before there is a child, so that none ends unheard.
        let ends = unix::signal(SignalKind::child())?;
        // With the command goes our end of what it writes to.
        let child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Running { group: Group(group), child, output, ends })
    }
}

/// One that runs. Its group goes first: only then is its leader waited for, and its number free for others.
struct Running {
    group: Group,
    child: Child,
    output: pipe::Receiver,
    /// Tells whenever a child of this process ends.
    ends: unix::Signal,
}

impl Running {
    async fn end(&mut self, input: &[u8]) -> io::Result<Ended> {
        let mut said = Vec::new();
        let stdin = self.child.stdin.take();
        let tell = async {
            if let Some(mut stdin) = stdin {
                // It need not listen.
                let _ = stdin.write_all(input).await;
            }
        };
        tokio::pin!(tell);
        let (mut telling, mut open) = (true, true);
        {
            let mut ended = pin!(platform::ended(&mut self.child, &mut self.ends));
            loop {
                tokio::select! {
                    biased;
                    () = &mut ended => break,
                    () = &mut tell, if telling => telling = false,
                    ready = self.output.readable(), if open => {
                        open = ready.is_ok() && keep(&self.output, &mut said);
                    }
                }
            }
        }
        self.group.kill();
        let status = self.child.wait().await?;
        // What it said last is there already; whoever has left the group may hold the pipe for ever.
        for _ in 0..KEPT / CHUNK {
            open = open && keep(&self.output, &mut said);
        }
        Ok(Ended { status, said })
    }
}

/// A process group, killed when it is dropped.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // Fails when everybody has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Keeps what can be read now, as far as there is room; the rest is read all the same, or the program would wait. Says
/// whether more may come.
fn keep(output: &pipe::Receiver, said: &mut Vec<u8>) -> bool {
    let mut chunk = [0; CHUNK];
    match output.try_read(&mut chunk) {
        Ok(0) => false,
        Ok(length) => {
            let room = KEPT.saturating_sub(said.len());
            said.extend_from_slice(&chunk[..length.min(room)]);
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

impl Ended {
    /// In words where it is no success: `exit status 2: disk full`, `killed by signal 9`.
    pub(crate) fn failure(&self) -> Option<String> {
        use std::os::unix::process::ExitStatusExt;
        if self.status.success() {
            return None;
        }
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        let first = excerpt(&self.said);
        Some(if first.is_empty() { how } else { format!("{how}: {first}") })
    }
}

#[cfg(test)]
mod tests;
