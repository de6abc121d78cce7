//! The address where everybody may look over TCP: kept where the flag, or else the desired state, wants it.

use std::net::SocketAddr;

use super::Controller;
use crate::api::ApiError;
use crate::server::tcp::TcpError;
use crate::state::desired::Desired;

/// Where the door is to be: the flag of this run beats what was stored.
pub fn wanted_address(flag: Option<SocketAddr>, desired: &Desired) -> Option<SocketAddr> {
    flag.or(desired.http)
}

impl Controller {
    /// Opens, moves or closes the door before a desired state is taken on, so that an address that cannot be had
    /// refuses the change; if that comes to nothing, [`Controller::keep_door`] brings it back.
    pub(super) fn open_door(&self, desired: &Desired) -> Result<(), ApiError> {
        let wanted = wanted_address(self.options.http, desired);
        Ok(self.options.door.open(wanted)?)
    }

    /// Keeps the door where it is wanted.
    pub(super) fn keep_door(&self) -> Result<(), TcpError> {
        self.options.door.open(wanted_address(self.options.http, self.store.desired()))
    }

    /// What to say of an address that a flag keeps from being used.
    pub(super) fn http_warning(&self) -> Option<String> {
        match (self.options.http, self.store.desired().http) {
            (Some(flag), Some(stored)) if flag != stored => Some(format!(
                "http = \"{stored}\" is not in force: this controller was started with --http {flag}"
            )),
            _ => None,
        }
    }
}
