//! `--apply` and `--undo` on this machine (or the network namespace of it that we are in).

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;

mod kernel;
mod plan;
mod record;

use super::{LOOPBACK, Setup, SetupDocument};
use crate::api::{ApiError, ErrorCode};
use crate::state::store;
use kernel::Kernel;
use plan::{Change, Step};
use record::Place;

/// Makes this machine own the VIPs. What is so already is left alone; what is changed is recorded in `state_dir`
/// before it is done.
///
/// # Errors
/// Nothing was changed, unless the message names what was tried: then what comes before it was done.
pub async fn apply(setup: &Setup, state_dir: &Path) -> Result<SetupDocument, ApiError> {
    let kernel = open().await?;
    check_interface(&kernel, setup)?;
    let steps = plan::apply(setup, &look(&kernel).await?)?;
    let changes: Vec<&Change> = steps.iter().filter_map(|step| step.change.as_ref()).collect();
    if !changes.is_empty() {
        may_change()?;
        let _lock = prepare(state_dir)?;
        let place = Place::new(state_dir);
        let mut record = place.read()?.unwrap_or_default();
        changes.iter().for_each(|change| record.note(change));
        place.write(&record)?;
        for change in changes {
            make(&kernel, change).await?;
        }
    }
    Ok(document(steps))
}

/// Takes back what [`apply`] did: for these VIPs, or for all of them where none is given.
///
/// # Errors
/// As for [`apply`].
pub async fn undo(vips: &[IpAddr], interface: &str, state_dir: &Path) -> Result<SetupDocument, ApiError> {
    let kernel = open().await?;
    may_change()?;
    // Nothing is recorded where there is no directory, and looking makes none.
    let _lock = if state_dir.exists() { Some(prepare(state_dir)?) } else { None };
    let place = Place::new(state_dir);
    let recorded = place.read()?;
    let known = recorded.is_some();
    let mut record = recorded.unwrap_or_default();
    let steps = plan::undo(vips, interface, &record, known, &look(&kernel).await?);
    for step in &steps {
        if let Some(change) = &step.change {
            make(&kernel, change).await?;
        }
    }
    if known {
        steps.iter().filter_map(|step| step.settled.as_ref()).for_each(|settled| record.forget(settled));
        place.write(&record)?;
    }
    Ok(document(steps))
}

/// Refuses VIPs that are on another interface of this machine; says nothing where that cannot be found out.
pub async fn check(setup: &Setup) -> Result<(), ApiError> {
    match Kernel::open().await {
        Ok(kernel) => plan::check_places(setup, &look(&kernel).await?),
        Err(_) => Ok(()),
    }
}

async fn open() -> Result<Kernel, ApiError> {
    Kernel::open().await.map_err(|error| failed("look at the interfaces", &error))
}

async fn look(kernel: &Kernel) -> Result<plan::Machine, ApiError> {
    kernel.look().await.map_err(|error| failed("look at addresses and settings", &error))
}

fn check_interface(kernel: &Kernel, setup: &Setup) -> Result<(), ApiError> {
    let name = &setup.interface;
    let refuse = |what: String, hint: String| Err(ApiError::new(ErrorCode::Refused, what, hint));
    match kernel.interfaces.get(name) {
        None => {
            let hint = format!("use {LOOPBACK}, or make one: ip link add {name} type dummy");
            return refuse(format!("there is no interface {name}"), hint);
        }
        Some(interface) if !interface.silent => {
            let what = format!("interface {name} answers ARP and neighbor solicitations for its addresses");
            return refuse(what, format!("use {LOOPBACK} or a dummy interface"));
        }
        Some(interface) if !interface.up => {
            return refuse(
                format!("interface {name} is down: its addresses are nobody's"),
                format!("ip link set {name} up"),
            );
        }
        Some(_) => {}
    }
    if setup.vips.iter().any(IpAddr::is_ipv6) && kernel::ipv6_is_off(name) {
        return refuse(
            format!("IPv6 is turned off on {name}"),
            format!("turn it on: sysctl -w net.ipv6.conf.{name}.disable_ipv6=0"),
        );
    }
    Ok(())
}

/// Names the privilege before anything is half done for lack of it.
fn may_change() -> Result<(), ApiError> {
    match crate::dataplane::xdp::may_administer_networks() {
        true => Ok(()),
        false => Err(ApiError::new(
            ErrorCode::Denied,
            "changing addresses and settings takes CAP_NET_ADMIN, which this process has not",
            "become root",
        )),
    }
}

/// Makes the record's directory and keeps other backend-setups away from it for as long as the lock lives.
fn prepare(state_dir: &Path) -> Result<File, ApiError> {
    store::prepare(state_dir)?;
    let lock = || {
        let directory = File::open(state_dir)?;
        directory.lock()?;
        Ok(directory)
    };
    lock().map_err(|error: io::Error| failed(&format!("lock {}", state_dir.display()), &error))
}

async fn make(kernel: &Kernel, change: &Change) -> Result<(), ApiError> {
    let what = match change {
        Change::Set(setting) => format!("set {setting} to {}", setting.after),
        Change::Restore(setting) => format!("set {setting} back to {}", setting.before),
        Change::Add { address, interface } => format!("add {address} to {interface}"),
        Change::Remove { address, interface } => format!("remove {address} from {interface}"),
    };
    kernel.make(change).await.map_err(|error| failed(&what, &error))
}

fn failed(what: &str, error: &io::Error) -> ApiError {
    let (code, hint) = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => (ErrorCode::Denied, "become root (it takes CAP_NET_ADMIN)"),
        Some(libc::EROFS) => (
            ErrorCode::Refused,
            "the settings are read-only here, as in many containers: do it on the host, in this network namespace",
        ),
        _ => (ErrorCode::Refused, ""),
    };
    ApiError::new(code, format!("{what}: {error}"), hint)
}

fn document(steps: Vec<Step>) -> SetupDocument {
    let changed = steps.iter().any(|step| step.change.is_some());
    SetupDocument { changed, steps: steps.into_iter().map(|step| step.document).collect() }
}
