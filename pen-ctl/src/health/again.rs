//! Asking once more within a check, so that one lost packet is no failure.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

/// What comes of asking; where nothing came in half of `limit`, of that or of asking once more beside it, whichever ends
/// first. (A kernel repeats a SYN only after a second, RFC 6298, and an echo request never.)
pub(super) async fn once_more<T, Asked: Future<Output = T>>(limit: Duration, ask: impl Fn() -> Asked) -> T {
    let mut first = pin!(ask());
    if let Ok(came) = timeout(limit / 2, &mut first).await {
        return came;
    }
    tokio::select! {
        came = &mut first => came,
        came = ask() => came,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use tokio::sync::Notify;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn what_is_lost_is_asked_once_more() {
        let asked = Cell::new(0);
        let came = once_more(SOON, async || {
            asked.set(asked.get() + 1);
            if asked.get() == 1 { pending().await } else { "heard" }
        });
        assert_eq!((came.await, asked.get()), ("heard", 2));
    }

    #[tokio::test]
    async fn a_timely_answer_spares_the_second_question() {
        let asked = Cell::new(0);
        once_more(NEVER, async || asked.set(asked.get() + 1)).await;
        assert_eq!(asked.get(), 1);
    }

    #[tokio::test]
    async fn a_late_answer_to_the_first_question_counts() {
        let (asked, again) = (Cell::new(0), Notify::new());
        let came = once_more(SOON, async || {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                again.notified().await;
                return "the first";
            }
            again.notify_one();
            pending().await
        });
        assert_eq!(came.await, "the first");
    }
}
