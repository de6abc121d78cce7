//! The clock that packets are timed by: the kernel's jiffies, which no file or system call tells reliably.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use super::super::load_patiently;
use super::bpf;

// Numbers of `linux/bpf.h` (stable kernel interface).
const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_TEST_RUN: u32 = 10;
/// `BPF_PROG_TYPE_SYSCALL` (Linux 5.14): a program that runs when it is asked to, in its caller's context.
const PROGRAM_TYPE_SYSCALL: u32 = 31;
/// `BPF_F_SLEEPABLE`, which programs of that type must be.
const SLEEPABLE: u32 = 1 << 4;

/// Stores `bpf_jiffies64()` (helper 118) into the eight bytes of its context. An instruction as a word: operation,
/// registers (destination low), offset, immediate (RFC 9669, section 3).
const PROGRAM: [u64; 5] = [
    0x0000_0000_0000_16bf, // r6 = r1
    (118 << 32) | 0x85,    // call bpf_jiffies64
    0x0000_0000_0000_067b, // *(u64 *)(r6 + 0) = r0
    0x0000_0000_0000_00b7, // r0 = 0
    0x0000_0000_0000_0095, // exit
];

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instructions: u32,
    instructions_at: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program_fd: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

/// Tells the kernel's jiffies: a loaded program.
#[derive(Debug)]
pub(in super::super) struct Jiffies(OwnedFd);

impl Jiffies {
    /// Loads it.
    pub(in super::super) fn load() -> io::Result<Self> {
        let mut load = ProgramLoad {
            program_type: PROGRAM_TYPE_SYSCALL,
            instructions: PROGRAM.len() as u32,
            instructions_at: PROGRAM.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            flags: SLEEPABLE,
            ..ProgramLoad::default()
        };
        let fd = load_patiently(|| bpf(BPF_PROG_LOAD, &mut load), io::Error::raw_os_error)?;
        // SAFETY: the kernel just gave us this descriptor; nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// 64 bits: exactly what a packet would read now.
    pub(in super::super) fn now(&self) -> io::Result<u64> {
        let mut jiffies = 0u64;
        let mut run = TestRun {
            program_fd: self.0.as_raw_fd() as u32,
            context_size_in: size_of_val(&jiffies) as u32,
            context_in: ptr::from_mut(&mut jiffies) as u64,
            ..TestRun::default()
        };
        bpf(BPF_PROG_TEST_RUN, &mut run)?;
        Ok(jiffies)
    }
}
