//! Clients at work, each from an address of its own: what they saw is counted.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::place::await_that;
use crate::servers::{connect_from, echo, name};

/// From one question of a client to the next.
const PAUSE: Duration = Duration::from_millis(4);
/// How long a datagram's answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// On a new connection each time.
    New,
    /// On one connection, as long as it lasts.
    Kept,
    /// By datagrams from one port.
    Udp,
    /// By a datagram from a new port each time.
    UdpNewPort,
}

/// Who asks.
pub(crate) type Client = (Way, IpAddr, SocketAddr);

/// What one client saw.
#[derive(Clone, Default)]
pub(crate) struct Record {
    pub(crate) answered: u64,
    pub(crate) failed: Vec<String>,
    /// Who answered, one after the other.
    pub(crate) by: Vec<u8>,
    /// Connections that it opened.
    pub(crate) opened: u64,
}

impl fmt::Debug for Record {
    /// A client that fails all the time is told in one line.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { answered, failed, by, opened } = self;
        let first = &failed[..failed.len().min(3)];
        write!(to, "{answered} answered, {} failed {first:?}, by {by:?}, {opened} opened", failed.len())
    }
}

/// Clients at work; they go home when it is dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<BTreeMap<Client, Record>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn of(clients: impl IntoIterator<Item = Client>) -> Load {
        let mut load = Load { stop: Arc::default(), ledger: Arc::default(), threads: Vec::new() };
        clients.into_iter().for_each(|client| load.begin(client));
        load.await_answers(1);
        load
    }

    fn begin(&mut self, client: Client) {
        let (stop, ledger) = (self.stop.clone(), self.ledger.clone());
        ledger.lock().unwrap().insert(client, Record::default());
        self.threads.push(thread::spawn(move || {
            let mut asker = Asker { client, stream: None, socket: None, number: 0, opened: 0 };
            while !stop.load(Ordering::Relaxed) {
                let answer = asker.ask();
                let mut ledger = ledger.lock().unwrap();
                let record = ledger.get_mut(&client).unwrap();
                record.opened = asker.opened;
                match answer {
                    Ok(name) => {
                        record.answered += 1;
                        if record.by.last() != Some(&name) {
                            record.by.push(name);
                        }
                    }
                    Err(error) => record.failed.push(error.to_string()),
                }
                drop(ledger);
                thread::sleep(PAUSE);
            }
        }));
    }

    pub(crate) fn ledger(&self) -> BTreeMap<Client, Record> {
        self.ledger.lock().unwrap().clone()
    }

    /// Waits until everybody has got so many more answers.
    #[track_caller]
    pub(crate) fn await_answers(&self, more: u64) {
        let before = self.ledger();
        await_that("everybody is answered", || {
            let ledger = self.ledger();
            let waits = ledger.iter().find(|(who, record)| record.answered < before[who].answered + more);
            waits.map_or(Ok(()), |(who, record)| Err(format!("{who:?}: {record:?}")))
        });
    }

    /// Everybody goes home; what they saw.
    pub(crate) fn end(mut self) -> Seen {
        self.go_home();
        Seen(self.ledger())
    }

    fn go_home(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.go_home();
    }
}

/// What all clients saw.
#[derive(Debug)]
pub(crate) struct Seen(pub(crate) BTreeMap<Client, Record>);

impl Seen {
    pub(crate) fn answered(&self) -> u64 {
        self.0.values().map(|record| record.answered).sum()
    }

    /// Questions without an answer, whose and why.
    pub(crate) fn failures(&self) -> Vec<(Client, String)> {
        let of = |(client, record): (&Client, &Record)| {
            record.failed.iter().map(|why| (*client, why.clone())).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// Those who were answered by more than one backend.
    pub(crate) fn moved(&self) -> Vec<(Client, Vec<u8>)> {
        let moved = self.0.iter().filter(|(_, record)| record.by.len() > 1);
        moved.map(|(client, record)| (*client, record.by.clone())).collect()
    }

    /// Nobody noticed anything: every question was answered, by the same backend, no connection was lost.
    #[track_caller]
    pub(crate) fn assert_undisturbed(&self, what: &str) {
        assert_eq!(self.failures(), [], "{what}");
        assert_eq!(self.moved(), [], "{what}");
        for (client, record) in &self.0 {
            assert!(client.0 != Way::Kept || record.opened == 1, "{what}: {client:?}: {record:?}");
        }
        self.say(what);
    }

    /// Tells what was counted, past the test harness, which would hide what a passing test prints.
    pub(crate) fn say(&self, what: &str) {
        use std::io::Write as _;
        let (answered, failed) = (self.answered(), self.failures().len());
        let _ = writeln!(io::stderr(), "    {what}: {answered} answered, {failed} failed");
    }
}

struct Asker {
    client: Client,
    stream: Option<(TcpStream, u8)>,
    socket: Option<UdpSocket>,
    number: u64,
    opened: u64,
}

impl Asker {
    fn ask(&mut self) -> io::Result<u8> {
        self.number += 1;
        match self.client.0 {
            Way::New => {
                let (mut stream, name) = self.connect()?;
                echo(&mut stream, &self.words()).map(|()| name)
            }
            Way::Kept => {
                let (mut stream, name) = self.stream.take().map_or_else(|| self.connect(), Ok)?;
                echo(&mut stream, &self.words())?;
                self.stream = Some((stream, name));
                Ok(name)
            }
            Way::Udp => {
                let socket = self.socket.take().map_or_else(|| self.bind(), Ok)?;
                let answer = self.ask_by_datagram(&socket);
                self.socket = Some(socket);
                answer
            }
            Way::UdpNewPort => self.ask_by_datagram(&self.bind()?),
        }
    }

    fn words(&self) -> Vec<u8> {
        (self.number..).flat_map(u64::to_be_bytes).take(100).collect()
    }

    fn connect(&mut self) -> io::Result<(TcpStream, u8)> {
        let (_, source, to) = self.client;
        self.opened += 1;
        let mut stream = connect_from(source, to)?;
        let name = name(&mut stream)?;
        Ok((stream, name))
    }

    fn bind(&self) -> io::Result<UdpSocket> {
        let (_, source, to) = self.client;
        let socket = UdpSocket::bind((source, 0))?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.connect(to)?;
        Ok(socket)
    }

    fn ask_by_datagram(&self, socket: &UdpSocket) -> io::Result<u8> {
        let words = self.words();
        socket.send(&words)?;
        let mut answer = [0; 2048];
        loop {
            let length = socket.recv(&mut answer)?;
            // A late answer to an earlier question is none to this one.
            if answer[1..length] == words {
                return Ok(answer[0]);
            }
        }
    }
}
