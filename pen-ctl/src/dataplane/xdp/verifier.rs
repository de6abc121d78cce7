//! Loads programs though signals interrupt the kernel's verifier.

use aya::programs::ProgramError;

/// How often loading is tried; libbpf tries as often.
const ATTEMPTS: u32 = 5;

/// Loads, again where the verifier gave up with EAGAIN, as it does when a signal reaches the thread that loads (`do_check`
/// in the kernel's kernel/bpf/verifier.c): nothing is wrong with the program then.
pub(crate) fn load_patiently<T, E>(
    mut load: impl FnMut() -> Result<T, E>,
    number: impl Fn(&E) -> Option<i32>,
) -> Result<T, E> {
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if number(&error) == Some(libc::EAGAIN) => {}
            done => return done,
        }
    }
    load()
}

/// The kernel's number for why a program was not loaded.
pub(crate) fn number_of(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
        _ => None,
    }
}
