//! Systems without XDP, process descriptors and rtnetlink: the BSDs, macOS, illumos.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::Socket;
use tokio::net::TcpSocket;

use crate::api::document::StatusDocument;
use crate::api::{ApiError, ErrorCode};
use crate::backend_setup::{Setup, SetupDocument};
use crate::cli::Global;
use crate::cli::error::CliError;
use crate::findings::DoctorDocument;
use crate::offline::Detached;

/// Whether there is XDP.
pub(crate) const HAS_XDP: bool = false;

/// No system says it in the same way.
pub(crate) fn pid_of(_stream: &UnixStream) -> Option<u32> {
    None
}

/// No process descriptors here: nobody waits for the end of another process.
pub(crate) fn process_of(_stream: &UnixStream) -> Option<OwnedFd> {
    None
}

/// It cannot be held back here.
pub(crate) fn no_acknowledgement(_socket: &TcpSocket) -> io::Result<()> {
    Ok(())
}

/// What a connected socket is told of is all there is.
pub(crate) fn hear_of_refusals(_socket: &Socket, _peer: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// Nothing outlives a controller here.
pub(crate) fn detach_pinned(_bpffs: &Path, _names: Option<&[String]>) -> Result<Detached, CliError> {
    Ok(Detached::default())
}

/// Doctor has nothing to look at.
pub(crate) fn examine(
    _global: &Global,
    _controller: Result<StatusDocument, String>,
    _service: Option<String>,
    _interfaces: Vec<String>,
) -> Result<DoctorDocument, CliError> {
    let message = "doctor looks at what XDP needs, which this system has not";
    Err(ApiError::new(ErrorCode::NotSupported, message, "run it on the balancer").into())
}

/// Addresses and settings are changed by rtnetlink and `/proc/sys` alone.
pub(crate) fn make_setup(_global: &Global, _setup: &Setup, _undo: bool) -> Result<SetupDocument, CliError> {
    let message = "backend-setup --apply and --undo are not supported on this system";
    Err(ApiError::new(ErrorCode::NotSupported, message, "leave them out, and type what it prints").into())
}

/// Where the VIPs are is not looked at.
pub(crate) fn check_setup(_setup: &Setup) -> Result<(), CliError> {
    Ok(())
}
