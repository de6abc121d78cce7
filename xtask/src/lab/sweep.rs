//! Removes what a lab of a killed run left behind: its namespaces with all that runs there, mounts, directory.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, test_kill_process};

use super::namespace;

/// Where labs keep their directories: only root writes here, and a reboot empties it.
const ROOT: &str = "/run";

/// The directory of the lab with this name.
pub(super) fn directory(lab: &str) -> PathBuf {
    Path::new(ROOT).join(lab)
}

/// Removes every lab called `PREFIX-PID-…` whose process is gone.
pub(super) fn sweep(prefix: &str) {
    for name in names(Path::new("/run/netns")).filter(|name| is_orphan(name, prefix)) {
        namespace::remove(&name);
    }
    for name in names(Path::new(ROOT)).filter(|name| is_orphan(name, prefix)) {
        let directory = directory(&name);
        for inner in names(&directory) {
            let _ = unmount(directory.join(inner), UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir_all(directory);
    }
}

fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The name is one of ours, and the process in it does not exist any more.
fn is_orphan(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
    let pid = rest.and_then(|rest| rest.split('-').next()?.parse().ok()).and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_err_and(|e| e == rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labs_of_processes_that_are_gone_are_orphans() {
        let gone = i32::MAX;
        assert!(is_orphan(&format!("pen-demo-{gone}-1-switch"), "pen-demo"));
        assert!(!is_orphan(&format!("pen-demo-{}-1-b1", std::process::id()), "pen-demo"));
        assert!(!is_orphan(&format!("pen-test-{gone}-1-b1"), "pen-demo"));
        assert!(!is_orphan("pen-demo-web", "pen-demo"));
        assert!(!is_orphan("pen-demo", "pen-demo"));
    }
}
