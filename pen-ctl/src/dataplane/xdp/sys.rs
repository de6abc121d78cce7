//! System calls that aya and rustix do not offer: a few bpf(2) commands, the grace period, the tick, drivers'
//! statistics.
#![allow(
    unsafe_code,
    reason = "raw bpf(2), membarrier(2), clock_getres(2) and ioctl(2); each block says why it is sound"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

mod batches;
mod create;
mod elements;
mod statistics;
mod ticks;

pub(super) use batches::{Batches, delete_all, update_all};
pub(super) use create::{MMAPABLE, create_array, create_array_of_maps, create_trie};
pub(super) use elements::{delete_element, inner_map, map_id, remove_inner_map, set_element};
pub(super) use statistics::driver_statistics;
pub(super) use ticks::Jiffies;

// Numbers of commands, types and flags: linux/bpf.h (stable kernel interface).
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_DETACH: u32 = 34;
/// `BPF_XDP`, the attach type.
const ATTACH_XDP: u32 = 37;
/// `BPF_LINK_TYPE_XDP`.
const LINK_TYPE_XDP: u32 = 6;
/// `MEMBARRIER_CMD_GLOBAL`: returns after an RCU grace period.
const MEMBARRIER_GLOBAL: libc::c_int = 1;

/// Waits until no packet is on its way that started before this call (an RCU grace period: some milliseconds).
pub(super) fn grace_period() -> io::Result<()> {
    // SAFETY: no memory is handed over.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's HZ, exactly: the coarse clock's resolution is one tick.
pub(super) fn ticks_per_second() -> io::Result<u64> {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `resolution` is a valid place for the answer.
    let result = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut resolution) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    match u64::try_from(resolution.tv_nsec) {
        Ok(tick) if tick > 0 && resolution.tv_sec == 0 => Ok((1_000_000_000 + tick / 2) / tick),
        _ => Err(io::Error::other(format!(
            "a clock tick of {}.{:09} s",
            resolution.tv_sec, resolution.tv_nsec
        ))),
    }
}

/// What the kernel says of an XDP link.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkFacts {
    /// Id of the program it runs.
    pub(super) program: u32,
    /// Interface it is on; 0 = none any more.
    pub(super) ifindex: u32,
}

#[repr(C)]
struct ObjectGet {
    path: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjectGet { path: name.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    let fd = bpf(BPF_OBJ_GET, &mut attributes)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins an object at `path`, which must not exist.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjectGet { path: name.as_ptr() as u64, bpf_fd: raw(object), file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attributes).map(drop)
}

#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The head of `struct bpf_link_info` and its XDP arm; longer ones are cut by the kernel.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    link_type: u32,
    id: u32,
    program: u32,
    alignment: u32,
    ifindex: u32,
    rest: [u32; 11],
}

/// Asks the kernel about a link; refuses what is not an XDP link.
pub(super) fn link_facts(link: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    let mut info = LinkInfo::default();
    let mut attributes = GetInfo {
        bpf_fd: raw(link),
        info_len: size_of::<LinkInfo>() as u32,
        info: ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    if info.link_type != LINK_TYPE_XDP {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an XDP link"));
    }
    Ok(LinkFacts { program: info.program, ifindex: info.ifindex })
}

/// In which part of the stack a link runs its program (linux/if_link.h, `XDP_FLAGS_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum LinkMode {
    /// After the packet was copied.
    Generic = 1 << 1,
    /// In the driver.
    Native = 1 << 2,
}

#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches an XDP program to an interface. Dropping the link before it is pinned detaches it again.
///
/// aya's attach hides some errors behind a second try over netlink, which leaves a link that cannot be pinned.
pub(super) fn create_link(program: BorrowedFd<'_>, ifindex: u32, mode: LinkMode) -> io::Result<OwnedFd> {
    let mut attributes =
        LinkCreate { program_fd: raw(program), ifindex, attach_type: ATTACH_XDP, flags: mode as u32 };
    let fd = bpf(BPF_LINK_CREATE, &mut attributes)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    program_fd: u32,
    flags: u32,
    old_program_fd: u32,
}

/// Puts another program in the place of the one that a link runs; no packet sees none.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes =
        LinkUpdate { link_fd: raw(link), program_fd: raw(program), flags: 0, old_program_fd: 0 };
    bpf(BPF_LINK_UPDATE, &mut attributes).map(drop)
}

#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// Detaches a link at once, whoever else holds it.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut LinkDetach { link_fd: raw(link) }).map(drop)
}

/// One bpf(2) call; the kernel zero-extends attributes that are shorter than its own.
fn bpf<A>(command: u32, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: `attributes` is a valid `union bpf_attr` prefix of the size given; pointers inside it are to
    // live buffers of the caller that are as large as the command writes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}
