//! A port of a backend's that the test itself answers, as slowly and as wrongly as it likes.

use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use xtask::lab::Host;

/// Answers until it is dropped, which closes the port.
pub(crate) struct Side {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    /// Opens a port of the host's; each connection is answered on a thread of its own.
    pub(crate) fn open(
        host: &Host,
        port: u16,
        answer: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = host.namespace.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, answer) = (Arc::<AtomicBool>::default(), Arc::new(answer));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let answer = Arc::clone(&answer);
                        // A check that does not wait for the answer is nobody's mistake.
                        thread::spawn(move || stream.set_nonblocking(false).and_then(|()| answer(stream)));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(2))
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
