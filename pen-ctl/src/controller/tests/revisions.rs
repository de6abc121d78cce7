//! Changes that were made for another state than there is.

use super::*;
use crate::api::Asked;

#[test]
fn a_change_that_was_made_for_another_state_is_refused_and_one_for_this_state_is_done() {
    let mut bench = Bench::with_web();
    let seen = bench.controller().revision();
    bench.done(add_backend("web", 13));
    let second = |condition: String| Asked {
        condition: condition.parse().unwrap(),
        ..Asked::from(Request::BackendRemove { service: "web".into(), address: at(13) })
    };
    let state = bench.state();
    let error = bench.controller().ask(second(seen.etag())).unwrap_err();
    assert_eq!(error.code, ErrorCode::Changed);
    assert!(error.to_string().contains("changed meanwhile"), "{error}");
    assert_eq!(bench.state(), state);
    let now = bench.controller().revision();
    let answered = bench.controller().ask(second(now.etag())).unwrap();
    assert_eq!(answered.revision, seen, "the same state has the same revision again");
    assert_eq!(bench.status().controller.revision, Some(seen));
}
