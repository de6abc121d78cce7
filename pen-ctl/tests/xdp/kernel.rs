//! Calls of bpf(2) that stand for someone else, or for packets.
#![allow(unsafe_code, reason = "raw bpf(2)")]
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const MAP_LOOKUP: libc::c_long = 1;
const MAP_DELETE: libc::c_long = 3;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const LINK_DETACH: libc::c_long = 34;

/// Opens what is pinned.
pub(crate) fn open_pin(pin: &Path) -> OwnedFd {
    let path = CString::new(pin.to_str().unwrap()).unwrap();
    let fd = bpf(OBJ_GET, &mut [path.as_ptr() as u64, 0]);
    // SAFETY: the kernel just gave it to us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A value of four bytes in an array: of a map of maps, the id of the map that is there.
pub(crate) fn element(map: &OwnedFd, index: u32) -> Option<u32> {
    let mut value = 0u32;
    let mut attributes = [map.as_raw_fd() as u64, &raw const index as u64, &raw mut value as u64, 0];
    (try_bpf(MAP_LOOKUP, &mut attributes) >= 0).then_some(value)
}

/// Takes out what is at this index of a map of maps.
pub(crate) fn delete_element(map: &OwnedFd, index: u32) {
    bpf(MAP_DELETE, &mut [map.as_raw_fd() as u64, &raw const index as u64, 0, 0]);
}

/// Detaches a pinned link at once, as `bpftool link detach` does; its pin stays.
pub(crate) fn detach_by_force(pin: &Path) {
    let link = open_pin(pin);
    bpf(LINK_DETACH, &mut [link.as_raw_fd() as u32]);
}

/// Runs an XDP program on a frame that comes in by an interface; returns the action and the frame afterwards.
pub(crate) fn run(program: &OwnedFd, frame: &[u8], ifindex: u32) -> (u32, Vec<u8>) {
    #[repr(C)]
    #[derive(Default)]
    struct TestRun {
        program: u32,
        action: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        context_size_in: u32,
        context_size_out: u32,
        context_in: u64,
        context_out: u64,
    }
    let size = frame.len() as u32;
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, size, 0, ifindex, 0, 0u32];
    let mut after = vec![0; frame.len()];
    let mut attributes = TestRun {
        program: program.as_raw_fd() as u32,
        size_in: size,
        size_out: size,
        data_in: frame.as_ptr() as u64,
        data_out: after.as_mut_ptr() as u64,
        repeat: 1,
        context_size_in: size_of_val(&context) as u32,
        context_in: context.as_ptr() as u64,
        ..TestRun::default()
    };
    bpf(PROG_TEST_RUN, &mut attributes);
    (attributes.action, after)
}

/// Puts entries into a hash map, thousands with each call; gives how many.
pub(crate) fn fill<K, V>(map: &OwnedFd, entries: impl Iterator<Item = (K, V)>) -> u32 {
    #[repr(C)]
    struct UpdateBatch {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    let mut entries = entries.peekable();
    let mut filled = 0;
    while entries.peek().is_some() {
        let (keys, values): (Vec<K>, Vec<V>) = entries.by_ref().take(16_384).unzip();
        let mut attributes = UpdateBatch {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: keys.len() as u32,
            map: map.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        bpf(MAP_UPDATE_BATCH, &mut attributes);
        filled += keys.len() as u32;
    }
    filled
}

fn try_bpf<A>(command: libc::c_long, attributes: &mut A) -> libc::c_long {
    // SAFETY: the attributes are as the command reads them, and what they point to outlives the call.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) }
}

fn bpf<A>(command: libc::c_long, attributes: &mut A) -> i32 {
    let result = try_bpf(command, attributes);
    assert!(result >= 0, "bpf command {command}: {}", std::io::Error::last_os_error());
    result as i32
}
