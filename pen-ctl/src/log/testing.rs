//! What a test's own thread logs, whatever other tests do meanwhile.
//!
//! One subscriber serves the whole process: with a subscriber for each test, a message that a thread without one happens
//! to meet first is taken for one that nobody wants, and is lost to all (tracing-core keeps that answer by message).

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::OnceLock;

thread_local! {
    /// What this thread logged, while somebody wants to know.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The lines that `doing` logs on this thread, at info and above.
pub(crate) fn logged(doing: impl FnOnce()) -> Vec<String> {
    static SUBSCRIBER: OnceLock<()> = OnceLock::new();
    SUBSCRIBER.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| ThisThread).finish();
        tracing::subscriber::set_global_default(subscriber).expect("no other log in this process");
    });
    // Whatever was met while the subscriber was being set up is asked about anew.
    tracing::callsite::rebuild_interest_cache();
    LINES.set(Some(Vec::new()));
    doing();
    let lines = LINES.take().unwrap_or_default();
    String::from_utf8(lines).unwrap().lines().map(str::to_owned).collect()
}

struct ThisThread;

impl Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_another_thread_met_first_is_heard() {
        fn speak() {
            tracing::warn!("somebody should look");
        }
        std::thread::spawn(speak).join().unwrap();
        let lines = logged(speak);
        assert!(matches!(&lines[..], [one] if one.contains("somebody should look")), "{lines:?}");
        assert!(logged(|| std::thread::spawn(speak).join().unwrap()).is_empty());
    }
}
