//! Calls of bpf(2) that stand for someone else, or for packets.
#![allow(unsafe_code, reason = "raw bpf(2)")]
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_DETACH: libc::c_long = 34;

/// Opens what is pinned.
pub(crate) fn open_pin(pin: &Path) -> OwnedFd {
    let path = CString::new(pin.to_str().unwrap()).unwrap();
    let fd = bpf(OBJ_GET, &mut [path.as_ptr() as u64, 0]);
    // SAFETY: the kernel just gave it to us.
    unsafe { OwnedFd::from_raw_fd(fd) }
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

fn bpf<A>(command: libc::c_long, attributes: &mut A) -> i32 {
    // SAFETY: the attributes are as the command reads them, and what they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    assert!(result >= 0, "bpf command {command}: {}", std::io::Error::last_os_error());
    result as i32
}
