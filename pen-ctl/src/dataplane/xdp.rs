//! The data plane that moves packets in XDP: pinned programs, maps and links that outlive the controller.
//!
//! [`XdpPlane::open`] builds or adopts; from then on what the kernel holds is the truth about packets, and what
//! this value remembers is the truth about what was asked for. Dropping it leaves forwarding on.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use aya::Ebpf;
use pen_common::abi::Address;

use super::clients::Clients;
use super::{
    BackendAddress, Counters, DataPlane, DataPlaneError, Inserted, InterfaceTarget, Kind, Observed,
    Operation, RefusedClients, ServiceKey, ServiceSettings, Suppression, Traffic,
};
use crate::held_lock::HeldLock;
use access::Lists;
use backends::Held;
use churn::Churn;
use directory::Services;
use grace::Grace;
use guard::LoopGuard;
use limits::Buckets;
use maps::Maps;
use pins::Pins;
use services::Table;
use unusable::Unusable;

mod access;
mod admission;
mod backends;
mod border;
mod checksum;
mod churn;
mod clients;
mod counters;
mod directory;
mod egress;
mod error;
mod features;
mod flood;
mod foreign;
mod generic_netlink;
mod grace;
mod guard;
mod interfaces;
mod limits;
mod links;
mod locks;
mod made;
mod mapped;
mod maps;
mod observe;
mod offload;
mod open;
mod pins;
mod privilege;
mod refused;
mod restore;
mod rings;
mod services;
mod statistics;
mod sys;
mod unusable;
mod verifier;
mod windows;

pub use error::OpenError;
pub(crate) use error::chain as error_chain;
pub use foreign::{ForeignProgram, foreign_programs};
pub use interfaces::has_links;
pub use open::{OpenOptions, Policy};
pub use pins::{DetachedPins, Pinned, check_bpffs, check_unused, detach_pinned, discard, inspect};
pub use privilege::{lacks, may_administer_networks, missing as missing_privileges};
pub(crate) use verifier::{load_patiently, number_of};

/// Name of the XDP program in the object.
const PROGRAM: &str = "pen_xdp";

/// The XDP data plane, open. Single writer of its pins.
pub struct XdpPlane {
    pins: Pins,
    /// The id that the pins share with the state.
    instance: [u8; 16],
    /// Keeps other controllers away, even those with a copy of our state.
    _lock: HeldLock,
    /// Holds the loaded program, for interfaces yet to be attached.
    ebpf: Ebpf,
    program_id: u32,
    maps: Maps,
    /// What the directory should hold, with the table halves in use.
    services: Services,
    /// The settings as they were asked for.
    settings: BTreeMap<ServiceKey, ServiceSettings>,
    /// What was asked for of the interfaces that were attached.
    interfaces: BTreeMap<String, InterfaceTarget>,
    /// VLAN tags that interfaces (by index) took off frames before we came, as the directory records them.
    stripped: BTreeMap<u32, u64>,
    /// Slot tables by service id.
    tables: BTreeMap<u16, Table>,
    /// Who has a backend index, by service id and address.
    held: BTreeMap<(u16, Address), Held>,
    /// Since when who has one has not been usable.
    unusable: Unusable,
    /// The access lists that packets find.
    lists: Lists,
    /// What counts for the limits that packets find.
    buckets: Buckets,
    guard: LoopGuard,
    /// The kernel's HZ.
    ticks: u64,
    clock: Arc<sys::Jiffies>,
    churn: Arc<Churn>,
    /// What was flipped away or retired, until no packet uses it any more.
    grace: Grace,
    /// Hands what the program logged to the log.
    log: Option<Box<dyn FnMut() + Send>>,
}

impl DataPlane for XdpPlane {
    fn name(&self) -> &'static str {
        self.kind().name()
    }

    fn kind(&self) -> Kind {
        Kind::Xdp
    }

    fn observe(&mut self) -> Result<Observed, DataPlaneError> {
        self.restore_pins().map_err(|error| failure("put the pins back", error))?;
        self.pass_windows().map_err(|error| failure("move on the slots that change owner", error))?;
        self.collect().map_err(|error| failure("give back backend indexes", error))?;
        // Whoever looks has done what was to be done for now.
        self.grace.begin();
        self.look()
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), DataPlaneError> {
        match operation {
            Operation::SetSeed(seed) => self.set_seed(*seed),
            Operation::SetFlood(limit) => self.set_flood(*limit),
            Operation::Attach { name, target } => self.attach(name, target),
            Operation::Detach { name } => self.detach(name),
            Operation::SetService { key, settings } => self.set_service(key, settings),
            Operation::RemoveService { key } => self.remove_service(key),
            Operation::SetBackend { key, address, target } => {
                self.set_backend(key, border::backend(*address)?, target)
            }
            Operation::RemoveBackend { key, address } => self.remove_backend(key, border::backend(*address)?),
            Operation::SetTable { key, members } => self.set_table(key, members),
        }
    }

    fn counters(&mut self) -> Result<Counters, DataPlaneError> {
        self.read_counters()
    }

    fn inserted(&mut self) -> Result<Inserted, DataPlaneError> {
        self.churn.inserted().map_err(|error| failure("read the counters", error))
    }

    fn traffic(
        &mut self,
        key: ServiceKey,
        address: BackendAddress,
    ) -> Result<Option<Traffic>, DataPlaneError> {
        self.read_traffic(&key, address)
    }

    fn refused(&mut self) -> Result<BTreeMap<ServiceKey, RefusedClients>, DataPlaneError> {
        self.read_refused()
    }

    fn suppression(&mut self) -> Result<Option<Suppression>, DataPlaneError> {
        let what = "read how many newcomers were not remembered";
        self.read_suppression().map(Some).map_err(|error| failure(what, error))
    }

    fn tx_errors(&mut self) -> BTreeMap<String, u64> {
        self.read_tx_errors()
    }

    fn clients(&mut self) -> Result<Box<dyn Clients>, DataPlaneError> {
        Ok(Box::new(self.open_clients()?))
    }

    fn drain_log(&mut self) {
        if let Some(flush) = &mut self.log {
            flush();
        }
    }
}

/// What failed and why, with the advice for what the kernel refuses.
fn failure(what: impl Into<String>, why: impl Display) -> DataPlaneError {
    let why = why.to_string();
    let hint = error::advice(&why).to_owned();
    DataPlaneError { what: what.into(), why, hint }
}

/// What failed, why, and what to do about it.
fn failure_with_hint(what: impl Into<String>, why: impl Display, hint: impl Into<String>) -> DataPlaneError {
    DataPlaneError { what: what.into(), why: why.to_string(), hint: hint.into() }
}

/// Bytes as people read an instance's id.
fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
