//! What the controller stands on here: XDP, built, adopted or discarded as the instance id and the administrator
//! say; rtnetlink.

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::instance::{Facts, Start, decide};
use super::{Order, patiently};
use crate::api::ApiError;
use crate::api::event::Kind;
use crate::cli::Global;
use crate::cli::error::CliError;
use crate::dataplane::DataPlane;
use crate::dataplane::xdp::{self, OpenError, OpenOptions, Policy, XdpPlane};
use crate::journal::{Journal, Note};
use crate::link;
use crate::machine::netlink::Asker;
use crate::machine::{Machine, MachineError};
use crate::metrics::timings::Timings;
use crate::state::desired::Desired;
use crate::state::store::Store;
use crate::surroundings::{Event, Links, Surroundings};

/// Opens the XDP data plane. `wanted` is what the state will say once the file is applied. Refused, nothing has changed but that the state may have an id of its own now.
pub(super) fn open(
    global: &Global,
    store: &mut Store,
    wanted: &Desired,
    order: Order,
    journal: &Journal,
) -> Result<Box<dyn DataPlane>, CliError> {
    let (bpffs, state_dir) = (global.bpffs(), global.state_dir());
    let in_use = |error: &OpenError| matches!(error, OpenError::InUse { .. });
    patiently(|| xdp::check_unused(&bpffs), in_use).map_err(CliError::failed)?;
    let facts = Facts {
        pinned: xdp::inspect(&bpffs).map_err(CliError::failed)?,
        attached: xdp::has_links(&bpffs).map_err(CliError::failed)?,
        own: store.instance(),
        wanted: !wanted.services.is_empty(),
        bpffs: &bpffs,
        state_dir: &state_dir,
    };
    let start = decide(&facts, order).map_err(CliError::failed)?;
    let (instance, policy) = match start {
        Start::Build | Start::Resume => (store.ensure_instance().map_err(ApiError::from)?, Policy::Adopt),
        Start::Discard => (store.ensure_instance().map_err(ApiError::from)?, Policy::Discard),
        Start::TakeOver(id) => (id, Policy::Adopt),
    };
    let options =
        OpenOptions { dir: bpffs.clone(), instance, tracking_clients: wanted.tracking_clients, policy };
    let plane = patiently(|| XdpPlane::open(&options), in_use).map_err(CliError::failed)?;
    if let Start::TakeOver(id) = start {
        store.set_instance(id).map_err(ApiError::from)?;
    }
    let place = bpffs.display();
    let note = |message| Note::new(Kind::Started, message);
    match start {
        Start::Build => journal.note(note(format!("built the XDP data plane in {place}"))),
        Start::Resume => journal.note(note(format!("adopted the XDP data plane in {place}"))),
        Start::TakeOver(_) => {
            journal.warn(note(format!("took over the XDP data plane of another instance in {place}")));
        }
        Start::Discard => {
            let message = format!("discarded what was pinned in {place} and built the XDP data plane anew");
            journal.warn(note(message));
        }
    }
    Ok(Box::new(plane))
}

/// Why XDP cannot be had by whoever runs this. What an administrator can mend, such as a missing bpffs, is for [`open`]
/// to tell.
pub(super) fn why_not_xdp() -> Option<String> {
    let missing = xdp::missing_privileges();
    (!missing.is_empty()).then(|| OpenError::NoPrivilege { missing }.to_string())
}

/// Whether XDP is attached by the pins of this state. What cannot be read was not made by us.
pub(super) fn is_attached(global: &Global, store: &Store) -> bool {
    let bpffs = global.bpffs();
    let ours = store
        .instance()
        .is_some_and(|own| matches!(xdp::inspect(&bpffs), Ok(xdp::Pinned::Instance { id }) if id == own));
    ours && xdp::has_links(&bpffs).unwrap_or(true)
}

/// The interfaces as they are now.
pub(super) fn links(runtime: &Runtime) -> Result<Links, CliError> {
    let links = runtime.block_on(async { link::dump(&Asker::open()?).await });
    links.map_err(|error| CliError::failed(MachineError::Interfaces(error)))
}

/// Starts to watch this machine; must be called inside the runtime.
pub(super) fn surroundings(
    events: mpsc::Sender<Event>,
    timings: Timings,
) -> Result<Box<dyn Surroundings>, CliError> {
    Ok(Box::new(Machine::start(events, timings).map_err(CliError::failed)?))
}
