//! Who is at the other end of a connection, and what they may do.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use crate::api::{ApiError, ErrorCode};

/// The process at the other end, as the kernel saw it connect (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user id; `None` where the kernel does not tell: then it may only look.
    pub uid: Option<u32>,
}

impl Peer {
    /// Refuses whoever is neither root nor the controller's own user.
    pub fn may_write(self) -> Result<(), ApiError> {
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

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Peer {
        Peer { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_our_own_user_may_write_and_nobody_else() {
        let own = rustix::process::geteuid().as_raw();
        assert!(Peer { uid: Some(0) }.may_write().is_ok());
        assert!(Peer { uid: Some(own) }.may_write().is_ok());
        for uid in [Some(own + 65_534), None] {
            assert_eq!(Peer { uid }.may_write().unwrap_err().code, ErrorCode::Denied);
        }
    }
}
