//! The one-liner: a proxy for one service that is all said at once, without a controller.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::choose::Policy;
use super::count::Totals;
use super::endpoint::Endpoint;
use super::pool::BackendConfig;
use super::service::{Service, Settings};
use super::{Protocol, Proxy, StartError};
use crate::dataplane::AccessList;
use crate::dataplane::kind::CONNECT_TIMEOUT;

/// What it does.
#[derive(Clone, Debug)]
pub struct Config {
    /// What clients speak.
    pub protocol: Protocol,
    /// Where clients come.
    pub listen: Vec<Endpoint>,
    /// Where they are brought; at least one.
    pub backends: Vec<BackendConfig>,
    /// What is asked of it otherwise.
    pub settings: Settings,
    /// Clients that are remembered at most.
    pub tracking_clients: usize,
    /// Threads; at least one.
    pub workers: usize,
}

impl Settings {
    /// This policy, and nothing but defaults.
    pub fn new(policy: Policy) -> Settings {
        Settings {
            policy,
            connect_timeout: CONNECT_TIMEOUT,
            out_for: Duration::from_secs(30),
            idle_timeout: Duration::ZERO,
            max_connections: None,
            stubborn: false,
            transparent: false,
            proxy_protocol: None,
            proxy_protocol_from: Vec::new(),
            close_on_down: false,
            access: AccessList::default(),
        }
    }
}

/// A proxy of one service that runs until it is told to end; dropping it ends it at once.
#[derive(Debug)]
pub struct Single {
    proxy: Arc<Proxy>,
    service: Arc<Service>,
    addresses: Vec<Endpoint>,
}

impl Single {
    /// Starts one.
    ///
    /// # Errors
    /// It cannot listen where it should, or lacks what a worker needs.
    pub fn start(config: Config) -> Result<Single, StartError> {
        if config.backends.is_empty() {
            return Err(StartError::NoBackend);
        }
        for BackendConfig { endpoint, .. } in &config.backends {
            let wrong = |error| StartError::Backend(endpoint.clone(), error);
            endpoint.to_socket_address().map_err(wrong)?;
            if config.protocol == Protocol::Udp && !endpoint.is_inet() {
                let why = "UDP has no Unix sockets here; use an address with a port";
                return Err(wrong(io::Error::new(io::ErrorKind::InvalidInput, why)));
            }
        }
        for BackendConfig { endpoint, .. } in &config.backends {
            if config.listen.iter().any(|own| is_the_same(own, endpoint)) {
                return Err(StartError::Itself(endpoint.clone()));
            }
        }
        let proxy = Arc::new(Proxy::start(config.workers)?);
        let (settings, clients) = (config.settings, config.tracking_clients);
        let service = proxy.service("proxy".into(), config.protocol, settings.clone(), clients);
        service.set(settings, &config.backends);
        let listen = config.listen.iter().map(|endpoint| proxy.bind(config.protocol, endpoint));
        let listeners = listen.collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().map(|listeners| listeners.endpoint.clone()).collect();
        listeners.into_iter().for_each(|listeners| proxy.open(&service, listeners));
        Ok(Single { proxy, service, addresses })
    }

    /// Where it listens, with the ports that the system gave.
    pub fn addresses(&self) -> &[Endpoint] {
        &self.addresses
    }

    /// What was counted so far.
    pub fn statistics(&self) -> Statistics {
        let state = self.service.state();
        let (accepted, turned_away) = self.service.accepted_and_turned_away();
        let backends = state.pool.places().map(|place| BackendStatistics {
            endpoint: place.member.endpoint().clone(),
            failing: place.member.trouble().is_some(),
            open: place.member.connections(),
            totals: Totals::of(place.member.counts()),
        });
        Statistics {
            accepted,
            turned_away,
            remembered: self.service.chooser().memory.len(),
            backends: backends.collect(),
        }
    }

    /// Accepts nobody new any more and ends with the last connection.
    pub fn drain(&self) {
        self.proxy.drain();
    }

    /// Ends at once; connections that are open are reset.
    pub fn stop(&self) {
        self.proxy.stop();
    }

    /// The workers, to be waited for by somebody else than who has this.
    pub fn workers(&self) -> Arc<Proxy> {
        self.proxy.clone()
    }
}

/// Whether a backend is where the proxy itself listens, as far as that can be seen: every client would come back to it.
fn is_the_same(own: &Endpoint, backend: &Endpoint) -> bool {
    match (own, backend) {
        (Endpoint::Inet(own), Endpoint::Inet(backend)) => {
            let (address, to) = (own.ip(), backend.ip());
            own.port() == backend.port() && (address == to || address.is_unspecified() && to.is_loopback())
        }
        (own, backend) => own == backend,
    }
}

/// What all workers counted, and how things stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Clients accepted.
    pub accepted: u64,
    /// Clients (UDP: their datagrams) that no backend would have.
    pub turned_away: u64,
    /// Clients remembered.
    pub remembered: usize,
    /// The backends, in the order they were given.
    pub backends: Vec<BackendStatistics>,
}

/// The same of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendStatistics {
    /// Where it is.
    #[serde(rename = "address")]
    pub endpoint: Endpoint,
    /// Whether its last connection failed, so that it is left out for a while.
    pub failing: bool,
    /// Connections now.
    pub open: u32,
    /// What was counted of it.
    #[serde(flatten)]
    pub totals: Totals,
}
