//! Tells systemd, where it asked to be told (sd_notify(3)), that the controller is ready, alive, ending.

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::Request;
use crate::controller::ControllerHandle;

/// Says when the controller is ready, then, as often as the watchdog wants, that it is alive.
pub(super) async fn keep_informed(controller: ControllerHandle) {
    if !answers(&controller).await {
        return;
    }
    tracing::info!("ready");
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
