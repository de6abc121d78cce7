//! A worker's listening sockets, each with the service that its clients come to.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::io::Errno;
use slab::Slab;
use socket2::Socket;

use super::Shared;
use super::limit;
use super::platform;
use super::service::Service;
use super::source::Source;
use super::tcp::Tcp;
use super::udp::{Pooled, Udp};
use crate::dataplane::Protocol;

/// Connections accepted in one go before sessions have their turn.
const ACCEPTS: u32 = 64;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take clients from a socket.
    Open {
        /// Its number, the same for all workers.
        lane: usize,
        /// Whom they come to.
        service: Arc<Service>,
        /// Where they come.
        socket: Arc<Socket>,
    },
    /// Take none there any more. Connections go on; sessions of UDP, which need the socket, end.
    Close {
        /// Its number.
        lane: usize,
    },
    /// Look again at services: one stands otherwise now.
    Look,
}

/// How long a service's sessions may be idle.
fn patience(service: &Service) -> Duration {
    let patience = service.state().settings.idle_timeout;
    if patience.is_zero() { Duration::MAX } else { patience }
}

/// The listening sockets.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    places: HashMap<usize, Lane>,
    tcp: Slab<Listener>,
}

#[derive(Debug)]
enum Lane {
    Tcp(usize),
    Udp(usize, Arc<Service>),
}

/// A socket that connections come to.
#[derive(Debug)]
struct Listener {
    socket: Arc<Socket>,
    service: Arc<Service>,
    /// There may be somebody to accept.
    ready: bool,
    /// Somebody waits for room in the service.
    full: bool,
}

impl Lanes {
    /// Has the poll watch one more.
    ///
    /// # Errors
    /// The system has no room to watch it.
    pub(super) fn open(
        &mut self,
        registry: &Registry,
        (lane, service, socket): (usize, &Arc<Service>, Arc<Socket>),
        udp: &mut Udp<Pooled>,
        pooled: &mut Pooled,
    ) -> io::Result<()> {
        let place = match service.protocol {
            Protocol::Tcp => {
                let token = Source::Listener(self.tcp.vacant_key()).token();
                registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
                // Somebody may wait already.
                let listener = Listener { socket, service: service.clone(), ready: true, full: false };
                Lane::Tcp(self.tcp.insert(listener))
            }
            Protocol::Udp => {
                let number = udp.add_listener(socket, patience(service))?;
                udp.set_speakers(number, &service.state().settings.proxy_protocol_from);
                pooled.set(number, Some(service.clone()));
                Lane::Udp(number, service.clone())
            }
        };
        self.places.insert(lane, place);
        Ok(())
    }

    /// Lets go of one.
    pub(super) fn close(
        &mut self,
        registry: &Registry,
        lane: usize,
        udp: &mut Udp<Pooled>,
        pooled: &mut Pooled,
    ) {
        match self.places.remove(&lane) {
            Some(Lane::Tcp(number)) => self.forget(registry, number),
            Some(Lane::Udp(number, _)) => {
                udp.remove_listener(number);
                pooled.set(number, None);
            }
            None => {}
        }
    }

    /// The poll says that somebody is there.
    pub(super) fn ready(&mut self, number: usize) {
        if let Some(listener) = self.tcp.get_mut(number) {
            listener.ready = true;
        }
    }

    /// Somebody may be everywhere.
    pub(super) fn all_ready(&mut self) {
        self.tcp.iter_mut().for_each(|(_, listener)| listener.ready = true);
    }

    /// Takes note of how services stand now.
    pub(super) fn look(&mut self, udp: &mut Udp<Pooled>) {
        for place in self.places.values() {
            if let Lane::Udp(number, service) = place {
                udp.set_idle_timeout(*number, patience(service));
                udp.set_speakers(*number, &service.state().settings.proxy_protocol_from);
            }
        }
        self.tcp.iter_mut().for_each(|(_, listener)| listener.full = false);
    }

    /// Accepts who waits.
    ///
    /// # Errors
    /// What the system has run out of; it is to be tried again later.
    pub(super) fn accept(&mut self, registry: &Registry, tcp: &mut Tcp, shared: &Shared) -> io::Result<()> {
        for (_, listener) in self.tcp.iter_mut().filter(|(_, listener)| listener.ready) {
            let state = listener.service.state();
            for _ in 0..ACCEPTS {
                if tcp.is_short() {
                    break;
                }
                // The client's place is taken before it is accepted: nobody who has been can be sent back to wait.
                listener.full = !listener.service.enter(&state);
                if listener.full {
                    break;
                }
                let accepted = platform::accept(&listener.socket);
                if accepted.is_err() {
                    listener.service.leave();
                }
                match accepted {
                    Ok((socket, peer)) => {
                        shared.shortage.not_met(shared.clock.now());
                        tcp.admit(registry, &listener.service, socket, peer);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.ready = false;
                        break;
                    }
                    Err(error) if limit::is_shortage(&error) => return Err(error),
                    // What befell the client before it was accepted (accept(2)) is no trouble of ours.
                    Err(error) => debug_assert!(Errno::from_io_error(&error).is_some()),
                }
            }
        }
        Ok(())
    }

    /// Whether somebody may wait.
    pub(super) fn any_ready(&self) -> bool {
        self.tcp.iter().any(|(_, listener)| listener.ready)
    }

    /// Whether somebody waits for room in a service, which other workers may make.
    pub(super) fn any_full(&self) -> bool {
        self.tcp.iter().any(|(_, listener)| listener.ready && listener.full)
    }

    /// Lets go of all for TCP.
    pub(super) fn clear(&mut self, registry: &Registry) {
        for number in self.tcp.iter().map(|(number, _)| number).collect::<Vec<_>>() {
            self.forget(registry, number);
        }
    }

    /// Whether there are none for TCP.
    pub(super) fn is_empty(&self) -> bool {
        self.tcp.is_empty()
    }

    fn forget(&mut self, registry: &Registry, number: usize) {
        if let Some(listener) = self.tcp.try_remove(number) {
            // Others may hold the socket, so that closing does not end it; fails only if it is not watched.
            let _ = registry.deregister(&mut SourceFd(&listener.socket.as_raw_fd()));
        }
    }
}
