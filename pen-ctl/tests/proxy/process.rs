//! `pen-ctl proxy` in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::place::{PATIENCE, patient};

/// A proxy in a process of its own, ended at the latest with the test.
pub(crate) struct OneLiner {
    /// The process.
    pub(crate) process: Child,
    /// Lines of its log.
    pub(crate) log: Receiver<String>,
    /// Lines that it printed.
    pub(crate) output: Receiver<String>,
    /// Where it listens; `None` for the path of a Unix socket.
    pub(crate) address: Option<SocketAddr>,
}

impl OneLiner {
    /// `pen-ctl proxy` with these words, with this limit of file descriptors, as a user without rights if that can be.
    pub(crate) fn start(descriptors: u32, words: &[&str]) -> OneLiner {
        let binary = env!("CARGO_BIN_EXE_pen-ctl");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh", binary, "proxy"])
            .args(words);
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let log = lines(process.stderr.take().unwrap());
        let output = lines(process.stdout.take().unwrap());
        let mut proxy = OneLiner { process, log, output, address: None };
        let line = proxy.logs("listening");
        proxy.address = line.split_once("address=").and_then(|(_, address)| address.trim().parse().ok());
        proxy
    }

    /// Waits for a line of the log that contains this.
    pub(crate) fn logs(&self, what: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    /// A client of it.
    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.address.unwrap()).unwrap())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }
}

impl Drop for OneLiner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}
