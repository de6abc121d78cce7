//! Runs the controller, answers its clients and obeys signals until it has ended.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::keeper::{self, Keeper};
use super::supervisor;
use crate::api::Request;
use crate::api::event::Kind;
use crate::cli::error::CliError;
use crate::controller::{self, Call, Controller, ControllerHandle};
use crate::dataplane::proxy::handover::{Successor, Takeover};
use crate::dataplane::{self, DataPlane};
use crate::journal::Note;
use crate::server::socket::BoundSocket;
use crate::server::{self, tcp::Door};
use crate::surroundings::Event;

/// How long clients may take to receive their last answers when the controller ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where clients of the API come.
pub(super) struct Api {
    /// Removes the path when it is dropped.
    pub(super) socket: BoundSocket,
    /// Those of this machine.
    pub(super) listener: UnixListener,
    /// Those over TCP.
    pub(super) door: Door,
}

/// What is left of a controller that has ended.
pub(super) struct Left {
    /// What moves packets, as it stands, where that goes on in this process.
    pub(super) plane: Option<Box<dyn DataPlane>>,
    /// Who wants to take over.
    pub(super) successor: Option<Successor>,
    /// Signals that have come since.
    pub(super) signals: Signals,
}

/// Answers clients and obeys signals until the controller has ended.
pub(super) async fn operate(
    controller: Controller,
    events: mpsc::Receiver<Event>,
    api: Api,
    keeper: Option<&Keeper>,
    predecessor: Option<Takeover>,
) -> Result<Left, CliError> {
    let Api { socket, listener, door } = api;
    let (handle, calls) = ControllerHandle::to(&controller);
    let (end, ended) = oneshot::channel::<()>();
    let server = tokio::spawn(server::serve(listener, door, handle.clone(), async { drop(ended.await) }));
    let obeyed = Signals::new()?;
    let supervised = tokio::spawn(supervisor::keep_informed(handle.clone(), predecessor));
    let obeying = tokio::spawn(obeyed.obey(handle.clone(), keeper.is_some()));
    let (controller, successor) = until_its_end(controller, (calls, events), keeper, handle).await;
    // Told to end once more, from now on, is another thing.
    let signals = Signals::new()?;
    obeying.abort();
    say_what_goes_on(&controller, successor.is_some());
    if successor.is_none() {
        supervisor::say_stopping();
    }
    // A successor needs the state, the API's places and, under XDP, the pins.
    let plane = controller.into_plane();
    let plane = keeper.map(|_| plane);
    drop(socket);
    supervised.abort();
    drop(end);
    if tokio::time::timeout(FAREWELL, server).await.is_err() {
        tracing::debug!("a client took too long to receive its answer");
    }
    Ok(Left { plane, successor, signals })
}

/// Runs the controller until it is asked to end, or somebody wants to take over.
async fn until_its_end(
    controller: Controller,
    (calls, events): (mpsc::Receiver<Call>, mpsc::Receiver<Event>),
    keeper: Option<&Keeper>,
    handle: ControllerHandle,
) -> (Controller, Option<Successor>) {
    let serving = controller::serve(controller, calls, events);
    tokio::pin!(serving);
    let Some(keeper) = keeper else { return (serving.await, None) };
    tokio::select! {
        controller = &mut serving => (controller, None),
        successor = keeper.successor() => {
            let stop = handle.request(Request::Stop { detach: false });
            let (controller, _) = tokio::join!(serving, stop);
            (controller, Some(successor))
        }
    }
}

/// Who reads the log after the end, or follows the events, wants to know whether packets still flow.
fn say_what_goes_on(controller: &Controller, successor: bool) {
    if let Some(unconfirmed) = controller.unconfirmed() {
        controller.journal().warn(Note::new(Kind::Ending, unconfirmed));
    }
    let message = match controller.forwards() {
        _ if successor => "the controller ends; its successor takes over",
        _ if controller.kind() == dataplane::Kind::Proxy => {
            "the controller ends, and the proxy with its last connection; nobody new is accepted"
        }
        true => "the controller ends; what is attached keeps forwarding, with health frozen as last seen",
        false => "the controller ends; nothing is attached, nothing is forwarded",
    };
    controller.journal().note(Note::new(Kind::Ending, message));
}

/// The signals that mean something.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    successor: Signal,
    statistics: Signal,
}

impl Signals {
    /// From now on they end this process no more by themselves.
    ///
    /// # Errors
    /// The system does not let us hear of them.
    pub(super) fn new() -> Result<Signals, CliError> {
        let heard =
            |kind| signal(kind).map_err(|error| CliError::failed(format!("listen for signals: {error}")));
        Ok(Signals {
            terminate: heard(SignalKind::terminate())?,
            interrupt: heard(SignalKind::interrupt())?,
            hangup: heard(SignalKind::hangup())?,
            successor: heard(SignalKind::user_defined2())?,
            statistics: heard(SignalKind::user_defined1())?,
        })
    }

    /// Waits for one that says to end.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Whether one has come that says to end.
    pub(super) fn told_to_end(&mut self) -> bool {
        self.end().now_or_never().is_some()
    }

    /// SIGTERM and SIGINT end the controller, SIGHUP has it apply its file again, SIGUSR2 has it start a successor,
    /// where there is something to hand over. SIGUSR1, which has the one-liner print statistics, must not end it.
    async fn obey(mut self, controller: ControllerHandle, hands_over: bool) {
        // As it is called now: a new version may take its place.
        let program = std::env::current_exe();
        loop {
            let request = tokio::select! {
                _ = self.terminate.recv() => Request::Stop { detach: false },
                _ = self.interrupt.recv() => Request::Stop { detach: false },
                _ = self.hangup.recv() => Request::Reload,
                _ = self.statistics.recv() => {
                    tracing::info!("SIGUSR1: a controller's statistics are in `pen-ctl status`");
                    continue;
                }
                _ = self.successor.recv() => {
                    match hands_over {
                        true => keeper::start_successor(&program),
                        false => tracing::info!("{}", keeper::not_for_xdp()),
                    }
                    continue;
                }
            };
            if let Err(error) = controller.request(request).await {
                let message = format!("{error}; nothing was changed");
                controller.journal().note(Note::new(Kind::Trouble, message));
            }
        }
    }
}
