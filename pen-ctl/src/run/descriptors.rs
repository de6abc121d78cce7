//! Descriptors that whoever started this process left open in it, as shells and supervisors do.
#![allow(unsafe_code, reason = "a descriptor that nobody here owns is known by its number alone")]

use std::os::fd::RawFd;

/// Where the open ones are listed.
const LISTS: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// Has no program inherit them that runs from now on: checks and hooks are started with none but their own. What this
/// process opens itself it does not hand on anyway.
pub(super) fn keep_from_programs() {
    let list = LISTS.iter().find_map(|list| std::fs::read_dir(list).ok());
    let number = |name: std::ffi::OsString| name.to_str()?.parse::<RawFd>().ok();
    let numbers = list.into_iter().flatten().filter_map(|entry| number(entry.ok()?.file_name()));
    // All first: the list has a descriptor, too.
    for descriptor in numbers.filter(|number| *number > libc::STDERR_FILENO).collect::<Vec<_>>() {
        // SAFETY: fcntl(2) with F_SETFD touches no memory; a number that is not open is refused, and no harm.
        let _ = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
