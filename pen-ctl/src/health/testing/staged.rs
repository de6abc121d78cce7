//! Small servers that play a part over a connection, for the tests of checks, and questions to them.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::background::Background;
use crate::check::Health;
use crate::dataplane::{BackendAddress, Protocol, ServiceKey};
use crate::health::agent::Memory;
use crate::health::ask::{Outcome, Question, ask};
use crate::health::connect::Line;

/// What a server does on each connection, one after the other; in the end it closes it.
#[derive(Clone)]
pub(crate) enum Step {
    /// Reads until it has heard this.
    Hear(&'static str),
    /// Writes.
    Say(Vec<u8>),
    /// Waits for a moment.
    Pause,
    /// Begins TLS.
    Tls(TlsAcceptor),
    /// Says this and waits for a moment, for ever.
    Drip(&'static str),
    /// Keeps silent.
    Stay,
}

/// What is heard and said, in the order of a play.
pub(crate) fn hear(text: &'static str) -> Step {
    Step::Hear(text)
}

pub(crate) fn say(text: impl AsRef<[u8]>) -> Step {
    Step::Say(text.as_ref().to_vec())
}

/// A server on loopback, or on a Unix socket.
pub(crate) struct Server {
    pub(crate) address: BackendAddress,
    steps: Arc<Mutex<Vec<Step>>>,
    heard: Arc<Mutex<Vec<u8>>>,
    _task: Background,
}

impl Server {
    pub(crate) async fn start(steps: Vec<Step>) -> Server {
        Self::at(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), steps)
    }

    pub(crate) fn at(listener: TcpListener, steps: Vec<Step>) -> Server {
        let address = listener.local_addr().unwrap().into();
        Self::on(Listener::Tcp(listener), address, steps)
    }

    pub(crate) fn on_unix_socket(path: &std::path::Path, steps: Vec<Step>) -> Server {
        let address = BackendAddress::Unix(path.to_str().unwrap().parse().unwrap());
        Self::on(Listener::Unix(UnixListener::bind(path).unwrap()), address, steps)
    }

    fn on(listener: Listener, address: BackendAddress, steps: Vec<Step>) -> Server {
        let (steps, heard) = (Arc::new(Mutex::new(steps)), Arc::<Mutex<Vec<u8>>>::default());
        let task = Background::spawn(serve(listener, steps.clone(), heard.clone()));
        Server { address, steps, heard, _task: task }
    }

    /// Does something else from now on.
    pub(crate) fn becomes(&self, steps: Vec<Step>) {
        *self.steps.lock().unwrap() = steps;
    }

    /// All that was heard, of all connections.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> Box<dyn Line> {
        match self {
            Listener::Tcp(listener) => Box::new(accepted(listener).await),
            Listener::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
        }
    }
}

async fn serve(listener: Listener, steps: Arc<Mutex<Vec<Step>>>, heard: Arc<Mutex<Vec<u8>>>) {
    let mut all = JoinSet::new();
    loop {
        let line = listener.accept().await;
        let (steps, heard) = (steps.lock().unwrap().clone(), heard.clone());
        all.spawn(async move {
            // Whoever asks may leave at any time.
            let _ = play(line, steps, heard).await;
        });
    }
}

async fn play(mut line: Box<dyn Line>, steps: Vec<Step>, heard: Arc<Mutex<Vec<u8>>>) -> std::io::Result<()> {
    for step in steps {
        match step {
            Step::Hear(text) => {
                let mut came = Vec::new();
                while !came.windows(text.len()).any(|window| window == text.as_bytes()) {
                    let byte = line.read_u8().await?;
                    came.push(byte);
                    heard.lock().unwrap().push(byte);
                }
            }
            Step::Say(text) => {
                line.write_all(&text).await?;
                line.flush().await?;
            }
            Step::Pause => pause().await,
            Step::Tls(acceptor) => line = Box::new(acceptor.accept(line).await?),
            Step::Drip(text) => loop {
                line.write_all(text.as_bytes()).await?;
                line.flush().await?;
                pause().await;
            },
            Step::Stay => std::future::pending().await,
        }
    }
    line.shutdown().await
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// A question about a backend of a service.
pub(crate) fn question(service: ServiceKey, backend: BackendAddress, health: &str) -> Question {
    let health: Health = health.parse().unwrap_or_else(|error| panic!("{health}: {error}"));
    Question { service, backend, check: health.check().unwrap().clone(), agent: Memory::default() }
}

/// The service that is asked for.
pub(crate) fn service() -> ServiceKey {
    ServiceKey { address: Ipv4Addr::new(10, 0, 0, 100).into(), port: 80, protocol: Protocol::Tcp }
}

/// What comes of a check, in words: what was answered or what failed.
pub(crate) async fn asked(server: &Server, health: &str) -> Result<String, String> {
    // Long enough for a busy host, unless silence is what is waited for.
    let health = if health.contains("timeout=") { health.into() } else { format!("{health},timeout=20s") };
    let question = question(service(), server.address, &health);
    loop {
        match ask(&question).await {
            Outcome::Success(answer, _) => return Ok(answer.what),
            Outcome::Failure(why, _) => return Err(why),
            Outcome::Unable(why) if why.contains("too busy") => {}
            Outcome::Unable(why) => return Err(format!("not checked: {why}")),
        }
    }
}

/// The next connection to a listener.
pub(crate) async fn accepted(listener: &TcpListener) -> TcpStream {
    listener.accept().await.unwrap().0
}
