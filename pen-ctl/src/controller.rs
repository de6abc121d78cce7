//! The single writer of the desired state, and the handle through which others talk to it.

use tokio::sync::{mpsc, oneshot};

use crate::api::{ApiError, ErrorCode, Reply, Request};

/// A request with the place where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Reply, ApiError>>,
}

/// Talks to a running controller; cheap to clone.
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    calls: mpsc::Sender<Call>,
}

impl ControllerHandle {
    /// A handle, and where its calls arrive.
    pub fn new() -> (Self, mpsc::Receiver<Call>) {
        let (calls, arrivals) = mpsc::channel(64);
        (Self { calls }, arrivals)
    }

    /// Asks, and waits for the answer. Calls are answered one after the other, in the order they came.
    pub async fn request(&self, request: Request) -> Result<Reply, ApiError> {
        let gone = || ApiError::new(ErrorCode::NoController, "the controller is ending", "try again");
        let (answer, reply) = oneshot::channel();
        self.calls.send(Call { request, answer }).await.map_err(|_| gone())?;
        reply.await.map_err(|_| gone())?
    }
}
