//! A lab's directory with its mounts, and the removal of what a killed run left behind: namespaces with all that
//! runs there, mounts, directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, test_kill_process};

use super::{Error, Result, namespace};

/// Where labs keep their directories: only root writes here, and a reboot empties it.
const ROOT: &str = "/run";

/// The directory of a lab; dropping it removes it with all that is mounted there.
pub(super) struct Workplace {
    pub(super) directory: PathBuf,
}

impl Workplace {
    /// Makes the directory of the lab with this name.
    pub(super) fn create(lab: &str) -> Result<Self> {
        let directory = Path::new(ROOT).join(lab);
        fs::create_dir(&directory).map_err(|e| Error::io(&directory.display().to_string(), e))?;
        Ok(Self { directory })
    }

    /// Mounts a file system of this kind in it, which only root may use.
    pub(super) fn mount(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        let failed = |e: io::Error| Error::io(&format!("mount a {kind} on {}", path.display()), e);
        fs::create_dir(&path).map_err(failed)?;
        mount("none", &path, kind, MountFlags::empty(), Some(c"mode=0700")).map_err(|e| failed(e.into()))?;
        Ok(path)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        for inner in names(&self.directory) {
            let _ = unmount(self.directory.join(inner), UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Removes every lab called `PREFIX-PID-…` whose process is gone.
pub(super) fn sweep(prefix: &str) {
    for name in names(Path::new("/run/netns")).filter(|name| is_orphan(name, prefix)) {
        namespace::remove(&name);
    }
    for name in names(Path::new(ROOT)).filter(|name| is_orphan(name, prefix)) {
        drop(Workplace { directory: Path::new(ROOT).join(name) });
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
