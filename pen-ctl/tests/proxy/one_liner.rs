//! `pen-ctl proxy` as a user meets it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::place::{PATIENCE, assert_echoes, echo, eventually, name, nobody, patient};

/// A proxy in a process of its own, ended at the latest with the test.
struct OneLiner {
    process: Child,
    log: Receiver<String>,
    output: Receiver<String>,
    address: Option<SocketAddr>,
}

impl OneLiner {
    /// `pen-ctl proxy` with these words, with this limit of file descriptors, as a user without rights if that can be.
    fn start(descriptors: u32, words: &[&str]) -> OneLiner {
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
    fn logs(&self, what: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.address.unwrap()).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn ended(&mut self) -> Option<ExitStatus> {
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

#[test]
fn it_drains_when_told_to_end_and_ends_at_once_when_told_twice() {
    let backend = echo(1).to_string();
    let mut proxy = OneLiner::start(1000, &["127.0.0.1:0", &backend]);
    let mut client = proxy.connect();
    name(&mut client);
    proxy.signal(Signal::TERM);
    proxy.logs("accepting nobody new");
    eventually("nobody new", || TcpStream::connect(proxy.address.unwrap()).is_err());
    assert_echoes(&mut client);
    assert!(proxy.ended().is_none());
    drop(client);
    eventually("it ends with its last connection", || proxy.ended().is_some_and(|status| status.success()));

    let mut proxy = OneLiner::start(1000, &["127.0.0.1:0", &backend]);
    let mut client = proxy.connect();
    name(&mut client);
    proxy.signal(Signal::TERM);
    proxy.logs("accepting nobody new");
    proxy.signal(Signal::TERM);
    eventually("it ends at once", || proxy.ended().is_some_and(|status| status.success()));
    assert!(client.read(&mut [0]).is_err(), "reset, not an end that looks whole");
}

#[test]
fn it_says_what_it_counted_as_often_as_it_is_asked() {
    let (dead, alive) = (nobody().to_string(), echo(1).to_string());
    let proxy = OneLiner::start(1000, &["127.0.0.1:0", &dead, &format!("{alive}:7"), "--round-robin"]);
    for _ in 0..3 {
        let mut client = proxy.connect();
        name(&mut client);
        assert_echoes(&mut client);
    }
    for _ in 0..20 {
        proxy.signal(Signal::USR1);
        let heading = proxy.output.recv_timeout(PATIENCE).unwrap();
        assert_eq!(heading, "3 clients accepted, 0 turned away, 0 addresses remembered");
        let rows: Vec<String> = (0..3).map(|_| proxy.output.recv_timeout(PATIENCE).unwrap()).collect();
        let words = |row: usize| rows[row].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(1)[..2], [dead.clone(), "failing".to_owned()]);
        assert_eq!([&words(2)[..2], &words(2)[3..]].concat(), [&alive, "up", "3", "0", "15", "18"]);
    }
    assert_echoes(&mut {
        let mut client = proxy.connect();
        name(&mut client);
        client
    });
}

#[test]
fn without_file_descriptors_old_connections_go_on_and_new_ones_wait_for_their_turn() {
    let backend = echo(1).to_string();
    let proxy = OneLiner::start(60, &["127.0.0.1:0", &backend, "--workers", "1"]);
    let mut old: Vec<TcpStream> = (0..10).map(|_| proxy.connect()).collect();
    for client in &mut old {
        name(client);
    }
    // More than there is room for; the kernel takes them into the queue of the listener.
    let mut new: Vec<TcpStream> = (0..60).map(|_| proxy.connect()).collect();
    proxy.logs("no new connections for now");
    old.iter_mut().for_each(assert_echoes);
    drop(old);
    // Each that ends makes room for another: all are served, and none was lost.
    while !new.is_empty() {
        let mut client = new.remove(0);
        name(&mut client);
        assert_echoes(&mut client);
    }
    let mut said_again = 0;
    eventually("it says that it is over", || {
        name(&mut proxy.connect());
        let lines: Vec<String> = proxy.log.try_iter().collect();
        said_again += lines.iter().filter(|line| line.contains("no new connections")).count();
        lines.iter().any(|line| line.contains("accepted again"))
    });
    assert_eq!(said_again, 0, "said once");
}

#[test]
fn unix_sockets_are_good_for_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let inner = OneLiner::start(1000, &[&path("inner"), &echo(7).to_string()]);
    let mut outer = OneLiner::start(1000, &[&path("outer"), &path("inner")]);
    let mut client = UnixStream::connect(path("outer")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x07hello");
    drop(client);
    outer.signal(Signal::TERM);
    eventually("it ends", || outer.ended().is_some());
    assert!(!dir.path().join("outer").exists(), "its socket is gone");
    drop(inner);
    // One that was killed leaves its path behind; the next one takes it over.
    let again = OneLiner::start(1000, &[&path("inner"), &echo(8).to_string()]);
    let mut client = UnixStream::connect(path("inner")).unwrap();
    client.read_exact(&mut answer[..1]).unwrap();
    assert_eq!(answer[0], 8);
    drop(again);
}

#[test]
fn a_port_that_somebody_has_is_refused_even_if_that_is_another_proxy() {
    let backend = echo(1).to_string();
    let first = OneLiner::start(1000, &["127.0.0.1:0", &backend, "--workers", "2"]);
    let address = first.address.unwrap().to_string();
    let second =
        Command::new(env!("CARGO_BIN_EXE_pen-ctl")).args(["proxy", &address, &backend]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(
        error.contains(&format!("pen-ctl: listen on {address}")) && error.contains("another process"),
        "{error}"
    );
}

#[test]
fn udp_has_no_unix_sockets() {
    for words in [["/run/app.sock", "127.0.0.1:53"], ["127.0.0.1:0", "/run/app.sock"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_pen-ctl"))
            .args(["proxy", "--udp"])
            .args(words)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("UDP has no Unix sockets"), "{said}");
    }
}
