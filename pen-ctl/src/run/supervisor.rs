//! Tells systemd, where it asked to be told (sd_notify(3)), that the controller is ready, alive, ending.

use sd_notify::NotifyState;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::Request;
use crate::controller::ControllerHandle;
use crate::dataplane::proxy::handover::Takeover;

/// Says when the controller is ready, then, as often as the watchdog wants, that it is alive.
///
/// Whoever was there before is told first: only then does it stop, and clients are let in here.
pub(super) async fn keep_informed(controller: ControllerHandle, predecessor: Option<Takeover>) {
    if !answers(&controller).await {
        return;
    }
    tracing::info!("ready");
    if let Some(predecessor) = predecessor {
        match spawn_blocking(|| predecessor.ready()).await {
            Ok(Err(error)) => tracing::info!("whoever was taken over from has gone already: {error}"),
            Err(error) => tracing::warn!("take over: {error}"),
            Ok(Ok(())) => {}
        }
    }
    notify(NotifyState::Ready);
    let Some(bound) = sd_notify::watchdog_enabled() else { return };
    // Half the time allowed: what sd_watchdog_enabled(3) recommends.
    let mut beat = interval((bound / 2).max(std::time::Duration::from_millis(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if answers(&controller).await {
            notify(NotifyState::Watchdog);
        }
    }
}

/// Says, as often as the watchdog wants, that this process is alive, until something is done that has no end of its own.
pub(super) async fn alive_until<T>(done: impl Future<Output = T>) -> T {
    tokio::pin!(done);
    let Some(bound) = sd_notify::watchdog_enabled() else { return done.await };
    let mut beat = interval((bound / 2).max(std::time::Duration::from_millis(1)));
    loop {
        tokio::select! {
            done = &mut done => return done,
            _ = beat.tick() => notify(NotifyState::Watchdog),
        }
    }
}

/// Says that another process is the one to watch over: whoever has taken over.
pub(super) fn say_successor(pid: Option<u32>) {
    if let Some(pid) = pid {
        notify(NotifyState::MainPid(pid));
    }
}

/// Says that the controller is about to end.
pub(super) fn say_stopping() {
    notify(NotifyState::Stopping);
}

/// Asks something small, as any client would: the answer proves that the loop runs, and the first one comes only
/// once what was adopted or stored is carried out, so that packets would flow.
async fn answers(controller: &ControllerHandle) -> bool {
    controller.request(Request::InterfaceList).await.is_ok()
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}
