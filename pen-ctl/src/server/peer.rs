//! Who is at the other end of a connection, and what they may do.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use tokio::net::UnixStream;

use crate::api::{ApiError, ErrorCode};

/// The other end: a process of this machine, as the kernel saw it connect (`SO_PEERCRED`, unix(7)), or whoever
/// came over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user id; `None` where the kernel does not tell: then it may only look.
    pub uid: Option<u32>,
    /// Where it comes from, over TCP: then it may only look.
    pub address: Option<SocketAddr>,
}

impl Peer {
    /// Nobody in particular.
    pub const UNKNOWN: Peer = Peer { uid: None, address: None };

    /// Who sent a request with these extensions.
    pub(super) fn of(extensions: &Extensions) -> Peer {
        extensions.get::<ConnectInfo<Peer>>().map_or(Peer::UNKNOWN, |peer| peer.0)
    }

    /// Who connected to a Unix socket.
    pub fn local(stream: &UnixStream) -> Peer {
        Peer { uid: stream.peer_cred().ok().map(|peer| peer.uid()), address: None }
    }

    /// Who connected over TCP.
    pub fn remote(address: SocketAddr) -> Peer {
        Peer { uid: None, address: Some(address) }
    }

    /// Refuses whoever came over TCP.
    pub fn may_look_inside(self) -> Result<(), ApiError> {
        match self.address {
            Some(_) => Err(ApiError::new(
                ErrorCode::Denied,
                "this is not shown over TCP: clients' addresses, and the seed that decides where they go",
                "use pen-ctl, or the Unix socket, on the balancer itself",
            )),
            None => Ok(()),
        }
    }

    /// Refuses whoever is neither root nor the controller's own user.
    pub fn may_write(self) -> Result<(), ApiError> {
        if self.address.is_some() {
            return Err(ApiError::new(
                ErrorCode::Denied,
                "over TCP everybody may look, but not change anything",
                "use pen-ctl on the balancer itself",
            ));
        }
        let own = rustix::process::geteuid().as_raw();
        match self.uid {
            Some(uid) if uid == 0 || uid == own => Ok(()),
            Some(uid) => Err(denied(format!("user {uid} may look, but not change anything"))),
            None => Err(denied("the kernel does not say who asks".into())),
        }
    }
}

fn denied(message: String) -> ApiError {
    ApiError::new(ErrorCode::Denied, message, "become root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_our_own_user_may_write_and_nobody_else() {
        let own = rustix::process::geteuid().as_raw();
        let user = |uid| Peer { uid, ..Peer::UNKNOWN };
        assert!(user(Some(0)).may_write().is_ok());
        assert!(user(Some(own)).may_write().is_ok());
        let remote = Peer { uid: Some(0), ..Peer::remote(([127, 0, 0, 1], 1).into()) };
        for peer in [user(Some(own + 65_534)), Peer::UNKNOWN, remote] {
            assert_eq!(peer.may_write().unwrap_err().code, ErrorCode::Denied);
        }
        assert!(user(Some(own + 65_534)).may_look_inside().is_ok());
        assert_eq!(remote.may_look_inside().unwrap_err().code, ErrorCode::Denied);
    }
}
