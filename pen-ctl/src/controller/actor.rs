//! The loop around the controller: one task owns it, everybody else holds a handle.

mod waiting;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::Controller;
use crate::api::{Answered, ApiError, Asked, ErrorCode, Reply, Request};
use crate::dataplane::DataPlaneError;
use crate::journal::Journal;
use crate::metrics::timings::Timings;
use crate::surroundings::Event;
use waiting::Waiting;

/// How often the data plane is looked up afresh.
const RESYNC: Duration = Duration::from_secs(5);
/// How often it is asked whether a flood is on.
const FLOOD: Duration = Duration::from_secs(1);
/// How long an interface that was made a moment ago may take to be heard of.
const NEW_INTERFACE: Duration = Duration::from_millis(500);

/// A request with the place where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// What is asked, by whom and on what condition.
    pub asked: Asked,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Answered, ApiError>>,
}

/// Talks to a running controller; cheap to clone.
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    calls: mpsc::Sender<Call>,
    journal: Journal,
    timings: Timings,
}

impl ControllerHandle {
    /// A handle with a journal and timings of its own, and where its calls arrive.
    pub fn new() -> (Self, mpsc::Receiver<Call>) {
        Self::with(Journal::new(), Timings::default())
    }

    /// A handle with the journal and the timings of the controller it is for, and where its calls arrive.
    pub fn to(controller: &Controller) -> (Self, mpsc::Receiver<Call>) {
        Self::with(controller.journal().clone(), controller.timings().clone())
    }

    fn with(journal: Journal, timings: Timings) -> (Self, mpsc::Receiver<Call>) {
        let (calls, arrivals) = mpsc::channel(64);
        (Self { calls, journal, timings }, arrivals)
    }

    /// Where the controller notes what happens; reading it asks nothing of the controller.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What the controller measures of itself; reading it asks nothing of the controller.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Asks, and waits for the answer. Calls are answered one after the other, in the order they came; only those that
    /// want to know how full the tracking tables are may be overtaken.
    pub async fn ask(&self, asked: Asked) -> Result<Answered, ApiError> {
        let gone = || ApiError::new(ErrorCode::NoController, "the controller is ending", "try again");
        let (answer, reply) = oneshot::channel();
        self.calls.send(Call { asked, answer }).await.map_err(|_| gone())?;
        reply.await.map_err(|_| gone())?
    }

    /// The same for what nobody in particular asks.
    pub async fn request(&self, request: Request) -> Result<Reply, ApiError> {
        Ok(self.ask(request.into()).await?.reply)
    }
}

/// Runs a controller until it is asked to end or every handle is gone; gives it back. Requests wait until the
/// interfaces are known. Must run inside the runtime that its surroundings were started in.
pub async fn serve(
    mut controller: Controller,
    mut calls: mpsc::Receiver<Call>,
    mut events: mpsc::Receiver<Event>,
) -> Controller {
    let (mut census, mut windows, mut waiting) = (None, None, Waiting::default());
    let mut resync = interval(RESYNC);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flood = interval(FLOOD);
    flood.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !controller.ended() {
        if let Some(due) = controller.census_due() {
            census = Some(spawn_blocking(|| due.take()));
        }
        if let Some(due) = controller.windows_due() {
            windows = Some(spawn_blocking(|| due.take()));
        }
        let wake = controller.wake_in();
        tokio::select! {
            Some(event) = events.recv() => {
                hear(&mut controller, &mut events, event);
            }
            call = calls.recv(), if controller.started() => {
                let Some(call) = call else { break };
                hear_of_interfaces(&mut controller, &mut events, &call.asked.request).await;
                if let Some(call) = waiting.keep(&mut controller, call) {
                    answer(&mut controller, call);
                }
            }
            count = waiting.over() => {
                count.into_iter().for_each(|count| controller.tables_counted(count));
                waiting.release().into_iter().for_each(|call| answer(&mut controller, call));
            }
            counted = finished(&mut census, "count the clients that are left"), if census.is_some() => {
                census = None;
                controller.counted(counted);
                controller.reconcile();
            }
            ended = finished(&mut windows, "end the changes of owner of slots"), if windows.is_some() => {
                windows = None;
                controller.windows_ended(ended);
            }
            _ = resync.tick() => controller.tick(),
            _ = flood.tick() => controller.look_for_flood(),
            () = sleep(wake.unwrap_or(RESYNC)), if wake.is_some() => controller.reconcile(),
        }
    }
    waiting.release().into_iter().for_each(|call| answer(&mut controller, call));
    controller
}

fn answer(controller: &mut Controller, Call { asked, answer }: Call) {
    // Whoever asked may have gone meanwhile; what was asked is done all the same.
    let _ = answer.send(controller.ask(asked));
}

/// Waits for work that was handed out; for ever if none was.
async fn finished<T>(
    work: &mut Option<JoinHandle<Result<T, DataPlaneError>>>,
    what: &str,
) -> Result<T, DataPlaneError> {
    let Some(work) = work else { return std::future::pending().await };
    work.await.unwrap_or_else(|error| {
        Err(DataPlaneError { what: what.to_owned(), why: error.to_string(), hint: String::new() })
    })
}

/// Takes in an event and all that wait behind it, then acts once.
fn hear(controller: &mut Controller, events: &mut mpsc::Receiver<Event>, first: Event) {
    controller.event(first);
    while let Ok(event) = events.try_recv() {
        controller.event(event);
    }
    controller.reconcile();
}

/// News of an interface that was made just before the command may still be on its way.
async fn hear_of_interfaces(
    controller: &mut Controller,
    events: &mut mpsc::Receiver<Event>,
    request: &Request,
) {
    let Request::Attach(interfaces) = request else { return };
    let deadline = Instant::now() + NEW_INTERFACE;
    while !interfaces.iter().all(|interface| controller.knows_interface(&interface.name)) {
        match timeout_at(deadline, events.recv()).await {
            Ok(Some(event)) => hear(controller, events, event),
            _ => return,
        }
    }
}
