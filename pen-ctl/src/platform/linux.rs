//! Linux.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::TcpSocket;

use crate::api::document::StatusDocument;
use crate::backend_setup::{Setup, SetupDocument, perform};
use crate::cli::error::CliError;
use crate::cli::{Global, wait_for};
use crate::dataplane::xdp;
use crate::doctor::{self, DoctorDocument, Patient};
use crate::machine;
use crate::offline::Detached;

mod refusals;

pub(crate) use refusals::hear_of_refusals;

/// Whether there is XDP.
pub(crate) const HAS_XDP: bool = true;

/// The process at the other end: SO_PEERCRED of unix(7).
pub(crate) fn pid_of(stream: &UnixStream) -> Option<u32> {
    peer(stream).map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// The process at the other end, as a descriptor that becomes readable when it ends: pidfd_open(2).
pub(crate) fn process_of(stream: &UnixStream) -> Option<OwnedFd> {
    pidfd_open(peer(stream)?, PidfdFlags::empty()).ok()
}

fn peer(stream: &UnixStream) -> Option<Pid> {
    socket_peercred(stream).ok().map(|peer| peer.pid)
}

/// Holds back what acknowledges the peer's SYN (TCP_QUICKACK off, tcp(7)): a reset can take its place.
pub(crate) fn no_acknowledgement(socket: &TcpSocket) -> io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_quickack(false)
}

/// Detaches from interfaces (all of them with `None`) by the pins, and removes what else a controller that was killed left
/// on the machine.
pub(crate) fn detach_pinned(bpffs: &Path, names: Option<&[String]>) -> Result<Detached, CliError> {
    let detached = xdp::detach_pinned(bpffs, names).map_err(CliError::failed)?;
    let mut warnings = detached.troubles;
    let removed = wait_for(async { Ok::<_, CliError>(machine::remove_leftovers()) })?;
    warnings.extend(removed.err().map(|error| {
        format!("remove what health checks left (docs/operations.md, What is on the machine): {error}")
    }));
    Ok(Detached { names: detached.names, warnings })
}

/// Runs all checks of doctor.
pub(crate) fn examine(
    global: &Global,
    controller: Result<StatusDocument, String>,
    service: Option<String>,
    interfaces: Vec<String>,
) -> Result<DoctorDocument, CliError> {
    let admit = Patient::admit((global.bpffs(), global.state_dir()), controller, service, interfaces);
    let patient = wait_for(async {
        admit.await.map_err(|error| CliError::failed(format!("look at the interfaces: {error}")))
    })?;
    Ok(doctor::examine(&patient))
}

/// Makes this machine own the VIPs, or undoes that.
pub(crate) fn make_setup(global: &Global, setup: &Setup, undo: bool) -> Result<SetupDocument, CliError> {
    let state_dir = global.state_dir();
    wait_for(async {
        match undo {
            true => perform::undo(&setup.vips, &setup.interface, &state_dir).await,
            false => perform::apply(setup, &state_dir).await,
        }
    })
}

/// Refuses VIPs that are elsewhere on this machine.
pub(crate) fn check_setup(setup: &Setup) -> Result<(), CliError> {
    wait_for(perform::check(setup))
}
