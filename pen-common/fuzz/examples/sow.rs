//! Writes golden frames, and frames by chance, as inputs of the fuzz targets: `cargo run --example sow -- DIRECTORY` makes
//! `DIRECTORY/parser` and `DIRECTORY/pipeline`, to be merged into the corpora (`cargo fuzz cmin`).

use std::fs;
use std::io;
use std::path::PathBuf;

use pen_common::host::golden;
use pen_common::host::random::Random;

fn main() -> io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or(io::ErrorKind::InvalidInput)?);
    let [parser, pipeline] = ["parser", "pipeline"].map(|target| directory.join(target));
    fs::create_dir_all(&parser)?;
    fs::create_dir_all(&pipeline)?;
    for case in golden::frames() {
        fs::write(parser.join(case.name), [&[0], case.frame.as_slice()].concat())?;
        fs::write(pipeline.join(case.name), step(0, 0, &case.frame))?;
    }
    let mut random = Random::new(3);
    for number in 0..4_000 {
        let frame = random.frame();
        let first = if random.once_in(3) { random.below(frame.len().min(120)) as u8 } else { 0 };
        fs::write(parser.join(format!("random-{number}")), [&[first], frame.as_slice()].concat())?;
        let mut row = Vec::new();
        for _ in 0..=random.below(4) {
            let time = if random.once_in(6) { random.next() as u8 } else { 0 };
            let buffer = if random.once_in(4) { random.next() as u8 } else { 0x80 };
            row.extend(step(time, buffer, &random.frame()));
        }
        fs::write(pipeline.join(format!("random-{number}")), row)?;
    }
    Ok(())
}

/// A frame in the form of `tests/shared/input.rs`.
fn step(time: u8, buffer: u8, frame: &[u8]) -> Vec<u8> {
    [&[time, buffer], &(frame.len() as u16).to_be_bytes()[..], frame].concat()
}
