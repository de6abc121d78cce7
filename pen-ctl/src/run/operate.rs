//! Runs the controller, answers its clients and obeys signals until it has ended.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::supervisor;
use crate::api::Request;
use crate::api::event::Kind;
use crate::cli::error::CliError;
use crate::controller::{self, Controller, ControllerHandle};
use crate::journal::Note;
use crate::server::{self, tcp::Door};
use crate::surroundings::Event;

/// How long clients may take to receive their last answers when the controller ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Answers clients and obeys signals until the controller has ended.
pub(super) async fn operate(
    controller: Controller,
    events: mpsc::Receiver<Event>,
    listener: UnixListener,
    door: Door,
) -> Result<(), CliError> {
    let (handle, calls) = ControllerHandle::to(&controller);
    let (end, ended) = oneshot::channel::<()>();
    let server = tokio::spawn(server::serve(listener, door, handle.clone(), async { drop(ended.await) }));
    let signals = Signals::new().map_err(|error| CliError::failed(format!("listen for signals: {error}")))?;
    let supervised = tokio::spawn(supervisor::keep_informed(handle.clone()));
    let signals = tokio::spawn(signals.obey(handle));
    let controller = controller::serve(controller, calls, events).await;
    supervisor::say_stopping();
    say_what_goes_on(&controller);
    drop(controller);
    signals.abort();
    supervised.abort();
    drop(end);
    if tokio::time::timeout(FAREWELL, server).await.is_err() {
        tracing::debug!("a client took too long to receive its answer");
    }
    Ok(())
}

/// Who reads the log after the end, or follows the events, wants to know whether packets still flow.
fn say_what_goes_on(controller: &Controller) {
    if let Some(unconfirmed) = controller.unconfirmed() {
        controller.journal().warn(Note::new(Kind::Ending, unconfirmed));
    }
    let message = match controller.forwards() {
        true => "the controller ends; what is attached keeps forwarding, with health frozen as last seen",
        false => "the controller ends; nothing is attached, nothing is forwarded",
    };
    controller.journal().note(Note::new(Kind::Ending, message));
}

/// The signals that mean something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// SIGTERM and SIGINT end the controller, SIGHUP has it apply its file again.
    async fn obey(mut self, controller: ControllerHandle) {
        loop {
            let request = tokio::select! {
                _ = self.terminate.recv() => Request::Stop { detach: false },
                _ = self.interrupt.recv() => Request::Stop { detach: false },
                _ = self.hangup.recv() => Request::Reload,
            };
            if let Err(error) = controller.request(request).await {
                let message = format!("{error}; nothing was changed");
                controller.journal().note(Note::new(Kind::Trouble, message));
            }
        }
    }
}
