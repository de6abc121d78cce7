//! A word when the controller is another pen than this one: after an upgrade that left the old one running.

use std::sync::Once;

use hyper::HeaderMap;

use crate::server::VERSION_HEADER;

/// What to say of the pen that gave an answer with these headers, if it is another than this.
fn difference(headers: &HeaderMap) -> Option<String> {
    let own = env!("CARGO_PKG_VERSION");
    let other = headers.get(VERSION_HEADER)?.to_str().ok()?;
    (other != own).then(|| {
        format!(
            "the controller is pen {other}, this is pen-ctl {own}; restart the controller to have the same (packets keep \
             flowing)"
        )
    })
}

/// Says it on stderr, once in a process.
pub(super) fn warn(headers: &HeaderMap) {
    static SAID: Once = Once::new();
    if let Some(difference) = difference(headers) {
        SAID.call_once(|| eprintln!("pen-ctl: warning: {difference}"));
    }
}
