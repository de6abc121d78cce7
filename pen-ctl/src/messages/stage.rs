//! A controller on a data plane in memory, behind a real socket: what is typed goes the whole way.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use clap::Parser;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::{Row, ToDo, refused};
use crate::api::ErrorDocument;
use crate::cli::{Cli, dispatch};
use crate::client::Client;
use crate::controller::{self, Controller, ControllerHandle, Options, SystemClock};
use crate::dataplane::fake::FakePlane;
use crate::server;
use crate::server::socket::BoundSocket;
use crate::state::store::Store;
use crate::surroundings::testing::link;
use crate::surroundings::{Event, Link, Links, Probe, Surroundings, Watched};

/// Nothing is watched, nothing answers.
struct Nowhere;

impl Surroundings for Nowhere {
    fn watch(&mut self, _: BTreeSet<Watched>) {}
    fn probe(&mut self, _: Vec<Probe>) {}
    fn announce(&mut self, _: &Link, _: &[IpAddr]) {}
    fn withdraw(&mut self, _: &Link, _: &[IpAddr]) {}
}

/// A place of its own for everything a command line names, with a controller or without.
pub(super) struct Stage {
    home: TempDir,
    pub(super) plane: FakePlane,
    /// Where the controller answers over TCP.
    http: Option<SocketAddr>,
    /// The controller lives as long as these.
    _running: Option<(Runtime, BoundSocket, mpsc::Sender<Event>)>,
}

impl Stage {
    /// No controller answers.
    pub(super) fn empty() -> Stage {
        let home = tempfile::tempdir().unwrap();
        Stage { home, plane: FakePlane::default(), http: None, _running: None }
    }

    /// A controller on eth0 and eth1 (and tun0, which has no Ethernet, and bond0, whose port is eth2) that knows nothing yet.
    pub(super) fn with(options: Options) -> Stage {
        let mut stage = Stage::empty();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let inside = runtime.enter();
        let door = options.door.clone();
        door.open(options.http).unwrap();
        stage.http = door.address();
        let (socket, listener) = BoundSocket::bind(&stage.socket()).unwrap();
        let store = Store::open(&stage.path("state")).unwrap();
        let clock = Box::new(SystemClock::start());
        let plane = Box::new(stage.plane.clone());
        let controller = Controller::new(store, plane, Box::new(Nowhere), clock, options);
        let (handle, calls) = ControllerHandle::to(&controller);
        let (events, heard) = mpsc::channel(1);
        let tun = Link { ethernet: false, mac: None, ..link(4, "tun0") };
        let bond = Link { bond: true, ..link(5, "bond0") };
        let port = Link { master: Some(5), ..link(6, "eth2") };
        let links = [link(2, "eth0"), link(3, "eth1"), tun, bond, port].map(|link| (link.index, link));
        events.blocking_send(Event::Links(Links::from(links))).unwrap();
        tokio::spawn(controller::serve(controller, calls, heard));
        tokio::spawn(server::serve(listener, door, handle, std::future::pending()));
        drop(inside);
        stage._running = Some((runtime, socket, events));
        stage
    }

    /// One with services web (backends 10.0.0.11, and 10.0.0.13 that is down) and dns, attached to eth0, that answers
    /// over TCP too.
    pub(super) fn set() -> Stage {
        let stage = Stage::with(Options { http: "127.0.0.1:0".parse().ok(), ..Options::default() });
        for words in [
            "attach eth0",
            "service add web 10.0.0.100:80/tcp",
            "service add dns 10.0.0.110:53/udp",
            "backend add web 10.0.0.11",
            "backend add web 10.0.0.13 --state down",
        ] {
            stage.done(words);
        }
        stage
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path("pen.sock")
    }

    /// Writes a file; its path.
    pub(super) fn file(&self, text: impl AsRef<[u8]>) -> String {
        let path = self.path("pen.toml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Has a command done that must not fail.
    pub(super) fn done(&self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        self.dispatched(&words).unwrap();
    }

    /// What a command is refused with.
    #[track_caller]
    pub(super) fn typed(
        &self,
        words: &str,
        what: &'static str,
        on: impl Into<String>,
        to_do: impl Into<ToDo>,
    ) -> Row {
        let words: Vec<&str> = words.split(' ').collect();
        refused(self.dispatched(&words), what, on, to_do)
    }

    /// The same for words with spaces in them, or none.
    #[track_caller]
    pub(super) fn typed_words(
        &self,
        words: &[&str],
        what: &'static str,
        on: impl Into<String>,
        to_do: impl Into<ToDo>,
    ) -> Row {
        refused(self.dispatched(words), what, on, to_do)
    }

    fn dispatched(&self, words: &[&str]) -> Result<(), String> {
        let place = |path: &Path| path.display().to_string();
        let mut line = vec!["pen-ctl".to_owned(), "--socket".to_owned(), place(&self.socket())];
        line.extend(["--state-dir".to_owned(), place(&self.path("state"))]);
        line.extend(["--bpffs".to_owned(), place(&self.path("pins"))]);
        line.extend(words.iter().map(|word| (*word).to_owned()));
        // What clap refuses breaks the rules: it has several lines.
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        dispatch(cli).map_err(|error| error.to_string())
    }

    /// What a request to the API is refused with.
    #[track_caller]
    pub(super) fn asked(
        &self,
        request: &str,
        body: &str,
        what: &'static str,
        on: impl Into<String>,
        to_do: impl Into<ToDo>,
    ) -> Row {
        let (method, path) = request.split_once(' ').unwrap();
        let answer = Client::new(self.socket()).call(method.parse().unwrap(), path, Some(body.to_owned()));
        refused(answer, what, on, to_do)
    }

    /// What a request over TCP is refused with; the head lacks its end.
    #[track_caller]
    pub(super) fn over_tcp(
        &self,
        head: &str,
        what: &'static str,
        on: impl Into<String>,
        to_do: impl Into<ToDo>,
    ) -> Row {
        let mut stream = TcpStream::connect(self.http.unwrap()).unwrap();
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        refused::<(), _>(Err(serde_json::from_str::<ErrorDocument>(body).unwrap().error), what, on, to_do)
    }
}
