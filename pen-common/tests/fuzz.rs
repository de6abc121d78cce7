//! The fuzz targets' corpora (`fuzz/corpus`), replayed: what was found once stays mended. And what the fuzz targets demand, of
//! frames by chance.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod shared {
    pub(crate) mod input;
    pub(crate) mod parser;
    pub(crate) mod pipeline;
}

use pen_common::host::golden;
use pen_common::host::random::Random;
use shared::{parser, pipeline::World};

/// Checks each input of a target's corpus.
fn replay(target: &str, mut check: impl FnMut(&[u8])) {
    let corpus = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 20, "the corpus is gone: {replayed} files");
}

#[test]
fn whatever_is_parsed_lies_inside_of_its_frame() {
    replay("parser", parser::check);
}

#[test]
fn whatever_comes_in_is_changed_only_as_its_verdict_says() {
    let mut world = World::new();
    replay("pipeline", |input| world.check(input));
}

/// A frame as the parser's target takes it, with this first byte.
fn parsed(first: usize, frame: &[u8]) -> Vec<u8> {
    [&[first as u8], frame].concat()
}

#[test]
fn frames_by_chance_lie_inside_of_themselves_however_they_are_split() {
    let mut random = Random::new(21);
    for _ in 0..20_000 {
        let frame = random.frame();
        parser::check(&parsed(random.below(frame.len().min(200)), &frame));
    }
    for case in golden::frames() {
        parser::check(&parsed(0, &case.frame));
    }
}

#[test]
fn rows_of_frames_by_chance_are_changed_only_as_their_verdicts_say() {
    let mut random = Random::new(22);
    let mut world = World::new();
    for _ in 0..200 {
        let mut input = Vec::new();
        for _ in 0..100 {
            let frame = random.frame();
            let time = if random.once_in(20) { random.next() as u8 } else { 0 };
            let buffer = if random.once_in(4) { random.next() as u8 } else { 0x80 };
            input.extend([time, buffer]);
            input.extend((frame.len() as u16).to_be_bytes());
            input.extend(frame);
        }
        world.check(&input);
    }
}
