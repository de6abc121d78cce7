//! Who holds a lock, as the kernel lists it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{major, minor};

/// The process that holds the flock(2) on a file.
pub(super) fn holder(file: &File) -> Option<u32> {
    let meta = file.metadata().ok()?;
    let place = format!("{:02x}:{:02x}:{}", major(meta.dev()), minor(meta.dev()), meta.ino());
    in_list(&fs::read_to_string("/proc/locks").ok()?, &place)
}

/// Finds the holder in the text of `/proc/locks` (proc_locks(5)): `1: FLOCK ADVISORY WRITE 712 08:01:1234 0 EOF`; who
/// only waits has `->` after the number.
fn in_list(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let flock = words.next() == Some("FLOCK");
        let pid = words.nth(2)?.parse().ok()?;
        (flock && words.next() == Some(place)).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_and_those_who_wait_are_not() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:2a:5 0 EOF\n2: FLOCK  ADVISORY  WRITE 712 00:2a:5 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 713 00:2a:6 0 EOF\n";
        assert_eq!(in_list(locks, "00:2a:5"), Some(712));
        assert_eq!(in_list(locks, "00:2a:6"), None);
    }

    #[test]
    fn we_hold_what_we_lock() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(holder(&file), None);
        file.try_lock().unwrap();
        assert_eq!(holder(&file), Some(std::process::id()));
    }
}
