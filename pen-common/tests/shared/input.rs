//! What a fuzzer's bytes mean: a row of frames, each with what comes before it. The fuzz targets, the replay of their corpora
//! and the sowing of them share it.
//!
//! A frame is preceded by four bytes: the time that passes first, its first buffer and whether it is sent twice, and its
//! length in wire order; a length beyond the end means "as far as there is".

/// A frame, and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step<'a> {
    /// Time that passes before it.
    pub(crate) seconds: u32,
    /// Bytes in its first buffer; `None`: all.
    pub(crate) first: Option<usize>,
    /// The same frame comes once more.
    pub(crate) again: bool,
    /// Its bytes.
    pub(crate) frame: &'a [u8],
}

/// Shortest first buffer: an Ethernet header, which every driver puts there.
const SHORTEST: usize = 13;
/// Set in the second byte of a frame that comes twice.
const AGAIN: u8 = 0x80;

/// The frames of an input, in order.
pub(crate) fn steps(mut input: &[u8]) -> impl Iterator<Item = Step<'_>> {
    std::iter::from_fn(move || {
        let (&[time, buffer, high, low], rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        input = rest;
        let first = match usize::from(buffer & !AGAIN) {
            0 => None,
            more => Some(frame.len().min(SHORTEST + more)),
        };
        Some(Step { seconds: seconds(time), first, again: buffer & AGAIN != 0, frame })
    })
}

/// Up to two minutes by the second, up to half an hour roughly: what is remembered lasts one minute or ten in the sample.
fn seconds(time: u8) -> u32 {
    match time {
        0..128 => time.into(),
        _ => 120 + 16 * (u32::from(time) - 127),
    }
}
