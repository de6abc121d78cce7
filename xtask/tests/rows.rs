//! The corpora of the fuzz targets that take rows of frames, replayed in the kernel and on this host: what was found once
//! stays mended. Nothing is attached anywhere.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

mod shared {
    #[path = "../../../pen-common/tests/shared/input.rs"]
    #[allow(dead_code, reason = "where a first buffer ends is up to the kernel")]
    pub(crate) mod input;
    #[path = "../parity/kernel.rs"]
    #[allow(dead_code, reason = "the parity test uses all of it")]
    pub(crate) mod kernel;
    pub(crate) mod rows;
}

use shared::rows::Both;
use xtask::lab::needs;

#[test]
fn kernel_and_host_agree_on_every_row_that_a_fuzzer_found_worth_keeping() {
    if !needs::met() {
        return;
    }
    let mut both = Both::new();
    let mut replayed = 0;
    for corpus in ["fuzz/corpus/parity", "../pen-common/fuzz/corpus/pipeline"] {
        let corpus = format!("{}/{corpus}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(corpus).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            both.check(&std::fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed >= 40, "the corpora are gone: {replayed} files");
}
