//! A task that ends with its owner.

use tokio::task::JoinHandle;

/// A task that ends when this is dropped.
pub(crate) struct Background(JoinHandle<()>);

impl Background {
    /// Starts it; must be called inside a tokio runtime.
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// It ended by itself.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}
