//! What happens on a connection: all of it follows from a seed and the connection's number, for both of its ends.

/// Numbers that follow from a seed (xorshift64, Marsaglia 2003).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(mix(seed) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of `from..to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

/// Scatters a number over all bits (the finalizer of splitmix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

/// What one end sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// Bytes, in all.
    pub(crate) length: u64,
    /// Each byte follows from it and from its own offset.
    key: u64,
    /// Most bytes that are written, and read, at once.
    pub(crate) chunk: u64,
    /// Who writes pauses now and then.
    pub(crate) slow_writer: bool,
    /// Who reads pauses now and then.
    pub(crate) slow_reader: bool,
    /// Who reads stands still once.
    pub(crate) stall: bool,
}

/// What happens on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// From the client.
    pub(crate) up: Stream,
    /// From the backend.
    pub(crate) down: Stream,
    /// The client's receive buffer is small: what cannot be written whole must be held.
    pub(crate) narrow: bool,
    /// Who ends it with a reset, after so many bytes of its own.
    pub(crate) reset: Option<(Side, u64)>,
}

impl Plan {
    /// That of a connection.
    pub(crate) fn of(seed: u64, id: u64) -> Plan {
        let mut random = Random::new(seed ^ mix(id));
        let mut stream = |direction| Stream {
            length: length(&mut random),
            key: mix(seed ^ mix(2 * id + direction)),
            chunk: [7, 1_500, 20_000, 300_000][random.between(0, 4) as usize],
            slow_writer: random.once_in(6),
            slow_reader: random.once_in(3),
            stall: random.once_in(8),
        };
        let (mut up, mut down) = (stream(0), stream(1));
        for stream in [&mut up, &mut down] {
            // Megabytes in chunks of seven bytes would take all day.
            stream.chunk = stream.chunk.max(stream.length / 2_000);
        }
        let reset = match random.between(0, 8) {
            0 if up.length > 0 => Some((Side::Client, random.between(0, up.length))),
            1 if down.length > 0 => Some((Side::Backend, random.between(0, down.length))),
            _ => None,
        };
        Plan { up, down, narrow: random.once_in(2), reset }
    }

    /// After so many bytes of its own that side resets the connection.
    pub(crate) fn reset_by(&self, side: Side) -> Option<u64> {
        self.reset.filter(|(who, _)| *who == side).map(|(_, after)| after)
    }
}

fn length(random: &mut Random) -> u64 {
    match random.between(0, 8) {
        0 => 0,
        1 | 2 => random.between(1, 64),
        3 | 4 => random.between(1_000, 70_000),
        5 | 6 => random.between(100_000, 1_000_000),
        _ => random.between(3_000_000, 10_000_000),
    }
}

impl Stream {
    /// Its bytes from that offset on.
    pub(crate) fn fill(&self, from: u64, bytes: &mut [u8]) {
        let mut word = [0; 8];
        for (offset, byte) in (from..).zip(bytes) {
            if offset == from || offset.is_multiple_of(8) {
                word = mix(self.key ^ (offset / 8)).to_le_bytes();
            }
            *byte = word[(offset % 8) as usize];
        }
    }
}
