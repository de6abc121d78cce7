//! Hears from the kernel that somebody changed filters, which may have come before ours.

use std::future::pending;
use std::io;
use std::time::Duration;

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::time::{Instant, timeout_at};

use super::programs::Hook;

/// The bit of RTNLGRP_TC, linux/rtnetlink.h.
const TC: u32 = 1 << 3;
/// Changes that follow each other so closely are one.
const TOGETHER: Duration = Duration::from_millis(50);

/// A socket on which the kernel tells; links tell nothing, nor do kernels that will not.
pub(super) struct News(Option<TokioSocket>);

impl News {
    /// From now on.
    pub(super) fn of(hook: Hook) -> Self {
        match hook {
            Hook::Tcx => Self(None),
            Hook::Clsact => Self(listen().ok()),
        }
    }

    /// Returns when filters of any interface changed. Nothing is lost that matters to whoever looks whenever this is given
    /// up.
    pub(super) async fn wait(&self) {
        let Some(socket) = &self.0 else { return pending().await };
        // More than there was room for is news, too.
        let _ = socket.recv_from_full().await;
        let end = Instant::now() + TOGETHER;
        while matches!(timeout_at(end, socket.recv_from_full()).await, Ok(Ok(_))) {}
        tokio::time::sleep_until(end).await;
    }
}

fn listen() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, TC))?;
    Ok(socket)
}
