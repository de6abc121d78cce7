//! The fuzz target's corpus (`fuzz/corpus/requests`), replayed: what was found once stays mended.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "shared/requests.rs"]
mod requests;

#[test]
fn whatever_is_sent_is_answered_well_and_changes_only_what_the_sender_may() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/requests");
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        requests::check(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 20, "the corpus is gone: {replayed} files");
}
