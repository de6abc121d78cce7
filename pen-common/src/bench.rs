//! What the benchmark's harness program and its driver share: not part of the balancer, nor of its map ABI.

/// Bytes at the start of a frame that the harness restores before each run: programs may change no others.
pub const RESTORED: usize = 64;

/// The one element of map `bench_plan`: what the harness does before it calls the program under test.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The start of the frame.
    pub frame: [u64; RESTORED / 8],
    /// The client's address in the frame as it stands at `client_at`; the client's number is XORed in.
    pub client_base: u32,
    /// Offset of the last four bytes of the source address; below [`RESTORED`] − 4.
    pub client_at: u32,
    /// Number of clients − 1, a power of two less one; 0 = the frame is never changed.
    pub client_mask: u32,
    /// From one client to the next; odd, so that every client is visited once a round.
    pub stride: u32,
    /// How many frames were made.
    pub made: u64,
}

/// Key of the floor program F2's table: a 5-tuple in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloorKey {
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol.
    pub protocol: u32,
}

/// Entries of F2's table.
pub const FLOOR_FLOWS: u32 = 1 << 20;

const _: () = {
    assert!(size_of::<Plan>() == RESTORED + 24);
    assert!(size_of::<FloorKey>() == 16);
};
